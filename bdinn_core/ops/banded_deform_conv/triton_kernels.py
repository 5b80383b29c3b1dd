# type: ignore - Triton's language: it looks like Python, but its types are others
"""The kernels of `triton.py`: forward, and backward to the samples and to the weight.

Everything in capitals is known when a kernel is compiled. A picture is (height, width, CHANNELS), its
grid (4, rows * columns), its output (rows * columns, CHANNELS_OUT), the weight (taps, CHANNELS,
CHANNELS_OUT).
"""

from typing import Any

import triton
import triton.language as tl

__all__ = ["backward_samples", "backward_weight", "forward"]

jit: Any = triton.jit
"""Of any type, for callers: launching takes a grid, and plain numbers for what is in capitals."""


@jit
def _grid_at(grid_ptr, point, inside, points):
    """sin, cos, stretch and rescale of output pixels."""
    sin = tl.load(grid_ptr + point, mask=inside, other=0.0)
    cos = tl.load(grid_ptr + points + point, mask=inside, other=0.0)
    stretch = tl.load(grid_ptr + 2 * points + point, mask=inside, other=0.0)
    rescale = tl.load(grid_ptr + 3 * points + point, mask=inside, other=0.0)
    return sin, cos, stretch, rescale


@jit
def _base_point(
    tap,
    KERNEL_Y: tl.constexpr,
    KERNEL_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
):
    """Where a tap lies about the kernel's centre."""
    dy = (tap // KERNEL_X - (KERNEL_Y - 1) / 2) * DILATION_Y
    dx = (tap % KERNEL_X - (KERNEL_X - 1) / 2) * DILATION_X
    return dy, dx


@jit
def _whole_and_fraction(offset, first):
    """Pixel before a position and the way to the next; what's far outside any picture stays there."""
    whole = tl.floor(offset)
    bounded = tl.minimum(tl.maximum(whole, -1e9), 1e9)
    return first + bounded.to(tl.int32), offset - whole


@jit
def _corner(row, column, inside, channel, height, width, CHANNELS: tl.constexpr):
    """Offsets of pixels' channels in a picture, (points, channels), and whether they are in it."""
    there = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    offset = (row.to(tl.int64) * width + column) * CHANNELS
    return offset[:, None] + channel[None, :], there[:, None] & (channel < CHANNELS)[None, :]


@jit
def _corners(row, column, inside, channel, height, width, CHANNELS: tl.constexpr):
    """Of the four pixels about positions, `_corner`'s offsets, then its masks, line by line."""
    o00, m00 = _corner(row, column, inside, channel, height, width, CHANNELS)
    o01, m01 = _corner(row, column + 1, inside, channel, height, width, CHANNELS)
    o10, m10 = _corner(row + 1, column, inside, channel, height, width, CHANNELS)
    o11, m11 = _corner(row + 1, column + 1, inside, channel, height, width, CHANNELS)
    return o00, o01, o10, o11, m00, m01, m10, m11


@jit
def _values(picture_ptr, o00, o01, o10, o11, m00, m01, m10, m11):
    """What is at `_corners`, float32, zero outside."""
    v00 = tl.load(picture_ptr + o00, mask=m00, other=0.0)
    v01 = tl.load(picture_ptr + o01, mask=m01, other=0.0)
    v10 = tl.load(picture_ptr + o10, mask=m10, other=0.0)
    v11 = tl.load(picture_ptr + o11, mask=m11, other=0.0)
    return v00.to(tl.float32), v01.to(tl.float32), v10.to(tl.float32), v11.to(tl.float32)


@jit
def _between(v00, v01, v10, v11, down, right):
    """Bilinear values."""
    top = v00 * (1 - right) + v01 * right
    bottom = v10 * (1 - right) + v11 * right
    return top * (1 - down) + bottom * down


@jit
def forward(
    input_ptr,
    grid_ptr,
    matrix_ptr,
    bias_ptr,
    output_ptr,
    height,
    width,
    rows,
    columns,
    KERNEL_Y: tl.constexpr,
    KERNEL_X: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    FIRST_Y: tl.constexpr,
    FIRST_X: tl.constexpr,
    REST_Y: tl.constexpr,
    REST_X: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNELS_OUT: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BIASED: tl.constexpr,
):
    """Programs: blocks of output pixels, pictures, blocks of output channels."""
    points = rows * columns
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    inside = point < points
    picture = tl.program_id(1).to(tl.int64)
    out = tl.program_id(2) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    input_ptr += picture * height * width * CHANNELS
    output_ptr += picture * points * CHANNELS_OUT
    sin, cos, stretch, rescale = _grid_at(grid_ptr + picture * 4 * points, point, inside, points)
    first_row = point // columns * STRIDE_Y + FIRST_Y
    first_column = point % columns * STRIDE_X + FIRST_X
    total = tl.zeros((POINTS, BLOCK_OUT), tl.float32)
    for tap in range(KERNEL_Y * KERNEL_X):
        dy, dx = _base_point(tap, KERNEL_Y, KERNEL_X, DILATION_Y, DILATION_X)
        along, across = dy * stretch * rescale, dx * rescale
        row, down = _whole_and_fraction(REST_Y + cos * along + sin * across, first_row)
        column, right = _whole_and_fraction(REST_X + cos * across - sin * along, first_column)
        for start in range(0, CHANNELS, BLOCK_IN):
            channel = start + tl.arange(0, BLOCK_IN)
            o00, o01, o10, o11, m00, m01, m10, m11 = _corners(
                row, column, inside, channel, height, width, CHANNELS
            )
            v00, v01, v10, v11 = _values(input_ptr, o00, o01, o10, o11, m00, m01, m10, m11)
            samples = _between(v00, v01, v10, v11, down[:, None], right[:, None])
            weights = tl.load(
                matrix_ptr + (tap * CHANNELS + channel)[:, None] * CHANNELS_OUT + out[None, :],
                mask=(channel < CHANNELS)[:, None] & (out < CHANNELS_OUT)[None, :],
                other=0.0,
            )
            total = tl.dot(samples.to(weights.dtype), weights, total, input_precision=PRECISION)
    if BIASED:
        total += tl.load(bias_ptr + out, mask=out < CHANNELS_OUT, other=0.0).to(tl.float32)[None, :]
    tl.store(
        output_ptr + point.to(tl.int64)[:, None] * CHANNELS_OUT + out[None, :],
        total.to(output_ptr.dtype.element_ty),
        mask=inside[:, None] & (out < CHANNELS_OUT)[None, :],
    )


@jit
def backward_samples(
    input_ptr,
    grid_ptr,
    matrix_ptr,
    grad_ptr,
    grad_input_ptr,
    grad_grid_ptr,
    height,
    width,
    rows,
    columns,
    KERNEL_Y: tl.constexpr,
    KERNEL_X: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    FIRST_Y: tl.constexpr,
    FIRST_X: tl.constexpr,
    REST_Y: tl.constexpr,
    REST_X: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNELS_OUT: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Programs: blocks of output pixels, pictures. Adds to the input's gradient, writes the grid's."""
    points = rows * columns
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    inside = point < points
    picture = tl.program_id(1).to(tl.int64)
    input_ptr += picture * height * width * CHANNELS
    grad_input_ptr += picture * height * width * CHANNELS
    grad_ptr += picture * points * CHANNELS_OUT
    sin, cos, stretch, rescale = _grid_at(grid_ptr + picture * 4 * points, point, inside, points)
    first_row = point // columns * STRIDE_Y + FIRST_Y
    first_column = point % columns * STRIDE_X + FIRST_X
    d_sin = tl.zeros((POINTS,), tl.float32)
    d_cos = tl.zeros((POINTS,), tl.float32)
    d_stretch = tl.zeros((POINTS,), tl.float32)
    d_rescale = tl.zeros((POINTS,), tl.float32)
    for tap in range(KERNEL_Y * KERNEL_X):
        dy, dx = _base_point(tap, KERNEL_Y, KERNEL_X, DILATION_Y, DILATION_X)
        along, across = dy * stretch * rescale, dx * rescale
        row, down = _whole_and_fraction(REST_Y + cos * along + sin * across, first_row)
        column, right = _whole_and_fraction(REST_X + cos * across - sin * along, first_column)
        below, beside = down[:, None], right[:, None]
        d_y = tl.zeros((POINTS,), tl.float32)
        d_x = tl.zeros((POINTS,), tl.float32)
        for start in range(0, CHANNELS, BLOCK_IN):
            channel = start + tl.arange(0, BLOCK_IN)
            d_samples = tl.zeros((POINTS, BLOCK_IN), tl.float32)
            for first_out in range(0, CHANNELS_OUT, BLOCK_OUT):
                out = first_out + tl.arange(0, BLOCK_OUT)
                grads = tl.load(
                    grad_ptr + point.to(tl.int64)[:, None] * CHANNELS_OUT + out[None, :],
                    mask=inside[:, None] & (out < CHANNELS_OUT)[None, :],
                    other=0.0,
                )
                weights = tl.load(  # (BLOCK_OUT, BLOCK_IN): the tap's matrix turned
                    matrix_ptr + (tap * CHANNELS + channel)[None, :] * CHANNELS_OUT + out[:, None],
                    mask=(channel < CHANNELS)[None, :] & (out < CHANNELS_OUT)[:, None],
                    other=0.0,
                )
                d_samples = tl.dot(grads, weights, d_samples, input_precision=PRECISION)
            o00, o01, o10, o11, m00, m01, m10, m11 = _corners(
                row, column, inside, channel, height, width, CHANNELS
            )
            v00, v01, v10, v11 = _values(input_ptr, o00, o01, o10, o11, m00, m01, m10, m11)
            d_y += tl.sum(d_samples * ((v10 - v00) * (1 - beside) + (v11 - v01) * beside), 1)
            d_x += tl.sum(d_samples * ((v01 - v00) * (1 - below) + (v11 - v10) * below), 1)
            tl.atomic_add(
                grad_input_ptr + o00, d_samples * ((1 - below) * (1 - beside)), mask=m00, sem="relaxed"
            )
            tl.atomic_add(grad_input_ptr + o01, d_samples * ((1 - below) * beside), mask=m01, sem="relaxed")
            tl.atomic_add(grad_input_ptr + o10, d_samples * (below * (1 - beside)), mask=m10, sem="relaxed")
            tl.atomic_add(grad_input_ptr + o11, d_samples * (below * beside), mask=m11, sem="relaxed")
        d_sin += d_y * across - d_x * along
        d_cos += d_y * along + d_x * across
        d_along, d_across = d_y * cos - d_x * sin, d_y * sin + d_x * cos
        d_stretch += d_along * rescale * dy
        d_rescale += d_along * stretch * dy + d_across * dx
    grad_grid_ptr += picture * 4 * points
    tl.store(grad_grid_ptr + point, d_sin, mask=inside)
    tl.store(grad_grid_ptr + points + point, d_cos, mask=inside)
    tl.store(grad_grid_ptr + 2 * points + point, d_stretch, mask=inside)
    tl.store(grad_grid_ptr + 3 * points + point, d_rescale, mask=inside)


@jit
def backward_weight(
    input_ptr,
    grid_ptr,
    grad_ptr,
    partial_ptr,
    pictures,
    height,
    width,
    rows,
    columns,
    blocks,
    KERNEL_Y: tl.constexpr,
    KERNEL_X: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    FIRST_Y: tl.constexpr,
    FIRST_X: tl.constexpr,
    REST_Y: tl.constexpr,
    REST_X: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNELS_OUT: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Programs: parts of `blocks` blocks of pixels, blocks of each tap's channels, of output channels."""
    points = rows * columns
    split = tl.program_id(0)
    per_tap: tl.constexpr = (CHANNELS + BLOCK_IN - 1) // BLOCK_IN
    tap = tl.program_id(1) // per_tap
    channel = tl.program_id(1) % per_tap * BLOCK_IN + tl.arange(0, BLOCK_IN)
    out = tl.program_id(2) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    dy, dx = _base_point(tap, KERNEL_Y, KERNEL_X, DILATION_Y, DILATION_X)
    total = tl.zeros((BLOCK_IN, BLOCK_OUT), tl.float32)
    for block in range(split * blocks, (split + 1) * blocks):
        index = block * POINTS + tl.arange(0, POINTS)  # counted through all pictures
        inside = index < pictures * points
        picture, point = (index // points).to(tl.int64), index % points
        sin, cos, stretch, rescale = _grid_at(grid_ptr, picture * 4 * points + point, inside, points)
        along, across = dy * stretch * rescale, dx * rescale
        first_row, first_column = point // columns * STRIDE_Y + FIRST_Y, point % columns * STRIDE_X + FIRST_X
        row, down = _whole_and_fraction(REST_Y + cos * along + sin * across, first_row)
        column, right = _whole_and_fraction(REST_X + cos * across - sin * along, first_column)
        o00, o01, o10, o11, m00, m01, m10, m11 = _corners(
            row, column, inside, channel, height, width, CHANNELS
        )
        pictures_ptr = input_ptr + (picture * height * width * CHANNELS)[:, None]
        v00, v01, v10, v11 = _values(pictures_ptr, o00, o01, o10, o11, m00, m01, m10, m11)
        samples = _between(v00, v01, v10, v11, down[:, None], right[:, None])
        grads = tl.load(
            grad_ptr + index.to(tl.int64)[:, None] * CHANNELS_OUT + out[None, :],
            mask=inside[:, None] & (out < CHANNELS_OUT)[None, :],
            other=0.0,
        )
        total = tl.dot(tl.trans(samples.to(grads.dtype)), grads, total, input_precision=PRECISION)
    partial_ptr += (split * KERNEL_Y * KERNEL_X + tap).to(tl.int64) * CHANNELS * CHANNELS_OUT
    tl.store(
        partial_ptr + channel[:, None] * CHANNELS_OUT + out[None, :],
        total,
        mask=(channel < CHANNELS)[:, None] & (out < CHANNELS_OUT)[None, :],
    )
