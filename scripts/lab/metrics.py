"""How close a result is to the truth, in smooth and in detailed regions apart; and CAMBI."""

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import torch
import torch.nn.functional as F

from bdinn_core.video.cambi import Cambi

__all__ = [
    "CONTOUR_PX",
    "LEAST_SHARE",
    "cambi",
    "contour_error",
    "psnr",
    "region_psnr",
    "smooth_mask",
]

CONTOUR_PX = 4
"""Pixels over which the contour error looks for a change."""
LEAST_SHARE = 0.02
"""A region smaller than this share of a plane isn't scored."""
PEAK = 255.0
SMOOTH_LIMIT = 0.6
"""Codes by which a smooth region's pixels stay within their 9x9 mean."""


def smooth_mask(truth: torch.Tensor) -> torch.Tensor:
    """Where the truth is smooth: no pixel within 4 px departs from its 9x9 mean by 0.6 code.

    Args:
        truth: (N, 1, H, W) in model units, H and W >= 5.

    Returns:
        (N, 1, H, W) bool; everything else is detail.
    """
    mean = F.avg_pool2d(F.pad(truth, (4, 4, 4, 4), mode="reflect"), 9, 1)
    rows = F.max_pool2d((truth - mean).abs(), (1, 9), 1, (0, 4))  # one axis after the other: 4 times as fast
    return F.max_pool2d(rows, (9, 1), 1, (4, 0)) < SMOOTH_LIMIT


def psnr(mean_squared_error: float) -> float:
    """Decibels against a peak of 255 8-bit steps; 120 at most, so that a perfect result stays finite."""
    return float(10 * np.log10(PEAK**2 / max(mean_squared_error, PEAK**2 * 1e-12)))


def region_psnr(error: np.ndarray, region: np.ndarray) -> float | None:
    """PSNR of an error within a region, both (height, width); None where it's too small to be scored."""
    return psnr(float(np.square(error)[region].mean())) if region.mean() >= LEAST_SHARE else None


def contour_error(error: np.ndarray, smooth: np.ndarray) -> float:
    """RMS over smooth regions of the error's change over `CONTOUR_PX`, both axes: what is left of edges.

    Args:
        error: (height, width), result minus truth.
        smooth: (height, width) bool; both ends of a change must lie in it.
    """
    squares, count = 0.0, 0
    for e, s in ((error, smooth), (error.T, smooth.T)):
        both = s[CONTOUR_PX:] & s[:-CONTOUR_PX]
        squares += float(np.square(e[CONTOUR_PX:] - e[:-CONTOUR_PX], dtype=np.float64)[both].sum())
        count += int(both.sum())
    return float(np.sqrt(squares / max(count, 1)))


def cambi(planes: Sequence[np.ndarray], max_log_contrast: int | None = None) -> float:
    """Mean CAMBI of luma planes, (height, width) uint16 codes of 10 bits; see `bdinn_core.video.cambi`."""
    height, width = planes[0].shape
    with closing(Cambi(width, height, max_log_contrast)) as scorer:
        for plane in planes:
            scorer.push(plane)
        return float(np.mean(scorer.finish()))
