"""The result's file: checked first, written under a temporary name, in place only when complete."""

import os
import secrets
import stat
from pathlib import Path
from typing import Protocol

from av.packet import Packet

from ..errors import OptionError, OutputError
from .job import VideoJob
from .opening import STDIO
from .track import Picture

__all__ = ["PartFile", "Writer", "check_output"]


def check_output(job: VideoJob) -> None:
    """Refuses an output that can't be written or would destroy something.

    Raises:
        OptionError: if its directory is missing, it is the source, no plain file, or exists without
            `overwrite`.
        OutputError: if the system won't have its name.
    """
    if job.output == STDIO:
        if os.isatty(1):
            raise OptionError("standard output is a terminal; pipe it, or name a file")
        return
    output = Path(job.output)
    try:
        if not output.parent.is_dir():
            raise OptionError(f"output directory {output.parent} doesn't exist")
        found = output.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"output {output} can't be written ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if output.is_dir() else "no plain file"
        raise OptionError(f"output {output} is {what}; name a file")
    for name in (job.source, job.mask):
        if name and os.path.exists(name) and output.samefile(name):
            raise OptionError(f"output {output} is the same file as the input; choose another name")
    if not job.overwrite:
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
        try:
            if self._overwrite or not _link(self.path, self._output):
                os.replace(self.path, self._output)
            else:
                self.discard()
        except FileExistsError as error:
            raise OutputError(f"{self._output} has come to exist meanwhile; add -y to replace it") from error
        except OSError as error:
            raise OutputError(f"{self._output} can't be put in place ({error.strerror})") from error

    def discard(self) -> None:
        """Removes what was written, if anything."""
        self.path.unlink(missing_ok=True)


def _link(path: Path, name: Path) -> bool:
    """Gives a file another name, unless that's taken; false where the system has no such links."""
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True
