"""Previews and reports as files: refused before any work if they can't be written, in place when complete."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ..errors import BdinnError, OptionError, OutputError
from ..options import DebandOptions
from ..video.job import VideoJob
from ..video.opening import STDIO
from ..video.output import check_output
from ..video.part_files import PartFile

__all__ = ["check_report", "write_preview", "write_report"]

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
    if Path(job.output).suffix.lower() != ".png":
        raise OptionError(f"a preview is a picture: name a .png instead of {job.output}, or nothing")
    _refuse_pipe(job)
    check_output(job)
    from .png import encode_png
    from .preview import draw_preview

    _write(job.output, job.overwrite, encode_png(draw_preview(job, options, times, tell)))


def check_report(job: VideoJob, path: str) -> None:
    """Refuses a report that can't be made.

    Raises:
        BdinnError: if it would replace something, or if source or result can't be read again.
    """
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"a report is a page: name a .html instead of {path}")
    _refuse_pipe(job)
    if job.output == STDIO:
        raise OptionError("a report reads the result again: name a file instead of -")
    check_output(replace(job, output=path))


def write_report(
    job: VideoJob, options: DebandOptions, path: str, frames: int, figures: Mapping[str, str], command: str
) -> None:
    """Writes the report of a job that's done; see `make_report`.

    Raises:
        OutputError: if it can't be made; the result stays as it is.
    """
    from .report import make_report

    try:
        page = make_report(job, options, frames, figures, command)
        _write(path, job.overwrite, page.encode())
    except BdinnError as error:
        raise OutputError(f"{job.output} is complete, but its report can't be made: {error}") from error


def _refuse_pipe(job: VideoJob) -> None:
    if job.source == STDIO:
        raise OptionError("a pipe can be read but once: name a file instead of -")


def _write(path: str, overwrite: bool, content: bytes) -> None:
    part = PartFile(path, overwrite)
    try:
        part.path.write_bytes(content)
        part.commit()
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror})") from error
    finally:
        part.discard()
