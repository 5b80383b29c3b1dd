"""One scale of the pyramid: an invertible lifting step, and the edit of its latent."""

import torch
from torch import nn

from .haar import haar_merge, haar_split
from .subnet import Subnet, difference_features

__all__ = ["LatentEdit", "LiftingStep"]


class LiftingStep(nn.Module):
    """Haar split, then two additive couplings: the averages predict the differences, and learn of the rest.

    Additive, since each coupling is undone by subtracting what was added: exact to rounding, whatever
    the subnets compute. `decode` is the mirror image of `encode`.

    Args:
        channels: Channels of the picture.
        width: Hidden channels of the subnets.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.predict = Subnet(3 * channels, 3 * channels, width)
        self.update = Subnet(3 * channels, channels, width)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split x (N, C, H, W) of even sizes into low (N, C, H/2, W/2) and high (N, 3C, H/2, W/2)."""
        low, high = haar_split(x)
        high = high - self.predict(difference_features(low))
        low = low + self.update(torch.asinh(high))
        return low, high

    def decode(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Inverse of `encode`."""
        low = low - self.update(torch.asinh(high))
        high = high + self.predict(difference_features(low))
        return haar_merge(low, high)


class LatentEdit(nn.Module):
    """What to change in a scale's latent.

    Args:
        channels: Channels of the picture.
        width: Hidden channels.
        depth: Hidden layers after the first.
        context_channels: Channels of the context from the coarser scale.
        banded: Whether the hidden layers are banded deformable convolutions.
    """

    def __init__(self, channels: int, width: int, depth: int, context_channels: int, banded: bool) -> None:
        super().__init__()
        self.subnet = Subnet(6 * channels + context_channels, 3 * channels, width, depth, banded)

    def forward(
        self, low: torch.Tensor, high: torch.Tensor, context: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The edit of `high` (N, 3C, H, W), and the hidden features (N, width, H, W) behind it."""
        seen = torch.cat([torch.asinh(high), difference_features(low), context], 1)
        features = self.subnet.features(seen)
        return self.subnet.output(features), features
