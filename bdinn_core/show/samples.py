"""Some of a video's pictures, and what debanding makes of them."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction

from ..errors import InputError, OptionError
from ..options import DebandOptions
from ..planes import Frame, FrameFormat
from ..video.job import VideoJob
from ..video.pipeline import open_filters, open_source
from ..video.probe import VideoInfo
from ..video.reader import Source
from ..video.track import Picture

__all__ = ["LEAST_DEPTH", "Sample", "clock", "deband_at", "picture_at", "result_depth", "spread"]

LEAST_DEPTH = 10
"""Bits of a result that nobody has chosen a depth for, as where a video is encoded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A picture of a source, and its result before it's encoded."""

    info: VideoInfo
    time: Fraction
    """When it's shown, in seconds after the source's first picture."""
    source: Frame
    result: Frame


def clock(time: Fraction) -> str:
    """Seconds as h:mm:ss.mmm."""
    seconds, milliseconds = divmod(round(time * 1000), 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"


def picture_at(job: VideoJob, options: DebandOptions, time: Fraction) -> Picture:
    """The picture of a source that is shown at a time, or the first one after it.

    Args:
        job: names the source and says how it's read.
        options: how to deband it.
        time: seconds after the source's first picture.

    Raises:
        BdinnError: if there's none, or it can't be read.
    """
    with _open_at(job, options, time) as source:
        return _first(source, job, time)


def deband_at(job: VideoJob, options: DebandOptions, time: Fraction) -> Sample:
    """The same picture, with its result; of `LEAST_DEPTH` bits at least, unless the options say otherwise.

    Raises:
        BdinnError: as `picture_at`, or if it can't be debanded.
    """
    with ExitStack() as opened:
        source = opened.enter_context(_open_at(job, options, time))
        track = source.tracks[0]
        depths = {track.index: result_depth(track.info.format, options)}
        deband = opened.enter_context(open_filters(job, options, source, depths, _ignore))[0]
        picture = _first(source, job, time)
        number = round(time * track.info.rate)  # which grain depends on
        [result] = deband([replace(picture, number=number)])
        return Sample(info=track.info, time=picture.time, source=picture.frame, result=result.frame)


def result_depth(source: FrameFormat, options: DebandOptions) -> int:
    """Bits of a result, or 32 for floats; as where a video is encoded, `LEAST_DEPTH` at least."""
    if options.output_depth != -1:
        return options.output_depth
    return 32 if source.is_float else max(LEAST_DEPTH, source.bit_depth)


def spread(job: VideoJob, options: DebandOptions, count: int) -> Sequence[Fraction]:
    """Times spread evenly over what a job wants of its source, each in the middle of its part.

    Raises:
        OptionError: if the source doesn't tell how long it is.
        BdinnError: if it can't be read.
    """
    with closing(open_source(job, options, _ignore)) as source:
        track, start = source.tracks[0], source.skipped
        frames, rate = source.estimated_frames, track.info.rate
        if frames is None and track.of_stills:
            frames = 1
    if frames is None:
        raise OptionError(f"{job.source} doesn't say how long it is: give times")
    count = min(count, frames)
    numbers = [frames * (2 * part + 1) // (2 * count) for part in range(count)]
    # Half a picture before it, since times are rounded.
    return [start + max(Fraction(0), number - Fraction(1, 2)) / rate for number in numbers]


def _open_at(job: VideoJob, options: DebandOptions, time: Fraction) -> "closing[Source]":
    stream = 0 if job.video_stream == "all" else job.video_stream
    here = replace(job, start=time, end=None, hwaccel="none", hdr="drop", video_stream=stream)
    try:
        return closing(open_source(here, options, _ignore))
    except OptionError as error:
        raise OptionError(f"at {clock(time)}: {error}") from error


def _first(source: Source, job: VideoJob, time: Fraction) -> Picture:
    for item in source.items(set()):
        if isinstance(item, Picture):
            return item
    raise InputError(f"{job.source} has no picture that can be decoded at {clock(time)}")


def _ignore(_line: str) -> None:
    """The job itself says what there's to say."""
