"""Cutting planes into tiles of one shape, and blending what the network made of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product

import torch
from torch.nn import functional as F

from .options import TILE_GRID

__all__ = ["TilePlan", "plan_tiles"]


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """Where the tiles of a plane lie: all of one shape, on the network's grid.

    Origins are multiples of `TILE_GRID`, and the last tiles end where the network pads a whole plane
    to, so a tile's pixels see the same Haar blocks and the same border as in the whole plane.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    """Height of a tile."""
    width: int
    """Width of a tile."""
    fade: int = TILE_GRID
    """Pixels over which neighbours blend; no more than what origins differ by, so fades never meet."""

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tops) * len(self.lefts)

    def reduced(self, factor: int) -> "TilePlan":
        """The same tiles of a plane `factor` times smaller, a divisor of `TILE_GRID`."""
        return TilePlan(
            tops=tuple(top // factor for top in self.tops),
            lefts=tuple(left // factor for left in self.lefts),
            height=self.height // factor,
            width=self.width // factor,
            fade=self.fade // factor,
        )

    def cut(self, plane: torch.Tensor) -> Iterator[torch.Tensor]:
        """Tiles (1, C, height, width) of a plane (1, C, H, W), row by row; where they can, views of it."""
        for top, left in product(self.tops, self.lefts):
            tile = plane[..., top : top + self.height, left : left + self.width]
            below, beside = self.height - tile.shape[2], self.width - tile.shape[3]
            yield F.pad(tile, (0, beside, 0, below), mode="replicate") if below or beside else tile

    def blend(self, tiles: Iterable[torch.Tensor]) -> torch.Tensor:
        """A plane (1, C, H, W), padded to whole tiles, from tiles as `cut` gives them."""
        first, tiles = _peek(tiles)
        plane = first.new_zeros(1, first.shape[1], self.tops[-1] + self.height, self.lefts[-1] + self.width)
        rows = _windows(self.tops, self.height, self.fade, first)
        columns = _windows(self.lefts, self.width, self.fade, first)
        corners = product(zip(self.tops, rows, strict=True), zip(self.lefts, columns, strict=True))
        for ((top, down), (left, right)), tile in zip(corners, tiles, strict=True):
            part = plane[..., top : top + self.height, left : left + self.width]
            part += tile * (down[:, None] * right)
        return plane


def _peek(tiles: Iterable[torch.Tensor]) -> tuple[torch.Tensor, Iterable[torch.Tensor]]:
    """The first tile, and all of them."""
    rest = iter(tiles)
    first = next(rest)
    return first, chain([first], rest)


def _windows(starts: Sequence[int], size: int, fade: int, like: torch.Tensor) -> list[torch.Tensor]:
    """Weight of every tile along one axis; all weights of a pixel add up to 1.

    Two neighbours cross-fade in the middle of what they share. The rest, where a tile sees least
    beyond its border, counts for nothing.
    """
    positions = torch.arange(size, device=like.device, dtype=like.dtype) + 0.5
    windows = [torch.ones_like(positions) for _ in starts]
    for i, (start, following) in enumerate(pairwise(starts)):
        seam = (start + size + following) / 2
        width = max(min(fade, start + size - following), 1)  # 1: a hard cut between two pixels
        windows[i] *= (0.5 - (positions + start - seam) / width).clamp(0, 1)
        windows[i + 1] *= (0.5 + (positions + following - seam) / width).clamp(0, 1)
    return windows


def plan_tiles(height: int, width: int, tile_size: int, overlap: int) -> TilePlan:
    """The fewest tiles of at most `tile_size` that cover a plane, made no larger than needed.

    Args:
        height: Height of the plane.
        width: Width of the plane.
        tile_size: Largest side of a tile, a multiple of `TILE_GRID`. A side that fits stays whole.
        overlap: Pixels that neighbours share at least, a multiple of `TILE_GRID`, at most half a tile.
    """
    tops, tile_height = _axis(height, tile_size, overlap)
    lefts, tile_width = _axis(width, tile_size, overlap)
    return TilePlan(tops=tops, lefts=lefts, height=tile_height, width=tile_width)


def _axis(size: int, tile_size: int, overlap: int) -> tuple[tuple[int, ...], int]:
    """Origins and length of the tiles along one axis."""
    padded = _round_up(size)
    if padded <= tile_size:
        return (0,), padded
    count = -(-(padded - overlap) // (tile_size - overlap))
    length = _round_up(-(-(padded + (count - 1) * overlap) // count))
    last = padded - length
    # Rounded down to the grid, neighbours still share `overlap`, a multiple of the grid itself.
    return tuple(last * i // (count - 1) // TILE_GRID * TILE_GRID for i in range(count)), length


def _round_up(size: int) -> int:
    return -(-size // TILE_GRID) * TILE_GRID
