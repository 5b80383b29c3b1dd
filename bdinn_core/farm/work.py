"""What a worker is asked to do, and what workers are to those who ask."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..errors import BdinnError, WorkerError, is_out_of_memory, unexpected
from ..options import DebandOptions
from ..video.job import VideoJob
from ..video.pipeline import Report, run_job
from ..video.progress import Progress
from .segments import Segment, Task, make_segment

__all__ = ["MOST_ATTEMPTS", "Alone", "Crew", "Order", "Part", "ProgressOf", "Result", "Whole", "attempt"]

MOST_ATTEMPTS = 3
"""At an order whose worker dies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Whole:
    """A video to be done in one go."""

    job: VideoJob
    options: DebandOptions

    def __str__(self) -> str:
        return self.job.output

    def on(self, device: str) -> "Whole":
        """The same, on another device."""
        return replace(self, job=_decoding_on(self.job, device), options=replace(self.options, device=device))

    def carry_out(self, progress: Progress) -> Report:
        """Does it."""
        return run_job(self.job, self.options, progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A chunk to be made a file."""

    task: Task
    path: Path

    @property
    def job(self) -> VideoJob:
        """What it's a part of."""
        return self.task.job

    def __str__(self) -> str:
        return f"chunk {self.task.chunk.number} of {self.task.job.output}"

    def on(self, device: str) -> "Part":
        """The same, on another device."""
        job, options = _decoding_on(self.job, device), replace(self.task.options, device=device)
        return replace(self, task=replace(self.task, job=job, options=options))

    def carry_out(self, progress: Progress) -> Segment:
        """Does it."""
        return make_segment(self.task, self.path, progress)


def _decoding_on(job: VideoJob, device: str) -> VideoJob:
    """The same job; where a GPU decodes, it's the one that debands."""
    elsewhere = job.hwaccel != "none" and device.startswith("cuda:")
    return replace(job, hwaccel=device) if elsewhere else job


Order = Whole | Part
"""Something to be done."""
ProgressOf = Callable[[Order], Progress]
Result = Segment | Report | BdinnError
"""What becomes of an order, or why nothing does."""


def attempt(order: Order, progress: Progress) -> Result:
    """What becomes of an order, or why nothing does: none may end the others."""
    try:
        return order.carry_out(progress)
    except BdinnError as error:
        return error
    except Exception as error:
        if is_out_of_memory(error):
            return WorkerError(f"out of memory at {order}; try fewer --workers, or a smaller --tile-size")
        return WorkerError(unexpected(error))


class Crew(Protocol):
    """Who carries out orders."""

    device: str
    """What debands, as `DebandOptions.device`."""
    threads: int
    """Of each worker's decoder, network and encoder each; 0 is automatic."""

    def carry_out(self, orders: Iterator[Order], progress_of: ProgressOf) -> Iterator[tuple[Order, Result]]:
        """Takes orders as there are hands free, and gives each back as soon as it's done.

        Args:
            orders: what's to be done.
            progress_of: who is told how far an order is.
        """
        ...

    def close(self) -> None:
        """Lets everybody go, at once."""
        ...


class Alone:
    """This process, one after the other.

    Args:
        device: what debands.
        threads: what it may have of them; 0 is automatic.
    """

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self.threads = threads

    def carry_out(self, orders: Iterator[Order], progress_of: ProgressOf) -> Iterator[tuple[Order, Result]]:
        """As `Crew`."""
        for order in orders:
            yield order, attempt(order, progress_of(order))

    def close(self) -> None:
        """Nobody has to go."""
