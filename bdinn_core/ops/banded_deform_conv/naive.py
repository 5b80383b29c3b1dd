"""Banded deformable convolution in plain PyTorch: slow, differentiable, the ground truth."""

import torch

from .geometry import Geometry

__all__ = ["banded_deform_conv2d", "sampling_positions"]


def sampling_positions(
    rotation: torch.Tensor, stretch: torch.Tensor, rescale: torch.Tensor | None, geometry: Geometry
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input coordinates (y, x) that every tap reads, each (N, K, Hout, Wout).

    A tap with base point (dy, dx) reads at `[[cos, sin], [-sin, cos]] @ (stretch * dy, dx) * rescale`
    from the centre of its output pixel.
    """
    sin, cos = rotation[:, :1], rotation[:, 1:]  # (N, 1, Hout, Wout)
    dy, dx = (t.view(1, -1, 1, 1) for t in geometry.taps(rotation))
    along, across = stretch * dy, dx
    if rescale is not None:
        along, across = rescale * along, rescale * across
    rows = torch.arange(rotation.shape[2], dtype=rotation.dtype, device=rotation.device)
    columns = torch.arange(rotation.shape[3], dtype=rotation.dtype, device=rotation.device)
    (y0, x0), (sy, sx) = geometry.origin, geometry.stride
    y = (rows * sy + y0).view(1, 1, -1, 1) + cos * along + sin * across
    x = (columns * sx + x0).view(1, 1, 1, -1) - sin * along + cos * across
    return y, x


def _sample_bilinear(input: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values of `input` (N, C, H, W) at (y, x), each (N, P), as (N, C, P); zero outside."""
    n, channels, height, width = input.shape
    flat = input.reshape(n, channels, height * width)
    top, left = y.detach().floor(), x.detach().floor()
    total = input.new_zeros(n, channels, y.shape[1])
    for row, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, column_weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            value = flat.gather(2, index.unsqueeze(1).expand(-1, channels, -1))
            total = total + value * (row_weight * column_weight * inside).unsqueeze(1)
    return total


def banded_deform_conv2d(
    input: torch.Tensor,
    rotation: torch.Tensor,
    stretch: torch.Tensor,
    rescale: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    groups: int,
) -> torch.Tensor:
    """Sample, then multiply; arguments as in `bdinn_core.banded_deform_conv2d`."""
    y, x = sampling_positions(rotation, stretch, rescale, geometry)
    n, taps, height, width = y.shape
    sampled = _sample_bilinear(input, y.flatten(1), x.flatten(1))  # (N, C, K * Hout * Wout)
    columns = sampled.view(n, groups, -1, taps, height * width)
    kernels = weight.view(groups, weight.shape[0] // groups, weight.shape[1], taps)
    output = torch.einsum("ngckp,gock->ngop", columns, kernels).reshape(n, -1, height, width)
    return output if bias is None else output + bias.view(1, -1, 1, 1)
