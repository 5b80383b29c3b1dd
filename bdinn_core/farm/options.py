"""How a job, or many, are shared among processes and machines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..errors import OptionError
from ..options import check_device, check_integer

__all__ = ["FarmOptions"]


@dataclass(frozen=True, kw_only=True)
class FarmOptions:
    """Where and in what parts the work is done.

    It changes no picture, but for one thing: behind pictures that couldn't be decoded, which are numbered too
    where a video is cut, grain has another pattern than in one go.

    Raises:
        OptionError: for a value out of range; the message names the option and the value.
    """

    chunk_seconds: Fraction = Fraction(10)
    """Longest part that a video is cut into, in seconds. Finished parts are kept in OUT.bdinn: after a stop
    the same command goes on there. 0 does the video in one go."""
    workers: int = 0
    """How many processes share the work, the CPU's threads among them; 0 is automatic: one a GPU given, as by
    --device cuda:0,cuda:1, else one."""
    devices: Sequence[str] = ()
    """Devices that the workers share, in turn; empty: the one that debands."""
    ray: str | None = None
    """Send the parts to the machines of a Ray cluster: auto for the one this machine is in, or its address.
    Needs `pip install bdinn[cluster]`."""
    extension: str = ".mkv"
    """Of the results, where IN is a folder or a list of files."""
    restart: bool = False
    """Discard what an earlier run of the job has kept, and begin anew."""

    def __post_init__(self) -> None:
        if not isinstance(self.chunk_seconds, Fraction) or self.chunk_seconds < 0:
            raise OptionError(f"chunk_seconds must be a number of seconds >= 0, not {self.chunk_seconds}")
        check_integer("workers", self.workers, 0, 256, "a whole number 0..256")
        if not isinstance(self.extension, str) or not re.fullmatch(r"\.\w+", self.extension):
            raise OptionError(f"extension must be one such as .mkv or .mp4, not {self.extension!r}")
        if self.ray is not None and (not isinstance(self.ray, str) or not self.ray):
            raise OptionError(f"ray must be auto or an address, not {self.ray!r}")
        for device in self.devices:
            check_device(device)
        if len({device.partition(":")[0] for device in self.devices}) > 1:
            raise OptionError(f"devices must be of one kind, for their results to be alike: {self.devices}")
        if self.ray is not None and self.devices:
            raise OptionError("devices are those of this machine; a cluster (ray) has its own: give one kind")
        if 0 < self.workers < len(self.devices):
            raise OptionError(f"workers must be at least one for each of {len(self.devices)} devices")
        if self.ray is not None and self.workers:
            raise OptionError("workers are for this machine; on a cluster (ray) its resources say how many")
        if self.ray is not None and not self.chunk_seconds:
            raise OptionError("chunk_seconds 0 leaves a cluster (ray) nothing to share; leave one out")

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.workers or max(1, len(self.devices))
