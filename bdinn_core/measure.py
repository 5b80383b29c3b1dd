"""What can be said of a plane by looking at it: its bands, its noise, and how far another one is off.

A band's edge is a small change between two sides that are flat: each pixel of one side is above each of
the other by three quarters of a step or more, and neither side spans half as much. A gradient's slope
doesn't pass for one, however steep, nor do noise and texture; what noise hides is no banding that anyone
sees.

Floats that are NaN or infinite belong to no flat side, have no noise, and count as unchanged.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from .planes import Frame, FrameFormat
from .quantize import change_depth
from .steps import plane_step
from .transfer import upload

__all__ = [
    "PlaneMeasures",
    "band_edges",
    "banding_share",
    "difference",
    "find_bands",
    "in_steps",
    "mean_change",
    "measure_plane",
    "noise_level",
]

FLAT_PX = 8
"""Length of an edge's flat sides."""
SOFT_PX = 2
"""Length of what may lie between them: coding makes edges soft."""
LEAST, MOST = 0.75, 4.5
"""Height of a band's edge, in steps; more is a drawn one."""
MOST_SPAN = 0.3
"""What a flat side may span, in steps."""
BLOCK_PX = 16
"""Side of the blocks whose median is the noise of a plane."""
_CPU = torch.device("cpu")


class PlaneMeasures(NamedTuple):
    """What was found in a plane."""

    step: float
    """Height of the bands looked for, in 8-bit steps."""
    banding: float
    """Share of its pixels that are beside an edge of a band, 0..1."""
    noise: float
    """Standard deviation of its noise, in 8-bit steps."""


def measure_plane(frame: Frame, plane: int, step: float | None = None) -> PlaneMeasures:
    """Measures a plane of a frame.

    Args:
        frame: the frame; interlaced lines are taken as fields.
        plane: index of the plane.
        step: height of the bands looked for in 8-bit steps; `None`: the distance between its levels.
    """
    step = plane_step(frame, plane) if step is None else step
    values = in_steps(frame.planes[plane], frame.format, plane)
    field = values[0::2] if frame.interlaced else values
    return PlaneMeasures(step, banding_share(frame, plane, step), noise_level(field))


def banding_share(frame: Frame, plane: int, step: float) -> float:
    """`PlaneMeasures.banding` alone, for bands of a height in 8-bit steps."""
    return float(find_bands(frame, plane, step).float().mean())


def find_bands(frame: Frame, plane: int, step: float, sides: bool = True) -> torch.Tensor:
    """Where a plane of a frame has edges of bands, (height, width) bool; interlaced lines are two fields.

    Args:
        frame: the frame.
        plane: index of the plane.
        step: height of the bands looked for in 8-bit steps.
        sides: as for `band_edges`.
    """
    values = in_steps(frame.planes[plane], frame.format, plane) / step
    if not frame.interlaced:
        return band_edges(values, sides)
    found = torch.empty(values.shape, dtype=torch.bool)
    for first in (0, 1):
        found[first::2] = band_edges(values[first::2], sides)
    return found


def in_steps(plane: np.ndarray, fmt: FrameFormat, index: int) -> torch.Tensor:
    """A plane as float32 in 8-bit steps, (height, width)."""
    return upload(plane, _CPU) * fmt.steps_per_value(index)


def band_edges(values: torch.Tensor, sides: bool = True) -> torch.Tensor:
    """Where a plane has edges of bands.

    Args:
        values: (H, W) float32, in steps.
        sides: Whether the pixels of both flat sides count too, or only those where they meet.

    Returns:
        (H, W) bool.
    """
    margin = 0 if sides else FLAT_PX - 1
    return _edges_along(values, margin) | _edges_along(values.T, margin).T


def _edges_along(values: torch.Tensor, margin: int) -> torch.Tensor:
    """Edges met from left to right, without so many pixels at both ends of each."""
    height, width = values.shape
    reach = 2 * FLAT_PX + SOFT_PX
    if width < reach:
        return torch.zeros(height, width, dtype=torch.bool)
    rows = values[:, None]  # (H, 1, W)
    highest = F.max_pool1d(rows, FLAT_PX, 1)[:, 0]
    lowest = -F.max_pool1d(-rows, FLAT_PX, 1)[:, 0]
    gap = FLAT_PX + SOFT_PX
    flat = highest - lowest <= MOST_SPAN
    rise = lowest[:, gap:] - highest[:, :-gap]
    fall = lowest[:, :-gap] - highest[:, gap:]
    height_of_edge = torch.maximum(rise, fall)
    found = flat[:, gap:] & flat[:, :-gap] & (height_of_edge >= LEAST) & (height_of_edge <= MOST)
    marks = F.pad(found.float(), (reach - 1 - margin, reach - 1 - margin))[:, None]
    return F.max_pool1d(marks, reach - 2 * margin, 1)[:, 0] > 0


def noise_level(values: torch.Tensor) -> float:
    """Standard deviation of a plane's noise, in its own units: the median block's.

    It's that of differences across both axes, in which gradients and straight edges cancel out. What is flat
    for the most part has none.

    Args:
        values: (H, W) float32.
    """
    height, width = (size // 2 * 2 for size in values.shape)
    if not (height and width):
        return 0.0
    v = values[:height, :width]
    diagonal = (v[0::2, 0::2] - v[0::2, 1::2] - v[1::2, 0::2] + v[1::2, 1::2]) / 2
    block = min(BLOCK_PX // 2, *diagonal.shape)
    squares = F.avg_pool2d(diagonal.square()[None, None], block)
    return float(squares.nanmedian().nan_to_num(0, posinf=0).sqrt())


def difference(before: Frame, after: Frame, plane: int) -> torch.Tensor:
    """By how much the pixels of a plane were changed, (height, width) in 8-bit steps.

    Args:
        before: at any depth.
        after: likewise; of the same size and range.
        plane: index of the plane.
    """
    values = upload(before.planes[plane], _CPU)
    values = change_depth(values, before.format, after.format, plane) * after.format.steps_per_value(plane)
    change = in_steps(after.planes[plane], after.format, plane) - values
    return change.nan_to_num_(0, posinf=0, neginf=0)


def mean_change(before: Frame, after: Frame, plane: int) -> float:
    """Mean absolute `difference` of a plane, in 8-bit steps."""
    return float(difference(before, after, plane).abs().mean())
