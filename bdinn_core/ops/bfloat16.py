"""bfloat16 in compiled loops: the upper 16 bits of a float32. NumPy and numba have no such type."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

__all__ = ["narrow", "widen"]


def widen(value: Any) -> Any:
    """A bfloat16's bits (uint16) as a float32; a float as it is."""
    raise NotImplementedError("for compiled loops")


def narrow(value: Any, dtype: Any) -> Any:
    """A float as an array of that dtype holds it: rounded to a bfloat16's bits for uint16, or as it is."""
    raise NotImplementedError("for compiled loops")


@overload(widen, inline="always")
def _widen(value):
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


@overload(narrow, inline="always")
def _narrow(value, dtype):
    if dtype.dtype == types.uint16:

        def rounded(value, dtype):
            bits = np.float32(value).view(np.uint32)
            odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

        return rounded
    return lambda value, dtype: value
