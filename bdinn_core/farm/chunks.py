"""Where a video is cut into chunks, and whether it can be."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil, inf
from typing import Any, Self

from av.error import FFmpegError
from av.format import Flags

from ..video.audit import moment
from ..video.codecs import choose_codec, why_not_joined
from ..video.containers import find_container
from ..video.job import VideoJob
from ..video.masks import MaskClip, open_mask
from ..video.opening import open_input
from ..video.reader import Source
from ..video.track import NEW_START_SECONDS

__all__ = ["Chunk", "borders", "cut", "why_whole"]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A part of a video, which one worker does. Times are in seconds of the file."""

    number: int
    """Counts from 0."""
    begin: Fraction
    """When its first picture is shown."""
    end: Fraction | None
    """First moment behind it; `None` in the last one of a video that isn't cut."""
    at_key: bool
    """Whether a key picture begins it: reading needn't begin before."""
    first_picture: int
    """How many pictures of the video are before it."""
    pictures: int
    """How many it has, going by what is stored; fewer can come out of a damaged file."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "begin": str(self.begin), "end": None if self.end is None else str(self.end)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` made."""
        end = None if values["end"] is None else Fraction(values["end"])
        return cls(**{**values, "begin": Fraction(values["begin"]), "end": end})


def why_whole(job: VideoJob, source: Source, container: str) -> str | None:
    """Why a video has to be done in one go; `None` if it can be cut and joined.

    Args:
        job: what's asked for; source and output are media files.
        source: what's read.
        container: FFmpeg's name of the result's.
    """
    track = source.tracks[0]
    if len(source.tracks) > 1:
        return "several video streams are done side by side"
    if not source.has_times:
        return "its source doesn't say when pictures are shown"
    if track.reorders:
        return "AVI doesn't say when pictures are shown"
    if not find_container(container).times:
        return f"{container} holds no times"
    if job.mask is not None:
        mask = open_mask(job, job.mask, source, track.info)
        if isinstance(mask, MaskClip):
            with closing(mask):
                if mask.goes_by_number:
                    return "its mask goes by number"
    return why_not_joined(choose_codec(job.codec, job.output), job.encoder_options)


def cut(job: VideoJob, source: Source, most: Fraction) -> list[Chunk] | None:
    """Cuts a video at key pictures, or where these are farther apart than `most` seconds, between them.

    Reads the file once, without decoding it.

    Args:
        job: names the file.
        source: what's wanted of it.
        most: longest chunk in seconds.

    Returns:
        The chunks; `None` if there's no picture in it, it can't be read to its end, or doesn't say when its
            pictures are shown.
    """
    track = source.tracks[0]
    found = _find_pictures(job, source)
    if found is None:
        return None
    times, keys = found
    end = source.timeline.end
    begin = ceil(source.begin / track.tick)
    before = inf if end is None else ceil(end / track.tick)
    times = [time for time in times if begin <= time < before]
    if not times:
        return None
    starts = borders(times, [key for key in keys if begin < key < before], most / track.tick)
    chunks: list[Chunk] = []
    for number, (first, last) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        at = bisect_left(times, first)
        until = len(times) if last is None else bisect_left(times, last)
        chunks.append(
            Chunk(
                number=number,
                begin=first * track.tick,
                end=end if last is None else last * track.tick,
                at_key=first in keys,
                first_picture=at,
                pictures=until - at,
            )
        )
    return chunks


def _find_pictures(job: VideoJob, source: Source) -> tuple[list[int], set[int]] | None:
    """When pictures are shown, in ticks of the stream and in order, and which are key pictures."""
    track = source.tracks[0]
    behind = NEW_START_SECONDS / track.tick
    times, keys, last = array("q"), set[int](), -inf
    container = open_input(job.source, None, job.allow_url).container
    with closing(container):
        if container.format.flags & Flags.no_timestamps.value:
            return None
        try:
            for packet in container.demux(container.streams[track.index]):
                time = moment(packet)
                if not packet.size or packet.is_discard:
                    continue
                if time is None or (packet.dts is not None and packet.dts < last - behind):
                    return None
                last = max(last, packet.dts or -inf)
                times.append(time)
                if packet.is_keyframe:
                    keys.add(time)
        except FFmpegError:
            return None
    return sorted(set(times)), keys


def borders(times: list[int], keys: list[int], most: Fraction) -> list[int]:
    """Where chunks begin, in ticks.

    Each ends at the last key picture that is near enough. Where none is, what lies before the next one is
    divided evenly.
    """
    keys = sorted(keys)
    starts = [times[0]]
    behind = times[-1] + 1
    while behind - starts[-1] > most and starts[-1] < times[-1]:
        here = starts[-1]
        following = bisect_right(keys, here)
        near = bisect_right(keys, here + most)
        if near > following:
            starts.append(keys[near - 1])
            continue
        goal = keys[following] if following < len(keys) else behind
        part = here + Fraction(goal - here, ceil((goal - here) / most))
        following_time = times[bisect_right(times, here)]  # at least one picture
        starts.append(max(following_time, times[bisect_right(times, part) - 1]))
    return starts
