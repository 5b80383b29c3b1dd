"""Words in pictures."""

from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["letter", "width_of"]

_FILE = Path(__file__).parent / "lettering.npy"
"""How much ink is where, of the characters from space to tilde; made by scripts/make_lettering.py."""
PAD_PX = 6
PAPER, INK = 24, 236


@cache
def _cells() -> np.ndarray:
    return np.load(_FILE)


def width_of(text: str) -> int:
    """Pixels that a line of text takes."""
    return 2 * PAD_PX + len(text) * _cells().shape[2]


def letter(text: str, width: int) -> np.ndarray:
    """A line of text as a strip of a picture, cut off where it's too long: (height, width, 3) uint8."""
    cells = _cells()
    strip = np.full((cells.shape[1] + PAD_PX, width, 3), PAPER, np.uint8)
    shown = [cells[ord(c) - 32 if " " <= c <= "~" else ord("?") - 32] for c in text]
    ink = np.concatenate([*shown, cells[0]], 1)[:, : max(0, width - 2 * PAD_PX)]
    top, left = PAD_PX // 2, min(PAD_PX, width)
    line = strip[top : top + len(ink), left : left + ink.shape[1]]
    line[...] = (PAPER + ink[..., None] / 255 * (INK - PAPER)).round()
    return strip
