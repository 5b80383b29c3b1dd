"""Running jobs: who does what, and in what order."""

import os
from contextlib import closing
from dataclasses import dataclass

from ..errors import BdinnError
from ..options import DebandOptions
from ..video.job import VideoJob
from ..video.pipeline import Report
from ..video.progress import Progress
from .long_job import LongJob
from .options import FarmOptions
from .work import Alone, Crew

__all__ = ["Outcome", "run_one"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    job: VideoJob
    seconds: float
    """From its plan to its result, among others."""
    report: Report | None = None
    error: BdinnError | None = None


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
    with closing(LongJob(job, options, farm, _threads(job, farm), progress)) as long:
        if long.pictures is not None:
            progress.begin(long.pictures, long.pictures_done)
        try:
            long.finish_if_done()
            with closing(_hire(options, farm) if long.pictures is not None else Alone()) as crew:
                for _, result in crew.carry_out(long.orders(), progress):
                    if isinstance(result, BdinnError):
                        raise result
                    long.accept(result)
        except BaseException as error:
            if long.kept is not None:
                error.add_note(long.kept)
            raise
        assert long.report is not None
        return long.report


def _threads(job: VideoJob, farm: FarmOptions) -> int:
    """How many a worker's decoder, network and encoder may have, each of them."""
    if farm.processes == 1:
        return job.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (job.threads or cores) // farm.processes)


def _hire(options: DebandOptions, farm: FarmOptions) -> Crew:
    if farm.processes > 1:
        from .processes import Processes

        return Processes(farm.processes, farm.devices or [options.device])
    return Alone()
