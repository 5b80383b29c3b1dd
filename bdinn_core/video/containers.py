"""What containers hold, in one table: FFmpeg's muxers drop the rest without a word.

Each cell was tried with the muxers and demuxers inside PyAV 19, and is by the tests. Of a container that
isn't listed nothing is taken for granted: what it may lose is said to be lost.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from av.stream import Disposition

__all__ = ["COLOURS", "CONTAINERS", "Container", "find_container"]

_LANGUAGE = re.compile(r"-[a-z]{3}$")
"""Behind a key that FFmpeg's reader gives twice."""
_THREE_LETTERS = re.compile("[a-z]{3}")
"""All that most containers have room for to say a language."""
_TYPES = frozenset({"video", "audio", "subtitle"})
COLOURS = frozenset({"range", "matrix", "primaries", "transfer"})
"""All tags of colour, by their names in `Tags`."""
_DEAF_AND_BLIND = Disposition.hearing_impaired | Disposition.visual_impaired
_MARKS = Disposition.dub | Disposition.comment | Disposition.forced | _DEAF_AND_BLIND
"""What people choose streams by, apart from language and title."""
_NO_MARKS = Disposition(0)
_TOLD_MARKS = (
    _MARKS | Disposition.original | Disposition.lyrics | Disposition.karaoke | Disposition.clean_effects
    | Disposition.captions | Disposition.descriptions
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Container:
    """What a container holds beside the packets of its streams."""

    name: str
    """FFmpeg's."""
    aspect: bool = False
    """Whether it says the sample aspect ratio, where the video stream itself doesn't."""
    location: bool = False
    """The same of the chroma location."""
    colours: frozenset[str] = frozenset()
    """The same of the tags of colour, by their names in `Tags`."""
    rotation: bool = False
    chapters: bool = False
    times: bool = False
    """Whether each picture has a time of its own; else they are shown at a constant rate, from 0."""
    cover_art: Literal["attachment", "stream"] | None = None
    """What pictures that belong to the file are in it; `None`: it has none."""
    cover_keys: frozenset[str] = frozenset()
    """Metadata of such a picture."""
    attachments: bool = False
    keys: frozenset[str] | None = frozenset()
    """Metadata of the file; `None`: any."""
    dropped_keys: frozenset[str] = frozenset()
    """What isn't among any."""
    stream_keys: frozenset[str] | None = frozenset()
    """Metadata of a stream, but for its language; `None`: any, language too."""
    dropped_stream_keys: frozenset[str] = frozenset()
    """What isn't among any."""
    languages: frozenset[str] = frozenset()
    """Types of streams whose language it says, where it doesn't hold any key."""
    marks: Disposition = _NO_MARKS
    """Dispositions of streams, apart from the default one."""
    text: str | None = None
    """The codec that text subtitles are converted to."""
    codecs: frozenset[str] | None = None
    """What FFmpeg recognises when it reads, though it writes others too; `None`: whatever it writes."""
    refuses: frozenset[str] = frozenset()
    """What its muxer refuses only when all streams are there."""
    named_channels: bool = False
    """Whether it takes no PCM of channels without names."""
    one_picture: bool = False
    """Whether beside its picture there's room for one of alpha only."""
    codec_tags: Mapping[str, str] = field(default_factory=dict)
    """By the codec's name, what players want it to be called, where FFmpeg's default is another."""
    lone_tags: Mapping[str, str] = field(default_factory=dict)
    """The muxer's options to keep some tags of colour where not all are known."""

    @property
    def holds_most(self) -> bool:
        """Whether it's Matroska, which others are told to go to."""
        return self.name == "matroska"

    def lost_keys(self, keys: Iterable[str]) -> list[str]:
        """Those of a file's metadata that it drops."""
        if self.keys is None:
            return [key for key in keys if key.lower() in self.dropped_keys]
        return [key for key in keys if _LANGUAGE.sub("", key.lower()) not in self.keys]

    def lost_stream_keys(self, kind: str, metadata: Mapping[str, str]) -> list[str]:
        """The keys of a stream's metadata that it drops; `kind` is the stream's type, or cover art."""
        keys = self.cover_keys if kind == "cover art" else self.stream_keys
        if keys is None:
            return [key for key in metadata if key.lower() in self.dropped_stream_keys]
        language = metadata.get("language", "und")
        said = language == "und" or (kind in self.languages and _THREE_LETTERS.fullmatch(language))
        kept = keys | {"language"} if said else keys
        return [key for key in metadata if key.lower() not in kept]

    def lost_marks(self, marks: int) -> list[str]:
        """The names of those of a stream's dispositions that it drops."""
        lost = Disposition(marks) & _TOLD_MARKS & ~self.marks
        return [mark.name or "" for mark in Disposition if mark in lost]


_MATROSKA = Container(
    name="matroska",
    colours=COLOURS,
    location=True,
    rotation=True,
    chapters=True,
    times=True,
    cover_art="attachment",
    cover_keys=frozenset({"filename", "mimetype", "title"}),
    attachments=True,
    keys=None,
    stream_keys=None,
    dropped_stream_keys=frozenset({"creation_time"}),
    marks=_MARKS | Disposition.original,
    text="subrip",
)
_MOV = Container(
    name="mov",
    aspect=True,
    colours=COLOURS - {"range"},
    rotation=True,
    chapters=True,
    times=True,
    # The muxer's use_metadata_tags would keep any key, but title and the like then where few players look
    # for them, and the creation time twice.
    keys=frozenset({
        "album", "artist", "comment", "copyright", "creation_time", "date", "genre", "location", "make",
        "model", "timecode", "title",
    }),
    stream_keys=frozenset({"timecode", "title"}),
    languages=_TYPES,
    text="mov_text",
    refuses=frozenset({"flac", "opus"}),
    codec_tags={"hevc": "hvc1"},  # FFmpeg's is hev1, which Apple's players don't want
    lone_tags={"movflags": "write_colr"},
)  # fmt: skip
_MP4 = replace(
    _MOV,
    name="mp4",
    colours=COLOURS,
    cover_art="stream",
    keys=frozenset({
        "album", "album_artist", "artist", "comment", "compilation", "composer", "copyright", "creation_time",
        "date", "description", "disc", "episode_id", "episode_sort", "gapless_playback", "genre", "grouping",
        "hd_video", "keywords", "location", "lyrics", "media_type", "network", "season_number", "show",
        "synopsis", "timecode", "title", "track",
    }),
    marks=_MARKS | Disposition.captions | Disposition.descriptions,
    refuses=frozenset(),
    named_channels=True,
)  # fmt: skip
# PyAV adds no stream of JPEG or PNG, as which MP4's cover art is written.
_IPOD = replace(
    _MP4,
    name="ipod",
    colours=frozenset(),
    cover_art=None,
    keys=(_MP4.keys or frozenset()) - {"timecode"},
    stream_keys=frozenset(),
    marks=_NO_MARKS,
)
_3GP = replace(_IPOD, name="3gp", keys=frozenset({"copyright", "creation_time", "location"}))
_TABLE = [
    _MATROSKA,
    replace(
        _MATROSKA,
        name="webm",
        cover_art=None,
        attachments=False,
        marks=Disposition.forced,
        text="webvtt",
    ),
    _MOV,
    _MP4,
    _IPOD,
    replace(_IPOD, name="f4v", text=None),
    _3GP,
    replace(_3GP, name="3g2"),
    Container(
        name="avif",
        colours=COLOURS,
        times=True,
        keys=frozenset({"creation_time"}),
        one_picture=True,
    ),
    Container(
        name="mpegts",
        times=True,
        languages=frozenset({"audio", "subtitle"}),
        marks=_DEAF_AND_BLIND | Disposition.clean_effects,
        codecs=frozenset({
            "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "vvc",
            "aac", "ac3", "dts", "eac3", "mp2", "mp3", "opus", "pcm_bluray", "s302m", "truehd",
            "dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle",
        }),
    ),
    *(
        Container(
            name=name,
            times=True,
            codecs=frozenset({"mpeg1video", "mpeg2video", "ac3", "dts", "mp2", "mp3"}),
        )
        for name in ("dvd", "mpeg", "svcd", "vcd", "vob")
    ),
    Container(
        name="avi",
        keys=frozenset({
            "artist", "comment", "copyright", "date", "encoded_by", "genre", "language", "software",
            "timecode", "title", "track",
        }),
        stream_keys=frozenset({"title"}),
    ),
    Container(
        name="flv",
        colours=COLOURS,
        times=True,
        keys=None,
        codecs=frozenset({"flv1", "h264", "hevc", "vp9", "av1", "aac", "mp3"}),
    ),
    Container(
        name="nut",
        chapters=True,
        times=True,
        keys=None,
        stream_keys=None,
        marks=(
            Disposition.dub | Disposition.original | Disposition.comment | Disposition.lyrics
            | Disposition.karaoke
        ),
    ),
    *(
        Container(
            name=name,
            aspect=True,
            keys=None,
            dropped_keys=frozenset({"description"}),
            stream_keys=None,
            dropped_stream_keys=frozenset({"description"}),
            codecs=frozenset({"theora", "vp8", "flac", "opus", "speex", "vorbis"}),
        )
        for name in ("ogg", "ogv")
    ),
]  # fmt: skip
CONTAINERS = {container.name: container for container in _TABLE}
"""By FFmpeg's name."""


def find_container(name: str) -> Container:
    """What the container of that name (FFmpeg's) holds."""
    return CONTAINERS.get(name, Container(name=name))
