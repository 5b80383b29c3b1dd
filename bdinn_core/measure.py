"""What can be said of a plane by looking at it: its bands, its noise, and how far another one is off.

A band's edge is a small change between two sides that are flat: each pixel of one side is above each of the
other by three quarters of a step or more, and neither side spans half as much. A gradient's slope doesn't pass
for one, however steep, nor do noise and texture; what noise hides is no banding that anyone sees.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from .planes import Frame, FrameFormat
from .quantize import change_depth
from .steps import plane_step

__all__ = ["PlaneMeasures", "band_edges", "mean_change", "measure_plane", "noise_level"]

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


class PlaneMeasures(NamedTuple):
    """What was found in a plane."""

    step: float
    """Distance between its levels in 8-bit steps: 1, or more where it's coarser."""
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
    fields = [values[0::2], values[1::2]] if frame.interlaced and len(values) > 1 else [values]
    banding = sum(float(band_edges(field / step).float().mean()) for field in fields) / len(fields)
    return PlaneMeasures(step, banding, noise_level(fields[0]))


def in_steps(plane: np.ndarray, fmt: FrameFormat, index: int) -> torch.Tensor:
    """A plane as float32 in 8-bit steps, (height, width)."""
    return torch.from_numpy(plane.astype(np.float32)) * fmt.steps_per_value(index)


def band_edges(values: torch.Tensor) -> torch.Tensor:
    """Where a plane has edges of bands.

    Args:
        values: (H, W) float32, in steps.

    Returns:
        (H, W) bool: the pixels of both flat sides and of what lies between them.
    """
    along, across = _edges_along(values), _edges_along(values.T).T
    return along | across


def _edges_along(values: torch.Tensor) -> torch.Tensor:
    """Edges met from left to right."""
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
    marks = F.pad(found.float(), (reach - 1, reach - 1))[:, None]
    return F.max_pool1d(marks, reach, 1)[:, 0] > 0


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
    return float(squares.median().sqrt())


def mean_change(before: Frame, after: Frame, plane: int) -> float:
    """Mean absolute difference between two frames' planes of one size, in 8-bit steps.

    Args:
        before: at any depth.
        after: likewise; of the same range.
        plane: index of the plane.
    """
    values = torch.from_numpy(before.planes[plane].astype(np.float32))
    values = change_depth(values, before.format, after.format, plane) * after.format.steps_per_value(plane)
    return float((in_steps(after.planes[plane], after.format, plane) - values).abs().mean())
