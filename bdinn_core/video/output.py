"""The result's file: checked first, written under a temporary name, in place only when complete."""

import os
from pathlib import Path
from typing import Protocol

from av.packet import Packet

from ..errors import OptionError, OutputError
from .job import VideoJob
from .probe import STDIO
from .reader import Picture

__all__ = ["PartFile", "Writer", "check_output"]


def check_output(job: VideoJob) -> None:
    """Refuses an output that can't be written or would destroy something.

    Raises:
        OptionError: if its directory is missing, it is the source, or exists without `overwrite`.
    """
    if job.output == STDIO:
        if os.isatty(1):
            raise OptionError("standard output is a terminal; pipe it, or name a file")
        return
    output = Path(job.output)
    if not output.parent.is_dir():
        raise OptionError(f"output directory {output.parent} doesn't exist")
    if output.is_dir():
        raise OptionError(f"output {output} is a directory; name a file")
    for what in (job.source, job.mask):
        if what and output.exists() and Path(what).exists() and output.samefile(what):
            raise OptionError(f"output {output} is the same file as the input; choose another name")
    if output.exists() and not job.overwrite:
        raise OptionError(f"output {output} exists; add -y to replace it")


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


class PartFile:
    """A file written beside `output` under a temporary name of the same extension."""

    def __init__(self, output: str) -> None:
        self._output = Path(output)
        self.path = self._output.with_name(f".{self._output.stem}.{os.getpid()}.part{self._output.suffix}")

    def commit(self) -> None:
        """Gives the complete file its name, in one step.

        Raises:
            OutputError: if the system won't have it.
        """
        try:
            os.replace(self.path, self._output)
        except OSError as error:
            raise OutputError(f"{self._output} can't be put in place ({error.strerror})") from error

    def discard(self) -> None:
        """Removes what was written, if anything."""
        self.path.unlink(missing_ok=True)
