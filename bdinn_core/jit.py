"""Compiling while the program runs: loops with numba; and whether Triton can do so for a GPU."""

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numba
import torch

__all__ = ["fast_jit", "has_triton", "inlined_jit", "jit", "why_no_triton"]


def jit(function: Callable[..., Any], *, fastmath: bool = False, inline: str = "never") -> Callable[..., Any]:
    """Compile `function` at its first call, to run without the GIL.

    The machine code is kept for the next process, where there is a folder to keep it in, until the function's
    own file changes: who changes what it calls in another one deletes `__pycache__/*.nbi`. Division by
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


def has_triton(device: torch.device) -> bool:
    """Whether kernels in Triton run on a device; see `why_no_triton`."""
    return why_no_triton(device) is None


@cache
def why_no_triton(device: torch.device) -> str | None:
    """Why kernels in Triton don't run on a device; `None` if they do.

    They do on NVIDIA's GPUs from compute capability 8.0 on, where the package is (it comes with PyTorch for
    Linux) and finds the C compiler and the headers of Python that it needs. On a CPU only in Triton's
    interpreter, for tests: with TRITON_INTERPRET=1 in the environment before Triton is imported.

    Warns:
        RuntimeWarning: the package and the GPU are there, but Triton doesn't work; says why.
    """
    if importlib.util.find_spec("triton") is None:
        return "the package triton isn't installed"
    from triton import knobs
    from triton.runtime import driver

    if knobs.runtime.interpret:
        return None
    if device.type != "cuda" or torch.version.cuda is None:
        return "Triton's kernels are for NVIDIA's GPUs"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 0):
        return f"Triton's kernels are for compute capability 8.0 or more, not {major}.{minor}"
    try:
        driver.active.get_current_target()
    except Exception as error:  # whatever a compiler may fail of
        warnings.warn(
            f"Triton doesn't work here, so the GPU runs slower: {error}", RuntimeWarning, stacklevel=3
        )
        return f"Triton doesn't work: {error}"
    return None
