"""The entry of `bdinn-video`: Ctrl-C ends it without a traceback, even while it's imported or ends."""

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Runs `bdinn-video` with the process's arguments; returns its exit code."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    signal.signal(signal.SIGINT, before)
    try:
        return run()
    finally:
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
