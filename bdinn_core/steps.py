"""The distance between a plane's levels, which is the height of its bands: what `step="auto"` finds.

The network was trained on bands of one 8-bit step and less, and on what codecs make of them, and serves any
height: `net(x / step) * step`. A plane that was quantised more coarsely and not coded since gives its step
away: all its values are multiples of it, and many neighbours differ by just one of them.

Finer steps than 1 are never found: planes of 10 bits that were coded lie on their levels as well as others
do, and for those step 1 is the better one.
"""

import numpy as np

from .planes import Frame

__all__ = ["find_step", "plane_step", "sample_rows"]

FLOAT_NOISE = 0.07
"""How far from its level a float may be that was an integer once, in 8-bit steps: half precision's error."""
COARSEST = 8.0
ON_LEVELS = 0.98
"""Share of the pixels that lie on the levels; the rest may be a subtitle or a logo."""
LEAST_SINGLE = 0.2
"""Share of single levels among the changes from pixel to pixel: less is a drawing of few flat colours."""
ROWS_APART = 8


def plane_step(frame: Frame, plane: int) -> float:
    """The distance between the levels of a frame's plane, in 8-bit steps; see `find_step`."""
    form = frame.format
    rows = sample_rows(frame.planes[plane]).astype(np.float32) * np.float32(form.steps_per_value(plane))
    return find_step(rows, FLOAT_NOISE if form.is_float else 0.0)


def sample_rows(plane: np.ndarray) -> np.ndarray:
    """Pairs of neighbouring rows, `ROWS_APART` apart: (2, pairs, width) of a plane (height, width)."""
    return np.stack([plane[:-1:ROWS_APART], plane[1::ROWS_APART]]) if len(plane) > 1 else plane[None]


def find_step(values: np.ndarray, noise: float = 0.0) -> float:
    """The distance between the levels of a plane, in 8-bit steps: 2, 4 or 8 for 7, 6 or 5 bits, or else 1.

    Args:
        values: What `sample_rows` gave, float32 in 8-bit steps.
        noise: How far off its level a value may be.
    """
    with np.errstate(invalid="ignore"):  # of infinite values
        # What lies on coarser levels lies on those of 2 as well: most planes are done with one look.
        step = COARSEST if _lies_on(values, 2.0, noise) else 1.0
        while step > 1 and not _lies_on(values, step, noise):
            step /= 2
        if step == 1:
            return 1.0
        levels = np.rint(values / step)
        changes = np.abs(np.concatenate([np.diff(levels, axis=axis).ravel() for axis in (0, 2)]))
    moving = changes[changes > 0]
    return step if moving.size and np.mean(moving == 1) >= LEAST_SINGLE else 1.0


def _lies_on(values: np.ndarray, step: float, noise: float) -> bool:
    """Whether nearly all values are multiples of a step."""
    return bool(np.mean(np.abs(values - np.rint(values / step) * step) <= noise) >= ON_LEVELS)
