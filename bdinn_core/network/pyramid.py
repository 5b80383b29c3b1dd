"""The way through the scales: which part of the network sees what, whoever computes the parts."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch

from ..errors import FormatError
from .config import BDINNConfig

__all__ = ["Coarse", "Level", "Pyramid", "Top"]

FINE_SCALES = 3


class Level(Protocol):
    """One scale of the pyramid. Tensors are (N, channels, height, width); C is the picture's channels."""

    def describe(
        self, x: torch.Tensor, finer: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split what arrives from the finer scale, and describe it.

        Args:
            x: Averages of the finer scale or the picture, (N, C, 2H, 2W).
            finer: That scale's description, (N, its width, 2H, 2W); None at the finest.

        Returns:
            low (N, C, H, W) and high (N, 3C, H, W), the latent, and its description (N, width, H, W).
        """
        ...

    def restore(
        self, low: torch.Tensor, high: torch.Tensor, description: torch.Tensor, coarser: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Edit the details and put the finer scale together again.

        Args:
            low: Restored averages (N, C, H, W).
            high: Details as `describe` gave them.
            description: Likewise.
            coarser: Features of the next coarser scale's edit, (N, its width, H/2, W/2); above the
                coarsest scale those of the edit of its averages, (N, its width, H, W).

        Returns:
            Restored averages of the finer scale or the picture, (N, C, 2H, 2W), and the features
            (N, width, H, W) of this edit.
        """
        ...


class Top(Protocol):
    """What edits the averages of the coarsest scale."""

    def __call__(self, low: torch.Tensor, description: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The restored averages of `low` (N, C, H, W), and the features (N, width, H, W) behind them."""
        ...


class Coarse(NamedTuple):
    """The restored coarse part of a pyramid: all that the finer scales need to know of it."""

    low: torch.Tensor
    """Restored averages, (N, C, H / 2**i, W / 2**i), of the first i scales."""
    features: torch.Tensor
    """Features of the edit of scale i + 1, (N, its width, H / 2**(i + 1), W / 2**(i + 1))."""


class Pyramid:
    """Restores planes scale by scale, whole or its fine scales tile by tile."""

    config: BDINNConfig
    levels: Sequence[Level]
    """The scales, the finest first."""
    top: Top
    backend: str = "pytorch"
    """What computes all that lies between convolutions."""
    any_batch: bool = False
    """Whether a picture's result is the same to the last bit whatever else is in the batch, and how much."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore planes.

        Args:
            x: (N, in_channels, H, W) in model units (8-bit code steps), any H and W >= 1.

        Returns:
            The restored planes, shape and units as `x`.

        Raises:
            FormatError: for another shape.
        """
        return crop(self._restore_from(self.pad(x), None, 0).low, (x.shape[2], x.shape[3]))

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

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Planes x (N, C, H, W) padded by replication to whole blocks of `2**levels` pixels.

        Raises:
            FormatError: for another shape.
        """
        if x.ndim != 4 or x.shape[1] != self.config.in_channels or 0 in x.shape[2:]:
            raise FormatError(
                f"planes must be (N, {self.config.in_channels}, H, W) with H, W >= 1, not {tuple(x.shape)}"
            )
        block = 2**self.config.levels
        for axis in (2, 3):
            missing = -x.shape[axis] % block
            if missing:  # some ten times as fast as torch's padding
                border = x.narrow(axis, x.shape[axis] - 1, 1)
                x = torch.cat([x, *[border] * missing], axis)
        return x

    def _describe(
        self, low: torch.Tensor, description: torch.Tensor | None, first: int, end: int
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """Encode and describe the scales first..end - 1, counted from 0 at the finest."""
        highs, descriptions = [], []
        for level in self.levels[first:end]:
            low, high, description = level.describe(low, description)
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
            low, features = self.levels[first + i].restore(low, highs[i], descriptions[i], features)
        return Coarse(low, features)


def crop(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The upper left (height, width) of x (N, C, H, W)."""
    return x[..., : size[0], : size[1]]
