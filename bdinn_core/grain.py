"""Gaussian grain as a pure function of position, frame number, plane and seed.

A counter-based generator: every pixel hashes its own index, so the noise is the same on every
device, in any order of frames and for any tiling.
"""

import math

import torch

__all__ = ["gaussian_grain"]

_MASK = 0xFFFFFFFF


def _hash(x: torch.Tensor) -> torch.Tensor:
    """A 32-bit integer hash of int64 values 0..2**32 - 1 (xor-shift-multiply, low bias)."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def gaussian_grain(
    height: int, width: int, frame_number: int, plane: int, seed: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Independent normal values.

    Args:
        height: Height of the plane.
        width: Width of the plane.
        frame_number: Number of the frame, >= 0.
        plane: Index of the plane.
        seed: Selects the noise.
        device: Where to make it.

    Returns:
        float32 (height, width) of mean 0 and standard deviation 1.
    """
    key = torch.zeros((), dtype=torch.int64, device=device)
    for word in (seed, plane, frame_number):
        key = _hash((key ^ (word & _MASK)) * 0x9E3779B1 & _MASK)
    pairs = (height * width + 1) // 2
    index = torch.arange(pairs, dtype=torch.int64, device=device)
    first, second = (_hash(_hash(2 * index + i) ^ key).to(torch.float32) for i in (0, 1))
    # Box-Muller: two uniform values make two normal ones. In (0, 1], so that the logarithm is finite.
    radius = torch.sqrt(-2 * torch.log((first + 1) / 2**32))
    angle = second * (2 * math.pi / 2**32)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)])[: height * width].view(
        height, width
    )
