"""The banding of a job's frames, before and after: a look now and then, which hardly takes time."""

import time
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from ..planes import Frame
from .progress import Work

if TYPE_CHECKING:  # importing torch takes seconds
    from ..transfer import AnyFrame

__all__ = ["BandingLooks"]

REST = 100
"""How many times as long as a look took nothing is looked at after it."""


class BandingLooks:
    """Measures the banding of a frame now and then, the first time at once.

    Chunks of a job share one: each may be done so soon that looking at its first frame would take a good part
    of the time.
    """

    def __init__(self) -> None:
        self._rests_until = -inf

    def __call__(self, source: "AnyFrame", result: Frame) -> Work:
        """What a look at a frame finds, or nothing where it isn't time for one."""
        began = time.monotonic()
        if began < self._rests_until:
            return Work()
        from ..measure import banding_share
        from ..steps import plane_step

        luma = _luma(source)
        step = plane_step(luma, 0)
        before, after = banding_share(luma, 0, step), banding_share(_luma(result), 0, step)
        ended = time.monotonic()
        self._rests_until = ended + REST * (ended - began)
        return Work(looks=1, banding_before=before, banding_after=after)


def _luma(frame: "AnyFrame") -> Frame:
    """A frame's luma as a grey frame in the host's memory."""
    from ..transfer import fetch

    plane = frame.planes[frame.format.luma_plane]
    grey = replace(frame.format, family="gray", subsampling=(0, 0))
    return Frame((fetch(plane, grey.dtype),), grey, frame.interlaced)
