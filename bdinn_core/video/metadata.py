"""Which metadata and marks of streams a container has a place for: FFmpeg drops the rest without a word."""

import re
from collections.abc import Iterable

from av.stream import Disposition

__all__ = ["lost_keys", "lost_marks"]

_MP4 = {
    "album", "album_artist", "artist", "comment", "compilation", "composer", "copyright", "creation_time",
    "date", "description", "disc", "episode_id", "episode_sort", "gapless_playback", "genre", "grouping",
    "hd_video", "keywords", "location", "lyrics", "media_type", "network", "season_number", "show",
    "synopsis", "timecode", "title", "track",
}  # fmt: skip
_MOV = {
    "album", "artist", "comment", "copyright", "creation_time", "date", "genre", "location", "make", "model",
    "timecode", "title",
}  # fmt: skip
# The muxer's use_metadata_tags would keep any key, but title and the like then where few players look for
# them, and the creation time twice.
_KEYS = {"mp4": _MP4, "ipod": _MP4, "mov": _MOV}
"""Keys that FFmpeg's muxers write, by the container's name; others hold any, or hardly one."""
_LANGUAGE = re.compile(r"-[a-z]{3}$")
"""Behind a key that FFmpeg's reader gives twice."""


def lost_keys(container: str, keys: Iterable[str]) -> list[str]:
    """Those of a file's metadata `keys` that `container` (FFmpeg's name) drops."""
    known = _KEYS.get(container)
    if known is None:
        return []
    return [key for key in keys if _LANGUAGE.sub("", key.lower()) not in known]


_FOR_THE_DEAF, _FOR_THE_BLIND = Disposition.hearing_impaired, Disposition.visual_impaired
_MARKS = Disposition.dub | Disposition.comment | Disposition.forced | _FOR_THE_DEAF | _FOR_THE_BLIND
"""What people choose streams by, apart from language and title."""
_KEPT_MARKS = {
    "matroska": _MARKS | Disposition.original,
    "webm": _MARKS | Disposition.original,
    "mp4": _MARKS | Disposition.captions | Disposition.descriptions,
    "mpegts": _FOR_THE_DEAF | _FOR_THE_BLIND | Disposition.clean_effects,
}
"""Those that FFmpeg's muxers write, by the container's name; others write none."""
_TOLD_MARKS = (
    _MARKS | Disposition.original | Disposition.lyrics | Disposition.karaoke | Disposition.clean_effects
    | Disposition.captions | Disposition.descriptions
)  # fmt: skip


def lost_marks(container: str, marks: int) -> list[str]:
    """The names of those of a stream's dispositions that `container` (FFmpeg's name) drops."""
    lost = Disposition(marks) & _TOLD_MARKS & ~_KEPT_MARKS.get(container, Disposition(0))
    return [mark.name or "" for mark in Disposition if mark in lost]
