"""Banded deformable convolution on a CPU: numba samples, torch's own convolution multiplies.

The samples of a block of output lines are laid out as a picture kernel times as large, which an
ordinary convolution whose stride is its kernel turns into the output. Channels-last: the C values at a
sampling point are then one contiguous run, so a position is computed once for all channels and the
four bilinear reads stream. Blocks are divided among worker threads; a block's samples stay in its
core's cache between sampling and product.
"""

from functools import cache, partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ...parallel import in_parallel, on_workers, scratch, strips, worker_count
from . import naive
from .geometry import Geometry
from .sampling import MARGIN, as_array, frame, sample, scatter

__all__ = ["banded_deform_conv2d", "sample_lines"]

KEPT_BYTES = 2**26
"""What all workers may keep of an input or grid for the next call: fresh memory costs as much as its use."""
BLOCK_BYTES = 2**22
"""Samples a worker holds at once: more than that leave a core's share of cache, fewer cost more calls."""


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
    """Sample and multiply block by block; arguments as in `naive`."""
    if 0 in input.shape or 0 in weight.shape:  # nothing to sample: only the shape and the graph matter
        return naive.banded_deform_conv2d(input, rotation, stretch, rescale, weight, bias, geometry, groups)
    output = _SampleAndMultiply.apply(input, rotation, stretch, rescale, weight, geometry, groups)
    return output if bias is None else output + bias.view(1, -1, 1, 1)


class _SampleAndMultiply(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        rotation: torch.Tensor,
        stretch: torch.Tensor,
        rescale: torch.Tensor | None,
        weight: torch.Tensor,
        geometry: Geometry,
        groups: int,
    ) -> torch.Tensor:
        tensors = input, rotation, stretch, rescale, weight
        ctx.save_for_backward(*tensors)
        ctx.geometry, ctx.groups = geometry, groups
        detached = (None if t is None else t.detach() for t in tensors)
        return on_workers(partial(_convolve, *detached, geometry, groups))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        detached = [None if t is None else t.detach() for t in ctx.saved_tensors]
        with torch.autocast("cpu", enabled=False):  # it may be on where the gradient is asked for
            gradients = partial(_gradients, *detached, grad_output, ctx.geometry, ctx.groups)
            grad_input, grad_grid, grad_weight = on_workers(gradients)
        rescale = None if detached[3] is None else grad_grid[:, 3:]
        return grad_input, grad_grid[:, :2], grad_grid[:, 2:3], rescale, grad_weight, None, None


def _convolve(
    input: torch.Tensor,
    rotation: torch.Tensor,
    stretch: torch.Tensor,
    rescale: torch.Tensor | None,
    weight: torch.Tensor,
    geometry: Geometry,
    groups: int,
) -> torch.Tensor:
    """The output, (N, Cout, Hout, Wout) in channels-last order."""
    framed, grid = _in_frame(input), _as_grid(rotation, stretch, rescale)
    n, _, height, width = grid.shape
    weight = weight.contiguous(memory_format=torch.channels_last)
    output = input.new_empty(n, height, width, weight.shape[0]).permute(0, 3, 1, 2)

    def work(block: tuple[int, slice]) -> None:
        i, lines = block
        samples = sample_lines(framed[i], grid[i, :, lines], geometry, lines.start)
        output[i, :, lines] = F.conv2d(samples, weight, stride=geometry.kernel, groups=groups)[0]

    in_parallel(work, [(i, lines) for i in range(n) for lines in _blocks(framed, grid, geometry)])
    return output


def _gradients(
    input: torch.Tensor,
    rotation: torch.Tensor,
    stretch: torch.Tensor,
    rescale: torch.Tensor | None,
    weight: torch.Tensor,
    grad_output: torch.Tensor,
    geometry: Geometry,
    groups: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of input, grid (N, 4, Hout, Wout) and weight."""
    framed, grid = _in_frame(input), _as_grid(rotation, stretch, rescale)
    weight = weight.contiguous(memory_format=torch.channels_last)
    grad_framed, grad_grid = torch.zeros_like(framed), torch.empty_like(grid)
    blocks = _blocks(framed, grid, geometry)

    def work(i: int) -> torch.Tensor:  # whole pictures: lines of one write to the same pixels
        grad_weight = torch.zeros_like(weight)
        for lines in blocks:
            grad_samples, grad_block, _ = torch.ops.aten.convolution_backward(
                grad_output[i : i + 1, :, lines],
                sample_lines(framed[i], grid[i, :, lines], geometry, lines.start),
                weight,
                None,
                geometry.kernel,
                (0, 0),
                (1, 1),
                False,
                (0, 0),
                groups,
                (True, True, False),
            )
            grad_weight += grad_block
            scatter(
                as_array(framed[i]),
                grid[i, :, lines].numpy(),
                *_taps(geometry, grid.dtype),
                lines.start,
                _as_block(grad_samples, geometry).numpy(),
                grad_framed[i].numpy(),
                grad_grid[i, :, lines].numpy(),
            )
        return grad_weight

    grad_weight = torch.stack(in_parallel(work, range(len(input)))).sum(0)
    inner = grad_framed[:, MARGIN:-MARGIN, MARGIN:-MARGIN].permute(0, 3, 1, 2)
    return inner, grad_grid, grad_weight


def sample_lines(
    framed: torch.Tensor, grid: torch.Tensor, geometry: Geometry, first_line: int
) -> torch.Tensor:
    """What a kernel reads at some lines of its output, to be convolved with a stride of the kernel's size.

    Args:
        framed: (H + 2 * MARGIN, W + 2 * MARGIN, C), contiguous, its margin zero; float or bfloat16.
        grid: Those lines' sin, cos, stretch and rescale, (4, lines, Wout), float.
        geometry: Of the convolution.
        first_line: The first one's number.

    Returns:
        (1, C, lines * kh, Wout * kw) in channels-last order; this thread's scratch memory, valid until
        the next call.
    """
    kh, kw = geometry.kernel
    _, lines, width = grid.shape
    samples = scratch("samples", (lines, kh, width, kw, framed.shape[2]), framed.dtype)
    sample(as_array(framed), grid.numpy(), *_taps(geometry, grid.dtype), first_line, as_array(samples))
    return samples.view(1, lines * kh, width * kw, framed.shape[2]).permute(0, 3, 1, 2)


def _as_block(samples: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Samples, as `sample_lines` returned them, as (lines, kh, Wout, kw, C)."""
    kh, kw = geometry.kernel
    _, channels, height, width = samples.shape
    return samples.permute(0, 2, 3, 1).contiguous().view(height // kh, kh, width // kw, kw, channels)


@cache
def _taps(geometry: Geometry, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base points dy and dx of the taps, and (origin, stride), as the loops take them."""
    dy, dx = geometry.taps(torch.empty(0, dtype=dtype))
    return dy.numpy(), dx.numpy(), np.array([*geometry.origin, *geometry.stride], np.float64)


def _blocks(framed: torch.Tensor, grid: torch.Tensor, geometry: Geometry) -> list[slice]:
    """A picture's output lines, cut into slices whose samples take about `BLOCK_BYTES`."""
    taps = geometry.kernel[0] * geometry.kernel[1]
    line_bytes = grid.shape[3] * taps * framed.shape[3] * framed.element_size()
    return strips(grid.shape[2], max(1, BLOCK_BYTES // line_bytes))


def _as_grid(rotation: torch.Tensor, stretch: torch.Tensor, rescale: torch.Tensor | None) -> torch.Tensor:
    """The four numbers of every output pixel, (N, 4, Hout, Wout)."""
    n, _, height, width = rotation.shape
    grid = _memory("grid", (n, 4, height, width), rotation)
    grid[:, :2], grid[:, 2:3] = rotation, stretch
    grid[:, 3:] = 1 if rescale is None else rescale
    return grid


def _memory(name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Room in this thread's scratch memory, unless it's too large to be kept."""
    small = prod(shape) * like.element_size() * worker_count() <= KEPT_BYTES
    return scratch(name, shape, like.dtype) if small else like.new_empty(shape)


def _in_frame(input: torch.Tensor) -> torch.Tensor:
    """`input` (N, C, H, W) as (N, H, W, C) in a frame of `MARGIN` zeros."""
    n, channels, height, width = input.shape
    framed = _memory("framed", (n, height + 2 * MARGIN, width + 2 * MARGIN, channels), input)
    framed[:, :MARGIN] = framed[:, -MARGIN:] = 0
    pictures, arrays = input.numpy(), framed.numpy()

    def copy(strip: tuple[int, slice]) -> None:
        picture, lines = strip
        frame(pictures[picture], lines.start, lines.stop, arrays[picture])

    in_parallel(copy, [(i, lines) for i in range(n) for lines in strips(height, 32)])
    return framed
