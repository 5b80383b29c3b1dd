"""The Haar transform, its averages first: a fixed, exactly invertible split into two scales."""

import torch
from torch.nn import functional as F

__all__ = ["haar_merge", "haar_split"]


def haar_split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages and differences of 2x2 blocks.

    Args:
        x: (N, C, H, W) with even H and W.

    Returns:
        The averages (N, C, H/2, W/2), in the units of `x`, and the horizontal, vertical and diagonal
        half differences (N, 3C, H/2, W/2).
    """
    n, c, h, w = x.shape
    a, b, d, e = F.pixel_unshuffle(x, 2).view(n, c, 4, h // 2, w // 2).unbind(2)
    high = [(a - b + d - e) / 4, (a + b - d - e) / 4, (a - b - d + e) / 4]
    return (a + b + d + e) / 4, torch.cat(high, 1)


def haar_merge(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Inverse of `haar_split`: (N, C, H/2, W/2) and (N, 3C, H/2, W/2) to (N, C, H, W)."""
    p, q, r = high.chunk(3, 1)
    n, c, h, w = low.shape
    blocks = torch.stack([low + p + q + r, low - p + q - r, low + p - q - r, low - p - q + r], 2)
    return F.pixel_shuffle(blocks.view(n, 4 * c, h, w), 2)
