"""The convolution that the network's time is measured by."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

__all__ = ["KMAC_TARGETS", "yardstick"]

CHANNELS, SIZE = 32, (270, 480)
KMAC_TARGETS = {"fast": 8.0}
"""Of a model: the kMAC in float32 that the convolution does in the time that the network may take a pixel."""


def yardstick(device: torch.device, half: bool) -> tuple[Callable[[], torch.Tensor], int]:
    """A call of a 3x3 convolution of 32 channels, channels last, and its multiply-accumulates.

    In float32, or in the half precision that the network has there.
    """
    dtype = torch.float32 if not half else torch.float16 if device.type == "cuda" else torch.bfloat16
    x = torch.randn(1, CHANNELS, *SIZE, device=device, dtype=dtype)
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device, dtype=dtype)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    return lambda: F.conv2d(x, weight, padding=1), weight.numel() * SIZE[0] * SIZE[1]
