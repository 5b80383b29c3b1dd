"""Where a network looks: grids of its banded deformable convolutions, and what one pixel depends on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from bdinn_core import BDINN
from bdinn_core.ops import BandedDeformConv2d
from bdinn_core.ops.banded_deform_conv.naive import sampling_offsets

__all__ = ["Figures", "Layer", "dependence", "measure", "radii", "run"]


class Layer(NamedTuple):
    """A banded deformable convolution of the network, and what it saw when that ran."""

    scale: int
    """Counted from 1 at the finest."""
    number: int
    """Among the layers of its scale, from 1."""
    module: BandedDeformConv2d
    seen: torch.Tensor
    """Its input (1, channels, rows + 2, columns + 2): features with a margin of one."""

    @property
    def pitch(self) -> int:
        """Pixels of the picture from one of this scale to the next."""
        return 2**self.scale

    def grid(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sines and cosines (1, 2, rows, columns), stretch and rescale (1, 1, rows, columns)."""
        with torch.no_grad():
            rotation, stretch, rescale = self.module.predict_grid(self.seen)
        return rotation, stretch, torch.ones_like(stretch) if rescale is None else rescale

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the taps read: y and x in pixels of the picture, each (taps, rows, columns)."""
        y, x = (offsets[0].numpy() for offsets in sampling_offsets(*self.grid(), self.module.geometry))
        rows, columns = np.arange(y.shape[1])[:, None], np.arange(y.shape[2])
        return (y + rows + 0.5) * self.pitch - 0.5, (x + columns + 0.5) * self.pitch - 0.5


class Figures(NamedTuple):
    """What a layer's grids are like over a picture; of several numbers, mean, 5th and 95th percentile."""

    turned: tuple[float, ...]
    """Degrees clockwise, the mean within -90..90: half a turn gives the same positions."""
    stretched: tuple[float, ...]
    grown: tuple[float, ...]
    """The rescale."""
    reach_px: tuple[float, ...]
    """How far the farthest tap lies from the grid's centre, in pixels of the picture."""
    following: float
    """Whether grids turn as the bands do. 1: always by the same angle to them; 0: regardless of them."""
    outside: float
    """Share of the outer taps that read nothing: they lie outside the picture."""


def run(model: BDINN, picture: torch.Tensor) -> tuple[torch.Tensor, list[Layer]]:
    """The result for a picture (1, 1, H, W), and the banded deformable layers, the finest scale first."""
    inputs: dict[BandedDeformConv2d, torch.Tensor] = {}

    def keep(module: BandedDeformConv2d, seen: tuple[torch.Tensor], _: torch.Tensor) -> None:
        inputs[module] = seen[0].detach()

    layers = [
        (scale, number, module)
        for scale, edit in enumerate(model.edits, start=1)
        for number, module in enumerate(edit.hidden, start=1)
        if isinstance(module, BandedDeformConv2d)
    ]
    hooks = [module.register_forward_hook(keep) for *_, module in layers]
    result = model(picture)
    for hook in hooks:
        hook.remove()
    return result, [Layer(*layer, inputs[layer[-1]]) for layer in layers]


def measure(layer: Layer, centre: tuple[int, int], size: tuple[int, int]) -> Figures:
    """The figures of a layer within the largest circle about the centre, which has all directions alike.

    Args:
        layer: As it ran.
        centre: Of the rings in the picture, (y, x).
        size: Of the picture, (height, width).
    """
    y, x = layer.positions()
    rotation, stretch, rescale = (maps[0].numpy() for maps in layer.grid())
    middle = len(y) // 2
    down, right = y[middle] - centre[0], x[middle] - centre[1]
    near = np.hypot(down, right) < min(*centre, size[0] - centre[0], size[1] - centre[1])
    turned, following = turning(rotation[:, near], down[near], right[near])
    height, width = (places * layer.pitch for places in y.shape[1:])
    margin = 1.5 * layer.pitch  # the frame that repeats the border, and half way from that to the zeros
    outside = (np.maximum(-y, y - height) > margin) | (np.maximum(-x, x - width) > margin)
    return Figures(
        turned=spread_of(turned),
        stretched=spread_of(stretch[0, near]),
        grown=spread_of(rescale[0, near]),
        reach_px=spread_of(np.hypot(y - y[middle], x - x[middle]).max(0)[near]),
        following=following,
        outside=float(np.delete(outside, middle, 0)[:, near].mean()),
    )


def turning(rotation: np.ndarray, down: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Degrees by which grids are turned, and how far that follows the rings they stand on, 0..1.

    Args:
        rotation: Sines and cosines (2, n).
        down: From the centre of the rings, (n,).
        right: Likewise.
    """
    # Doubled, angles half a turn apart are one. A grid's rows follow each other along (cos, -sin) in (y, x).
    grids = np.exp(2j * np.arctan2(rotation[0], rotation[1]))
    rings = np.exp(2j * np.arctan2(-right, down))
    mean = np.angle(grids.mean())
    degrees = np.degrees(mean + np.angle(grids * np.exp(-1j * mean))) / 2
    return degrees, float(abs((grids / rings).mean()))


def spread_of(values: np.ndarray) -> tuple[float, ...]:
    """Mean, 5th and 95th percentile."""
    return (float(values.mean()), *(float(p) for p in np.percentile(values, (5, 95))))


def dependence(result: torch.Tensor, picture: torch.Tensor, pixel: tuple[int, int]) -> np.ndarray:
    """By how much one pixel of a result moves with each of the picture, magnitudes (H, W)."""
    (gradient,) = torch.autograd.grad(result[0, 0, pixel[0], pixel[1]], picture)
    return gradient[0, 0].abs().numpy()


def radii(field: np.ndarray, pixel: tuple[int, int], shares: Sequence[float]) -> list[float]:
    """Distances from a pixel within which these shares of a field's sum lie."""
    y, x = np.mgrid[0 : field.shape[0], 0 : field.shape[1]]
    distance = np.hypot(y - pixel[0], x - pixel[1]).ravel()
    order = np.argsort(distance)
    sums = np.cumsum(field.ravel()[order], dtype=float)
    return [float(distance[order[np.searchsorted(sums, share * sums[-1])]]) for share in shares]
