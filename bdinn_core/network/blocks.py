"""What the pyramid is built of: invertible lifting steps, and the edits of what they give."""

import torch
from torch import nn
from torch.nn import functional as F

from .haar import haar_merge, haar_split
from .subnet import (
    amount_around,
    convolution,
    difference_features,
    differences,
    leaky_gelu,
    limited,
    replicate_pad,
    zero_convolution,
)

__all__ = ["LatentEdit", "LiftingStep", "TopEdit"]


class LiftingStep(nn.Module):
    """Haar split, then an additive coupling: the averages predict the details, by a linear filter.

    What's left of the details is nothing on a straight gradient and something at the edge of a band.
    Undone by adding what was subtracted: exact to rounding, whatever the filter has learned. It starts
    as the central difference.

    Args:
        channels: Channels of the picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(2 * channels, 3 * channels, 3, bias=False)
        nn.init.zeros_(self.predict.weight)
        with torch.no_grad():
            for c in range(
                channels
            ):  # the differences on both sides of a block; an eighth, as blocks are 2 px
                self.predict.weight[c, c, 1, :2] = -1 / 8
                self.predict.weight[channels + c, channels + c, :2, 1] = -1 / 8

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split x (N, C, H, W) of even sizes into low (N, C, H/2, W/2) and high (N, 3C, H/2, W/2)."""
        low, high = haar_split(x)
        return low, high - self._predicted(low)

    def decode(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Inverse of `encode`."""
        return haar_merge(low, high + self._predicted(low))

    def _predicted(self, low: torch.Tensor) -> torch.Tensor:
        return self.predict(replicate_pad(differences(low), 1))


class _Edit(nn.Module):
    """What every edit is made of: a first layer, hidden ones that add to its features, and a last one.

    Args:
        seen: Channels of what the first layer sees.
        width: Hidden channels.
        depth: Hidden layers.
        channels: Channels of what the last layer gives.
        banded: Whether the hidden layers are banded deformable convolutions.
    """

    def __init__(self, seen: int, width: int, depth: int, channels: int, banded: bool = False) -> None:
        super().__init__()
        self.first = convolution(seen, width)
        self.hidden = nn.ModuleList(convolution(width, width, banded) for _ in range(depth))
        self.last = zero_convolution(width, channels)

    def _through_layers(
        self, low: torch.Tensor, description: torch.Tensor, context: torch.Tensor | float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last layer gives, (N, channels, H, W), and the features (N, width, H, W) behind it.

        Args:
            low: Averages (N, C, H, W).
            description: Of the scale, (N, width, H, W).
            context: Added to what the first layer gives.
        """
        seen = torch.cat([description, difference_features(low)], 1)
        features = leaky_gelu(self.first(replicate_pad(seen, 1)) + context)
        for layer in self.hidden:
            features = features + F.gelu(layer(replicate_pad(features, 1)))
        features = limited(features)
        return self.last(replicate_pad(features, 1)), features


class LatentEdit(_Edit):
    """What to make of a scale's latent: details scaled by 0..2, and shifted.

    Taking away a band's edge asks a gate for one number that says so, whatever the edge's height; a sum
    would have to know its exact negative. Shifts are in proportion to the details around: where there are
    none, nothing was lost, and a flat plane comes back as it was.

    Args:
        channels: Channels of the picture.
        finer: Width of the next finer scale; 0 for the finest.
        width: Hidden channels.
        depth: Hidden layers after the first.
        coarser: Width of the next coarser scale.
        banded: Whether the hidden layers are banded deformable convolutions.
    """

    def __init__(self, channels: int, finer: int, width: int, depth: int, coarser: int, banded: bool) -> None:
        super().__init__(width + 3 * channels, width, depth, 6 * channels, banded)
        self.describe = convolution(6 * channels + finer, width)
        self.context = nn.Conv2d(coarser, width, 1)

    def description(self, low: torch.Tensor, high: torch.Tensor, finer: torch.Tensor | None) -> torch.Tensor:
        """Features (N, width, H, W) of what arrived at this scale and, by `finer`, below it.

        Args:
            low: Averages (N, C, H, W), not restored.
            high: Details (N, 3C, H, W).
            finer: Description of the next finer scale, (N, finer, 2H, 2W); None at the finest.
        """
        seen = [torch.asinh(high), difference_features(low)]
        if finer is not None:
            seen.append(F.avg_pool2d(finer, 2))
        return limited(F.gelu(self.describe(replicate_pad(torch.cat(seen, 1), 1))))

    def forward(
        self, low: torch.Tensor, high: torch.Tensor, description: torch.Tensor, coarser: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The restored details, and the hidden features (N, width, H, W) behind them.

        Args:
            low: Restored averages (N, C, H, W).
            high: Details (N, 3C, H, W), as they arrived.
            description: As `description` gave it.
            coarser: Hidden features of the next coarser scale, (N, coarser, H/2, W/2) or, above the
                coarsest scale, (N, coarser, H, W).
        """
        context = self.context(coarser)
        if context.shape[2:] != high.shape[2:]:
            context = F.interpolate(context, size=high.shape[2:], mode="bilinear")
        edits, features = self._through_layers(low, description, context)
        return self._edited(high, *edits.chunk(2, 1)), features

    def _edited(self, high: torch.Tensor, gate: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return high * (1 + torch.tanh(gate)) + shift * amount_around(high)


class TopEdit(_Edit):
    """The edit of the coarsest averages: shifts in proportion to the steps between them.

    Args:
        channels: Channels of the picture.
        width: Hidden channels; those of the coarsest scale.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(width + 3 * channels, width, 1, channels)

    def forward(self, low: torch.Tensor, description: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The restored averages of `low` (N, C, H, W), and the hidden features (N, width, H, W) behind them.

        Args:
            low: Averages of the coarsest scale, not restored.
            description: That scale's, (N, width, H, W).
        """
        shift, features = self._through_layers(low, description)
        return low + shift * amount_around(differences(low)), features
