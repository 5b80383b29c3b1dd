"""The training loss: remove bands where the truth is smooth, harm nothing where it isn't."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .metrics import CONTOUR_PX, smooth_mask

__all__ = ["LossWeights", "restoration_loss"]

BLOCKS = (4, 16, 64)
MIN_REGION_PX = 1024
"""A region of a crop that is smaller gives no ratio of errors: too few pixels for one."""
SMOOTH_FLOOR, DETAIL_FLOOR = 0.03, 0.01
"""Added to errors (codes; squared codes) before the logarithm: below, better is no longer better."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each term of the loss counts."""

    everywhere: float = 1.0
    """Mean absolute error in codes, smooth or not."""
    smooth: float = 1.0
    """Smooth regions: logarithm of the mean absolute error over the input's."""
    blocks: float = 0.33
    """Smooth regions: the same of the error averaged over blocks, over the input's error; for each size."""
    contours: float = 0.75
    """Smooth regions: the same of the error's change over a few pixels, which is what the eye sees."""
    detail: float = 1.0
    """Detail regions: logarithm of the mean squared error over the input's."""
    harm: float = 2.0
    """Added to `detail` where that logarithm is above 0."""


def restoration_loss(
    restored: torch.Tensor,
    degraded: torch.Tensor,
    truth: torch.Tensor,
    smooth_is_true: torch.Tensor,
    weights: LossWeights,
) -> torch.Tensor:
    """Compares the result's error with the input's, crop by crop.

    Mostly by the logarithm of their ratio, which is what decibels measure: rounding leaves an error
    of 0.3 codes, coding one of several, and neither may drown the other; nor may a crop whose input
    had next to no error, as a plain ratio would let it. Averages over blocks of 4 to 64 px are there
    because a band is an error of one sign over a wide area.

    Args:
        restored: (N, 1, H, W), the network's result; all in model units, H and W multiples of 64.
        degraded: (N, 1, H, W), its input.
        truth: (N, 1, H, W).
        smooth_is_true: (N,) bool; where false, smooth regions are left out.
        weights: Of the terms.

    Returns:
        A scalar.
    """
    error, input_error = restored - truth, degraded - truth
    smooth = smooth_mask(truth)
    detail = ~smooth
    smooth = smooth & smooth_is_true[:, None, None, None]
    magnitude = (error.square() + 1e-4).sqrt()
    before = input_error.abs()
    loss = weights.everywhere * (magnitude * (smooth | detail)).mean()
    loss = loss + weights.smooth * _log_ratio(magnitude, before, smooth, SMOOTH_FLOOR).mean()
    for side in BLOCKS:
        block = F.interpolate(F.avg_pool2d(error * smooth, side).abs(), scale_factor=side)
        loss = loss + weights.blocks * _log_ratio(block, before, smooth, SMOOTH_FLOOR).mean()
    for axis in (2, 3):
        change, change_before = (
            (_shifted(e, axis) - e.narrow(axis, 0, e.shape[axis] - CONTOUR_PX)) for e in (error, input_error)
        )
        both = _shifted(smooth, axis) & smooth.narrow(axis, 0, smooth.shape[axis] - CONTOUR_PX)
        magnitude = (change.square() + 1e-4).sqrt()
        ratio = _log_ratio(magnitude, change_before.abs(), both, SMOOTH_FLOOR)
        loss = loss + 0.5 * weights.contours * ratio.mean()
    change = _log_ratio(error.square(), input_error.square(), detail, DETAIL_FLOOR)
    return loss + (weights.detail * change + weights.harm * F.relu(change)).mean()


def _shifted(values: torch.Tensor, axis: int) -> torch.Tensor:
    """What lies `CONTOUR_PX` further along an axis."""
    return values.narrow(axis, CONTOUR_PX, values.shape[axis] - CONTOUR_PX)


def _log_ratio(after: torch.Tensor, before: torch.Tensor, mask: torch.Tensor, floor: float) -> torch.Tensor:
    """Logarithm of the mean of `after` over that of `before` within `mask`, for each crop; [0] if none.

    A crop in which `mask` holds fewer than `MIN_REGION_PX` is left out.
    """
    count = mask.flatten(1).sum(1)
    kept = count >= MIN_REGION_PX
    if not kept.any():
        return after.new_zeros(1)
    after_mean, before_mean = (
        (values * mask).flatten(1).sum(1)[kept] / count[kept] for values in (after, before)
    )
    return ((after_mean + floor) / (before_mean + floor)).log()
