"""What a job says while it runs."""

from dataclasses import astuple, dataclass

__all__ = ["SILENT", "Progress", "Work"]


@dataclass(frozen=True)
class Work:
    """Work on pictures. It adds up: that of stages, chunks, processes and jobs is the work of them all."""

    decode_seconds: float = 0.0
    """How long reading and decoding were at work, not waiting for the others."""
    deband_seconds: float = 0.0
    encode_seconds: float = 0.0
    looks: int = 0
    """How many frames' banding was measured."""
    banding_before: float = 0.0
    """Sum over these of the share of the source's pixels that are beside an edge of a band."""
    banding_after: float = 0.0
    """The same of the result's."""

    def __add__(self, other: "Work") -> "Work":
        return Work(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def stages(self) -> dict[str, float]:
        """By name, the share of each stage in the time that any was at work, 0..1."""
        seconds = {
            "decode": self.decode_seconds,
            "deband": self.deband_seconds,
            "encode": self.encode_seconds,
        }
        total = sum(seconds.values())
        return {name: value / total if total else 0.0 for name, value in seconds.items()}

    @property
    def banding(self) -> tuple[float, float] | None:
        """Mean share of pixels beside an edge of a band, before and after, 0..1; `None` before any look."""
        return (self.banding_before / self.looks, self.banding_after / self.looks) if self.looks else None


class Progress:
    """Receives news of a job; this one keeps them to itself."""

    def begin(self, total: int | None, done: int = 0) -> None:
        """Work begins; `total` pictures are expected, `None` if that's not known, of which some are done."""

    def advance(self, frames: int) -> None:
        """So many more pictures are written."""

    def work(self, work: Work) -> None:
        """So much work more has been done, on pictures that are written or will be."""

    def note(self, line: str) -> None:
        """How the job is done, where that's not as usual."""

    def warn(self, line: str) -> None:
        """Something in the source isn't in the result, or not as it was."""


SILENT = Progress()
"""For what has been said, or will be."""
