# type: ignore - Triton's language: it looks like Python, but its types are others
"""The kernels of `cuda.py`: all that the network does between its convolutions.

Pictures are float32 (height, width); features are (height, width, channels), in float32 or half precision,
computed in float32. What a 3x3 convolution reads is written with its margin of one repeated pixel, and with
channels up to a multiple of 8, the last of them zero; what is copied stands first in it, where several
channels are read at a time. Programs: blocks of pixels, pictures. Everything in capitals is known when a
kernel is compiled.
"""

from typing import Any

import triton
import triton.language as tl

__all__ = ["activate", "activate_grid", "average", "describe_input", "edit_input", "edit_top", "merge"]

jit: Any = triton.jit
"""Of any type, for callers: launching takes a grid, and plain numbers for what is in capitals."""


@jit
def _pixels(height, width, BLOCK: tl.constexpr, MARGIN: tl.constexpr):
    """A program's pixels, counted with the margin; which there are; and their rows and columns within."""
    wide = width + 2 * MARGIN
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = _clamp(pixel // wide - MARGIN, height)
    return pixel, pixel < (height + 2 * MARGIN) * wide, row, _clamp(pixel % wide - MARGIN, width)


@jit
def _clamp(place, size):
    return tl.minimum(tl.maximum(place, 0), size - 1)


@jit
def _asinh(x):
    """The logarithm alone is right to 1e-7 too, but for tiny numbers rounds to another than them."""
    size = tl.abs(x)
    far = tl.log(size + tl.sqrt(size * size + 1))
    return tl.where(size < 1e-3, x, tl.where(x < 0, -far, far))


@jit
def _tanh(x):
    return 1 - 2 / (tl.exp(2 * x) + 1)


@jit
def _gelu(x):
    return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@jit
def _steps(low_ptr, row, column, height, width):
    """The averages of pixels, and the steps to their right and lower neighbours, as `subnet.differences`."""
    here = tl.load(low_ptr + row * width + column)
    right = tl.load(low_ptr + row * width + tl.minimum(column + 1, width - 1))
    lower = tl.load(low_ptr + tl.minimum(row + 1, height - 1) * width + column)
    return here, right - here, lower - here


@jit
def _difference_features(low_ptr, row, column, height, width):
    """`subnet.difference_features`, one value a pixel each."""
    total = tl.zeros_like(row).to(tl.float32)
    here, right, lower = _steps(low_ptr, row, column, height, width)
    for dy in tl.static_range(5):
        for dx in tl.static_range(5):
            place = _clamp(row + (dy - 2), height) * width + _clamp(column + (dx - 2), width)
            total += tl.load(low_ptr + place) - here  # differences, as the sum of large values rounds
    return _asinh(-total / 25), _asinh(right), _asinh(lower)


@jit
def _predicted(low_ptr, predict_ptr, row, column, height, width):
    """The three details that the averages predict: the filter (3, 2, 3, 3) of a `LiftingStep`."""
    p = tl.zeros_like(row).to(tl.float32)
    q = tl.zeros_like(row).to(tl.float32)
    r = tl.zeros_like(row).to(tl.float32)
    for dy in tl.static_range(3):
        for dx in tl.static_range(3):
            _, right, lower = _steps(
                low_ptr, _clamp(row + (dy - 1), height), _clamp(column + (dx - 1), width), height, width
            )
            tap = predict_ptr + (dy * 3 + dx)
            p += right * tl.load(tap) + lower * tl.load(tap + 9)
            q += right * tl.load(tap + 18) + lower * tl.load(tap + 27)
            r += right * tl.load(tap + 36) + lower * tl.load(tap + 45)
    return p, q, r


@jit
def _amount(total, count):
    """`subnet.amount_around`, of the sum of `count` magnitudes."""
    return _asinh(total / count)


@jit
def _block_of(x_ptr, row, column, width):
    """The four pixels that a pixel of half the size stands for, of a picture twice as wide."""
    upper = x_ptr + (2 * row).to(tl.int64) * (2 * width) + 2 * column
    lower = upper + 2 * width
    return tl.load(upper), tl.load(upper + 1), tl.load(lower), tl.load(lower + 1)


@jit
def average(x_ptr, low_ptr, height, width, BLOCK: tl.constexpr):
    """Averages of 2x2 blocks: low (height, width) of x (2 * height, 2 * width)."""
    picture = tl.program_id(1).to(tl.int64) * height * width
    pixel, inside, row, column = _pixels(height, width, BLOCK, 0)
    a, b, d, e = _block_of(x_ptr + 4 * picture, row, column, width)
    tl.store(low_ptr + picture + pixel, (a + b + d + e) / 4, mask=inside)


@jit
def describe_input(
    x_ptr,
    low_ptr,
    finer_ptr,
    predict_ptr,
    high_ptr,
    seen_ptr,
    height,
    width,
    FINER: tl.constexpr,
    SEEN: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """The details left by the prediction, and with a margin what a scale's description is made of.

    high (3, height, width); seen (height + 2, width + 2, SEEN): the averages over 2x2 of the finer
    description (2 * height, 2 * width, FINER), the details squashed, and the difference features.
    """
    picture = tl.program_id(1).to(tl.int64)
    x_ptr += picture * 4 * height * width
    low_ptr += picture * height * width
    high_ptr += picture * 3 * height * width
    finer_ptr += picture * 4 * height * width * FINER
    seen_ptr += picture * (height + 2) * (width + 2) * SEEN
    pixel, inside, row, column = _pixels(height, width, BLOCK, 1)
    a, b, d, e = _block_of(x_ptr, row, column, width)
    p, q, r = _predicted(low_ptr, predict_ptr, row, column, height, width)
    p, q, r = (a - b + d - e) / 4 - p, (a + b - d - e) / 4 - q, (a - b - d + e) / 4 - r
    # Pixels of the margin write what the pixel they repeat writes.
    tl.store(high_ptr + row * width + column, p, mask=inside)
    tl.store(high_ptr + height * width + row * width + column, q, mask=inside)
    tl.store(high_ptr + 2 * height * width + row * width + column, r, mask=inside)
    mean, right, lower = _difference_features(low_ptr, row, column, height, width)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    seen = tl.where(channel == FINER, _asinh(p)[:, None], 0.0)
    seen = tl.where(channel == FINER + 1, _asinh(q)[:, None], seen)
    seen = tl.where(channel == FINER + 2, _asinh(r)[:, None], seen)
    seen = tl.where(channel == FINER + 3, mean[:, None], seen)
    seen = tl.where(channel == FINER + 4, right[:, None], seen)
    seen = tl.where(channel == FINER + 5, lower[:, None], seen)
    if FINER > 0:
        upper = ((2 * row).to(tl.int64) * (2 * width) + 2 * column) * FINER
        upper_ptr = finer_ptr + upper[:, None] + channel
        lower_ptr = upper_ptr + 2 * width * FINER
        there = channel < FINER
        total = tl.load(upper_ptr, mask=there, other=0.0).to(tl.float32)
        total += tl.load(upper_ptr + FINER, mask=there, other=0.0).to(tl.float32)
        total += tl.load(lower_ptr, mask=there, other=0.0).to(tl.float32)
        total += tl.load(lower_ptr + FINER, mask=there, other=0.0).to(tl.float32)
        seen = tl.where(there, total / 4, seen)
    tl.store(
        seen_ptr + pixel.to(tl.int64)[:, None] * SEEN + channel,
        seen.to(seen_ptr.dtype.element_ty),
        mask=inside[:, None] & (channel < SEEN),
    )


@jit
def edit_input(
    low_ptr,
    description_ptr,
    seen_ptr,
    height,
    width,
    DESCRIPTION: tl.constexpr,
    SEEN: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """What an edit sees, with a margin, (height + 2, width + 2, SEEN): description, difference features."""
    picture = tl.program_id(1).to(tl.int64)
    low_ptr += picture * height * width
    description_ptr += picture * height * width * DESCRIPTION
    seen_ptr += picture * (height + 2) * (width + 2) * SEEN
    pixel, inside, row, column = _pixels(height, width, BLOCK, 1)
    mean, right, lower = _difference_features(low_ptr, row, column, height, width)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    seen = tl.load(
        description_ptr + (row.to(tl.int64) * width + column)[:, None] * DESCRIPTION + channel,
        mask=channel < DESCRIPTION,
        other=0.0,
    ).to(tl.float32)
    seen = tl.where(channel == DESCRIPTION, mean[:, None], seen)
    seen = tl.where(channel == DESCRIPTION + 1, right[:, None], seen)
    seen = tl.where(channel == DESCRIPTION + 2, lower[:, None], seen)
    tl.store(
        seen_ptr + pixel.to(tl.int64)[:, None] * SEEN + channel,
        seen.to(seen_ptr.dtype.element_ty),
        mask=inside[:, None] & (channel < SEEN),
    )


@jit
def activate(
    conv_ptr,
    bias_ptr,
    context_ptr,
    residual_ptr,
    out_ptr,
    height,
    width,
    context_height,
    context_width,
    CONV: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUT: tl.constexpr,
    MARGIN: tl.constexpr,
    LEAK: tl.constexpr,
    CONTEXT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    LIMITED: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """What follows a convolution: bias, GELU, and what the flags say; CHANNELS of (height, width, CONV).

    LEAK is the slope added to GELU's. CONTEXT is how many times the context (context_height,
    context_width, CHANNELS) is enlarged, bilinearly, before it's added to the GELU's input; 0: there is
    none. RESIDUAL adds features that have a margin, like the result, to the GELU's output. LIMITED brings
    that below unit RMS. The result is (height + 2 * MARGIN, width + 2 * MARGIN, OUT).
    """
    picture = tl.program_id(1).to(tl.int64)
    conv_ptr += picture * height * width * CONV
    context_ptr += picture * context_height * context_width * CHANNELS
    residual_ptr += picture * (height + 2) * (width + 2) * OUT
    out_ptr += picture * (height + 2 * MARGIN) * (width + 2 * MARGIN) * OUT
    pixel, inside, row, column = _pixels(height, width, BLOCK, MARGIN)
    channel = tl.arange(0, BLOCK_CHANNELS)[None, :]
    there = channel < CHANNELS
    offset = (row.to(tl.int64) * width + column)[:, None] * CONV + channel
    x = tl.load(conv_ptr + offset, mask=there, other=0.0).to(tl.float32)
    x += tl.load(bias_ptr + channel, mask=there, other=0.0)
    if CONTEXT > 0:
        # Centres of pixels, as torch's `interpolate` has them; at the border the outermost pixel goes on.
        y = tl.maximum((row.to(tl.float32) + 0.5) / CONTEXT - 0.5, 0.0)
        z = tl.maximum((column.to(tl.float32) + 0.5) / CONTEXT - 0.5, 0.0)
        top, left = y.to(tl.int32), z.to(tl.int32)
        down, right = (y - top)[:, None], (z - left)[:, None]
        upper = top.to(tl.int64) * context_width
        lower = tl.minimum(top + 1, context_height - 1).to(tl.int64) * context_width
        beside = tl.minimum(left + 1, context_width - 1)
        c00 = tl.load(context_ptr + (upper + left)[:, None] * CHANNELS + channel, mask=there, other=0.0)
        c01 = tl.load(context_ptr + (upper + beside)[:, None] * CHANNELS + channel, mask=there, other=0.0)
        c10 = tl.load(context_ptr + (lower + left)[:, None] * CHANNELS + channel, mask=there, other=0.0)
        c11 = tl.load(context_ptr + (lower + beside)[:, None] * CHANNELS + channel, mask=there, other=0.0)
        upper_mix = c00.to(tl.float32) * (1 - right) + c01.to(tl.float32) * right
        lower_mix = c10.to(tl.float32) * (1 - right) + c11.to(tl.float32) * right
        x += upper_mix * (1 - down) + lower_mix * down
    x = _gelu(x) + LEAK * x
    if RESIDUAL:
        offset = ((row + 1).to(tl.int64) * (width + 2) + column + 1)[:, None] * OUT + channel
        x += tl.load(residual_ptr + offset, mask=there, other=0.0).to(tl.float32)
    if LIMITED:
        x *= tl.rsqrt(1 + tl.sum(x * x, 1) / CHANNELS)[:, None]
    tl.store(
        out_ptr + pixel.to(tl.int64)[:, None] * OUT + channel,
        x.to(out_ptr.dtype.element_ty),
        mask=inside[:, None] & (channel < OUT),
    )


@jit
def activate_grid(
    conv_ptr,
    bias_ptr,
    grid_ptr,
    height,
    width,
    least,
    most,
    largest,
    far,
    CONV: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A banded layer's sin, cos, stretch (least..most) and rescale, float32 (4, height, width).

    A rescale of more than `largest` becomes `far`.
    """
    picture = tl.program_id(1).to(tl.int64)
    conv_ptr += picture * height * width * CONV
    grid_ptr += picture * 4 * height * width
    pixel, inside, row, column = _pixels(height, width, BLOCK, 0)
    offset = (row.to(tl.int64) * width + column) * CONV
    sin = tl.load(conv_ptr + offset).to(tl.float32) + tl.load(bias_ptr)
    cos = tl.load(conv_ptr + offset + 1).to(tl.float32) + tl.load(bias_ptr + 1)
    stretch = tl.load(conv_ptr + offset + 2).to(tl.float32) + tl.load(bias_ptr + 2)
    rescale = tl.load(conv_ptr + offset + 3).to(tl.float32) + tl.load(bias_ptr + 3)
    unit = tl.rsqrt(sin * sin + cos * cos + 1e-6)
    tl.store(grid_ptr + pixel, sin * unit, mask=inside)
    tl.store(grid_ptr + height * width + pixel, cos * unit, mask=inside)
    bounded = least + (_tanh(stretch) + 1) * ((most - least) / 2)
    tl.store(grid_ptr + 2 * height * width + pixel, bounded, mask=inside)
    rescale = 1 + tl.maximum(rescale, 0.0)
    rescale = tl.where(rescale > largest, far, rescale)
    tl.store(grid_ptr + 3 * height * width + pixel, rescale, mask=inside)


@jit
def merge(
    low_ptr,
    high_ptr,
    conv_ptr,
    bias_ptr,
    predict_ptr,
    x_ptr,
    height,
    width,
    CONV: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Edit the details (3, height, width) by gates and shifts, then undo prediction and Haar split.

    Gates, then shifts, are the first six channels of (height, width, CONV). x is (2 * height, 2 * width).
    """
    picture = tl.program_id(1).to(tl.int64)
    low_ptr += picture * height * width
    high_ptr += picture * 3 * height * width
    conv_ptr += picture * height * width * CONV
    x_ptr += picture * 4 * height * width
    _, inside, row, column = _pixels(height, width, BLOCK, 0)
    total = tl.zeros((BLOCK,), tl.float32)
    for dy in tl.static_range(3):
        for dx in tl.static_range(3):
            place = high_ptr + _clamp(row + (dy - 1), height) * width + _clamp(column + (dx - 1), width)
            total += tl.abs(tl.load(place)) + tl.abs(tl.load(place + height * width))
            total += tl.abs(tl.load(place + 2 * height * width))
    amount = _amount(total, 27)
    place = row * width + column
    edit_ptr = conv_ptr + place.to(tl.int64) * CONV
    p, q, r = _predicted(low_ptr, predict_ptr, row, column, height, width)
    p += _edited(high_ptr + place, edit_ptr, bias_ptr, amount)
    q += _edited(high_ptr + height * width + place, edit_ptr + 1, bias_ptr + 1, amount)
    r += _edited(high_ptr + 2 * height * width + place, edit_ptr + 2, bias_ptr + 2, amount)
    low = tl.load(low_ptr + place)
    upper = x_ptr + (2 * row).to(tl.int64) * (2 * width) + 2 * column
    lower = upper + 2 * width
    tl.store(upper, low + p + q + r, mask=inside)
    tl.store(upper + 1, low - p + q - r, mask=inside)
    tl.store(lower, low + p - q - r, mask=inside)
    tl.store(lower + 1, low - p - q + r, mask=inside)


@jit
def _edited(high_ptr, edit_ptr, bias_ptr, amount):
    """`LatentEdit`'s edit of one kind of details: the shift is three channels behind its gate."""
    gate = tl.load(edit_ptr).to(tl.float32) + tl.load(bias_ptr)
    shift = tl.load(edit_ptr + 3).to(tl.float32) + tl.load(bias_ptr + 3)
    return tl.load(high_ptr) * (1 + _tanh(gate)) + shift * amount


@jit
def edit_top(low_ptr, conv_ptr, bias_ptr, out_ptr, height, width, CONV: tl.constexpr, BLOCK: tl.constexpr):
    """The coarsest averages, shifted by the first channel of (height, width, CONV)."""
    picture = tl.program_id(1).to(tl.int64)
    low_ptr += picture * height * width
    conv_ptr += picture * height * width * CONV
    pixel, inside, row, column = _pixels(height, width, BLOCK, 0)
    total = tl.zeros((BLOCK,), tl.float32)
    for dy in tl.static_range(3):
        for dx in tl.static_range(3):
            near_row, near_column = _clamp(row + (dy - 1), height), _clamp(column + (dx - 1), width)
            _, right, lower = _steps(low_ptr, near_row, near_column, height, width)
            total += tl.abs(right) + tl.abs(lower)
    place = row * width + column
    shift = tl.load(conv_ptr + place.to(tl.int64) * CONV).to(tl.float32) + tl.load(bias_ptr)
    edited = tl.load(low_ptr + place) + shift * _amount(total, 18)
    tl.store(out_ptr + picture * height * width + pixel, edited, mask=inside)
