"""Filtering a clip several frames at a time, without a filter ever asking for frames itself.

Frame requests from inside a filter's callback can deadlock. So the clip is dealt out to lanes, one
frame each; one ModifyFrame over a batch of lanes sees their frames together and returns the results
as one tall frame; cropped apart again, the lanes are interleaved.
"""

from collections.abc import Callable
from typing import Any

import vapoursynth as vs

__all__ = ["filter_in_batches"]

Filter = Callable[[int, list[vs.VideoFrame]], vs.VideoFrame]
"""Makes a tall frame of a batch: of its first frame's number, and its frames from all clips, clip by clip.

Beyond the clip's end, where the last batch isn't full, the frames are any."""


def filter_in_batches(
    clips: list[vs.VideoNode], target: vs.VideoFormat, filters: list[Filter], batch: int
) -> vs.VideoNode:
    """The result of filtering `clips` together, with the frame properties of the first.

    Args:
        clips: Clips of one size and length.
        target: Format of the results, which are of that size too.
        filters: Every one takes each `len(filters)`-th batch: VapourSynth runs one callback of a
            ModifyFrame at a time, but those of several at once.
        batch: Frames a filter gets at once.
    """
    core: Any = vs.core  # plugins' functions aren't in its type
    clip = clips[0]
    last, period = clip.num_frames - 1, batch * len(filters)
    lanes: list[vs.VideoNode] = []
    for first, run in zip(range(0, last + 1, batch), filters, strict=False):
        # A lane that would begin beyond the end holds the last frame: ModifyFrame wants a frame from each.
        offsets = [min(first + i, last) for i in range(batch)]
        inputs = [
            core.std.SelectEvery(each, period, offset, modify_duration=False) if period > 1 else each
            for each in clips
            for offset in offsets
        ]
        tall = core.std.BlankClip(inputs[0], height=batch * clip.height, format=target, keep=True)
        tall = core.std.ModifyFrame(tall, inputs, _selector(run, first, period))
        for i in range(min(batch, last + 1 - first)):
            part = core.std.CropAbs(tall, clip.width, clip.height, 0, i * clip.height) if batch > 1 else tall
            lanes.append(core.std.Trim(part, length=inputs[i].num_frames))
    result = core.std.Interleave(lanes, modify_duration=False)
    return core.std.CopyFrameProps(result, clip)


def _selector(run: Filter, first: int, period: int) -> Callable[..., vs.VideoFrame]:
    def select(n: int, f: vs.VideoFrame | list[vs.VideoFrame]) -> vs.VideoFrame:
        return run(first + n * period, f if isinstance(f, list) else [f])

    return select
