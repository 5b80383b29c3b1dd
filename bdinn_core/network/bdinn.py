"""BDINN: a learned lifting pyramid whose latent is edited, then decoded exactly."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import FormatError
from ..ops import BandedDeformConv2d
from .blocks import LatentEdit, LiftingStep
from .config import BDINNConfig
from .subnet import Subnet, difference_features

__all__ = ["BDINN", "Coarse", "Latents"]

FINE_SCALES = 3


class Latents(NamedTuple):
    """A picture as the pyramid holds it: as many numbers as its padded size has."""

    low: torch.Tensor
    """Averages of the coarsest scale, (N, C, H / 2**levels, W / 2**levels) of the padded size."""
    highs: tuple[torch.Tensor, ...]
    """Details of each scale, the finest first: (N, 3C, H / 2**i, W / 2**i)."""
    size: tuple[int, int]
    """(height, width) of the picture before padding."""


class Coarse(NamedTuple):
    """The restored coarse part of a pyramid: all that the finer scales need to know of it."""

    low: torch.Tensor
    """Restored averages, (N, C, H / 2**i, W / 2**i), of the first i scales."""
    context: torch.Tensor
    """What the i-th scale should know, (N, context_channels, H / 2**(i + 1), W / 2**(i + 1))."""


class BDINN(nn.Module):
    """Removes banding from planes. Untrained, it is the identity.

    The picture is encoded by invertible lifting steps, scale after scale. From the coarsest scale
    back, a subnet with banded deformable convolutions edits each scale's details, seeing them, the
    restored averages below and a context from the coarser scale; then the step's exact inverse runs.
    What isn't edited comes back as it was.

    Idea: Quan et al., Neural Networks 187:107270, 2025. The paper describes its network in words
    alone; this one follows the idea, not the numbers.

    Args:
        config: The network's shape.
    """

    def __init__(self, config: BDINNConfig) -> None:
        super().__init__()
        self.config = config
        c, context = config.in_channels, config.context_channels
        # Typed as what they hold: to a type checker, a ModuleList's items are any module.
        self.steps: Sequence[LiftingStep] = nn.ModuleList(  # pyright: ignore[reportAttributeAccessIssue]
            LiftingStep(c, width) for width in config.lifting_widths
        )
        self.edits: Sequence[LatentEdit] = nn.ModuleList(  # pyright: ignore[reportAttributeAccessIssue]
            LatentEdit(c, width, depth, context, banded=level >= config.banded_from_level)
            for level, (width, depth) in enumerate(
                zip(config.edit_widths, config.edit_depths, strict=True), start=1
            )
        )
        self.top = Subnet(3 * c, c, config.edit_widths[-1], config.edit_depths[-1])
        # What each scale but the finest, and above them the top, hands on to the next finer one.
        self.to_context: Sequence[nn.Conv2d] = nn.ModuleList(  # pyright: ignore[reportAttributeAccessIssue]
            nn.Conv2d(width, context, 1) for width in (*config.edit_widths[1:], config.edit_widths[-1])
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore planes.

        Args:
            x: (N, in_channels, H, W) in model units (8-bit code steps), any H and W >= 1.

        Returns:
            The restored planes, shape and units as `x`.

        Raises:
            FormatError: for another shape.
        """
        padded = self._pad(x)
        low, highs = self._encode(padded, 0, self.fine_scales)
        low, _ = self._restore(*self.restore_coarse(low), highs, 0)
        return _crop(low, (x.shape[2], x.shape[3]))

    @property
    def fine_scales(self) -> int:
        """Number of scales, the finest first, that can be restored tile by tile.

        What they do depends on pixels up to about 100 away, given the coarse scales; these look much
        farther, but take little: at three fine scales, the rest is 2 % of the work.
        """
        return min(FINE_SCALES, self.config.levels - 1)

    def encode_fine(self, x: torch.Tensor) -> torch.Tensor:
        """Averages (N, C, H / 2**fine_scales, W / 2**fine_scales) of tiles x in whole blocks."""
        return self._encode(x, 0, self.fine_scales)[0]

    def restore_coarse(self, low: torch.Tensor) -> Coarse:
        """Restore the scales above the fine ones, from the averages of a whole plane."""
        low, highs = self._encode(low, self.fine_scales, self.config.levels)
        features = self.top.features(difference_features(low))
        low = low + self.top.output(features)
        return Coarse(*self._restore(low, self.to_context[-1](features), highs, self.fine_scales))

    def restore_fine(self, x: torch.Tensor, coarse: Coarse) -> torch.Tensor:
        """Restored tiles, from the tiles x in whole blocks and what `restore_coarse` gave there."""
        _, highs = self._encode(x, 0, self.fine_scales)
        return self._restore(*coarse, highs, 0)[0]

    def encode(self, x: torch.Tensor) -> Latents:
        """Latents of x (N, in_channels, H, W), padded by replication to whole blocks of `2**levels`."""
        low, highs = self._encode(self._pad(x), 0, self.config.levels)
        return Latents(low, highs, (x.shape[2], x.shape[3]))

    def decode(self, latents: Latents) -> torch.Tensor:
        """Inverse of `encode`: `decode(encode(x))` is `x` to rounding."""
        low = latents.low
        for step, high in zip(reversed(self.steps), reversed(latents.highs), strict=True):
            low = step.decode(low, high)
        return _crop(low, latents.size)

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 4 or x.shape[1] != self.config.in_channels or 0 in x.shape[2:]:
            raise FormatError(
                f"planes must be (N, {self.config.in_channels}, H, W) with H, W >= 1, not {tuple(x.shape)}"
            )
        block = 2**self.config.levels
        return F.pad(x, (0, -x.shape[3] % block, 0, -x.shape[2] % block), mode="replicate")

    def _encode(
        self, low: torch.Tensor, first: int, end: int
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Encode the scales first..end - 1, counted from 0 at the finest."""
        highs = []
        for step in self.steps[first:end]:
            low, high = step.encode(low)
            highs.append(high)
        return low, tuple(highs)

    def _restore(
        self, low: torch.Tensor, context: torch.Tensor, highs: Sequence[torch.Tensor], first: int
    ) -> Coarse:
        """Edit and decode the scales from `first` on that have these `highs`, the coarsest first."""
        for i, high in reversed(list(enumerate(highs, start=first))):
            if context.shape[2:] != high.shape[2:]:
                context = F.interpolate(context, size=high.shape[2:], mode="bilinear")
            change, features = self.edits[i](low, high, context)
            low = self.steps[i].decode(low, high + change)
            if i:
                context = context + self.to_context[i - 1](features)
        return Coarse(low, context)

    @cached_property
    def kmac_per_pixel(self) -> float:
        """Thousand multiply-accumulates of convolutions a pixel of a plane, counted on a run."""
        macs = 0

        def count(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            nonlocal macs
            conv = module.conv if isinstance(module, BandedDeformConv2d) else module
            macs += output.shape[2] * output.shape[3] * conv.weight.numel()  # type: ignore[union-attr]

        counted = [m for m in self.modules() if isinstance(m, (nn.Conv2d, BandedDeformConv2d))]
        hooks = [module.register_forward_hook(count) for module in counted]
        side = 2**self.config.levels
        with torch.no_grad():
            self(next(self.parameters()).new_zeros(1, self.config.in_channels, side, side))
        for hook in hooks:
            hook.remove()
        return macs / side**2 / 1000


def _crop(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return x[..., : size[0], : size[1]]
