"""The loops of banded deformable convolution on a CPU: bilinear samples, and their gradients.

Inputs lie in a frame of zeros, and positions beyond it are moved into it: what is outside counts as
zero without a branch. Half precision is bfloat16, whose 16 bits are the upper ones of a float32.
"""

import numpy as np
import torch

from ...jit import fast_jit
from ..runs import LANES, blend_run, blend_singly

__all__ = ["MARGIN", "as_array", "frame", "sample", "scatter"]

MARGIN = 2
"""Zeros around an input: the four pixels of a position wholly outside fit into them."""


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's own memory; of bfloat16, which NumPy lacks, its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@fast_jit
def frame(picture, first, end, framed):
    """Lines first..end - 1 of a picture (C, H, W) into framed (H + 2 * MARGIN, W + 2 * MARGIN, C)."""
    channels, _, width = picture.shape
    for line in range(first, end):
        target = framed[line + MARGIN].reshape(-1)
        target[: MARGIN * channels] = 0
        target[(MARGIN + width) * channels :] = 0
        inner = framed[line + MARGIN, MARGIN:]
        for column in range(width):
            for channel in range(channels):
                inner[column, channel] = picture[channel, line, column]


@fast_jit
def _positions(grid, dy, dx, regular, row, size, start, fraction):
    """Where the taps of one output line read: grid (4, Wout) of sin, cos, stretch, rescale.

    Fills start (K, Wout) with the index of the upper left of the four pixels in a framed picture of
    `size`, and fraction (2, K, Wout) with the way down and right to the others. Whole and fraction are
    kept apart: added up in float32, a position loses bits. A loop of its own, since it vectorises over
    columns.
    """
    height, width = np.int32(size[0]), np.int32(size[1])
    none, last_row, last_column = np.int32(0), height - np.int32(2), width - np.int32(2)
    real = grid.dtype.type
    base_y, base_x = np.floor(regular[0]), np.floor(regular[1])
    rest_y, rest_x = real(regular[0] - base_y), real(regular[1] - base_x)
    first_row = np.int32(base_y + row * regular[2]) + np.int32(MARGIN)
    first_column, step = np.int32(base_x) + np.int32(MARGIN), np.int32(regular[3])
    # Per column, what one step down and one step right in the kernel's grid move the position by.
    turned = np.empty((4, grid.shape[1]), grid.dtype)
    down_y, down_x, right_y, right_x = turned[0], turned[1], turned[2], turned[3]
    for column in range(grid.shape[1]):
        sin, cos, rescale = grid[0, column], grid[1, column], grid[3, column]
        stretched = rescale * grid[2, column]
        down_y[column], down_x[column] = cos * stretched, -sin * stretched
        right_y[column], right_x[column] = sin * rescale, cos * rescale
    for tap in range(dy.size):
        begin, down, right = start[tap], fraction[0, tap], fraction[1, tap]
        for column in range(grid.shape[1]):
            y = rest_y + down_y[column] * dy[tap] + right_y[column] * dx[tap]
            x = rest_x + down_x[column] * dy[tap] + right_x[column] * dx[tap]
            whole_y, whole_x = np.floor(y), np.floor(x)
            r = first_row + np.int32(whole_y)
            q = first_column + np.int32(column) * step + np.int32(whole_x)
            begin[column] = min(max(r, none), last_row) * width + min(max(q, none), last_column)
            down[column], right[column] = y - whole_y, x - whole_x


@fast_jit
def sample(input, grid, dy, dx, regular, first_line, out):
    """Read a framed input (H, W, C) at the taps of some output lines, whose first one is `first_line`.

    Their grid is (4, lines, Wout); out (lines, kh, Wout, kw, C) is filled.
    """
    height, width, channels = input.shape
    lines, kh, columns, kw, _ = out.shape
    taps = kh * kw
    start, fraction = np.empty((taps, columns), np.int32), np.empty((2, taps, columns), grid.dtype)
    one = grid.dtype.type(1)  # numba makes int - float32 a float64
    pixels, samples = input.reshape(-1), out.reshape(-1)
    for line in range(lines):
        _positions(grid[:, line], dy, dx, regular, first_line + line, (height, width), start, fraction)
        for tap in range(taps):
            place = ((line * kh + tap // kw) * columns * kw + tap % kw) * channels
            for column in range(columns):
                top = np.int64(start[tap, column]) * channels
                fy, fx = fraction[0, tap, column], fraction[1, tap, column]
                w11 = fy * fx
                w10, w01 = fy - w11, fx - w11
                weights = (one - fy - w01, w01, w10, w11)
                bottom = top + width * channels
                many = channels // LANES * LANES  # no more: beyond them lies another tap, finished already
                for i in range(0, many, LANES):
                    blend_run(samples, place + i, pixels, top + i, bottom + i, channels, weights)
                blend_singly(samples, place, pixels, top, bottom, channels, many, channels, weights)
                place += kw * channels


@fast_jit
def scatter(input, grid, dy, dx, regular, first_line, grad, grad_input, grad_grid):
    """Backward of `sample`: adds grad (lines, kh, Wout, kw, C) to grad_input, writes into grad_grid."""
    height, width, channels = input.shape
    lines, _, columns, kw, _ = grad.shape
    start, fraction = np.empty((dy.size, columns), np.int32), np.empty((2, dy.size, columns), input.dtype)
    one = input.dtype.type(1)
    pixels, grad_pixels = input.reshape(-1), grad_input.reshape(-1)
    for line in range(lines):
        _positions(grid[:, line], dy, dx, regular, first_line + line, (height, width), start, fraction)
        for column in range(columns):
            sin, cos = grid[0, line, column], grid[1, line, column]
            stretch, rescale = grid[2, line, column], grid[3, line, column]
            d_sin = d_cos = d_stretch = d_rescale = one - one
            for tap in range(dy.size):
                begin = np.int64(start[tap, column]) * channels
                fy, fx = fraction[0, tap, column], fraction[1, tap, column]
                source = grad[line, tap // kw, column, tap % kw]
                d_y = d_x = one - one
                for below, wy in enumerate((one - fy, fy)):
                    for beside, wx in enumerate((one - fx, fx)):
                        at = begin + (below * width + beside) * channels
                        pixel, target = pixels[at : at + channels], grad_pixels[at : at + channels]
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
            grad_grid[0, line, column], grad_grid[1, line, column] = d_sin, d_cos
            grad_grid[2, line, column], grad_grid[3, line, column] = d_stretch, d_rescale
