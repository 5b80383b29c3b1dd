"""The loops between the convolutions of a level on a CPU, line by line.

Each goes through its tensors once: it reads what a convolution gave and writes what the next one
takes. Values between them are float32; features are float32 or, as uint16, bfloat16. A picture's
planes are (H, W); features are (H, W, C), which a convolution in channels-last order takes as they
are. Framed features lie in a frame of `FRAME` pixels, the innermost of which repeats the border, as
3x3 convolutions want it; the others are zero, as deformable ones want it.

`_level` in `bdinn.py` and the modules of `blocks.py` say the same in plain PyTorch.
"""

import numpy as np

from ..jit import fast_jit, inlined_jit
from ..ops.banded_deform_conv.sampling import MARGIN
from ..ops.bfloat16 import narrow, widen
from ..ops.layers import FAR
from ..ops.runs import LANES, blend, copy, fill, square_sum
from ..ops.vector_math import asinh, gelu, tanh
from .subnet import LEAK

__all__ = [
    "FRAME",
    "describe_input",
    "edit_input",
    "finish_description",
    "finish_first",
    "finish_grid",
    "finish_hidden",
    "merge",
    "split",
]

FRAME = MARGIN + 1
PIECE = 64
"""Pixels of a line whose features are worked on at once: they stay in the fastest cache."""
QUARTER, ONE, HALF = np.float32(0.25), np.float32(1), np.float32(0.5)
# Of two neighbours in the nearer line and two in the farther one, at a quarter of the way.
NEARER_LEFT = tuple(np.float32(w) for w in (9 / 16, 3 / 16, 3 / 16, 1 / 16))
NEARER_RIGHT = tuple(np.float32(w) for w in (3 / 16, 9 / 16, 1 / 16, 3 / 16))
ALL_LEFT = tuple(np.float32(w) for w in (3 / 4, 0, 1 / 4, 0))
ALL_RIGHT = tuple(np.float32(w) for w in (0, 3 / 4, 0, 1 / 4))
LEAKING = np.float32(LEAK)
_FAR = np.float32(FAR)


@fast_jit
def _clamp(line, height):
    return min(max(line, 0), height - 1)


@fast_jit
def _haar_low(x, line, out):
    """Averages of 2x2 blocks: one line (W,) of x (2H, 2W)."""
    above, below = x[2 * line], x[2 * line + 1]
    for i in range(out.size):
        out[i] = (above[2 * i] + above[2 * i + 1] + below[2 * i] + below[2 * i + 1]) * QUARTER


@fast_jit
def _steps(low, below, out):
    """Differences to the right and lower neighbour, out (2, W + 2), their borders repeated."""
    width = low.size
    right, down = out[0], out[1]
    for i in range(width - 1):
        right[1 + i] = low[i + 1] - low[i]
    right[width] = 0
    for i in range(width):
        down[1 + i] = below[i] - low[i]
    for k in range(2):
        out[k, 0], out[k, width + 1] = out[k, 1], out[k, width]


@fast_jit
def _predicted(steps, weight, out):
    """Details (3, W) that the filter (3, 2, 3, 3) predicts from three lines of steps (3, 2, W + 2)."""
    width = out.shape[1]
    for k in range(3):
        line = out[k]
        line[:] = 0
        for dy in range(3):
            for kind in range(2):
                source = steps[dy, kind]
                a, b, c = weight[k, kind, dy, 0], weight[k, kind, dy, 1], weight[k, kind, dy, 2]
                for i in range(width):
                    line[i] += a * source[i] + b * source[i + 1] + c * source[i + 2]


@fast_jit
def _predicted_lines(low, first_low, height, weight, first, end, out):
    """Predicted details out (lines, 3, W) of lines first..end - 1 of H; low begins at line `first_low`."""
    width = low.shape[1]
    steps = np.empty((end - first + 2, 2, width + 2), np.float32)
    for i in range(end - first + 2):
        line = _clamp(first - 1 + i, height)
        _steps(low[line - first_low], low[_clamp(line + 1, height) - first_low], steps[i])
    for i in range(end - first):
        _predicted(steps[i : i + 3], weight, out[i])


@fast_jit
def split(x, weight, first, end, low, high):
    """Lines first..end - 1 of low (H, W) and high (3, H, W): `LiftingStep.encode` of x (2H, 2W)."""
    height, width = low.shape
    first_low, end_low = max(first - 1, 0), min(end + 2, height)
    lows = np.empty((end_low - first_low, width), np.float32)
    for line in range(first_low, end_low):
        _haar_low(x, line, lows[line - first_low])
    predicted = np.empty((end - first, 3, width), np.float32)
    _predicted_lines(lows, first_low, height, weight, first, end, predicted)
    for line in range(first, end):
        above, below, guess = x[2 * line], x[2 * line + 1], predicted[line - first]
        low[line] = lows[line - first_low]
        for i in range(width):
            a, b, d, e = above[2 * i], above[2 * i + 1], below[2 * i], below[2 * i + 1]
            high[0, line, i] = ((a - b) + (d - e)) * QUARTER - guess[0, i]
            high[1, line, i] = ((a - d) + (b - e)) * QUARTER - guess[1, i]
            high[2, line, i] = ((a - b) - (d - e)) * QUARTER - guess[2, i]


@fast_jit
def _difference_features(low, line, steps, sums, out):
    """One line of `subnet.difference_features` of low (H, W): out (3, W)."""
    height, width = low.shape
    for i in range(width):
        sums[2 + i] = 0
    for dy in range(-2, 3):
        source = low[_clamp(line + dy, height)]
        for i in range(width):
            sums[2 + i] += source[i]
    sums[0] = sums[1] = sums[2]
    sums[width + 2] = sums[width + 3] = sums[width + 1]
    here = low[line]
    _steps(here, low[_clamp(line + 1, height)], steps)
    share = np.float32(1 / 25)
    for i in range(width):
        mean = (sums[i] + sums[i + 1] + sums[i + 2] + sums[i + 3] + sums[i + 4]) * share
        out[0, i] = asinh(here[i] - mean)
    for k in range(2):
        source = steps[k]
        for i in range(width):
            out[1 + k, i] = asinh(source[1 + i])


@inlined_jit
def _narrow(planes, stored):
    """Lines (K, W) as features are stored: at once, since one by one they aren't vectors."""
    source, target = planes.reshape(-1), stored.reshape(-1)
    for i in range(source.size):
        target[i] = narrow(source[i], stored.dtype)


@fast_jit
def _repeat_sides(line):
    """The first and last pixel of (W, C) as their inner neighbours."""
    line[0] = line[1]
    line[-1] = line[-2]


@fast_jit
def describe_input(low, high, finer, first, end, out):
    """What `LatentEdit.description` convolves, for lines first..end - 1 of H.

    Args:
        low: (H, W).
        high: (3, H, W).
        finer: Description of the finer scale, (2H, 2W, F); F may be 0.
        first: First line.
        end: Line after the last one.
        out: (lines + 2, W + 2, 6 + F), with repeated borders.
    """
    height, width = low.shape
    count = finer.shape[2]
    planes, stored = np.empty((6, width), np.float32), np.empty((6, width), out.dtype)
    sums, steps = np.empty(width + 4, np.float32), np.empty((2, width + 2), np.float32)
    flat, finest = out.reshape(-1), finer.reshape(-1)
    across = 6 + count
    even = (QUARTER, QUARTER, QUARTER, QUARTER)
    for row in range(end - first + 2):
        line = _clamp(first - 1 + row, height)
        for k in range(3):
            source, target = high[k, line], planes[k]
            for i in range(width):
                target[i] = asinh(source[i])
        _difference_features(low, line, steps, sums, planes[3:])
        _narrow(planes, stored)
        for i in range(width):
            place = (row * (width + 2) + 1 + i) * across
            for k in range(6):
                flat[place + k] = stored[k, i]
            top = (2 * line * width + i) * 2 * count
            blend(flat, place + 6, finest, top, top + 2 * width * count, count, count, even)
        target = out[row]
        _repeat_sides(target)


@fast_jit
def edit_input(description, low, first, end, out):
    """What the first layer of `LatentEdit` convolves, for lines first..end - 1 of H.

    Args:
        description: (H, W, C).
        low: Restored averages, (H, W).
        first: First line.
        end: Line after the last one.
        out: (lines + 2, W + 2, C + 3), with repeated borders.
    """
    height, width, count = description.shape
    planes, stored = np.empty((3, width), np.float32), np.empty((3, width), out.dtype)
    sums, steps = np.empty(width + 4, np.float32), np.empty((2, width + 2), np.float32)
    flat, described = out.reshape(-1), description.reshape(-1)
    for row in range(end - first + 2):
        line = _clamp(first - 1 + row, height)
        _difference_features(low, line, steps, sums, planes)
        _narrow(planes, stored)
        for i in range(width):
            place = (row * (width + 2) + 1 + i) * (count + 3)
            copy(flat, place, described, (line * width + i) * count, count)
            for k in range(3):
                flat[place + count + k] = stored[k, i]
        target = out[row]
        _repeat_sides(target)


@inlined_jit
def _write(values, factors, width, count, limit, out):
    """Features (W, C) in a row to an array, `limited` or not.

    There must be `LANES` more values; `factors` is room for as many.
    """
    if not limit:
        for i in range(width * count):
            out[i] = narrow(values[i], out.dtype)
        return
    share = ONE / np.float32(count)
    for i in range(width):
        total = np.float32(0)
        for k in range(0, count, LANES):
            total += square_sum(values, i * count + k, count - k)
        factor = ONE / np.sqrt(ONE + total * share)
        for k in range(0, count, LANES):
            fill(factors, i * count + k, factor)
    for i in range(width * count):
        out[i] = narrow(values[i] * factors[i], out.dtype)


@fast_jit
def finish_description(convolved, out):
    """`limited(gelu(...))` of lines (lines, W, C)."""
    lines, width, count = out.shape
    values, factors = np.zeros((2, PIECE * count + LANES), np.float32)
    for line in range(lines):
        for begin in range(0, width, PIECE):
            columns = min(PIECE, width - begin)
            source = convolved[line, begin : begin + columns].reshape(-1)
            for i in range(source.size):
                values[i] = gelu(widen(source[i]))
            _write(values, factors, columns, count, True, out[line, begin : begin + columns].reshape(-1))


@fast_jit
def _put_frame(framed, line):
    """What lies beside a line of framed features, and above the first and below the last one."""
    height, width, count = framed.shape[0] - 2 * FRAME, framed.shape[1] - 2 * FRAME, framed.shape[2]
    target = framed[FRAME + line].reshape(-1)
    start, end = FRAME * count, (FRAME + width) * count
    for k in range(count):
        target[start - count + k] = target[start + k]
        target[end + k] = target[end - count + k]
    target[: start - count] = 0
    target[end + count :] = 0
    if line == 0:
        framed[FRAME - 1] = framed[FRAME]
    if line == height - 1:
        framed[FRAME + height] = framed[FRAME + height - 1]


@fast_jit
def _context_line(context, first_context, line, begin, columns, enlarge, values):
    """Part of a line of the context, from column `begin` on: as it is, or from half as many (`enlarge`)."""
    _, coarse, count = context.shape
    flat = context.reshape(-1)
    if not enlarge:
        same = context[line - first_context, begin : begin + columns].reshape(-1)
        for k in range(same.size):
            values[k] = widen(same[k])
        return
    here = line // 2
    there = here + (line % 2) * 2 - 1
    near = (here - first_context) * coarse * count
    far = min(max(there - first_context, 0), context.shape[0] - 1) * coarse * count
    beside = count if coarse > 1 else 0
    for i in range(columns):
        middle = (begin + i) // 2
        if (begin + i) % 2:
            left, weights = middle, NEARER_LEFT
        else:
            left, weights = middle - 1, NEARER_RIGHT
        if left < 0:
            left, weights = 0, ALL_LEFT
        elif left > coarse - 2:
            left, weights = max(coarse - 2, 0), ALL_RIGHT
        at = left * count
        blend(values, i * count, flat, near + at, far + at, beside, count, weights)


@fast_jit
def finish_first(convolved, context, first_context, first, limit, framed):
    """`leaky_gelu(... + context)` of lines of H into framed features.

    Args:
        convolved: (lines, W, C).
        context: Those lines of the coarser scale, and their neighbours', if there are any, (any, W / 2, C);
            or of the same scale, (any, W, C).
        first_context: Number of its first line.
        first: Number of the first line.
        limit: Whether the features are limited here.
        framed: (H + 2 * FRAME, W + 2 * FRAME, C).
    """
    lines, width, count = convolved.shape
    enlarge = context.shape[1] < width
    values, factors = np.zeros((2, PIECE * count + LANES), np.float32)
    for i in range(lines):
        target = framed[FRAME + first + i, FRAME:]
        for begin in range(0, width, PIECE):
            columns = min(PIECE, width - begin)
            source = convolved[i, begin : begin + columns].reshape(-1)
            _context_line(context, first_context, first + i, begin, columns, enlarge, values)
            for k in range(source.size):
                value = widen(source[k]) + values[k]
                values[k] = gelu(value) + LEAKING * value
            _write(values, factors, columns, count, limit, target[begin : begin + columns].reshape(-1))
        _put_frame(framed, first + i)


@fast_jit
def finish_hidden(convolved, skipped, before, first, limit, framed):
    """`features + gelu(...)` of lines of H into framed features.

    Args:
        convolved: (lines, skipped + W + skipped, C).
        skipped: Columns at both sides that count for nothing.
        before: The features so far, framed.
        first: Number of the first line.
        limit: Whether the features are limited here.
        framed: The new ones, (H + 2 * FRAME, W + 2 * FRAME, C).
    """
    lines, _, count = convolved.shape
    width = framed.shape[1] - 2 * FRAME
    values, factors = np.zeros((2, PIECE * count + LANES), np.float32)
    for i in range(lines):
        given, old, new = (
            convolved[i, skipped:],
            before[FRAME + first + i, FRAME:],
            framed[FRAME + first + i, FRAME:],
        )
        for begin in range(0, width, PIECE):
            columns = min(PIECE, width - begin)
            source = given[begin : begin + columns].reshape(-1)
            so_far = old[begin : begin + columns].reshape(-1)
            for k in range(source.size):
                values[k] = widen(so_far[k]) + gelu(widen(source[k]))
            _write(values, factors, columns, count, limit, new[begin : begin + columns].reshape(-1))
        _put_frame(framed, first + i)


@fast_jit
def finish_grid(convolved, least, most, largest, grid):
    """What `BandedDeformConv2d.predict_grid` makes of its convolution, with bounds and rescale.

    Args:
        convolved: (lines, MARGIN + W + MARGIN, 4).
        least: Least stretch.
        most: Greatest stretch.
        largest: Greatest rescale; more is `FAR`.
        grid: (4, lines, W).
    """
    _, lines, width = grid.shape
    span = (most - least) * HALF
    for line in range(lines):
        for i in range(width):
            for k in range(4):
                grid[k, line, i] = widen(convolved[line, MARGIN + i, k])
        sin, cos, stretch, whole = grid[0, line], grid[1, line], grid[2, line], grid[3, line]
        for i in range(width):
            scale = ONE / np.sqrt(sin[i] * sin[i] + cos[i] * cos[i] + np.float32(1e-6))
            sin[i] *= scale
            cos[i] *= scale
            stretch[i] = least + (tanh(stretch[i]) + ONE) * span
            rescale = ONE + max(whole[i], np.float32(0))
            whole[i] = _FAR if rescale > largest else rescale


@fast_jit
def _amount(high, line, magnitudes, out):
    """One line of `subnet.amount_around` of high (3, H, W): out (W,)."""
    _, height, width = high.shape
    for i in range(width):
        magnitudes[1 + i] = 0
    for dy in range(-1, 2):
        near = _clamp(line + dy, height)
        a, b, c = high[0, near], high[1, near], high[2, near]
        for i in range(width):
            magnitudes[1 + i] += abs(a[i]) + abs(b[i]) + abs(c[i])
    magnitudes[0], magnitudes[width + 1] = magnitudes[1], magnitudes[width]
    share = np.float32(1 / 27)
    for i in range(width):
        out[i] = asinh((magnitudes[i] + magnitudes[i + 1] + magnitudes[i + 2]) * share)


@fast_jit
def merge(convolved, high, low, weight, first, x):
    """Edits the details of lines of H, adds what was predicted and merges: lines of x (2H, 2W).

    Args:
        convolved: Gates and shifts, (lines, MARGIN + W + MARGIN, 6).
        high: (3, H, W).
        low: Restored averages, (H, W).
        weight: Of the prediction, (3, 2, 3, 3).
        first: Number of the first line.
        x: (2H, 2W).
    """
    lines = convolved.shape[0]
    height, width = low.shape
    predicted = np.empty((lines, 3, width), np.float32)
    _predicted_lines(low, 0, height, weight, first, first + lines, predicted)
    edits, amount = np.empty((6, width), np.float32), np.empty(width, np.float32)
    magnitudes = np.empty(width + 2, np.float32)
    for i in range(lines):
        line, source, details = first + i, convolved[i], predicted[i]
        for j in range(width):
            for k in range(6):
                edits[k, j] = widen(source[MARGIN + j, k])
        _amount(high, line, magnitudes, amount)
        for k in range(3):
            gate, shift, old, new = edits[k], edits[3 + k], high[k, line], details[k]
            for j in range(width):
                new[j] += old[j] * (ONE + tanh(gate[j])) + shift[j] * amount[j]
        above, below, mean = x[2 * line], x[2 * line + 1], low[line]
        p, q, r = details[0], details[1], details[2]
        for j in range(width):
            above[2 * j] = mean[j] + p[j] + q[j] + r[j]
            above[2 * j + 1] = mean[j] - p[j] + q[j] - r[j]
            below[2 * j] = mean[j] + p[j] - q[j] - r[j]
            below[2 * j + 1] = mean[j] - p[j] - q[j] + r[j]
