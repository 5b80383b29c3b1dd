"""What the network's convolutions are made of, and what they see of a picture."""

import torch
from torch import nn
from torch.nn import functional as F

from ..ops import BandedDeformConv2d

__all__ = [
    "amount_around",
    "convolution",
    "difference_features",
    "differences",
    "leaky_gelu",
    "limited",
    "replicate_pad",
    "zero_convolution",
]

MAX_RESCALE = 8.0
"""Of banded grids. In training, on crops of a few hundred pixels, what grows by more is outside of them."""
LEAK = 0.1
"""Slope that a leaky GELU adds to GELU's."""


def replicate_pad(x: torch.Tensor, margin: int) -> torch.Tensor:
    """Repeat the border `margin` pixels outwards: past a frame's edge, a gradient goes on flat."""
    return F.pad(x, (margin, margin, margin, margin), mode="replicate")


def convolution(in_channels: int, out_channels: int, banded: bool = False) -> nn.Conv2d | BandedDeformConv2d:
    """A 3x3 convolution of its padded input, ordinary or banded deformable."""
    if banded:
        return BandedDeformConv2d(in_channels, out_channels, padding=0, max_rescale=MAX_RESCALE)
    return nn.Conv2d(in_channels, out_channels, 3)


def zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """An ordinary one that starts at zero: with it as last layer, an untrained subnet changes nothing."""
    conv = nn.Conv2d(in_channels, out_channels, 3)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def differences(low: torch.Tensor) -> torch.Tensor:
    """Steps to the right and lower neighbour, (N, 2C, H, W), of the averages (N, C, H, W)."""
    beyond = F.pad(low, (0, 1, 0, 1), mode="replicate")
    return torch.cat([beyond[..., :-1, 1:] - low, beyond[..., 1:, :-1] - low], 1)


def difference_features(low: torch.Tensor) -> torch.Tensor:
    """What a subnet may know of the averages (N, C, H, W): only differences, squashed, (N, 3C, H, W).

    The difference to the 5x5 mean and the steps to the right and down. Without the absolute level,
    one set of weights serves dark and bright, SDR and HDR alike; `asinh` keeps steps of a fraction of
    a code and edges of a hundred on one scale.
    """
    mean = F.avg_pool2d(replicate_pad(low, 2), 5, 1)
    return torch.asinh(torch.cat([low - mean, differences(low)], 1))


def amount_around(details: torch.Tensor) -> torch.Tensor:
    """How much there is to edit: squashed mean magnitude within 3x3 of (N, C, H, W), as (N, 1, H, W)."""
    magnitude = details.abs().mean(1, keepdim=True)
    return torch.asinh(F.avg_pool2d(replicate_pad(magnitude, 1), 3, 1))


def limited(features: torch.Tensor) -> torch.Tensor:
    """Features (N, C, H, W) brought below unit RMS over the channels; small ones hardly change.

    What is handed from scale to scale would grow with every one, until layers there saturate.
    """
    wide = features.to(torch.promote_types(features.dtype, torch.float32))  # squares leave half precision
    return features * torch.rsqrt(1 + wide.square().mean(1, keepdim=True)).to(features.dtype)


def leaky_gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU that always passes some gradient, so that no unit behind it can be silenced for good."""
    return F.gelu(x) + LEAK * x
