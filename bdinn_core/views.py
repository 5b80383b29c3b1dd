"""A frame as the network gets to see it: planes in 8-bit steps, each with the height of its bands."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

from .steps import plane_step
from .transfer import AnyFrame, upload
from .ycbcr import find_ycbcr

__all__ = ["Signal", "View", "see"]

ROUNDING = 0.5
"""Largest error of rounding once, in steps. Twice makes more; allowing for it does more harm than good."""


class Signal(NamedTuple):
    """A plane to be restored."""

    values: torch.Tensor
    """(H, W) float32, 8-bit steps."""
    step: float
    """Height of its bands, 8-bit steps."""
    limit: float = math.inf
    """How far its values can be off, in units of `step`."""


def _found(values: torch.Tensor, step: float) -> Signal:
    """A plane whose levels were found to be `step` apart: it was rounded to them and not coded since."""
    return Signal(values, step, ROUNDING if step > 1 else math.inf)


class View(NamedTuple):
    """What is to be restored of a frame."""

    signals: dict[int, Signal]
    """By index: of the frame's planes, or of Y, Cb and Cr."""
    to_rgb: torch.Tensor | None = None
    """(3, 3): takes changes of Y, Cb and Cr back to R, G and B; `None` if the signals are planes."""


def _filled(values: torch.Tensor) -> torch.Tensor:
    """The plane with the mean of what surrounds them in place of values that are no finite numbers.

    They come out as they are, for a change is added to them. But the network must not see a hole.
    """
    finite = values.isfinite()
    if finite.all():
        return values
    both = torch.stack([torch.where(finite, values, 0), finite.float()])
    total, count = F.avg_pool2d(both, 5, 1, 2, count_include_pad=False)
    return torch.where(finite, values, total / count.clamp_min(1 / 25))


def see(frame: AnyFrame, wanted: Sequence[int], step: float | Literal["auto"], device: torch.device) -> View:
    """The view of a frame.

    Args:
        frame: The frame.
        wanted: Indices of the planes that may change.
        step: Height of the bands in 8-bit steps, or `auto`: found for each plane, and, of an RGB frame,
            in the Y'CbCr where it has coarse levels.
        device: Where the planes go.
    """

    def in_steps(plane: int) -> torch.Tensor:
        values = upload(frame.planes[plane], device) * frame.format.steps_per_value(plane)
        return _filled(values) if frame.format.is_float else values

    if step != "auto":
        return View({p: Signal(in_steps(p), step) for p in wanted})
    found = find_ycbcr(frame) if wanted else None
    if found is None:
        return View({p: _found(in_steps(p), plane_step(frame, p)) for p in wanted})
    ycbcr, steps = found
    from_rgb, to_rgb, zero = (
        torch.from_numpy(values).to(device) for values in (ycbcr.from_rgb, ycbcr.to_rgb, ycbcr.zero)
    )
    planes = torch.tensordot(from_rgb, torch.stack([in_steps(p) for p in range(3)]), 1) + zero[:, None, None]
    return View({s: _found(planes[s], steps[s]) for s in range(3)}, to_rgb)
