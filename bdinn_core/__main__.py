"""The entry of `bdinn-video`: a signal ends it without a traceback, even while it's imported or ends."""

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Runs `bdinn-video` with the process's arguments; returns its exit code."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import Terminated
    from .cli import main as run

    signal.signal(signal.SIGINT, before)
    try:
        code = run()
        if before is not signal.SIG_IGN:
            # Once it has ended for one, another must not take its exit code.
            signal.signal(signal.SIGINT, signal.SIG_IGN if code else signal.SIG_DFL)
    except KeyboardInterrupt:  # between the two
        return 130
    except Terminated as ended:
        return 128 + ended.args[0]
    return code


if __name__ == "__main__":
    sys.exit(main())
