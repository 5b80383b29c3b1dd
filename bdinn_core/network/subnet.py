"""The small convolutional networks inside the lifting steps and the latent edits, and what they see."""

import torch
from torch import nn
from torch.nn import functional as F

from ..ops import BandedDeformConv2d

__all__ = ["Subnet", "difference_features", "replicate_pad"]


def replicate_pad(x: torch.Tensor, margin: int) -> torch.Tensor:
    """Repeat the border `margin` pixels outwards: past a frame's edge, a gradient goes on flat."""
    return F.pad(x, (margin, margin, margin, margin), mode="replicate")


def difference_features(low: torch.Tensor) -> torch.Tensor:
    """What a subnet may know of the averages (N, C, H, W): only differences, squashed, (N, 3C, H, W).

    The difference to the 5x5 mean and the steps to the right and down. Without the absolute level,
    one set of weights serves dark and bright, SDR and HDR alike; `asinh` keeps steps of a fraction of
    a code and edges of a hundred on one scale.
    """
    mean = F.avg_pool2d(replicate_pad(low, 2), 5, 1)
    beyond = F.pad(low, (0, 1, 0, 1), mode="replicate")
    right, down = beyond[..., :-1, 1:] - low, beyond[..., 1:, :-1] - low
    return torch.asinh(torch.cat([low - mean, right, down], 1))


class Subnet(nn.Module):
    """3x3 convolutions with residual hidden layers; starts as zero.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        width: Hidden channels.
        depth: Hidden layers after the first.
        banded: Whether these are banded deformable convolutions.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, depth: int = 0, banded: bool = False
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3)
        layers = [
            BandedDeformConv2d(width, width, padding=0) if banded else nn.Conv2d(width, width, 3)
            for _ in range(depth)
        ]
        self.hidden = nn.ModuleList(layers)
        self.last = nn.Conv2d(width, out_channels, 3)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden features (N, width, H, W) of x (N, in_channels, H, W)."""
        f = F.gelu(self.first(replicate_pad(x, 1)))
        for layer in self.hidden:
            f = f + F.gelu(layer(replicate_pad(f, 1)))
        return f

    def output(self, features: torch.Tensor) -> torch.Tensor:
        """Output (N, out_channels, H, W) from `features`."""
        return self.last(replicate_pad(features, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output (N, out_channels, H, W) for x (N, in_channels, H, W)."""
        return self.output(self.features(x))
