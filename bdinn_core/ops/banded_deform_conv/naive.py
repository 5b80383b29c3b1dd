"""Banded deformable convolution in plain PyTorch: slow, differentiable, the ground truth."""

import torch

from .geometry import Geometry

__all__ = ["banded_deform_conv2d", "sampling_offsets"]


def sampling_offsets(
    rotation: torch.Tensor, stretch: torch.Tensor, rescale: torch.Tensor | None, geometry: Geometry
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where every tap reads, as (y, x) from the kernel's centre, each (N, K, Hout, Wout).

    A tap with base point (dy, dx) reads at `[[cos, sin], [-sin, cos]] @ (stretch * dy, dx) * rescale`.
    """
    sin, cos = rotation[:, :1], rotation[:, 1:]  # (N, 1, Hout, Wout)
    dy, dx = (t.view(1, -1, 1, 1) for t in geometry.taps(rotation))
    along, across = stretch * dy, dx
    if rescale is not None:
        along, across = rescale * along, rescale * across
    return cos * along + sin * across, cos * across - sin * along


def _whole_and_fraction(
    offset: torch.Tensor, first: float, stride: int, axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel before a position along one axis of the picture, and the way to the next.

    Kept apart: added up in float32, a position far from 0 would lose bits of its fraction.
    """
    offset = offset + first % 1
    whole = offset.detach().floor()
    steps = torch.arange(offset.shape[axis], dtype=offset.dtype, device=offset.device) * stride + first // 1
    return whole + steps.view(-1, *[1] * (3 - axis)), offset - whole


def _sample_bilinear(
    input: torch.Tensor, top: torch.Tensor, left: torch.Tensor, down: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """Values of `input` (N, C, H, W) between four pixels, as (N, C, P); zero outside.

    The upper left pixels (top, left) and the fractions (down, right) to the others are each (N, P).
    """
    n, channels, height, width = input.shape
    flat = input.reshape(n, channels, height * width)
    total = input.new_zeros(n, channels, top.shape[1])
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
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
    y, x = sampling_offsets(rotation, stretch, rescale, geometry)
    top, down = _whole_and_fraction(y, geometry.origin[0], geometry.stride[0], 2)
    left, right = _whole_and_fraction(x, geometry.origin[1], geometry.stride[1], 3)
    sampled = _sample_bilinear(input, *(t.flatten(1) for t in (top, left, down, right)))
    n, taps, height, width = y.shape
    per_group = input.shape[1] // groups
    columns = sampled.view(n, groups, per_group, taps, height * width)
    kernels = weight.reshape(groups, weight.shape[0] // groups, per_group, taps)
    output = torch.einsum("ngckp,gock->ngop", columns, kernels).reshape(n, weight.shape[0], height, width)
    return output if bias is None else output + bias.view(1, -1, 1, 1)
