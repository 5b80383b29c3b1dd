"""Image sequences: pictures in files of their own, whose names differ by a number."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

__all__ = ["Pattern"]

_LAST = 2**31 - 2
_NUMBER = re.compile(r"%(?:0(\d{1,2}))?d")


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """The names of a sequence's files, such as `frames/%05d.png`."""

    folder: Path
    before: str
    """What stands before the number in each file's name."""
    digits: int
    """How many the number has at least."""
    after: str

    @classmethod
    def parse(cls, path: str) -> "Pattern | None":
        """The pattern that a path is: its file's name holds `%d` or `%0Nd` once. Any other % is itself."""
        folder, name = Path(path).parent, Path(path).name
        found = list(_NUMBER.finditer(name))
        if len(found) != 1:
            return None
        before, after = name[: found[0].start()], name[found[0].end() :]
        return cls(folder=folder, before=before, digits=int(found[0][1] or 1), after=after)

    @property
    def for_ffmpeg(self) -> str:
        """The path as FFmpeg takes it."""
        escaped = str(self.folder / f"{self.before}\0{self.after}").replace("%", "%%")
        return escaped.replace("\0", f"%0{self.digits}d")

    def path(self, number: int) -> Path:
        """The file of a picture."""
        return self.folder / f"{self.before}{number:0{self.digits}d}{self.after}"

    def numbers(self) -> list[int]:
        """Those of the files there are, in order."""
        if not self.folder.is_dir():
            return []
        name = re.compile(f"{re.escape(self.before)}([0-9]+){re.escape(self.after)}")
        matches = (name.fullmatch(file) for file in os.listdir(self.folder))
        found = ((int(match[1]), match[0]) for match in matches if match)
        return sorted(number for number, file in found if self.path(number).name == file)

    def first_of_all(self) -> int:
        """The number of the first file of a sequence that is whole.

        Raises:
            InputError: if there's no file, or one is missing in between, empty or can't be read, where FFmpeg
                would stop; or if it can't count so far.
        """
        numbers = self.numbers()
        if not numbers:
            raise InputError(f"{self}: no such file, nor any with a number in its place")
        for expected, number in enumerate(numbers, numbers[0]):
            if number != expected:
                raise InputError(
                    f"{self.path(expected)} is missing: {self} has numbers {numbers[0]} to {numbers[-1]}"
                )
            path = self.path(number)
            if not path.is_file() or not os.access(path, os.R_OK):
                raise InputError(f"{path} can't be read")
            if not path.stat().st_size:
                raise InputError(f"{path} is empty")
        if numbers[-1] > _LAST:
            raise InputError(
                f"{self.path(numbers[-1])}: FFmpeg counts no further than {_LAST}; rename the files"
            )
        return numbers[0]

    def __str__(self) -> str:
        """The path as it was given."""
        number = f"%0{self.digits}d" if self.digits > 1 else "%d"
        return str(self.folder / f"{self.before}{number}{self.after}")
