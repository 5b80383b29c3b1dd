"""The distance between a plane's levels, which is the height of its bands: what `step="auto"` finds.

The network was trained on bands of one 8-bit step and less, and on what codecs make of them, and serves any
height: `net(x / step) * step`. A plane that was quantised more coarsely and not coded since gives its step
away: all its values are multiples of it, and many neighbours differ by just one of them.

Finer steps than 1 are never found: planes of 10 bits that were coded lie on their levels as well as others
do, and for those step 1 is the better one.
"""

import math

import numpy as np
import torch

from .transfer import AnyFrame, Plane, fetch

__all__ = ["find_step", "has_no_step", "plane_step", "sample_rows"]

FLOAT_NOISE = 0.07
"""How far from its level a float may be that was an integer once, in 8-bit steps: half precision's error."""
COARSEST = 8.0
NEARLY_ALL, MOSTLY = 0.98, 0.9
"""Shares of all pixels, and of those at changes, that lie on the levels; the rest may be a logo."""
LEAST_SINGLE = 0.2
"""Share of single levels among the changes from pixel to pixel: less is a drawing of few flat colours."""
ROWS_APART = 8


def plane_step(frame: AnyFrame, plane: int) -> float:
    """The distance between the levels of a frame's plane, in 8-bit steps; see `find_step`."""
    form, rows = frame.format, sample_rows(frame.planes[plane])
    if not form.is_float:
        # The first thing `find_step` looks at, in whole numbers: most planes are done with it.
        off = int((rows & (2 ** (form.bit_depth - 7) - 1) != 0).sum())
        count = math.prod(rows.shape)
        if (count - off) / count < NEARLY_ALL:
            return 1.0
    values = fetch(rows, form.dtype).astype(np.float32) * np.float32(form.steps_per_value(plane))
    return find_step(values, FLOAT_NOISE if form.is_float else 0.0)


def sample_rows(plane: Plane) -> Plane:
    """Pairs of neighbouring rows, `ROWS_APART` apart: (2, pairs, width) of a plane (height, width)."""
    if len(plane) == 1:
        return plane[None]
    if isinstance(plane, torch.Tensor):
        return torch.stack([plane[:-1:ROWS_APART], plane[1::ROWS_APART]])
    return np.stack([plane[:-1:ROWS_APART], plane[1::ROWS_APART]])


def find_step(values: np.ndarray, noise: float = 0.0) -> float:
    """The distance between the levels of a plane, in 8-bit steps: 2, 4 or 8 for 7, 6 or 5 bits, or else 1.

    Args:
        values: What `sample_rows` gave, float32 in 8-bit steps.
        noise: How far off its level a value may be.
    """
    with np.errstate(invalid="ignore"):  # of infinite values
        # What lies on coarser levels lies on those of 2 as well: most planes are done with one look.
        step = COARSEST if _lies_on(values, 2.0, noise, NEARLY_ALL) else 1.0
        while step > 1 and not _lies_on(values, step, noise, NEARLY_ALL):
            step /= 2
        if step == 1:
            return 1.0
        along, across = np.abs(np.diff(values, axis=2)), np.abs(np.diff(values, axis=0))
        moves = [change > 2 * noise for change in (along, across)]  # both neighbours may be off
        changes = np.concatenate([along[moves[0]], across[moves[1]]])
        changed = np.concatenate([values[..., 1:][moves[0]], values[1:][moves[1]]])
        single = np.abs(changes - step) <= 2 * noise
        # In a plane that is flat but for a small object, the object's values decide.
        banded = changes.size and _lies_on(changed, step, noise, MOSTLY) and np.mean(single) >= LEAST_SINGLE
    return step if banded else 1.0


def has_no_step(some: np.ndarray, count: int, noise: float) -> bool:
    """Whether `find_step` is bound to give 1 for `count` values, going by `some` of them."""
    off = np.count_nonzero(np.abs(some - np.rint(some / 2) * 2) > noise)
    return bool(off > (1 - NEARLY_ALL) * count)


def _lies_on(values: np.ndarray, step: float, noise: float, share: float) -> bool:
    """Whether that share of the values are multiples of a step."""
    return bool(np.mean(np.abs(values - np.rint(values / step) * step) <= noise) >= share)
