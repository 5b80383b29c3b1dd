"""High dynamic range beyond the colour tags: what the source says of it, in the words of encoders.

Encoders' libraries write it into the stream themselves; nothing else can, as PyAV has no way to set it on
an encoder or a container. Sources: SMPTE ST 2086 (mastering display), CTA-861.3 (content light level).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av

from .side_data import read_side_data

__all__ = ["HDR", "MasteringDisplay", "read_hdr", "svtav1_params", "x264_params", "x265_params"]

_DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environment",
}
"""FFmpeg's names of side data that no encoder here can write; most differs from frame to frame."""
_MASTERING = struct.Struct("=22i")
"""AVMasteringDisplayMetadata: 10 rationals, and two flags that say which of them are likely."""
_LIGHT = struct.Struct("=2I")
"""AVContentLightMetadata."""

Point = tuple[Fraction, Fraction]
"""CIE 1931 x and y."""


@dataclass(frozen=True, kw_only=True)
class MasteringDisplay:
    """The display that a picture was graded on."""

    red: Point
    green: Point
    blue: Point
    white: Point
    darkest: Fraction
    """cd/m2."""
    brightest: Fraction
    """cd/m2."""


@dataclass(frozen=True, kw_only=True)
class HDR:
    """What a source says of its dynamic range."""

    mastering: MasteringDisplay | None = None
    light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL: the brightest pixel and the brightest frame's mean, cd/m2."""
    dynamic: tuple[str, ...] = ()
    """Kinds of metadata that can't be encoded again, in words: most differ from frame to frame."""

    def __str__(self) -> str:
        parts = ["mastering display"] * (self.mastering is not None)
        parts += ["content light level"] * (self.light is not None)
        return ", ".join([*parts, *self.dynamic])

    def __bool__(self) -> bool:
        return bool(str(self))


def read_hdr(frame: av.VideoFrame) -> HDR:
    """What a decoded frame says."""
    found = read_side_data(frame)
    display, light = (found.get(kind) for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    dynamic = [what for kind, what in _DYNAMIC.items() if found.get(kind) is not None]
    return HDR(
        mastering=None if display is None else _mastering(bytes(display)),
        light=None if light is None else _LIGHT.unpack_from(bytes(light)),
        dynamic=tuple(dict.fromkeys(dynamic)),
    )


def _mastering(data: bytes) -> MasteringDisplay:
    numbers = _MASTERING.unpack_from(data)
    values = [Fraction(n, d or 1) for n, d in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
    red, green, blue, white = ((values[i], values[i + 1]) for i in range(0, 8, 2))
    return MasteringDisplay(
        red=red, green=green, blue=blue, white=white, darkest=values[8], brightest=values[9]
    )


def x265_params(hdr: HDR) -> str:
    """For `x265-params`."""
    return _params(hdr, "master-display", "max-cll", _whole(50000), _whole(10000))


def x264_params(hdr: HDR) -> str:
    """For `x264-params`."""
    return _params(hdr, "mastering-display", "cll", _whole(50000), _whole(10000))


def svtav1_params(hdr: HDR) -> str:
    """For `svtav1-params`."""
    return _params(hdr, "mastering-display", "content-light", _decimal, _decimal)


def _params(
    hdr: HDR,
    display_name: str,
    light_name: str,
    chromaticity: Callable[[Fraction], str],
    luminance: Callable[[Fraction], str],
) -> str:
    params = []
    if hdr.mastering is not None:
        shown = hdr.mastering
        points = {"G": shown.green, "B": shown.blue, "R": shown.red, "WP": shown.white}
        text = "".join(f"{name}({chromaticity(x)},{chromaticity(y)})" for name, (x, y) in points.items())
        text += f"L({luminance(shown.brightest)},{luminance(shown.darkest)})"
        params.append(f"{display_name}={text}")
    if hdr.light is not None:
        params.append(f"{light_name}={hdr.light[0]},{hdr.light[1]}")
    return ":".join(params)


def _whole(units: int) -> Callable[[Fraction], str]:
    """A number in so many units a one."""
    return lambda value: f"{round(value * units)}"


def _decimal(value: Fraction) -> str:
    return f"{float(value):.7g}"
