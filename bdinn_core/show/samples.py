"""Some of a video's pictures, and what debanding makes of them."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ..errors import InputError, OptionError
from ..options import DebandOptions
from ..planes import Frame
from ..steps import plane_step
from ..video.job import VideoJob
from ..video.opening import STDIO
from ..video.pipeline import open_filters, open_source, plan_encodings
from ..video.probe import VideoInfo
from ..video.progress import SILENT
from ..video.reader import Source
from ..video.track import Picture

__all__ = ["LEAST_DEPTH", "Sample", "clock", "deband_at", "one_stream", "pictures", "result_depth"]

LEAST_DEPTH = 10
"""Bits of a result that nobody has chosen a depth for, as where a video is encoded."""
LOOK_BACK = (2, 100, 3000)
"""How many pictures before a time reading begins; the next where the one that's shown then began earlier."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A picture of a source, and its result before it's encoded."""

    info: VideoInfo
    time: Fraction
    """When it begins to be shown, in seconds after the source's first picture."""
    source: Frame
    result: Frame
    step: float
    """Height of the bands looked for in luma, in 8-bit steps."""


def clock(time: Fraction) -> str:
    """Seconds as h:mm:ss.mmm."""
    seconds, milliseconds = divmod(round(time * 1000), 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"


def deband_at(job: VideoJob, options: DebandOptions, time: Fraction) -> Sample:
    """The picture that is shown at a time, and its result.

    Its grain is that of the job, if the frame rate is constant and the job begins where the source does.

    Args:
        job: names the source and says how it's read.
        options: how to deband it.
        time: seconds after the source's first picture.

    Raises:
        BdinnError: if there's none, or it can't be read or debanded.
    """
    with closing(open_source(one_stream(job), options, SILENT.warn)) as source:
        rate = source.tracks[0].info.rate
    with _showing(job, options, time, rate) as (here, source, picture):
        track = source.tracks[0]
        depths = {track.index: result_depth(here, source, options)}
        with open_filters(here, options, source, depths, SILENT.warn) as [deband]:
            number = round(picture.time * rate)
            [result] = deband([replace(picture, number=number)])
        step = plane_step(picture.frame, picture.frame.format.luma_plane)
        return Sample(
            info=track.info, time=picture.time, source=picture.frame, result=result.frame, step=step
        )


def pictures(job: VideoJob, options: DebandOptions, count: int) -> Iterator[Picture]:
    """Pictures spread evenly over what a job wants of its source, one in the middle of each part.

    Of a source that doesn't say how long it is, the first one. Where it's shorter than it says, or damaged,
    there are fewer.

    Raises:
        BdinnError: if it can't be read.
    """
    missing: Exception | None = None
    last: Picture | None = None
    with closing(open_source(one_stream(job), options, SILENT.warn)) as source:
        rate, times = source.tracks[0].info.rate, _spread(source, count)
    for time in times:
        try:
            with _showing(job, options, time, rate) as (_, _, picture):
                if last is None or picture.time > last.time:
                    last = picture
                    yield picture
        except InputError as error:
            missing = error
    if missing is not None and last is None:
        raise missing


def result_depth(job: VideoJob, source: Source, options: DebandOptions) -> int:
    """Bits of a job's results, or 32 for floats.

    Where neither codec nor output say, they are those of most video codecs: `LEAST_DEPTH` at least.

    Raises:
        OptionError: if the source can't be encoded like that.
    """
    track = source.tracks[0]
    named = job.output != STDIO and Path(job.output).suffix.lower() != ".png"
    if named or job.codec != "auto" or job.pix_fmt != "auto":
        planned = job if named else replace(job, output="result.mkv")
        return plan_encodings(planned, source, options)[track.index].pixel.depth
    if options.output_depth != -1:
        return options.output_depth
    return 32 if track.info.format.is_float else max(LEAST_DEPTH, track.info.format.bit_depth)


def one_stream(job: VideoJob) -> VideoJob:
    """The same job of one video stream, the first if it's of all; decoded by the CPU."""
    stream = 0 if job.video_stream == "all" else job.video_stream
    return replace(job, video_stream=stream, hwaccel="none")


def _spread(source: Source, count: int) -> Sequence[Fraction]:
    frames, rate, start = source.estimated_frames or 1, source.tracks[0].info.rate, source.skipped
    count = min(count, frames)
    numbers = [frames * (2 * part + 1) // (2 * count) for part in range(count)]
    # Half a picture behind its begin, since times are rounded.
    return [start + (number + Fraction(1, 2)) / rate for number in numbers]


@contextmanager
def _showing(
    job: VideoJob, options: DebandOptions, time: Fraction, rate: Fraction
) -> Iterator[tuple[VideoJob, Source, Picture]]:
    """The picture that is shown at a time, with the source it was read from, and the job that reads it so."""
    for back in LOOK_BACK:
        start = max(Fraction(0), time - back / rate)
        here = replace(one_stream(job), start=start, end=None, hdr="drop")
        try:
            source = open_source(here, options, SILENT.warn)
        except OptionError:  # it's behind the last picture
            continue
        with closing(source):
            picture = _shown(source, time)
            if picture is not None:
                yield here, source, picture
                return
    raise InputError(f"{job.source} shows no picture at {clock(time)}; it may end before")


def _shown(source: Source, time: Fraction) -> Picture | None:
    """The last picture that has begun by then, unless it has ended, too."""
    last: Picture | None = None
    try:
        for item in source.items(set()):
            if isinstance(item, Picture):
                if item.time > time:
                    return last
                last = item
    except InputError:  # as where the size changes
        if last is None:
            raise
        return last
    ended = last is None or last.time + last.duration * source.tracks[0].tick <= time
    return None if ended else last
