"""FFmpeg's pixel formats as planes: which planar format holds the same values, and what it means.

Frames are worked on as planes. Packed, semi-planar, palette and big-endian formats go to the planar
little-endian format of equal depth, subsampling and alpha and back without loss; `yuvj*` is `yuv*`
at full range.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.video.format import names as ffmpeg_names
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter

from ..errors import FormatError
from ..planes import ColorFamily, ColorRange, Frame, FrameFormat

__all__ = ["RANGES", "PixelFormat", "Repacker", "Tags", "alpha_to_depth", "read_planes", "write_planes"]

_SUBSAMPLINGS = {"444": (0, 0), "422": (1, 0), "420": (1, 1), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_UNFAITHFUL = re.compile(
    r"^(gbrp1[02]msb|xyz|bayer|ya\d|yaf|rgba?f|uyyvyy)|^(x2rgb10|x2bgr10|v30x|xv30|y21\d)be|f16be$"
)
"""Formats swscale converts to planes with loss, or not at all."""
RANGES: dict[int, ColorRange] = {1: "limited", 2: "full"}
"""What FFmpeg's numbers of a range mean."""


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The planar format that holds a picture's values, named as FFmpeg names it.

    Raises:
        FormatError: by `from_name`, for formats that don't fit planes; the message names it.
    """

    family: ColorFamily
    bit_depth: int = 8
    is_float: bool = False
    subsampling: tuple[int, int] = (0, 0)
    alpha: bool = False
    """Whether a full-resolution alpha plane of the same depth follows the colour planes."""

    @classmethod
    @cache
    def from_name(cls, name: str) -> "PixelFormat":
        """The planar format with the values of FFmpeg's `name`, which may be packed or big-endian."""
        try:
            ffmpeg = av.VideoFormat(name, 16, 16)
        except ValueError:
            raise FormatError(f"there is no pixel format {name!r}; a valid one is yuv420p10le") from None
        parts = ffmpeg.components
        float_depth = re.search(r"f(16|32)", name)
        depth = int(float_depth[1]) if float_depth else max((8, *(part.bits for part in parts)))
        if not parts or _UNFAITHFUL.search(name) or (depth > 16 and not float_depth):
            raise FormatError(f"pixel format {name} can't be split into planes losslessly; convert it first")
        alpha = ffmpeg.has_palette or any(part.is_alpha for part in parts)
        subsampling = (0, 0)
        family: ColorFamily = "yuv"
        if ffmpeg.is_rgb or ffmpeg.has_palette:
            family = "rgb"
        elif len(parts) - alpha == 1:
            family = "gray"
        else:
            ratios = 16 // ffmpeg.chroma_width(16), 16 // ffmpeg.chroma_height(16)
            subsampling = ratios[0].bit_length() - 1, ratios[1].bit_length() - 1
        is_float = float_depth is not None
        return cls(family=family, bit_depth=depth, is_float=is_float, subsampling=subsampling, alpha=alpha)

    @property
    def name(self) -> str:
        """FFmpeg's name of this planar format; `exists` says whether there is one."""
        base = {"gray": "gray", "rgb": "gbr", "yuv": "yuv"}[self.family] + ("a" if self.alpha else "")
        if self.family == "yuv":
            base += next((k for k, v in _SUBSAMPLINGS.items() if v == self.subsampling), "?")
        if self.family != "gray":
            base += "p"
        if self.is_float:
            return f"{base}f{self.bit_depth}le"
        return base if self.bit_depth == 8 else f"{base}{self.bit_depth}le"

    @property
    def exists(self) -> bool:
        """Whether FFmpeg has this format."""
        return self.name in ffmpeg_names

    @property
    def depth(self) -> int:
        """Bits of integers, or 32 for single precision, as `with_depth` takes it."""
        return 32 if self.is_float else self.bit_depth

    def with_depth(self, depth: int) -> "PixelFormat":
        """The same planes at 8..16 integer bits, or, for 32, in single precision."""
        return replace(self, bit_depth=depth, is_float=depth == 32)

    def frame_format(self, color_range: int) -> FrameFormat:
        """The engine's format; `color_range` is FFmpeg's number: 0 unspecified, 1 limited, 2 full."""
        return FrameFormat(
            family=self.family,
            bit_depth=self.bit_depth,
            is_float=self.is_float,
            subsampling=self.subsampling,
            range=RANGES.get(color_range),
        )


@dataclass(frozen=True, kw_only=True)
class Tags:
    """How a picture's values are to be shown; the integers are H.273's, as FFmpeg numbers them."""

    range: int = 0
    """0 unspecified, 1 limited, 2 full."""
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    chroma_location: int = 0
    sample_aspect_ratio: Fraction | None = None
    """Width of a pixel by its height; `None` where the source doesn't say."""


class Repacker:
    """Converts frames between a packed format and its planar equivalent, value for value."""

    _EXACT = (
        Interpolation.POINT
        | Interpolation.ACCURATE_RND
        | Interpolation.BITEXACT
        | Interpolation.FULL_CHR_H_INP
        | Interpolation.FULL_CHR_H_INT
    )

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, name: str) -> av.VideoFrame:
        """`frame` in the format `name`, with all its properties; itself where it has that format."""
        matrix, color_range = frame.colorspace, frame.color_range
        # swscale refuses matrices and ranges it has no arithmetic for, though none is done here.
        frame.colorspace, frame.color_range = 2, 0
        try:
            # One thread: at odd widths swscale's vectors write past a row's end, into what another
            # thread has written already.
            result = self._reformatter.reformat(frame, format=name, interpolation=self._EXACT, threads=1)
        finally:
            frame.colorspace, frame.color_range = matrix, color_range
        result.colorspace, result.color_range = matrix, color_range
        return result


def _plane_order(family: ColorFamily) -> tuple[int, ...]:
    """FFmpeg's index of each of our colour planes."""
    return {"gray": (0,), "yuv": (0, 1, 2), "rgb": (2, 0, 1)}[family]


def _rows(plane: VideoPlane, dtype: np.dtype) -> np.ndarray:
    """The pixels of an FFmpeg plane as a (height, width) view, rows in the order they are shown."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
    if plane.line_size < 0:
        rows = rows[::-1]
    return rows[:, : plane.width * dtype.itemsize].view(dtype)


def read_planes(
    video: av.VideoFrame, pixel: PixelFormat, fmt: FrameFormat
) -> tuple[Frame, np.ndarray | None]:
    """Copies a planar FFmpeg frame.

    Args:
        video: a frame in the format `pixel.name`, or its `yuvj` twin.
        pixel: that format.
        fmt: what the numbers mean.

    Returns:
        The colour planes, and the alpha plane (height, width) or `None`.
    """
    planes = [_rows(video.planes[i], fmt.dtype) for i in range(len(video.planes))]
    # A damaged stream can hold more than its bits allow, and encoders may crash on that.
    beyond = not (fmt.is_float or fmt.bit_depth in (8, 16))
    planes = [np.minimum(plane, fmt.peak) if beyond else plane.copy() for plane in planes]
    copies = tuple(planes[i] for i in _plane_order(pixel.family))
    alpha = planes[len(copies)] if pixel.alpha else None
    return Frame(copies, fmt, video.interlaced_frame), alpha


def write_planes(video: av.VideoFrame, frame: Frame, alpha: np.ndarray | None) -> None:
    """Writes `frame`, and `alpha` where there is one, into a writable planar FFmpeg frame."""
    for plane, i in zip(frame.planes, _plane_order(frame.format.family), strict=True):
        _rows(video.planes[i], frame.format.dtype)[...] = plane
    if alpha is not None:
        _rows(video.planes[len(frame.planes)], frame.format.dtype)[...] = alpha


def alpha_to_depth(alpha: np.ndarray, source: FrameFormat, target: FrameFormat) -> np.ndarray:
    """`alpha` at another depth: always full range, so that opaque stays opaque."""
    if (source.bit_depth, source.is_float) == (target.bit_depth, target.is_float):
        return alpha
    opaque = 1.0 if source.is_float else source.peak
    share = alpha.astype(np.float64) / opaque
    return (share if target.is_float else np.rint(share * target.peak)).astype(target.dtype)
