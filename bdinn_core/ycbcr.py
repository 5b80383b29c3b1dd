"""R'G'B' as Y'CbCr, for pictures whose bands were made there.

A video frame saved as an RGB picture has the bands of its Y'CbCr planes, which overlap in R, G and B.
Where Y'CbCr turns out to have coarse levels, it is the place to remove them; what changes is taken back
to R'G'B' by the same linear map, so that where nothing changes, nothing is converted.

Source: ITU-R BT.601, BT.709 and BT.2020; H.273.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .planes import ColorRange
from .steps import find_step, has_no_step, sample_rows
from .transfer import AnyFrame, fetch

__all__ = ["MATRICES", "Matrix", "YCbCr", "find_ycbcr"]

Matrix = Literal["bt601", "bt709", "bt2020"]
LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Of red and blue."""
MATRICES: tuple[Matrix, ...] = ("bt601", "bt709")
"""Those that RGB pictures are looked at in: what has few levels was seldom made in another."""
PROBED = 8
"""Of so many sampled rows one is looked at first; in nearly all pictures that is enough to see no levels."""
RGB_NOISE = 0.5
"""How far rounding R, G and B to 8 bits moves Y, Cb and Cr at most, nearly always, in 8-bit steps."""


@dataclass(frozen=True, kw_only=True)
class YCbCr:
    """A matrix and range of Y'CbCr, beside full-range R'G'B'; both in 8-bit steps."""

    matrix: Matrix
    range: ColorRange = "limited"

    @property
    def from_rgb(self) -> np.ndarray:
        """(3, 3) float32: a change of (R, G, B) as one of (Y, Cb, Cr)."""
        red, blue = LUMA_WEIGHTS[self.matrix]
        luma = np.array([red, 1 - red - blue, blue])
        rows = [
            luma,
            (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)),
            (np.array([1, 0, 0]) - luma) / (2 * (1 - red)),
        ]
        scale = np.array([219, 224, 224]) / 255 if self.range == "limited" else np.ones(3)
        return (np.stack(rows) * scale[:, None]).astype(np.float32)

    @property
    def to_rgb(self) -> np.ndarray:
        """Inverse of `from_rgb`."""
        return np.linalg.inv(self.from_rgb.astype(np.float64)).astype(np.float32)

    @property
    def zero(self) -> np.ndarray:
        """(3,) float32: Y, Cb, Cr of black."""
        return np.array([16 if self.range == "limited" else 0, 128, 128], np.float32)

    def encode(self, rgb: np.ndarray) -> np.ndarray:
        """R, G, B (3, ...) as Y, Cb, Cr, float32, not rounded."""
        return np.tensordot(self.from_rgb, rgb.astype(np.float32), 1) + _along_first(self.zero, rgb)

    def decode(self, planes: np.ndarray) -> np.ndarray:
        """Inverse of `encode`."""
        return np.tensordot(self.to_rgb, planes.astype(np.float32) - _along_first(self.zero, planes), 1)


def _along_first(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Values (3,) in the shape that adds to `like` (3, ...)."""
    return values.reshape(3, *[1] * (like.ndim - 1))


def find_ycbcr(frame: AnyFrame) -> tuple[YCbCr, Sequence[float]] | None:
    """The Y'CbCr in which an RGB frame has coarse levels, and the step of each plane; None if in none.

    Args:
        frame: Full-range RGB of integers; any other frame gives None.
    """
    form = frame.format
    if form.family != "rgb" or form.is_float or form.range != "full":
        return None
    rgb = np.stack([fetch(sample_rows(plane), form.dtype) for plane in frame.planes])
    to_steps = np.float32(255 / form.peak)
    probe = rgb[:, :, ::PROBED] * to_steps
    best: tuple[YCbCr, Sequence[float]] | None = None
    for matrix in MATRICES:
        for color_range in ("limited", "full"):
            ycbcr = YCbCr(matrix=matrix, range=color_range)
            if all(has_no_step(plane, rgb[0].size, RGB_NOISE) for plane in ycbcr.encode(probe)):
                continue
            steps = [find_step(plane, noise=RGB_NOISE) for plane in ycbcr.encode(rgb * to_steps)]
            if max(steps) > 1 and (best is None or sum(steps) > sum(best[1])):
                best = ycbcr, steps
    return best
