"""BDINN: an invertible pyramid whose latent is edited, then decoded exactly."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn

from ..ops import BandedDeformConv2d
from .blocks import LatentEdit, LiftingStep, TopEdit
from .config import BDINNConfig
from .pyramid import Pyramid, crop

__all__ = ["BDINN", "Latents", "kmac_per_pixel"]


class Latents(NamedTuple):
    """A picture as the pyramid holds it: as many numbers as its padded size has."""

    low: torch.Tensor
    """Averages of the coarsest scale, (N, C, H / 2**levels, W / 2**levels) of the padded size."""
    highs: tuple[torch.Tensor, ...]
    """Details of each scale, the finest first: (N, 3C, H / 2**i, W / 2**i)."""
    size: tuple[int, int]
    """(height, width) of the picture before padding."""


class _Level(NamedTuple):
    """A scale of the pyramid in plain PyTorch: slow, differentiable, what every other version is held to."""

    step: LiftingStep
    edit: LatentEdit

    def describe(
        self, x: torch.Tensor, finer: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high = self.step.encode(x)
        return low, high, self.edit.description(low, high, finer)

    def restore(
        self, low: torch.Tensor, high: torch.Tensor, description: torch.Tensor, coarser: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        high, features = self.edit(low, high, description, coarser)
        return self.step.decode(low, high), features


class BDINN(Pyramid, nn.Module):
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

    @property
    def levels(self) -> Sequence["_Level"]:
        """The scales, the finest first."""
        return [_Level(step, edit) for step, edit in zip(self.steps, self.edits, strict=True)]

    def encode(self, x: torch.Tensor) -> Latents:
        """Latents of x (N, in_channels, H, W), padded by replication to whole blocks of `2**levels`."""
        low, highs = self.pad(x), []
        for step in self.steps:
            low, high = step.encode(low)
            highs.append(high)
        return Latents(low, tuple(highs), (x.shape[2], x.shape[3]))

    def decode(self, latents: Latents) -> torch.Tensor:
        """Inverse of `encode`: `decode(encode(x))` is `x` to rounding."""
        low = latents.low
        for step, high in zip(reversed(self.steps), reversed(latents.highs), strict=True):
            low = step.decode(low, high)
        return crop(low, latents.size)

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
