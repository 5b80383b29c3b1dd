"""Compiling loops with numba."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["jit"]


def jit(function: Callable[..., Any], *, fastmath: bool = False) -> Callable[..., Any]:
    """Compile `function` at its first call, to run without the GIL.

    The machine code is kept for the next process, where there is a folder to keep it in.

    Args:
        function: A loop over arrays, in the part of Python that numba knows.
        fastmath: Whether sums may be reordered, and NaN and infinity come out as anything.
    """
    try:
        return numba.njit(nogil=True, fastmath=fastmath, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor a home that can be written to
        return numba.njit(nogil=True, fastmath=fastmath)(function)
