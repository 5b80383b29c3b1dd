"""Compiling loops with numba."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba

__all__ = ["fast_jit", "inlined_jit", "jit"]


def jit(function: Callable[..., Any], *, fastmath: bool = False, inline: str = "never") -> Callable[..., Any]:
    """Compile `function` at its first call, to run without the GIL.

    The machine code is kept for the next process, where there is a folder to keep it in. Division by
    zero gives infinity: a check would keep loops from becoming vector instructions.

    Args:
        function: A loop over arrays, in the part of Python that numba knows.
        fastmath: Whether sums may be reordered, and NaN and infinity come out as anything.
        inline: "always" puts it into its compiled callers: to hand over arrays takes longer than a few lines.
    """
    settings: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": fastmath,
        "inline": inline,
    }
    try:
        return numba.njit(**settings, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor a home that can be written to
        return numba.njit(**settings)(function)


fast_jit = partial(jit, fastmath=True)
inlined_jit = partial(fast_jit, inline="always")
