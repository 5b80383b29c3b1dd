"""Running jobs: who does what, and in what order."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Literal

from ..errors import BdinnError, WorkerError, unexpected
from ..options import DebandOptions
from ..video.job import VideoJob
from ..video.pipeline import Report, run_job
from ..video.progress import Progress, Work
from .folder import is_joined
from .long_job import LongJob
from .options import FarmOptions
from .processes import Processes
from .work import Alone, Crew, Order

__all__ = ["Outcome", "run_all", "run_one"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one job of many."""

    job: VideoJob
    seconds: float = 0
    """From its plan to its result, among others."""
    report: Report | None = None
    error: BdinnError | None = None
    """Why there's no result; if there's neither, it was there before."""

    @property
    def state(self) -> Literal["done", "damaged", "failed", "skipped"]:
        """In a word: `damaged` is done, from a source that is; `skipped` was there before."""
        if self.report is None:
            return "skipped" if self.error is None else "failed"
        return "damaged" if self.report.damaged else "done"

    def __str__(self) -> str:
        """A line of a table."""
        frames = "-" if self.report is None else f"{self.report.frames}"
        words = {
            "done": "done",
            "damaged": "done, damaged",
            "failed": f"failed: {self.error}",
            "skipped": "was there before",
        }
        return f"{frames:>8} frames {self.seconds:>8.1f} s  {self.job.output}: {words[self.state]}"


class _Named(Progress):
    """Says of one job among many what it's about; how many pictures there are altogether, nobody knows."""

    def __init__(self, job: VideoJob, progress: Progress) -> None:
        self._name = job.output
        self._progress = progress

    def advance(self, frames: int) -> None:
        self._progress.advance(frames)

    def work(self, work: Work) -> None:
        self._progress.work(work)

    def note(self, line: str) -> None:
        self._progress.note(line)

    def warn(self, line: str) -> None:
        self._progress.warn(f"{self._name}: {line}")


def run_one(job: VideoJob, options: DebandOptions, farm: FarmOptions, progress: Progress) -> Report:
    """Debands a video, in chunks wherever these can be joined.

    Whatever ends it, finished chunks are kept, and an exception has a note that says so.

    Args:
        job: what to read and to write.
        options: how to deband.
        farm: who does it, in what parts.
        progress: is told how it goes.

    Returns:
        How it ended, if there's an output.

    Raises:
        BdinnError: if anything is wrong; then there is no output. Wrong options and files are found
            before the work starts.
    """
    with ExitStack() as opened:
        crew = opened.enter_context(closing(_hire(options, farm, job.threads)))
        long = opened.enter_context(closing(LongJob(job, options, farm, crew, progress)))
        opened.callback(crew.close)  # before the folder it works in is let go
        if long.pictures is None and long.report is None:
            return run_job(job, options, progress)
        opened.enter_context(_noting(lambda: [long]))
        progress.begin(long.pictures, long.pictures_done)
        long.finish_if_done()
        if long.report is None:
            for _, result in crew.carry_out(long.orders(), lambda _: progress):
                if isinstance(result, BdinnError):
                    raise result
                long.accept(result)
                if long.report is not None:
                    break  # others may still be at work behind a place that can't be read
        assert long.report is not None
        return long.report


def run_all(
    jobs: Sequence[VideoJob],
    options: DebandOptions,
    farm: FarmOptions,
    progress: Progress,
    ended: Callable[[Outcome, int, int], None],
) -> list[Outcome]:
    """Debands many videos, whose chunks are one queue; one that fails doesn't stop the others.

    Args:
        jobs: what to read and to write, one or more. What's there already is left alone, unless it's to be
            overwritten.
        options: how to deband.
        farm: who does it, in what parts.
        progress: is told how it goes.
        ended: is told what became of each as soon as it ends, with which so many of so many have.

    Returns:
        What became of each, in the order in which they ended.
    """
    outcomes: list[Outcome] = []
    running: dict[str, LongJob] = {}
    began: dict[str, float] = {}

    def end(job: VideoJob, report: Report | None = None, error: BdinnError | None = None) -> None:
        long = running.pop(job.output, None)
        if long is not None:
            long.close()
        seconds = time.monotonic() - began.get(job.output, time.monotonic())
        outcomes.append(Outcome(job=job, seconds=seconds, report=report, error=error))
        ended(outcomes[-1], len(outcomes), len(jobs))

    @contextmanager
    def ending(job: VideoJob) -> Iterator[None]:
        """Ends a job if anything goes wrong in this context, and this one alone."""
        try:
            yield
        except BdinnError as error:
            end(job, error=error)
        except Exception as error:
            end(job, error=WorkerError(unexpected(error)))

    def orders() -> Iterator[Order]:
        for job in jobs:
            if os.path.lexists(job.output) and not job.overwrite and not is_joined(job.output):
                end(job)
                continue
            began[job.output] = time.monotonic()
            with ending(job):
                long = LongJob(job, options, farm, crew, _Named(job, progress))
                running[job.output] = long
                long.finish_if_done()
                if long.report is not None:
                    end(job, long.report)
            if job.output in running:
                for order in running[job.output].orders():
                    if job.output in running:
                        yield order

    progress.begin(None)
    with closing(_hire(options, farm, jobs[0].threads)) as crew, _noting(lambda: [*running.values()]):
        try:
            for order, result in crew.carry_out(orders(), lambda order: _Named(order.job, progress)):
                long = running.get(order.job.output)
                if long is None:
                    continue  # another part of it has failed, or is the last
                with ending(order.job):
                    if isinstance(result, BdinnError):
                        raise result
                    long.accept(result)
                    if long.report is not None:
                        end(order.job, long.report)
        finally:
            crew.close()  # before the folders it works in are let go
            for long in running.values():
                long.close()
    return outcomes


@contextmanager
def _noting(jobs: Callable[[], Sequence[LongJob]]) -> Iterator[None]:
    """Adds to what ends jobs what's kept of those that are at work then."""
    try:
        yield
    except BaseException as error:
        for long in jobs():
            if long.kept is not None:
                error.add_note(long.kept)
        raise


def _hire(options: DebandOptions, farm: FarmOptions, threads: int) -> Crew:
    """Who does the work, with so many threads altogether."""
    if farm.ray is not None:
        from .cluster import Cluster

        return Cluster(farm.ray, options.device, threads)
    if farm.processes > 1:
        return Processes(farm.processes, farm.devices or [options.device], threads)
    return Alone(options.device, threads)
