"""Banded deformable convolution on a CPU: numba samples, BLAS multiplies.

Channels-last: the C values at a sampling point are then one contiguous run, so a position is
computed once for all channels and the four bilinear reads stream. Output lines are divided among
worker threads once a call; each worker goes through its share in blocks whose samples stay in its
cache, sampling a block with a kernel that releases the GIL and multiplying it by one
single-threaded matrix product. Two tried alternatives cost more: numba's parallel layers may not be
entered by two threads at once (two video streams would), and alternating between workers that
sample and torch's own threads that multiply makes the two pools wait for each other.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from threading import Barrier, Lock
from typing import Any

import numpy as np
import torch

from ...jit import jit
from . import naive
from .geometry import Geometry

__all__ = ["banded_deform_conv2d", "start_workers"]

BLOCK_BYTES = 2**20
"""Samples a worker holds at once: what a core's own cache keeps between sampling and product."""

fast_jit = partial(jit, fastmath=True)


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
    grid = torch.cat([rotation, stretch, torch.ones_like(stretch) if rescale is None else rescale], 1)
    output = _SampleAndMultiply.apply(input, grid, weight, geometry, groups)
    return output if bias is None else output + bias.view(1, -1, 1, 1)


class _SampleAndMultiply(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        grid: torch.Tensor,
        weight: torch.Tensor,
        geometry: Geometry,
        groups: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(input, grid, weight)
        ctx.geometry, ctx.groups = geometry, groups
        job = _Job(input, grid, weight, geometry, groups)
        n, _, height, width = job.grid.shape
        output = input.new_empty(n * height, width, weight.shape[0])

        def work(part: slice) -> None:
            blocks = job.blocks(part)
            buffer = job.buffer(blocks)
            for lines in blocks:
                into = output[lines].view(-1, groups, weight.shape[0] // groups)
                for group, columns in enumerate(job.sample(lines, buffer)):
                    torch.mm(columns, job.matrix[group], out=into[:, group])

        _in_parallel(work, n * height)
        return output.view(n, height, width, -1).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):  # it may be on where the gradient is asked for
            return _SampleAndMultiply._gradients(ctx, grad_output)

    @staticmethod
    def _gradients(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, grid, weight = ctx.saved_tensors
        job = _Job(input, grid, weight, ctx.geometry, ctx.groups)
        n, _, height, width = job.grid.shape
        grad_lines = grad_output.permute(0, 2, 3, 1).reshape(n * height, width, -1)
        grad_input, grad_grid = torch.zeros_like(job.input), torch.empty_like(job.grid)

        def work(pictures: slice) -> torch.Tensor:  # whole pictures: lines of one write to the same pixels
            grad_matrix = torch.zeros_like(job.matrix)
            blocks = job.blocks(slice(pictures.start * height, pictures.stop * height))
            buffer = job.buffer(blocks)
            for lines in blocks:
                grad = grad_lines[lines].reshape(-1, ctx.groups, job.matrix.shape[2]).transpose(0, 1)
                grad_matrix += job.sample(lines, buffer).transpose(1, 2) @ grad
                job.scatter(lines, grad @ job.matrix.transpose(1, 2), grad_input, grad_grid)
            return grad_matrix

        grad_matrix = torch.stack(_in_parallel(work, n)).sum(0)
        grad_weight = grad_matrix.view(ctx.groups, *weight.shape[2:], weight.shape[1], -1).permute(
            0, 4, 3, 1, 2
        )
        return grad_input.permute(0, 3, 1, 2), grad_grid, grad_weight.reshape(weight.shape), None, None


class _Job:
    """The tensors of one call in the kernels' layout. Output lines count on through all pictures."""

    def __init__(
        self, input: torch.Tensor, grid: torch.Tensor, weight: torch.Tensor, geometry: Geometry, groups: int
    ) -> None:
        channels_last = input.detach().contiguous(memory_format=torch.channels_last)
        self.input = channels_last.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C)
        self.grid = grid.detach().contiguous()  # (N, 4, Hout, Wout)
        self.groups = groups
        cout, channels, kh, kw = weight.shape
        self.taps = kh * kw
        self.matrix = (  # (groups, K * C / groups, Cout / groups)
            weight.detach()
            .reshape(groups, cout // groups, channels, self.taps)
            .permute(0, 3, 2, 1)
            .reshape(groups, self.taps * channels, cout // groups)
        )
        dy, dx = geometry.taps(grid)
        regular = np.array([*geometry.origin, *geometry.stride], np.float64)
        self._arrays = self.input.numpy(), self.grid.numpy(), dy.numpy(), dx.numpy(), regular

    def blocks(self, part: slice) -> list[slice]:
        """`part` cut into slices of lines whose samples take about `BLOCK_BYTES`."""
        line_bytes = self.grid.shape[3] * self.taps * self.input.shape[3] * self.input.element_size()
        size = max(1, BLOCK_BYTES // line_bytes)
        return [slice(start, min(start + size, part.stop)) for start in range(part.start, part.stop, size)]

    def buffer(self, blocks: Sequence[slice]) -> torch.Tensor:
        """Room for the samples of one block at a time, (lines, Wout, K, C)."""
        lines = blocks[0].stop - blocks[0].start
        return self.input.new_empty(lines, self.grid.shape[3], self.taps, self.input.shape[3])

    def sample(self, lines: slice, buffer: torch.Tensor) -> torch.Tensor:
        """Samples of a block of output lines as (groups, points, K * C / groups), in `buffer` if they can."""
        columns = buffer[: lines.stop - lines.start]
        _sample(*self._arrays, lines.start, columns.numpy())
        # (points, K, groups, C / groups): for one group this only renames the dimensions
        by_group = columns.view(-1, self.taps, self.groups, columns.shape[3] // self.groups).permute(
            2, 0, 1, 3
        )
        return by_group.reshape(self.groups, by_group.shape[1], -1)

    def scatter(
        self, lines: slice, grad_columns: torch.Tensor, grad_input: torch.Tensor, grad_grid: torch.Tensor
    ) -> None:
        """Add a block's gradient to `grad_input` and write its lines of `grad_grid`."""
        by_group = grad_columns.view(self.groups, grad_columns.shape[1], self.taps, -1).permute(1, 2, 0, 3)
        grad = by_group.reshape(lines.stop - lines.start, self.grid.shape[3], self.taps, -1).numpy()
        _scatter(*self._arrays, lines.start, grad, grad_input.numpy(), grad_grid.numpy())


def start_workers() -> None:
    """Starts the worker threads now.

    A thread whose first use of torch falls into their start keeps one thread for its convolutions,
    which then round a little differently. So whoever works from several threads starts these first.
    """
    _in_parallel(lambda _: None, torch.get_num_threads())


def _in_parallel[T](work: Callable[[slice], T], count: int) -> list[T]:
    """Results of `work` on slices of 0..count, one slice for each thread that torch may use."""
    with _pool_lock:
        threads = min(torch.get_num_threads(), count)
        workers = _workers(os.getpid()) if threads > 1 else None
    if workers is None:
        return [work(slice(0, count))]
    inference = torch.is_inference_mode_enabled()  # a property of threads; tensors of one can't mix

    def in_mode(part: slice) -> T:
        with torch.inference_mode(inference):
            return work(part)

    bounds = [count * i // threads for i in range(threads + 1)]
    return list(workers.map(in_mode, (slice(a, b) for a, b in pairwise(bounds))))


_pool_lock = Lock()
"""While the pool starts, new threads would take over its setting of one thread."""


@cache
def _workers(process_id: int) -> ThreadPoolExecutor:
    """One thread a core, whose own products stay single-threaded; made anew after a fork."""
    count = os.cpu_count() or 1
    everyone = Barrier(count)

    def start(_: int) -> None:
        torch.set_num_threads(1)  # of this thread, but also the default of threads to come
        torch.get_num_threads()  # or the thread would take over the default at its first product
        everyone.wait()  # so that each thread starts once

    threads = torch.get_num_threads()
    workers = ThreadPoolExecutor(count, thread_name_prefix="bdinn-bdc")
    list(workers.map(start, range(count)))
    torch.set_num_threads(threads)  # the default again
    return workers


@fast_jit
def _positions(grid, dy, dx, regular, row, size, whole, fraction):
    """Where the taps of one output line read: grid (4, Wout) of sin, cos, stretch, rescale.

    Fills whole (3, K, Wout) with row and column of the upper left of the four pixels, and with its
    index in a picture of `size`, moved to where all four are inside; fraction (2, K, Wout) with the way
    down and right to the others. Whole and fraction are kept apart: added up in float32, a position
    loses bits. A loop of its own, since it vectorises over columns.
    """
    height, width = np.int32(size[0]), np.int32(size[1])
    none, last_row, last_column = np.int32(0), height - np.int32(2), width - np.int32(2)
    real = grid.dtype.type
    base_y, base_x = np.floor(regular[0]), np.floor(regular[1])
    rest_y, rest_x = real(regular[0] - base_y), real(regular[1] - base_x)
    first_row, first_column = np.int32(base_y + row * regular[2]), np.int32(base_x)
    step = np.int32(regular[3])
    # Per column, what one step down and one step right in the kernel's grid move the position by.
    turned = np.empty((4, grid.shape[1]), grid.dtype)
    down_y, down_x, right_y, right_x = turned[0], turned[1], turned[2], turned[3]
    for column in range(grid.shape[1]):
        sin, cos, rescale = grid[0, column], grid[1, column], grid[3, column]
        stretched = rescale * grid[2, column]
        down_y[column], down_x[column] = cos * stretched, -sin * stretched
        right_y[column], right_x[column] = sin * rescale, cos * rescale
    for tap in range(dy.size):
        top, left, start = whole[0, tap], whole[1, tap], whole[2, tap]
        down, right = fraction[0, tap], fraction[1, tap]
        for column in range(grid.shape[1]):
            y = rest_y + down_y[column] * dy[tap] + right_y[column] * dx[tap]
            x = rest_x + down_x[column] * dy[tap] + right_x[column] * dx[tap]
            whole_y, whole_x = np.floor(y), np.floor(x)
            r = first_row + np.int32(whole_y)
            q = first_column + np.int32(column) * step + np.int32(whole_x)
            top[column], left[column] = r, q
            start[column] = min(max(r, none), last_row) * width + min(max(q, none), last_column)
            down[column], right[column] = y - whole_y, x - whole_x


@fast_jit
def _sample(inputs, grids, dy, dx, regular, first_line, out):
    """Read inputs (N, H, W, C) at the taps of some lines of grids (N, 4, Hout, Wout).

    Fills out (lines, Wout, K, C), whose line 0 is `first_line` counted through all pictures.
    """
    _, height, width, _ = inputs.shape
    lines, columns, taps, _ = out.shape
    whole, fraction = np.empty((3, taps, columns), np.int32), np.empty((2, taps, columns), inputs.dtype)
    for line in range(lines):
        picture, row = divmod(first_line + line, grids.shape[2])
        _positions(grids[picture, :, row], dy, dx, regular, row, (height, width), whole, fraction)
        input = inputs[picture]
        if height > 1 and width > 1:
            _sample_inside(input, whole, fraction, out[line])
        _sample_border(input, whole, fraction, out[line])


@fast_jit
def _sample_inside(input, whole, fraction, out):
    """Samples of one line, right where all four pixels are inside: a loop without a branch."""
    _, width, channels = input.shape
    columns, taps, _ = out.shape
    one = input.dtype.type(1)  # numba makes int - float32 a float64
    flat = input.reshape(-1)
    for column in range(columns):
        for tap in range(taps):
            start = np.int64(whole[2, tap, column]) * channels
            fy, fx = fraction[0, tap, column], fraction[1, tap, column]
            w11 = fy * fx
            w10, w01 = fy - w11, fx - w11
            w00 = one - fy - w01
            top = flat[start : start + 2 * channels]
            bottom = flat[start + width * channels : start + (width + 2) * channels]
            target = out[column, tap]
            for i in range(channels):
                target[i] = (
                    w00 * top[i] + w01 * top[channels + i] + w10 * bottom[i] + w11 * bottom[channels + i]
                )


@fast_jit
def _sample_border(input, whole, fraction, out):
    """The samples of one line again where a pixel is outside, and counts as zero."""
    height, width, channels = input.shape
    columns, taps, _ = out.shape
    one = input.dtype.type(1)
    inner_height, inner_width = np.uint32(height - 1), np.uint32(width - 1)
    for tap in range(taps):
        rows, places = whole[0, tap], whole[1, tap]
        for column in range(columns):
            # One comparison a coordinate: as unsigned numbers, negative ones are large.
            if np.uint32(rows[column]) < inner_height and np.uint32(places[column]) < inner_width:
                continue
            top, left = np.int64(rows[column]), np.int64(places[column])
            fy, fx = fraction[0, tap, column], fraction[1, tap, column]
            target = out[column, tap]
            target[:] = 0
            for r, wy in ((top, one - fy), (top + 1, fy)):
                for q, wx in ((left, one - fx), (left + 1, fx)):
                    if 0 <= r < height and 0 <= q < width:
                        for i in range(channels):
                            target[i] += wy * wx * input[r, q, i]


@fast_jit
def _scatter(inputs, grids, dy, dx, regular, first_line, grad, grad_inputs, grad_grids):
    """Backward of `_sample`: adds grad (lines, Wout, K, C) to grad_inputs, writes into grad_grids."""
    _, height, width, channels = inputs.shape
    lines, columns, taps, _ = grad.shape
    whole, fraction = np.empty((3, taps, columns), np.int32), np.empty((2, taps, columns), inputs.dtype)
    one = inputs.dtype.type(1)  # numba makes int - float32 a float64
    for line in range(lines):
        picture, row = divmod(first_line + line, grids.shape[2])
        grid, grad_grid = grids[picture, :, row], grad_grids[picture, :, row]
        _positions(grid, dy, dx, regular, row, (height, width), whole, fraction)
        for column in range(columns):
            sin, cos, stretch, rescale = grid[0, column], grid[1, column], grid[2, column], grid[3, column]
            d_sin = d_cos = d_stretch = d_rescale = one - one
            for tap in range(taps):
                fy, fx = fraction[0, tap, column], fraction[1, tap, column]
                source = grad[line, column, tap]
                d_y = d_x = one - one
                for below, wy in enumerate((one - fy, fy)):
                    for beside, wx in enumerate((one - fx, fx)):
                        r, q = whole[0, tap, column] + below, whole[1, tap, column] + beside
                        if 0 <= r < height and 0 <= q < width:
                            pixel, target = inputs[picture, r, q], grad_inputs[picture, r, q]
                            share, dot = wy * wx, one - one
                            for i in range(channels):
                                target[i] += share * source[i]
                                dot += pixel[i] * source[i]
                            d_y += wx * dot if below else -wx * dot
                            d_x += wy * dot if beside else -wy * dot
                along, across = rescale * stretch * dy[tap], rescale * dx[tap]
                d_sin += d_y * across - d_x * along
                d_cos += d_y * along + d_x * across
                d_along, d_across = d_y * cos - d_x * sin, d_y * sin + d_x * cos
                d_stretch += d_along * rescale * dy[tap]
                d_rescale += d_along * stretch * dy[tap] + d_across * dx[tap]
            grad_grid[0, column], grad_grid[1, column] = d_sin, d_cos
            grad_grid[2, column], grad_grid[3, column] = d_stretch, d_rescale
