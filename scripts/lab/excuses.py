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

Becomes = Callable[[Any, Any, str], Any]
"""What becomes of a part, given what the source has, what the result has, and the job's line."""


@dataclass(frozen=True, kw_only=True)
class Excuse:
    """What becomes of a part, and why."""

    parts: tuple[str, ...]
    becomes: Becomes
    """What is expected there."""
    containers: tuple[str, ...] = ()
    """The kinds of files it holds for; empty for all."""
    why: str = ""
    """Why it's impossible there. Each was tried with PyAV's muxers."""
    said: str = ""
    """Instead of `why`: a word of the line by which the job tells it."""

    def reasons(self, container: str, said: Iterable[str]) -> list[str]:
        """Why it holds for a result in `container` of a job that has `said` that; none: it doesn't."""
        if self.said:
            return [line for line in said if self.said in line]
        return [self.why] if not self.containers or container in self.containers else []


def _each(becomes: Becomes) -> Becomes:
    """The same of each stream."""

    def of_all(before: Any, after: Any, line: str) -> Any:
        if len(before) != len(after):
            return before
        pairs = zip(before.items(), after.values(), strict=True)
        return {index: becomes(one, other, line) for (index, one), other in pairs}

    return of_all


def _near(tolerance: Fraction) -> Becomes:
    """The same time or times, but for a rounding."""

    def becomes(before: Any, after: Any, _: str) -> Any:
        ones, others = (x if isinstance(x, list) else [x] for x in (before, after))
        if len(ones) != len(others) or None in (*ones, *others):
            return before
        return after if all(abs(a - b) <= tolerance for a, b in zip(ones, others, strict=True)) else before

    return becomes


def _later(before: Any, after: Any, _: str) -> Any:
    """A later time, by what few pictures take."""
    return after if before < after < before + Fraction(1, 2) else before


def _counted(before: Any, after: Any, _: str) -> Any:
    """Times at one distance, where the source has none."""
    if before is not None or not after:
        return before
    gaps = {round((b - a) * 1000) for a, b in pairwise(after)}
    return after if after[0] == 0 and len(gaps) <= 1 else before


def _enable_first(before: Any, after: Any, _: str) -> Any:
    """Of each type with no stream that is on by default, the first one is."""
    streams, on = dict(before), Disposition.default
    for kind in ("video", "audio", "subtitle"):
        same = {index: stream for index, stream in before.items() if stream.type == kind}
        if same and not any(stream.disposition & on for stream in same.values()):
            index, stream = next(iter(same.items()))
            streams[index] = replace(stream, disposition=stream.disposition | on)
    return streams


def _never_default(before: Any, after: Any, _: str) -> Any:
    on = Disposition.default
    return {k: replace(stream, disposition=stream.disposition & ~on) for k, stream in before.items()}


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


def _named(before: Any, after: Any, _: str) -> Any:
    """Cover art that gets a name and a type, as it has none."""
    (name, mimetype, data), (new_name, new_type, _) = before, after
    return name or new_name, mimetype or new_type, data


def _untyped(before: Any, after: Any, _: str) -> Any:
    """Cover art whose type its bytes alone tell."""
    return before[0], None, before[2]


def _keys(line: str) -> list[str]:
    """Those that a job says it loses."""
    return re.findall(r"lost: (.*?);", line)[0].lower().split(", ")


def _without_keys(before: Any, after: Any, line: str) -> Any:
    keys = _keys(line)
    return {key: None if key in keys else value for key, value in before.items()}


def _changed(before: Any, line: str, change: Callable[[Any], Any]) -> Any:
    """`before` with a change of the stream that a line names."""
    index = int(re.findall(r"stream (\d+)", line)[0])
    return {key: change(value) if key == index else value for key, value in before.items()}


def _without_keys_of_stream(before: Any, after: Any, line: str) -> Any:
    keys = _keys(line)
    return _changed(before, line, lambda found: {k: v for k, v in found.items() if k not in keys})


def _without_name(before: Any, after: Any, line: str) -> Any:
    keys = _keys(line)
    return _changed(before, line, lambda art: (None if "filename" in keys else art[0], *art[1:]))


def _without_alpha_mode(before: Any, after: Any, line: str) -> Any:
    return _changed(before, line, lambda found: {k: v for k, v in found.items() if k != "alpha_mode"})


def _unlabelled(before: Any, after: Any, line: str) -> Any:
    """A stream without the language and title that are lost."""
    lost = {"language": "und", "title": ""}
    unsaid = {key: value for key, value in lost.items() if key in _keys(line)}
    return _changed(before, line, lambda stream: replace(stream, **unsaid))


def _unmarked(before: Any, after: Any, line: str) -> Any:
    mark = Disposition[re.findall(r"no longer marked (\w+)", line)[0]]
    return _changed(before, line, lambda stream: replace(stream, disposition=stream.disposition & ~mark))


def _without_stream(before: Any, after: Any, line: str) -> Any:
    """`before` without what a line says is left out; a timecode has no stream of its own."""
    indices = [int(index) for index in re.findall(r"stream (\d+)", line)]
    return {key: value for key, value in before.items() if key not in indices}


def _converted(before: Any, after: Any, line: str) -> Any:
    codec = re.findall(r" is converted to (\w+)", line)[0]
    return _changed(before, line, lambda stream: replace(stream, codec=codec))


def _lost(value: Any) -> Becomes:
    return lambda before, after, line: value


_OF_VIDEO = (
    "frames", "planes", "times", "fields", "captions", "tags", "aspect", "location", "rotation", "HDR",
    "side data",
)  # fmt: skip
_BY_STREAM = (
    *_OF_VIDEO, "sound", "sound at", "texts", "texts at", "attached", "cover art", "streams", "of streams",
)  # fmt: skip
_OTHERS_AT = ("sound at", "texts at")
_MATROSKA, _MP4 = ("mkv", "webm"), ("mp4", "mov")
EXCUSES = [
    # First of all: what is left out isn't looked at by others.
    Excuse(parts=_BY_STREAM, becomes=_without_stream, said=" is left out"),
    Excuse(
        parts=("times",),
        becomes=_each(_counted),
        why="the source is a bare stream that has no times: its pictures are compared by number",
    ),
    Excuse(
        parts=("begin",),
        becomes=_later,
        containers=("ts",),
        why="MPEG-TS has no time before 0 at which a picture could be decoded: all is later, by the same",
    ),
    Excuse(
        parts=("begin",),
        becomes=_near(Fraction(1, 2000)),
        containers=_MATROSKA,
        why="Matroska as FFmpeg writes it counts milliseconds",
    ),
    Excuse(
        parts=("times",),
        becomes=_each(_near(Fraction(1, 2000))),
        containers=_MATROSKA,
        why="Matroska as FFmpeg writes it counts milliseconds",
    ),
    Excuse(
        parts=_OTHERS_AT,
        becomes=_each(_near(Fraction(1, 1000))),
        containers=_MATROSKA,
        why="Matroska as FFmpeg writes it counts milliseconds",
    ),
    Excuse(
        parts=("times", *_OTHERS_AT),
        becomes=_each(_near(Fraction(1, 45000))),
        containers=("ts",),
        why="MPEG-TS counts in 1/90000 s",
    ),
    Excuse(
        parts=_OTHERS_AT,
        becomes=_each(_near(Fraction(1, 1000) + Fraction(1, 44100))),
        containers=_MP4,
        why="MP4 counts sound in samples, and where it begins in milliseconds",
    ),
    Excuse(
        parts=("streams",),
        becomes=_enable_first,
        containers=_MP4,
        why="MP4: FFmpeg's muxer enables the first track of a kind where none is on by default",
    ),
    Excuse(
        parts=("streams",),
        becomes=_never_default,
        containers=("ts",),
        why="MPEG-TS doesn't say which streams are on by default",
    ),
    Excuse(
        parts=("streams",),
        becomes=_any_layer,
        containers=(*_MP4, "ts"),
        why="MPEG audio of all layers has one number there: mp2 is called mp3, and plays as what it is",
    ),
    Excuse(
        parts=("metadata",),
        becomes=_fixed_point,
        containers=_MP4,
        why="MP4 has the place on earth in 16.16 bits, which read back in another notation",
    ),
    Excuse(
        parts=("metadata",),
        becomes=_no_epoch,
        containers=_MP4,
        why="MP4: FFmpeg's muxer takes 1970-01-01 00:00:00 for no time",
    ),
    Excuse(
        parts=("side data",),
        becomes=_each(lambda before, after, _: [k for k in before if k not in ("PANSCAN", "GOP_TIMECODE")]),
        why="pan-scan and the time code of MPEG-2's groups are written by no encoder but MPEG-2's own",
    ),
    Excuse(
        parts=("cover art",),
        becomes=_each(_named),
        containers=("mkv",),
        why="Matroska has a name and a type for cover art, which MP4 hasn't",
    ),
    Excuse(
        parts=("cover art",),
        becomes=_each(_untyped),
        containers=("mp4",),
        why="MP4 tells the type of cover art by its bytes",
    ),
    Excuse(parts=("aspect",), becomes=_each(_lost(Fraction(1))), said="sample aspect ratio"),
    Excuse(parts=("location",), becomes=_each(_lost(1)), said="chroma location"),
    Excuse(parts=("rotation",), becomes=_each(_lost(())), said="rotation is lost"),
    Excuse(parts=("HDR",), becomes=_each(_lost([(0, "")])), said="the colour tags are kept"),
    Excuse(parts=("captions",), becomes=_each(_lost([])), said="closed captions are lost"),
    Excuse(parts=("chapters",), becomes=_lost([]), said="chapters are lost"),
    Excuse(parts=("timecode",), becomes=_lost(""), said="timecode"),
    Excuse(parts=("metadata",), becomes=_without_keys, said="metadata lost"),
    Excuse(parts=("of streams",), becomes=_without_keys_of_stream, said="metadata of "),
    Excuse(parts=("of streams",), becomes=_without_alpha_mode, said="the alpha of video stream"),
    Excuse(parts=("cover art",), becomes=_without_name, said="metadata of cover art"),
    Excuse(parts=("streams",), becomes=_unlabelled, said="metadata of "),
    Excuse(parts=("streams",), becomes=_unmarked, said="is no longer marked"),
    Excuse(parts=("streams",), becomes=_converted, said=" is converted to "),
]
