"""Elementary functions for compiled loops, in float32 and to about 1e-7.

Written as plain arithmetic they become vector instructions; calls of the mathematics library don't.
`exp` and `log` are taken apart into a power of two and a series (Taylor's; that of the inverse
hyperbolic tangent). The error function is 7.1.26 of Abramowitz and Stegun's handbook.
"""

import numpy as np

from ..jit import fast_jit

__all__ = ["asinh", "exp", "gelu", "log", "tanh"]

LOG2_E, LN_2 = np.float32(np.log2(np.e)), np.float32(np.log(2))
TAYLOR = tuple(np.float32(1 / n) for n in (1, 2, 6, 24, 120, 720))
LEAST = np.float32(-87.0)
"""exp of it is the least normal float32, about."""
ROOT_HALF = np.int32(np.float32(np.sqrt(0.5)).view(np.int32))
ONE, HALF, TWO = np.float32(1), np.float32(0.5), np.float32(2)
ODD = tuple(np.float32(1 / n) for n in (3, 5, 7, 9))
ERF_SCALE = np.float32(0.3275911)
ERF = tuple(np.float32(a) for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))
ROOT_2 = np.float32(np.sqrt(2))


@fast_jit
def exp(x):
    """E to the power x, for x <= 0; below -87 as at -87."""
    scaled = max(x, LEAST) * LOG2_E
    power = np.floor(scaled + HALF)
    t = (scaled - power) * LN_2
    a, b, c, d, e, f = TAYLOR
    series = ONE + t * (a + t * (b + t * (c + t * (d + t * (e + t * f)))))
    return series * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)


@fast_jit
def log(x):
    """Natural logarithm of x, a normal number > 0."""
    bits = np.float32(x).view(np.int32)
    power = np.int32(np.int32(bits - ROOT_HALF) >> np.int32(23))
    mantissa = np.int32(bits - np.int32(power << np.int32(23))).view(np.float32)  # 0.7..1.4
    s = (mantissa - ONE) / (mantissa + ONE)
    square = s * s
    a, b, c, d = ODD
    return np.float32(power) * LN_2 + TWO * s * (
        ONE + square * (a + square * (b + square * (c + square * d)))
    )


@fast_jit
def asinh(x):
    """Inverse hyperbolic sine, to 1e-7 of 1 + its size."""
    size = abs(x)
    value = log(size + np.sqrt(size * size + ONE))
    return value if x >= 0 else -value


@fast_jit
def tanh(x):
    """Hyperbolic tangent, to 1e-7 of 1."""
    e = exp(-TWO * abs(x))
    value = (ONE - e) / (ONE + e)
    return value if x >= 0 else -value


@fast_jit
def gelu(x):
    """X times the normal distribution's integral up to x."""
    z = abs(x) / ROOT_2
    t = ONE / (ONE + ERF_SCALE * z)
    a, b, c, d, e = ERF
    beyond = HALF * t * (a + t * (b + t * (c + t * (d + t * e)))) * exp(-z * z)  # of -|x|
    return x * (beyond if x < 0 else ONE - beyond)
