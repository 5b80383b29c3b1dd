"""The Python half of `core.bdinn`: what plugin.c calls."""

import os
import sys
from typing import Any

import vapoursynth as vs

from bdinn_core.errors import unexpected

__all__ = ["call"]


def call() -> None:
    """Runs the `core.bdinn.Deband` call that waits in this thread.

    Raises:
        vs.Error: what it needs can't be imported. All other errors are the waiting call's.
    """
    if "torch" not in sys.modules:
        # Torch's threads wait for each other by spinning, unless told so before it's imported; beside
        # other filters and an encoder that costs most of the machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from .filter import deband
    except Exception as error:  # torch's libraries fail in many ways
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise vs.Error(f"can't be loaded with the Python in {sys.prefix}: {what}") from error

    def run(**arguments: Any) -> dict[str, Any]:
        try:
            return {"clip": deband(**arguments)}
        except vs.Error as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"Deband: {unexpected(error)}"}

    core: Any = vs.core  # plugins aren't in its type
    core.bdinn.Run(impl=run)
