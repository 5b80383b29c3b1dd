"""Why a part of a file may come back changed: it can't be otherwise there, or the job has said so.

An excuse tells what exactly becomes of a part. What comes back in any other way has none.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from av.stream import Disposition

__all__ = ["EXCUSES", "Excuse"]


@dataclass(frozen=True, kw_only=True)
class Excuse:
    """What becomes of a part, and why."""

    parts: tuple[str, ...]
    becomes: Callable[[Any, Any, str], Any]
    """What is expected, given what the source has, what the result has, and the job's line."""
    container: str = ""
    """The kind of file it holds for; empty for all."""
    why: str = ""
    """Why it's impossible there. Each was tried with PyAV's muxers."""
    said: str = ""
    """Instead of `why`: a word of the line by which the job tells it."""

    def reasons(self, container: str, said: Iterable[str]) -> list[str]:
        """Why it holds for a result in `container` of a job that has `said` that; none: it doesn't."""
        if self.said:
            return [line for line in said if self.said in line]
        return [self.why] if self.container in ("", container) else []


def _near(tolerance: Fraction) -> Callable[[Any, Any, str], Any]:
    """The same times, but for a rounding."""

    def becomes(before: Any, after: Any, _: str) -> Any:
        ones, others = ([*x.values()] if isinstance(x, dict) else [x] for x in (before, after))
        if [len(one or ()) for one in ones] != [len(other or ()) for other in others]:
            return before
        pairs = (
            (a, b) for one, other in zip(ones, others, strict=True) for a, b in zip(one, other, strict=True)
        )
        return after if all(abs(a - b) <= tolerance for a, b in pairs) else before

    return becomes


def _counted(before: Any, after: Any, _: str) -> Any:
    """Times at one distance, where the source has none."""
    gaps = {round((b - a) * 1000) for a, b in pairwise(after)}
    return after if before is None and after[0] == 0 and len(gaps) <= 1 else before


def _enable_first(before: Any, after: Any, _: str) -> Any:
    """Of each type with no stream that is on by default, the first one is."""
    streams, on = dict(before), Disposition.default
    for kind in ("video", "audio", "subtitle"):
        same = {index: stream for index, stream in before.items() if stream.type == kind}
        if same and not any(stream.disposition & on for stream in same.values()):
            index, stream = next(iter(same.items()))
            streams[index] = replace(stream, disposition=stream.disposition | on)
    return streams


def _any_layer(before: Any, after: Any, _: str) -> Any:
    """MPEG audio of whatever layer is called by that of MP3."""
    return {
        index: replace(stream, codec="mp3") if stream.codec in ("mp1", "mp2") else stream
        for index, stream in before.items()
    }


def _fixed_point(before: Any, after: Any, _: str) -> Any:
    """A place on earth in 16.16 bits, written by FFmpeg's reader."""
    numbers = re.findall(r"[+-][\d.]+", before.get("location", ""))
    if len(numbers) < 2:
        return before
    x, y, *z = (int(float(number) * 65536) / 65536 for number in numbers)
    written = f"{x:+08.4f}{y:+09.4f}{''.join(f'{height:+f}' for height in z)}/"
    return {**before, "location": written}


def _no_epoch(before: Any, after: Any, _: str) -> Any:
    return {k: None if (k, v) == ("creation_time", "1970-01-01 00:00:00") else v for k, v in before.items()}


def _without_keys(before: Any, after: Any, line: str) -> Any:
    keys = line.removeprefix("metadata lost: ").partition(";")[0].lower().split(", ")
    return {key: None if key in keys else value for key, value in before.items()}


def _without_stream(before: Any, after: Any, line: str) -> Any:
    index = int(re.findall(r"stream (\d+)", line)[0])
    return {key: value for key, value in before.items() if key != index}


def _converted(before: Any, after: Any, line: str) -> Any:
    index, codec = re.findall(r"stream (\d+) .* is converted to (\w+)", line)[0]
    return {**before, int(index): replace(before[int(index)], codec=codec)}


def _lost(value: Any) -> Callable[[Any, Any, str], Any]:
    return lambda before, after, line: value


_BY_STREAM = ("streams", "sound", "sound at", "texts", "texts at", "attached")
EXCUSES = [
    Excuse(
        parts=("times",),
        becomes=_counted,
        why="the source is a bare stream that has no times: its pictures are compared by number",
    ),
    Excuse(
        parts=("times",),
        becomes=_near(Fraction(1, 2000)),
        container="mkv",
        why="Matroska as FFmpeg writes it counts milliseconds",
    ),
    Excuse(
        parts=("sound at", "texts at"),
        becomes=_near(Fraction(1, 1000)),
        container="mkv",
        why="Matroska as FFmpeg writes it counts milliseconds",
    ),
    Excuse(
        parts=("sound at", "texts at"),
        becomes=_near(Fraction(1, 1000) + Fraction(1, 44100)),
        container="mp4",
        why="MP4 counts sound in samples, and where it begins in milliseconds",
    ),
    Excuse(
        parts=("streams",),
        becomes=_enable_first,
        container="mp4",
        why="MP4: FFmpeg's muxer enables the first track of a kind where none is on by default",
    ),
    Excuse(
        parts=("streams",),
        becomes=_any_layer,
        container="mp4",
        why="MP4 has one number for all layers of MPEG audio: mp2 is called mp3, and plays as what it is",
    ),
    Excuse(
        parts=("metadata",),
        becomes=_fixed_point,
        container="mp4",
        why="MP4 has the place on earth in 16.16 bits, which read back in another notation",
    ),
    Excuse(
        parts=("metadata",),
        becomes=_no_epoch,
        container="mp4",
        why="MP4: FFmpeg's muxer takes 1970-01-01 00:00:00 for no time",
    ),
    Excuse(
        parts=("side data",),
        becomes=lambda before, after, _: [k for k in before if k not in ("PANSCAN", "GOP_TIMECODE")],
        why="pan-scan and the time code of MPEG-2's groups are written by no encoder but MPEG-2's own",
    ),
    Excuse(parts=("aspect",), becomes=_lost(Fraction(1)), said="sample aspect ratio"),
    Excuse(parts=("location",), becomes=_lost(1), said="chroma location"),
    Excuse(parts=("HDR",), becomes=_lost(""), said="the colour tags are kept"),
    Excuse(parts=("captions",), becomes=_lost([]), said="closed captions are lost"),
    Excuse(parts=("metadata",), becomes=_without_keys, said="metadata lost"),
    Excuse(parts=_BY_STREAM, becomes=_without_stream, said=" is left out"),
    Excuse(parts=("streams",), becomes=_converted, said=" is converted to "),
]
