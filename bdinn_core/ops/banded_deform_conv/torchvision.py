"""Banded deformable convolution through torchvision's deformable convolution.

Stores the 2 * K offset planes that the other backends avoid; here to compare against, and for
devices that have no kernel of ours.
"""

import torch
from torchvision.ops import deform_conv2d

from .geometry import Geometry
from .naive import banded_deform_conv2d as naive
from .naive import sampling_offsets

__all__ = ["banded_deform_conv2d"]


def banded_deform_conv2d(
    input: torch.Tensor,
    rotation: torch.Tensor,
    stretch: torch.Tensor,
    rescale: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    groups: int,
) -> torch.Tensor:
    """Turn positions into offsets from the regular grid; arguments as in `naive`."""
    y, x = sampling_offsets(rotation, stretch, rescale, geometry)
    dy, dx = (t.view(1, -1, 1, 1) for t in geometry.taps(rotation))
    offsets = torch.stack([y - dy, x - dx], 2).flatten(1, 2)  # (N, 2K, Hout, Wout)
    if not len(input):  # its batch of 0 has the wrong size
        return naive(input, rotation, stretch, rescale, weight, bias, geometry, groups)
    return deform_conv2d(
        input,
        offsets,
        weight,
        bias,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
    )
