"""The entry of `bdinn-video`: Ctrl-C ends it without a traceback even while its imports run."""

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Runs `bdinn-video` with the process's arguments; returns its exit code."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    signal.signal(signal.SIGINT, before)
    return run()


if __name__ == "__main__":
    sys.exit(main())
