"""From values between two codes to codes: change of depth, dither, rounding."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .jit import jit
from .options import Dither
from .planes import FrameFormat
from .transfer import download

__all__ = ["change_depth", "quantize"]

_MASK_FILE = Path(__file__).parent / "blue_noise.npy"
"""Ranks of a void-and-cluster mask (Ulichney 1993); made by scripts/make_blue_noise.py."""


def change_depth(values: torch.Tensor, source: FrameFormat, target: FrameFormat, plane: int) -> torch.Tensor:
    """Rescale the values of a plane from one depth to another of the same range.

    Limited range scales by powers of two, full range so that both ends meet, chroma about neutral.
    Black, white and neutral chroma land exactly; formats alike leave the values untouched.
    """
    a, b = source.scale(plane), target.scale(plane)
    return values if a == b else (values - a.zero) * (b.span / a.span) + b.zero


def quantize(values: torch.Tensor, target: FrameFormat, dither: Dither, plane: int, seed: int) -> np.ndarray:
    """Round a plane to the codes of an integer format, or cast it to a float one.

    A value that is a code already stays that code under every dither.

    Args:
        values: float32 (H, W), in the target's values.
        target: The format to reach.
        dither: How to round; floats are never dithered. NaN becomes code 0.
        plane: Index of the plane; with `seed`, it shifts the blue-noise mask.
        seed: As in `DebandOptions`.

    Returns:
        (H, W) of `target.dtype`; from a GPU as `download` leaves it.
    """
    if target.is_float:
        return download(values, target.dtype)
    values = torch.nan_to_num(values).clamp_(0, target.peak)
    if dither == "error_diffusion":
        return _diffuse(values.cpu().numpy(), target.peak).astype(target.dtype)
    if dither == "none":
        codes = values.round()
    else:
        low = values.floor()
        above = values.sub_(low).gt_(_thresholds(*values.shape, plane, seed, values.device))  # 0.0 or 1.0
        codes = low.add_(above)
    return download(codes, target.dtype)


@lru_cache(maxsize=8)
def _thresholds(height: int, width: int, plane: int, seed: int, device: torch.device) -> torch.Tensor:
    """The mask as thresholds in (0, 1), tiled over a plane: the same in every frame.

    Still, because noise that moves costs an encoder bits in every frame. Each plane and seed shifts
    it, so that the planes' roundings don't add up.
    """
    ranks = np.load(_MASK_FILE)
    side = len(ranks)
    shift = np.random.default_rng((seed, plane)).integers(0, side, 2)
    rows, columns = (np.arange(height) + shift[0]) % side, (np.arange(width) + shift[1]) % side
    thresholds = (ranks[rows[:, None], columns] + np.float32(0.5)) / np.float32(ranks.size)
    return torch.from_numpy(thresholds).to(device)


@jit
def _diffuse(values, peak):
    """Floyd-Steinberg error diffusion of (H, W), every second line from right to left."""
    height, width = values.shape
    out = np.empty((height, width), np.int32)
    ahead, below = np.zeros(width + 2, np.float32), np.zeros(width + 2, np.float32)
    for row in range(height):
        ahead, below = below, ahead
        below[:] = 0
        step = 1 if row % 2 == 0 else -1
        for i in range(width):
            column = i if step == 1 else width - 1 - i
            value = values[row, column]
            wanted = value + ahead[column + 1]
            # What is a code already passes untouched, and the error that reached it ends there.
            code = (
                value if value == np.floor(value) else min(max(np.floor(wanted + np.float32(0.5)), 0), peak)
            )
            out[row, column] = int(code)
            error = np.float32(0) if code == value else np.float32(wanted - code)
            ahead[column + 1 + step] += error * np.float32(7 / 16)
            below[column + 1 - step] += error * np.float32(3 / 16)
            below[column + 1] += error * np.float32(5 / 16)
            below[column + 1 + step] += error * np.float32(1 / 16)
    return out
