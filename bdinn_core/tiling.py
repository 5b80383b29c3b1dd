"""Cutting planes into tiles of one shape, and blending what the network made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional as F

from .options import TILE_GRID

__all__ = ["TilePlan", "plan_tiles"]


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """Where the tiles of a plane lie: all of one shape, on the network's grid.

    Origins are multiples of `TILE_GRID`, so a tile's pixels fall on the same Haar blocks as in the
    whole plane; the last tiles may stick out, and repeat the border there.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    """Height of a tile."""
    width: int
    """Width of a tile."""
    overlap: int
    """Pixels that neighbours share."""

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tops) * len(self.lefts)

    def cut(self, plane: torch.Tensor) -> torch.Tensor:
        """Tiles (T, 1, height, width) of a plane (H, W), row by row."""
        if self.count == 1:
            return plane[None, None]
        below = self.tops[-1] + self.height - plane.shape[0]
        beside = self.lefts[-1] + self.width - plane.shape[1]
        padded = F.pad(plane[None, None], (0, max(beside, 0), 0, max(below, 0)), mode="replicate")[0, 0]
        tiles = [padded[t : t + self.height, x : x + self.width] for t in self.tops for x in self.lefts]
        return torch.stack(tiles).unsqueeze(1)

    def blend(self, tiles: Sequence[torch.Tensor], height: int, width: int) -> torch.Tensor:
        """A plane (height, width) from tiles (height, width) in the order of `cut`."""
        if len(tiles) == 1:
            return tiles[0]
        total = tiles[0].new_zeros(self.tops[-1] + self.height, self.lefts[-1] + self.width)
        vertical = self._windows(self.tops, self.height, tiles[0])
        horizontal = self._windows(self.lefts, self.width, tiles[0])
        order = iter(tiles)
        for top, down in zip(self.tops, vertical, strict=True):
            for left, right in zip(self.lefts, horizontal, strict=True):
                total[top : top + self.height, left : left + self.width] += next(order) * (
                    down[:, None] * right
                )
        return total[:height, :width]

    def _windows(self, starts: Sequence[int], size: int, like: torch.Tensor) -> list[torch.Tensor]:
        """Weight of every tile along one axis. Two neighbours' weights add up to 1.

        Over the middle half of the overlap they cross-fade; its outer quarters, where a tile sees
        least beyond its border, count for nothing.
        """
        windows = [like.new_ones(size) for _ in starts]
        if self.overlap:
            ramp = (torch.arange(self.overlap, device=like.device, dtype=like.dtype) + 0.5) / self.overlap
            rise = (2 * ramp - 0.5).clamp(0, 1)
            for left, right in pairwise(windows):
                left[-self.overlap :] = 1 - rise
                right[: self.overlap] = rise
        return windows


def plan_tiles(height: int, width: int, tile_size: int, overlap: int) -> TilePlan:
    """The fewest tiles of at most `tile_size` that cover a plane, made no larger than needed.

    Args:
        height: Height of the plane.
        width: Width of the plane.
        tile_size: Largest side of a tile, a multiple of `TILE_GRID`. A side that fits stays whole.
        overlap: Pixels that neighbours share, a multiple of `TILE_GRID`, at most half a tile.
    """
    tops, tile_height = _axis(height, tile_size, overlap)
    lefts, tile_width = _axis(width, tile_size, overlap)
    return TilePlan(tops=tops, lefts=lefts, height=tile_height, width=tile_width, overlap=overlap)


def _axis(size: int, tile_size: int, overlap: int) -> tuple[tuple[int, ...], int]:
    """Origins and length of the tiles along one axis."""
    if size <= tile_size:
        return (0,), size
    count = -(-(size - overlap) // (tile_size - overlap))
    even = -(-(size + (count - 1) * overlap) // count)
    length = max(-(-even // TILE_GRID) * TILE_GRID, 2 * overlap)
    return tuple(i * (length - overlap) for i in range(count)), length
