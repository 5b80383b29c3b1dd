"""BDINN: an invertible pyramid whose latent is edited, then decoded exactly."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import FormatError
from ..ops import BandedDeformConv2d
from .blocks import LatentEdit, LiftingStep, TopEdit
from .config import BDINNConfig

__all__ = ["BDINN", "Coarse", "Latents", "kmac_per_pixel"]

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
    features: torch.Tensor
    """Hidden features of the edit of scale i + 1, (N, its width, H / 2**(i + 1), W / 2**(i + 1))."""


class BDINN(nn.Module):
    """Removes banding from planes. Untrained, it is the identity.

    The picture is encoded by invertible lifting steps, scale after scale, and described to each scale
    by what the finer ones saw. From the coarsest scale back, a subnet with banded deformable
    convolutions edits each scale's details, seeing them, the restored averages below and the coarser
    scale's features; then the step's exact inverse runs. What isn't edited comes back as it was.

    Idea: Quan et al., Neural Networks 187:107270, 2025. The paper describes its network in words
    alone; this one follows the idea, not the numbers.

    Args:
        config: The network's shape.
    """

    def __init__(self, config: BDINNConfig) -> None:
        super().__init__()
        self.config = config
        c, widths = config.in_channels, config.widths
        # Typed as what they hold: to a type checker, a ModuleList's items are any module.
        self.steps: Sequence[LiftingStep] = nn.ModuleList(  # pyright: ignore[reportAttributeAccessIssue]
            LiftingStep(c) for _ in widths
        )
        self.edits: Sequence[LatentEdit] = nn.ModuleList(  # pyright: ignore[reportAttributeAccessIssue]
            LatentEdit(c, finer, width, depth, coarser, banded=level >= config.banded_from_level)
            for level, (finer, width, depth, coarser) in enumerate(
                zip((0, *widths[:-1]), widths, config.depths, (*widths[1:], widths[-1]), strict=True), start=1
            )
        )
        self.top = TopEdit(c, widths[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore planes.

        Args:
            x: (N, in_channels, H, W) in model units (8-bit code steps), any H and W >= 1.

        Returns:
            The restored planes, shape and units as `x`.

        Raises:
            FormatError: for another shape.
        """
        return _crop(self._restore_from(self._pad(x), None, 0).low, (x.shape[2], x.shape[3]))

    @property
    def fine_scales(self) -> int:
        """Number of scales, the finest first, that can be restored tile by tile.

        What they do depends on pixels up to about 100 away, given the coarse scales; these look much
        farther, but take little: at three fine scales, the rest is 16 % of `fast`'s work.
        """
        return min(FINE_SCALES, self.config.levels - 1)

    def encode_fine(self, x: torch.Tensor) -> torch.Tensor:
        """What the coarse scales need of tiles x in whole blocks: averages and description.

        Returns:
            (N, C + width, H / 2**fine_scales, W / 2**fine_scales), the averages first.
        """
        low, _, descriptions = self._describe(x, None, 0, self.fine_scales)
        return torch.cat([low, descriptions[-1]], 1)

    def restore_coarse(self, encoded: torch.Tensor) -> Coarse:
        """Restore the scales above the fine ones, from what `encode_fine` gave for a whole plane."""
        c = self.config.in_channels
        return self._restore_from(encoded[:, :c], encoded[:, c:], self.fine_scales)

    def restore_fine(self, x: torch.Tensor, coarse: Coarse) -> torch.Tensor:
        """Restored tiles, from the tiles x in whole blocks and what `restore_coarse` gave there."""
        _, highs, descriptions = self._describe(x, None, 0, self.fine_scales)
        return self._restore(coarse, highs, descriptions, 0).low

    def encode(self, x: torch.Tensor) -> Latents:
        """Latents of x (N, in_channels, H, W), padded by replication to whole blocks of `2**levels`."""
        low, highs = self._pad(x), []
        for step in self.steps:
            low, high = step.encode(low)
            highs.append(high)
        return Latents(low, tuple(highs), (x.shape[2], x.shape[3]))

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

    def _describe(
        self, low: torch.Tensor, description: torch.Tensor | None, first: int, end: int
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Encode and describe the scales first..end - 1, counted from 0 at the finest."""
        highs, descriptions = [], []
        for step, edit in zip(self.steps[first:end], self.edits[first:end], strict=True):
            low, high = step.encode(low)
            description = edit.description(low, high, description)
            highs.append(high)
            descriptions.append(description)
        return low, highs, descriptions

    def _restore_from(self, low: torch.Tensor, description: torch.Tensor | None, first: int) -> Coarse:
        """Restore the scales from `first` to the coarsest, and the averages above."""
        low, highs, descriptions = self._describe(low, description, first, self.config.levels)
        return self._restore(Coarse(*self.top(low, descriptions[-1])), highs, descriptions, first)

    def _restore(
        self, coarse: Coarse, highs: list[torch.Tensor], descriptions: list[torch.Tensor], first: int
    ) -> Coarse:
        """Edit and decode the scales from `first` on that have these `highs`, the coarsest first."""
        low, features = coarse
        for i in reversed(range(len(highs))):
            high, features = self.edits[first + i](low, highs[i], descriptions[i], features)
            low = self.steps[first + i].decode(low, high)
        return Coarse(low, features)

    @cached_property
    def kmac_per_pixel(self) -> float:
        """Thousand multiply-accumulates of convolutions a pixel of a plane, counted on a run."""
        return kmac_per_pixel(self, self.config.in_channels, 2**self.config.levels)


def kmac_per_pixel(model: nn.Module, channels: int, side: int) -> float:
    """Thousand multiply-accumulates of a model's convolutions a pixel, on a picture of `side` x `side`."""
    macs = 0

    def count(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        conv = module.conv if isinstance(module, BandedDeformConv2d) else module
        macs += output.shape[2] * output.shape[3] * conv.weight.numel()  # type: ignore[union-attr]

    counted = [m for m in model.modules() if isinstance(m, (nn.Conv2d, BandedDeformConv2d))]
    hooks = [module.register_forward_hook(count) for module in counted]
    with torch.no_grad():
        model(next(model.parameters()).new_zeros(1, channels, side, side))
    for hook in hooks:
        hook.remove()
    return macs / side**2 / 1000


def _crop(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return x[..., : size[0], : size[1]]
