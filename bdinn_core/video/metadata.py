"""Which metadata of a file MP4 and MOV have a place for: FFmpeg drops the rest without a word."""

import re
from collections.abc import Iterable

__all__ = ["lost_keys"]

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
