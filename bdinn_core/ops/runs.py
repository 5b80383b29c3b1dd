"""Runs of 16 channels as one vector, for compiled loops, in LLVM's own terms.

As loops, the 12 to 48 channels of a pixel are too few: LLVM's vectoriser first looks whether arrays
overlap, which takes longer than the work, and goes one by one through what doesn't fill a vector. On
machines whose vectors are shorter, LLVM takes several.

`blend` and `copy` spill: they may write up to `LANES - 1` values beyond, which are to be overwritten
afterwards, as they are where pixels are gone through in order.
"""

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from ..jit import inlined_jit
from .bfloat16 import narrow, widen

__all__ = ["LANES", "blend", "blend_run", "blend_singly", "copy", "fill", "square_sum"]

intrinsic: Any = extending.intrinsic  # callers don't give the first argument, which type checkers can't know

LANES = 16
_INT, _FLAGS = ir.IntType(32), ("fast",)


class _Runs:
    """What the functions below generate code from: vectors of `LANES` values of arrays of one call."""

    def __init__(self, context, builder, signature, arguments):
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, arguments

    def _pointer(self, array, start):
        """Where a run begins, its element's type, and that type's size."""
        kind, value = self.types[array], self.values[array]
        element = self.context.get_data_type(kind.dtype)
        data = self.context.make_array(kind)(self.context, self.builder, value).data
        pointer = self.builder.gep(data, [start])
        vector = ir.VectorType(element, LANES).as_pointer()
        return self.builder.bitcast(pointer, vector), element, self.context.get_abi_sizeof(element)

    def load(self, array, start):
        """A run of an argument as it is stored."""
        pointer, _, size = self._pointer(array, start)
        return self.builder.load(pointer, align=size)

    def store(self, array, start, run):
        """Writes a run as it is to be stored."""
        pointer, _, size = self._pointer(array, start)
        self.builder.store(run, pointer, align=size)

    def widened(self, run):
        """Floats of a run that may be bfloat16."""
        if not isinstance(run.type.element, ir.IntType):
            return run
        bits = self.builder.shl(self.builder.zext(run, ir.VectorType(_INT, LANES)), self.all(_INT(16)))
        return self.builder.bitcast(bits, ir.VectorType(ir.FloatType(), LANES))

    def narrowed(self, run, array):
        """Floats as an argument stores them: to bfloat16 rounded to nearest and even."""
        element = self.context.get_data_type(self.types[array].dtype)
        if not isinstance(element, ir.IntType):
            return run
        builder = self.builder
        bits = builder.bitcast(run, ir.VectorType(_INT, LANES))
        odd = builder.and_(builder.lshr(bits, self.all(_INT(16))), self.all(_INT(1)))
        bits = builder.add(builder.add(bits, self.all(_INT(0x7FFF))), odd)
        return builder.trunc(builder.lshr(bits, self.all(_INT(16))), ir.VectorType(element, LANES))

    def all(self, value):
        """A vector of one value."""
        undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        first = self.builder.insert_element(undefined, value, _INT(0))
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
        )

    def among(self, count):
        """Which lanes are among the first `count`, an int64."""
        lanes = ir.Constant(ir.VectorType(ir.IntType(64), LANES), list(range(LANES)))
        return self.builder.icmp_signed("<", lanes, self.all(count))


@intrinsic
def blend_run(typing, out, place, pixels, top, bottom, channels, weights):
    """Weighted sum of four runs of an array, written to another from `place` on.

    Args:
        typing: numba's.
        out: Array (1-d), float or, as uint16, bfloat16.
        place: Where to write.
        pixels: Array (1-d), float or bfloat16.
        top: Where the upper left run begins; the upper right one follows `channels` later.
        bottom: Likewise, of the lower two.
        channels: Distance of neighbours.
        weights: Four factors: upper left, upper right, lower left, lower right.
    """
    signature = types.void(out, place, pixels, top, bottom, channels, weights)

    def generate(context, builder, signature, arguments):
        runs = _Runs(context, builder, signature, arguments)
        _, place, _, top, bottom, channels, weights = arguments
        total = None
        for i, start in enumerate((top, builder.add(top, channels), bottom, builder.add(bottom, channels))):
            weight = runs.all(builder.extract_value(weights, i))
            term = builder.fmul(runs.widened(runs.load(2, start)), weight, flags=_FLAGS)
            total = term if total is None else builder.fadd(total, term, flags=_FLAGS)
        runs.store(0, place, runs.narrowed(total, 0))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _copy_run(typing, out, place, source, start):
    """A run of an array from `start` on, copied to another of its type from `place` on."""
    signature = types.void(out, place, source, start)

    def generate(context, builder, signature, arguments):
        runs = _Runs(context, builder, signature, arguments)
        runs.store(0, arguments[1], runs.load(2, arguments[3]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def square_sum(typing, values, start, count):
    """Sum of the squares of the first `count`, an int64 of at most `LANES`, of floats from `start` on."""
    signature = values.dtype(values, start, types.int64)

    def generate(context, builder, signature, arguments):
        runs = _Runs(context, builder, signature, arguments)
        run = runs.load(0, arguments[1])
        zero = ir.Constant(run.type, [0.0] * LANES)
        run = builder.select(runs.among(arguments[2]), run, zero)
        square = builder.fmul(run, run, flags=_FLAGS)
        element = run.type.element
        kind = ir.FunctionType(element, (element, run.type))
        name = f"llvm.vector.reduce.fadd.v{LANES}{element.intrinsic_name}"
        add = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(add, [element(0.0), square], fastmath=_FLAGS)

    return signature, generate


@intrinsic
def fill(typing, out, place, value):
    """A run of one float, written to an array of floats from `place` on."""
    signature = types.void(out, place, value)

    def generate(context, builder, signature, arguments):
        runs = _Runs(context, builder, signature, arguments)
        runs.store(0, arguments[1], runs.all(arguments[2]))
        return context.get_dummy_value()

    return signature, generate


@inlined_jit
def blend_singly(out, place, pixels, top, bottom, channels, first, end, weights):
    """As `blend_run`, of the channels first..end - 1, one by one: where a run would reach too far."""
    for i in range(first, end):
        out[place + i] = narrow(
            weights[0] * widen(pixels[top + i])
            + weights[1] * widen(pixels[top + channels + i])
            + weights[2] * widen(pixels[bottom + i])
            + weights[3] * widen(pixels[bottom + channels + i]),
            out.dtype,
        )


@inlined_jit
def blend(out, place, pixels, top, bottom, channels, count, weights):
    """As `blend_run`, of `count` channels; spills."""
    for k in range(0, count, LANES):
        if max(top, bottom) + k + channels + LANES <= pixels.size and place + k + LANES <= out.size:
            blend_run(out, place + k, pixels, top + k, bottom + k, channels, weights)
        else:
            blend_singly(out, place, pixels, top, bottom, channels, k, count, weights)


@inlined_jit
def copy(out, place, source, start, count):
    """`count` values of an array from `start` on, copied to another of its type from `place` on; spills."""
    for k in range(0, count, LANES):
        if start + k + LANES <= source.size and place + k + LANES <= out.size:
            _copy_run(out, place + k, source, start + k)
        else:
            for i in range(k, count):
                out[place + i] = source[start + i]
