"""A lock on a file that the system lets go of when its process is gone, however that ended."""

import os
import sys
from pathlib import Path

__all__ = ["FileLock", "holder_of"]


class FileLock:
    """Holds a file for this process, whose number it says.

    Args:
        path: the file; it's made if there is none.
        wait: whether to wait for another process that holds it.

    Raises:
        BlockingIOError: another process holds it.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        while True:
            self._file = open(path, "a+", encoding="ascii")  # noqa: SIM115 - as long as it's held
            try:
                _lock(self._file.fileno(), wait)
                if path.exists() and os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
                    break
            except BaseException:
                self._file.close()
                raise
            self._file.close()  # whoever held it has removed it just now
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Lets go of it."""
        self._file.close()


def holder_of(path: Path) -> int | None:
    """The number of the process that holds a file; `None` if none does."""
    try:
        with open(path, "r+", encoding="ascii") as file:
            try:
                _lock(file.fileno(), wait=False)
            except BlockingIOError:
                file.seek(0)
                return int(file.readline() or 0)
    except OSError:
        pass  # there's none, or it's another user's
    return None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, wait: bool) -> None:
        # A byte far behind the text, which others may then read.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if wait:  # it has waited for ten seconds
                _lock(descriptor, wait)
            else:
                raise BlockingIOError(*error.args) from error

else:
    import fcntl

    def _lock(descriptor: int, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
