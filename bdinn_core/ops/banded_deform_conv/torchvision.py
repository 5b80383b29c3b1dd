"""Banded deformable convolution through torchvision's deformable convolution.

Stores the 2 * K offset planes that the other backends avoid; here to compare against, and for
devices that have no kernel of ours.
"""

import torch
from torchvision.ops import deform_conv2d

from .geometry import Geometry
from .naive import sampling_positions

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
    y, x = sampling_positions(rotation, stretch, rescale, geometry)
    still = torch.zeros_like(stretch)
    turned_off = torch.cat([still, still + 1], 1)  # angle 0, stretch 1: the regular grid
    y_regular, x_regular = sampling_positions(turned_off, still + 1, None, geometry)
    offsets = torch.stack([y - y_regular, x - x_regular], 2).flatten(1, 2)  # (N, 2K, Hout, Wout)
    return deform_conv2d(
        input,
        offsets,
        weight,
        bias,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
    )
