"""Files written under temporary names, in place only when complete."""

import os
import secrets
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from ..errors import OutputError
from .sequences import Pattern

__all__ = ["PartFile", "PartFolder", "sync"]

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _undisturbed[T](act: Callable[..., T]) -> Callable[..., T]:
    """Lets the signals that end a job wait until `act` is done: half done would be neither old nor new."""

    @wraps(act)
    def acting(*arguments: Any) -> T:
        if current_thread() is not main_thread():
            return act(*arguments)
        waiting: list[int] = []
        handled = [n for n in _ENDING if callable(signal.getsignal(n))]
        before = {n: signal.signal(n, lambda number, _: waiting.append(number)) for n in handled}
        try:
            return act(*arguments)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for number in waiting:
                signal.raise_signal(number)

    return acting


def sync(path: Path) -> None:
    """Waits until a file is on the disk, or on POSIX a folder's names: a loss of power can't take it then."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class PartFile:
    """A file written beside `output` under a temporary name, short and of the same extension."""

    def __init__(self, output: str, overwrite: bool) -> None:
        self._output = Path(output)
        self._overwrite = overwrite
        self.path = self._output.with_name(f".{secrets.token_hex(4)}.part{self._output.suffix}")

    def commit(self) -> None:
        """Gives the complete file its name, in one step.

        Raises:
            OutputError: if the system won't have it, or somebody took the name meanwhile.
        """
        _put(self.path, self._output, self._overwrite)

    def discard(self) -> None:
        """Removes what was written, if anything."""
        with suppress(OSError):  # a disk that's read-only has nothing to be removed
            self.path.unlink(missing_ok=True)


class PartFolder:
    """A folder beside an image sequence to be, in which its files are written under their names."""

    def __init__(self, pattern: Pattern, overwrite: bool) -> None:
        self._pattern = pattern
        self._overwrite = overwrite
        self.path = pattern.folder / f".{secrets.token_hex(4)}.part"
        try:
            self.path.mkdir()
        except OSError as error:
            raise OutputError(f"{pattern} can't be written ({error.strerror})") from error

    @_undisturbed
    def commit(self) -> None:
        """Puts the complete files in place, one by one; where that fails, all is as it was before.

        Raises:
            OutputError: if the system won't have one, or somebody took its name meanwhile.
        """
        complete = sorted(self.path.iterdir())
        begun: list[Path] = []
        try:
            self._replaced.mkdir()
            for path in complete:
                output = self._pattern.folder / path.name
                begun.append(path)
                if self._overwrite and output.exists():
                    os.replace(output, self._replaced / path.name)
                _put(path, output, overwrite=False)
        except BaseException as error:
            for path in begun:
                self._take_back(path)
            if isinstance(error, OSError):
                raise OutputError(f"{self._pattern} can't be put in place ({error.strerror})") from error
            raise
        self.discard()

    def discard(self) -> None:
        """Removes what was written, if anything."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def _replaced(self) -> Path:
        """Where files wait that gave up their names."""
        return self.path / "replaced"

    def _take_back(self, path: Path) -> None:
        output, old = self._pattern.folder / path.name, self._replaced / path.name
        if output.exists() and (not path.exists() or output.samefile(path)):
            output.unlink()
        if old.exists():
            os.replace(old, output)


def _put(part: Path, output: Path, overwrite: bool) -> None:
    """Gives a complete file its name, in one step."""
    try:
        if overwrite or not _link(part, output):
            os.replace(part, output)
        else:
            part.unlink()
    except FileExistsError as error:
        raise OutputError(f"{output} has come to exist meanwhile; add -y to replace it") from error
    except OSError as error:
        raise OutputError(f"{output} can't be put in place ({error.strerror})") from error


def _link(path: Path, name: Path) -> bool:
    """Gives a file another name, unless that's taken; false where the system has no such links."""
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True
