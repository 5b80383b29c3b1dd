"""Banded deformable convolution in Triton: sampled in registers, multiplied on the tensor cores.

A program takes `POINTS` output pixels. For each tap it computes where they read, from their four
numbers and always in float32, reads four pixels channels-last, and multiplies what lies between them
with that tap's part of the weight. So neither offsets nor samples ever reach memory. Block sizes follow
from the channel counts alone and aren't tuned on the device: another choice would round differently,
and a frame's result may not depend on when it was asked for.

Products of float32 are made as three of tf32 (`tf32x3`): one alone keeps 10 bits of each factor.
"""

from typing import Any

import torch
import triton

from . import naive
from .geometry import Geometry
from .triton_kernels import backward_samples, backward_weight, forward

__all__ = ["banded_deform_conv2d", "convolve", "weight_matrix"]

POINTS = 64
"""Output pixels a program."""
LAUNCH = {"num_warps": 4, "num_stages": 1}
"""One stage, as what is read is computed with before it's multiplied: there is nothing to copy ahead."""
WIDE_LAUNCH = {"num_warps": 8, "num_stages": 1}
"""For samples and their gradients at once, which don't fit into the registers of fewer threads."""
SPLITS = 64
"""Most parts that the pixels are divided into for the gradient of the weight."""


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
    """Sample and multiply in one kernel; arguments as in `naive`, in float32, float16 or bfloat16.

    `groups` must be 1: a group's few channels would leave most of a matrix product's least size empty.
    """
    if 0 in input.shape or 0 in weight.shape:  # nothing to sample: only the shape and the graph matter
        return naive.banded_deform_conv2d(input, rotation, stretch, rescale, weight, bias, geometry, groups)
    grid = torch.cat([rotation, stretch, torch.ones_like(stretch) if rescale is None else rescale], 1)
    return _SampleAndMultiply.apply(input, grid.float(), weight, bias, geometry)


def weight_matrix(weight: torch.Tensor) -> torch.Tensor:
    """The weight (Cout, Cin, kh, kw) as the kernels read it, (kh * kw, Cin, Cout)."""
    return weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[1], weight.shape[0])


def convolve(
    input: torch.Tensor,
    grid: torch.Tensor,
    matrix: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
) -> torch.Tensor:
    """The convolution itself, in the kernel's layout.

    Args:
        input: (N, H, W, Cin), contiguous.
        grid: sin, cos, stretch and rescale, float32 (N, 4, Hout, Wout), contiguous.
        matrix: `weight_matrix` of the weight, in the input's dtype, contiguous.
        bias: (Cout,), contiguous, or `None`.
        geometry: The regular grid.

    Returns:
        (N, Hout, Wout, Cout), in the input's dtype.
    """
    n, _, rows, columns = grid.shape
    output = input.new_empty(n, rows, columns, matrix.shape[2])
    block_out = _block(output.shape[3], 128)
    blocks = triton.cdiv(rows * columns, POINTS), n, triton.cdiv(output.shape[3], block_out)
    with torch.cuda.device_of(input):
        forward[blocks](
            *(input, grid, matrix, matrix if bias is None else bias, output),
            *(input.shape[1], input.shape[2], rows, columns),
            **_constants(geometry, matrix),
            BLOCK_OUT=block_out,
            BIASED=bias is not None,
            **LAUNCH,
        )
    return output


class _SampleAndMultiply(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        grid: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: Geometry,
    ) -> torch.Tensor:
        channels_last = input.permute(0, 2, 3, 1).contiguous()
        grid = grid.contiguous()
        ctx.save_for_backward(channels_last, grid, weight)
        ctx.geometry = geometry
        matrix = weight_matrix(weight).contiguous()
        bias = None if bias is None else bias.contiguous()
        return convolve(channels_last, grid, matrix, bias, geometry).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, grid, weight = ctx.saved_tensors
        grad = grad_output.permute(0, 2, 3, 1).contiguous()  # (N, Hout, Wout, Cout)
        for_input, for_grid, for_weight, for_bias, _ = ctx.needs_input_grad
        grad_input = grad_grid = grad_weight = grad_bias = None
        with torch.cuda.device_of(input):
            if for_input or for_grid:
                grad_input, grad_grid = _sample_gradients(input, grid, weight, grad, ctx.geometry)
                grad_input = grad_input.permute(0, 3, 1, 2).to(input.dtype)
            if for_weight:
                grad_weight = _weight_gradient(input, grid, weight, grad, ctx.geometry)
        if for_bias:
            grad_bias = grad.sum((0, 1, 2), dtype=torch.float32).to(grad.dtype)
        return grad_input, grad_grid, grad_weight, grad_bias, None


def _sample_gradients(
    input: torch.Tensor, grid: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, geometry: Geometry
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the input (N, H, W, Cin) and of the grid (N, 4, Hout, Wout), both float32."""
    matrix = weight_matrix(weight).contiguous()
    grad_input = torch.zeros_like(input, dtype=torch.float32)
    grad_grid = torch.empty_like(grid)
    n, _, rows, columns = grid.shape
    backward_samples[triton.cdiv(rows * columns, POINTS), n](
        *(input, grid, matrix, grad, grad_input, grad_grid),
        *(input.shape[1], input.shape[2], rows, columns),
        **_constants(geometry, matrix),
        BLOCK_OUT=_block(grad.shape[3], 64),
        **WIDE_LAUNCH,
    )
    return grad_input, grad_grid


def _weight_gradient(
    input: torch.Tensor, grid: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, geometry: Geometry
) -> torch.Tensor:
    """Gradient of the weight: sums over parts of the pixels, added up in an order that is always the same."""
    n, _, rows, columns = grid.shape
    matrix = weight_matrix(weight)
    taps, channels, channels_out = matrix.shape
    constants = _constants(geometry, matrix)
    block_out = _block(channels_out, 64)
    pixel_blocks = triton.cdiv(n * rows * columns, POINTS)
    splits = min(pixel_blocks, SPLITS)
    partial = grad.new_empty(splits, taps, channels, channels_out, dtype=torch.float32)
    per_tap = triton.cdiv(channels, constants["BLOCK_IN"])
    backward_weight[splits, taps * per_tap, triton.cdiv(channels_out, block_out)](
        *(input, grid, grad, partial),
        *(n, input.shape[1], input.shape[2], rows, columns, triton.cdiv(pixel_blocks, splits)),
        **constants,
        BLOCK_OUT=block_out,
        **LAUNCH,
    )
    kh, kw = geometry.kernel
    return partial.sum(0).view(kh, kw, channels, channels_out).permute(3, 2, 0, 1).to(weight.dtype)


def _block(channels: int, most: int) -> int:
    """Channels a program takes at once: a power of 2, at least the 16 that a matrix product needs."""
    return min(max(triton.next_power_of_2(channels), 16), most)


def _constants(geometry: Geometry, matrix: torch.Tensor) -> dict[str, Any]:
    """What a kernel is compiled for: the regular grid, the channels, and the blocks these come in."""
    _, channels, channels_out = matrix.shape
    (origin_y, origin_x), (kernel_y, kernel_x) = geometry.origin, geometry.kernel
    return {
        "KERNEL_Y": kernel_y,
        "KERNEL_X": kernel_x,
        "STRIDE_Y": geometry.stride[0],
        "STRIDE_X": geometry.stride[1],
        "DILATION_Y": geometry.dilation[0],
        "DILATION_X": geometry.dilation[1],
        # Apart from the whole pixels: added up in float32, a position far from 0 would lose bits of it.
        "FIRST_Y": int(origin_y // 1),
        "FIRST_X": int(origin_x // 1),
        "REST_Y": origin_y % 1,
        "REST_X": origin_x % 1,
        "CHANNELS": channels,
        "CHANNELS_OUT": channels_out,
        "POINTS": POINTS,
        "BLOCK_IN": _block(channels, 32),
        "PRECISION": "tf32x3" if matrix.dtype == torch.float32 else "ieee",  # ignored for halves
    }
