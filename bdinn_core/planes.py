"""A frame as planes, and the affine maps between code values and model units.

Model units are 8-bit code steps: an integer enters as `code / 2**(bit_depth - 8)`, so one step of
an 8-bit source is 1.0 at any container depth; a float enters as the 8-bit code it stands for.
Conventions (H.273, and VapourSynth's where H.273 is silent): limited range puts luma, grey and RGB
on 16..235 and chroma on 128 +- 112 at 8 bits, times `2**(bit_depth - 8)` above; full range uses
`0..2**bit_depth - 1` with chroma about `2**(bit_depth - 1)`; floats are 0..1, chroma -0.5..0.5.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .errors import FormatError

__all__ = ["ColorFamily", "ColorRange", "Frame", "FrameFormat", "Scale"]

ColorFamily = Literal["gray", "yuv", "rgb"]
ColorRange = Literal["limited", "full"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the values of one plane stand for nominal signal levels.

    `nominal = (value - zero) / span`: luma, grey and RGB run 0..1, chroma -0.5..0.5.
    """

    zero: float
    """Value of nominal 0 (black, or neutral chroma)."""
    span: float
    """Values per nominal 1."""


@dataclass(frozen=True, kw_only=True)
class FrameFormat:
    """What the numbers in a frame's planes mean.

    Raises:
        FormatError: on a combination no frame can have; the message names the value.
    """

    family: ColorFamily
    """`gray` (1 plane), `yuv` or `rgb` (3 planes; RGB in the order R, G, B)."""
    bit_depth: int = 8
    """8..16 for integers (low-aligned in 16-bit words above 8), 16 or 32 for floats."""
    is_float: bool = False
    """Half (16) or single (32) precision instead of integers."""
    subsampling: tuple[int, int] = (0, 0)
    """log2 of chroma's horizontal and vertical reduction: 4:2:0 is (1, 1). YUV only."""
    range: ColorRange | None = None
    """`None` is resolved at once: RGB full, YUV and grey limited, as VapourSynth has it."""

    def __post_init__(self) -> None:
        if self.family not in ("gray", "yuv", "rgb"):
            raise FormatError(f"family must be gray, yuv or rgb, not {self.family!r}")
        depths = (16, 32) if self.is_float else range(8, 17)
        if self.bit_depth not in depths:
            kind = "float depth must be 16 or 32" if self.is_float else "bit depth must be 8..16"
            raise FormatError(f"{kind}, not {self.bit_depth!r}")
        if self.family != "yuv" and tuple(self.subsampling) != (0, 0):
            raise FormatError(f"only YUV can be subsampled, not {self.family} {self.subsampling!r}")
        subsampling = tuple(self.subsampling)
        if len(subsampling) != 2 or any(s not in range(5) for s in subsampling):
            raise FormatError(f"subsampling must be two log2 factors 0..4, not {self.subsampling!r}")
        object.__setattr__(self, "subsampling", (int(subsampling[0]), int(subsampling[1])))
        if self.range is None:
            object.__setattr__(self, "range", "full" if self.family == "rgb" else "limited")
        elif self.range not in ("limited", "full"):
            raise FormatError(f"range must be limited or full, not {self.range!r}")

    @property
    def num_planes(self) -> int:
        """1 for grey, else 3."""
        return 1 if self.family == "gray" else 3

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of a plane: uint8, uint16, float16 or float32."""
        if self.is_float:
            return np.dtype(np.float16 if self.bit_depth == 16 else np.float32)
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    @property
    def peak(self) -> int:
        """Largest code of an integer format; meaningless for floats."""
        return 2**self.bit_depth - 1

    @property
    def luma_plane(self) -> int:
        """Index of luma, or of what comes next to it: green."""
        return 1 if self.family == "rgb" else 0

    def is_chroma(self, plane: int) -> bool:
        """Whether `plane` holds colour differences."""
        return self.family == "yuv" and plane > 0

    def plane_size(self, width: int, height: int, plane: int) -> tuple[int, int]:
        """(height, width) of `plane` in a frame of `width` x `height` pixels, rounded up."""
        if not self.is_chroma(plane):
            return height, width
        w, h = self.subsampling
        return -(-height >> h), -(-width >> w)

    def scale(self, plane: int) -> Scale:
        """Meaning of the values of `plane`."""
        chroma = self.is_chroma(plane)
        if self.is_float:
            return Scale(zero=0.0, span=1.0)
        if self.range == "full":
            return Scale(zero=2.0 ** (self.bit_depth - 1) if chroma else 0.0, span=self.peak)
        unit = 2.0 ** (self.bit_depth - 8)
        return Scale(zero=(128 if chroma else 16) * unit, span=(224 if chroma else 219) * unit)

    def steps_per_value(self, plane: int) -> float:
        """8-bit code steps, the network's unit, per 1 in the values of `plane`."""
        if not self.is_float:
            return 2.0 ** (8 - self.bit_depth)
        return self.with_depth(8).scale(plane).span

    def with_depth(self, depth: int) -> "FrameFormat":
        """The same format with integers of 8..16 bits, or, for 32, single-precision floats."""
        return replace(self, bit_depth=depth, is_float=depth == 32)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture: its planes, not copied, and what they mean.

    Raises:
        FormatError: if the planes don't fit the format; the message names plane, shape and type.
    """

    planes: tuple[np.ndarray, ...]
    """One (height, width) array a plane, of `format.dtype`; strides are free."""
    format: FrameFormat
    interlaced: bool = False
    """Whether its lines belong by turns to two fields, which show two moments."""

    def __post_init__(self) -> None:
        if len(self.planes) != self.format.num_planes:
            raise FormatError(
                f"a {self.format.family} frame has {self.format.num_planes} planes, not {len(self.planes)}"
            )
        for i, plane in enumerate(self.planes):
            if plane.ndim != 2 or 0 in plane.shape:
                raise FormatError(f"plane {i} must be (height, width) with both >= 1, not {plane.shape}")
            expected = self.format.plane_size(self.width, self.height, i)
            if plane.shape != expected:
                raise FormatError(
                    f"plane {i} of a {self.width}x{self.height} frame must be {expected}, not {plane.shape}"
                )
            if plane.dtype != self.format.dtype:
                raise FormatError(f"plane {i} must hold {self.format.dtype}, not {plane.dtype}")

    @property
    def width(self) -> int:
        """Width of the first plane in pixels."""
        return self.planes[0].shape[1]

    @property
    def height(self) -> int:
        """Height of the first plane in pixels."""
        return self.planes[0].shape[0]
