"""Where a result goes: what it may be, and what writes it."""

import os
import stat
from pathlib import Path
from typing import Protocol

from av.packet import Packet

from ..errors import OptionError, OutputError
from .codecs import IMAGE_CODECS
from .job import VideoJob
from .opening import STDIO
from .sequences import Pattern
from .track import Picture

__all__ = ["Writer", "check_output", "output_pattern"]


def check_output(job: VideoJob) -> None:
    """Refuses an output that can't be written or would destroy something.

    Raises:
        OptionError: if its directory is missing, it is the source, no plain file, or exists without
            `overwrite`; of an image sequence, if that holds for any file of its pattern.
        OutputError: if the system won't have its name.
    """
    if job.output == STDIO:
        if os.isatty(1):
            raise OptionError("standard output is a terminal; pipe it, or name a file")
        return
    output = Path(job.output)
    if output.suffix.lower() == ".avif" and Pattern.parse(job.output) is not None:
        raise OptionError(f"output {output} is no sequence: one .avif holds them all; .png makes many files")
    pattern = output_pattern(job.output)
    try:
        if not output.parent.is_dir():
            raise OptionError(f"output directory {output.parent} doesn't exist")
        there = [output] if pattern is None else [pattern.path(number) for number in pattern.numbers()]
        found = {path: path.stat() for path in there if _is_taken(path)}
    except FileNotFoundError as error:
        raise OptionError(f"output {error.filename} is a link to nothing; name a file") from error
    except OSError as error:
        raise OutputError(f"output {output} can't be written ({error.strerror})") from error
    read = {file for name in (job.source, job.mask) if name for file in _files(name)}
    for path, status in found.items():
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if path.is_dir() else "no plain file"
            raise OptionError(f"output {path} is {what}; name a file")
        if (status.st_dev, status.st_ino) in read:
            raise OptionError(f"output {path} is the same file as the input; choose another name")
        if not job.overwrite:
            raise OptionError(f"output {path} exists; add -y to replace it")


def _is_taken(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def output_pattern(output: str) -> Pattern | None:
    """The pattern that `output` is, if it names pictures in files of their own; of videos a % is itself."""
    return Pattern.parse(output) if Path(output).suffix.lower() in IMAGE_CODECS else None


def _files(source: str) -> list[tuple[int, int]]:
    """What the system knows the files of a source by."""
    pattern = None if os.path.exists(source) else Pattern.parse(source)
    try:
        paths = [Path(source)] if pattern is None else [pattern.path(number) for number in pattern.numbers()]
        return [(status.st_dev, status.st_ino) for status in (p.stat() for p in paths if p.exists())]
    except OSError:
        return []  # reading it will say why


class Writer(Protocol):
    """Where a job's result goes."""

    @property
    def streams(self) -> set[int]:
        """Indices of the source's streams whose packets are wanted."""
        ...

    def picture(self, picture: Picture) -> None:
        """Takes the next picture of the result."""
        ...

    def packet(self, packet: Packet) -> None:
        """Takes a packet of another stream."""
        ...

    def finish(self) -> None:
        """Completes the result and gives it its name."""
        ...

    def close(self) -> None:
        """Discards the result unless it's finished."""
        ...
