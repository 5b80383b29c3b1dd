"""Previews and reports as files: refused before any work if they can't be written, in place when complete."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ..errors import BdinnError, OptionError, OutputError, unexpected
from ..options import DebandOptions
from ..video.job import VideoJob
from ..video.opening import STDIO
from ..video.output import check_output, output_pattern
from ..video.part_files import PartFile

__all__ = ["check_report", "refuse_pipe", "write_preview", "write_report"]

Times = Sequence[Fraction] | Literal["auto"]


def write_preview(job: VideoJob, options: DebandOptions, times: Times, tell: Callable[[str], None]) -> None:
    """Draws a preview into the job's output.

    Args:
        job: names the source, how it's read, and a .png.
        options: how to deband it.
        times: in seconds after its first picture; `auto` finds the most banded pictures.
        tell: is told a line about each picture.

    Raises:
        BdinnError: if it can't be read, debanded or written.
    """
    if Path(job.output).suffix.lower() != ".png" or output_pattern(job.output) is not None:
        raise OptionError(f"a preview is a picture: name one .png instead of {job.output}, or nothing")
    refuse_pipe(job)
    check_output(job)
    with _writing(job.output, job.overwrite) as path:
        from .png import encode_png
        from .preview import draw_preview

        path.write_bytes(encode_png(draw_preview(job, options, times, tell)))


def check_report(job: VideoJob, path: str) -> None:
    """Refuses a report that can't be made.

    Raises:
        BdinnError: if it would replace something, or if source or result can't be read again.
    """
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"a report is a page: name a .html instead of {path}")
    refuse_pipe(job)
    if job.output == STDIO:
        raise OptionError("a report reads the result again: name a file instead of -")
    check_output(replace(job, output=path))
    _begin(path, job.overwrite).discard()


def write_report(
    job: VideoJob,
    options: DebandOptions,
    path: str,
    run: Mapping[str, str],
    damage: Sequence[str],
    command: str,
    tell: Callable[[str], None],
) -> None:
    """Writes the report of a job that's done; see `make_report`.

    Raises:
        OutputError: if it can't be made; the result stays as it is.
    """
    from .report import make_report

    try:
        with _writing(path, job.overwrite) as part:
            page = make_report(job, options, run, damage, command, tell)
            part.write_text(page, encoding="utf-8")
    except Exception as error:
        why = f"{error}" if isinstance(error, BdinnError) else unexpected(error)
        raise OutputError(f"{job.output} is complete, but its report can't be made: {why}") from error


def refuse_pipe(job: VideoJob) -> None:
    """Refuses a source that can't be read more than once.

    Raises:
        OptionError: it's a pipe.
    """
    if job.source == STDIO or (os.path.exists(job.source) and not os.path.isfile(job.source)):
        raise OptionError(f"a pipe can be read but once: name a file instead of {job.source}")


def _begin(path: str, overwrite: bool) -> PartFile:
    """A file under a temporary name, empty, if it can be written there."""
    part = PartFile(path, overwrite)
    try:
        part.path.touch()
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror})") from error
    return part


@contextmanager
def _writing(path: str, overwrite: bool) -> Iterator[Path]:
    """A file under a temporary name, which has its own at the end; refused at once if it can't be written."""
    part = _begin(path, overwrite)
    try:
        yield part.path
        part.commit()
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror})") from error
    finally:
        part.discard()
