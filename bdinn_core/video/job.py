"""What `bdinn-video` is asked to do, apart from the debanding itself. No FFmpeg in this file."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..errors import OptionError
from ..options import check_integer

__all__ = ["VideoJob"]

MOST_RATE = 1000
"""Of pictures a second; more is some container's clock."""


def _check_seconds(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, Fraction) or value < 0):
        raise OptionError(f"{name} must be a number of seconds >= 0, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """One video to be debanded.

    Raises:
        OptionError: for a value out of range; the message names the option and the value.
    """

    source: str
    """Path of the source, or of an image sequence such as frames/%05d.png, or `-` for y4m on standard
    input."""
    output: str
    """Path of the result, whose extension chooses the container, or of an image sequence in PNG or TIFF,
    or `-` for y4m on standard output."""
    mask: str | None = None
    """Grey picture, or clip of the source's size and length, that scales the strength per pixel:
    white works at full strength, black keeps the source. A clip goes by time, a sequence or y4m by number."""
    codec: str = "auto"
    """FFmpeg's name of the video encoder: libx265, libx264, libsvtav1, libvpx-vp9, ffv1, ... `auto` goes by
    OUT: png or tiff for pictures, libsvtav1 for .avif, libvpx-vp9 for .webm, else libx265."""
    crf: float | None = None
    """Constant quality of the encoder, lower is better; 16 if it has one and none is given."""
    preset: str | None = None
    """Speed of the encoder, in its own words; medium for libx265 and libx264, 6 for libsvtav1."""
    pix_fmt: str = "auto"
    """FFmpeg's name of the result's pixel format, or `source` to keep it. `auto` keeps the planes
    and takes 10 bits or more, where the encoder has them."""
    encoder_options: Sequence[tuple[str, str]] = ()
    """An encoder's option, as key=value; may be repeated. FFmpeg's option of that name if there is
    one, else the library's own (x265-params, x264-params, svtav1-params)."""
    hdr: str = "keep"
    """What becomes of metadata of high dynamic range (mastering display, content light level, HDR10+, Dolby
    Vision): keep refuses what can't be kept, drop leaves it out. Colour tags are kept always."""
    video_stream: int | Literal["all"] = 0
    """Which video stream is debanded, counted from 0 without cover art, or all; others are copied."""
    drop_incompatible: bool = False
    """Leave out streams that OUT's container can't hold, instead of refusing the job."""
    rate: Fraction | None = None
    """Pictures a second of an image sequence or a single picture, such as 24 or 24000/1001, for which 23.976
    stands too. `None` is 25. Other sources have times of their own."""
    start: Fraction | None = None
    """Where to begin, in seconds or as hh:mm:ss.ms, counted from the first picture."""
    end: Fraction | None = None
    """Where to stop, likewise."""
    threads: int = 0
    """How many threads decoder, network and encoder may have, each of them; 0 is automatic: as many as
    there are cores."""
    hwaccel: str = "none"
    """Decode on a GPU: cuda, cuda:N or none. Where that's not possible the CPU decodes, and a line
    says so."""
    allow_url: bool = False
    """Open addresses too, and what playlists name, here or elsewhere; else IN is opened and nothing more."""
    strict: bool = False
    """Stop at the first damage of the source. Else all that can be decoded is, and a line and exit code 3 say
    what can't."""
    keep_partial: bool = False
    """Keep what was made so far if the source can't be read on, as when its size changes; exit code 3."""
    overwrite: bool = False
    """Replace an existing output."""

    def __post_init__(self) -> None:
        for name in ("source", "output", "codec", "pix_fmt"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise OptionError(f"{name} must be a non-empty string, not {getattr(self, name)!r}")
        for name in ("mask", "preset"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise OptionError(f"{name} must be a non-empty string, not {value!r}")
        if self.crf is not None and (isinstance(self.crf, bool) or not math.isfinite(self.crf)):
            raise OptionError(f"crf must be a finite number, not {self.crf!r}")
        for key, value in self.encoder_options:
            if not key or not isinstance(value, str):
                raise OptionError(f"encoder_options must be pairs of key and value, not {(key, value)!r}")
        if self.hdr not in ("keep", "drop"):
            raise OptionError(f"hdr must be keep or drop, not {self.hdr!r}")
        if self.video_stream != "all":
            check_integer("video_stream", self.video_stream, 0, 999, "a whole number 0..999, or all")
        check_integer("threads", self.threads, 0, 1024, "a whole number 0..1024")
        if not isinstance(self.hwaccel, str) or not re.fullmatch(r"none|cuda(:[0-9]+)?", self.hwaccel):
            raise OptionError(f"hwaccel must be none, cuda or cuda:N, not {self.hwaccel!r}")
        if self.rate is not None and (not isinstance(self.rate, Fraction) or not 0 < self.rate <= MOST_RATE):
            raise OptionError(f"rate must be a number of pictures a second > 0, not {self.rate}")
        _check_seconds("start", self.start)
        _check_seconds("end", self.end)
        if self.end is not None and self.end <= (self.start or 0):
            start, end = float(self.start or 0), float(self.end)
            raise OptionError(f"end must be after start ({start:g} s), not {end:g} s")
