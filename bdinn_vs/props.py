"""What's measured of every frame, as its properties."""

from typing import Any

import vapoursynth as vs

from bdinn_core import FrameFormat
from bdinn_core.measure import banding_share, mean_change
from bdinn_core.steps import plane_step

from .frames import failures_of, format_of, read

__all__ = ["add_measures"]


def add_measures(result: vs.VideoNode, clip: vs.VideoNode, step: float | str) -> vs.VideoNode:
    """`result` with the frame properties `BdinnBanding`, of `clip`, and `BdinnChange`, between the two.

    Args:
        result: What was made of `clip`, at any depth.
        clip: Likewise of the engine's formats.
        step: As in `DebandOptions`.
    """
    core: Any = vs.core  # plugins' functions aren't in its type
    measure = _Measure(format_of(clip), format_of(result), None if isinstance(step, str) else step)
    return core.std.ModifyFrame(result, [clip, result], measure)


class _Measure:
    """Measures frames one after the other. Holds no clip and no core, as the streams don't."""

    def __init__(self, source: FrameFormat, target: FrameFormat, step: float | None) -> None:
        self._source = source
        self._target = target
        self._step = step

    def __call__(self, n: int, f: list[vs.VideoFrame]) -> vs.VideoFrame:
        """The result's frame, the second one, with its properties."""
        with failures_of(n):
            before, after = read(f[0], self._source), read(f[1], self._target)
            planes = range(self._source.num_planes)
            marked = f[1].copy()
            marked.props["BdinnBanding"] = [
                banding_share(before, p, self._step or plane_step(before, p)) for p in planes
            ]
            marked.props["BdinnChange"] = [mean_change(before, after, p) for p in planes]
            return marked
