"""The Python half of `core.bdinn`: what plugin.c calls."""

import sys
from typing import Any

import vapoursynth as vs

from bdinn_core.errors import unexpected

__all__ = ["call"]


def call() -> None:
    """Runs the `core.bdinn.Deband` call that waits in this thread; its errors are that call's."""
    core: Any = vs.core  # plugins aren't in its type
    core.bdinn.Run(impl=_run)


def _run(**arguments: Any) -> dict[str, Any]:
    """The clip, or a line that says why there's none. Ctrl-C passes: VapourSynth hands it on."""
    try:
        from .filter import deband
    except Exception as error:  # torch's libraries fail in many ways
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return {"error": f"Deband: can't be loaded with the Python in {sys.prefix}: {what}"}
    try:
        return {"clip": deband(**arguments)}
    except vs.Error as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"Deband: {unexpected(error)}"}
