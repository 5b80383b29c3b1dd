"""The VapourSynth front: `core.bdinn.Deband`, and `deband`, the same function with types.

Only type checkers see `Core`, VapourSynth's core with this plugin in it:

    core = cast("bdinn_vs.Core", vapoursynth.core)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import vapoursynth as vs

    from .filter import deband

    class Plugin(vs.Plugin):
        """Type of `core.bdinn`."""

        Deband = staticmethod(deband)

    class Core(vs.Core):
        """Type of a core that has loaded the plugin."""

        bdinn: Plugin


__all__ = ["deband"]


def __getattr__(name: str) -> Any:
    if name != "deband":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .filter import deband  # late, since it imports torch

    return deband
