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
"""Makes of a batch's first frame number, and its frames from all clips, clip by clip, a tall frame."""


def filter_in_batches(
    clips: list[vs.VideoNode], target: vs.VideoFormat, filters: list[Filter], batch: int
) -> vs.VideoNode:
    """The result of filtering `clips` together, with the frame properties of the first.

    Args:
        clips: Clips of one size and length.
        target: Format of the results, which are of that size too.
        filters: Every one takes each `len(filters)`-th batch: VapourSynth runs one callback of a
            ModifyFrame at a time, but those of several at once.
        batch: Frames a filter gets at once; the last batch of a clip is filled by repetition.
    """
    core: Any = vs.core  # plugins' functions aren't in its type
    clip = clips[0]
    count, period = clip.num_frames, batch * len(filters)
    padding = [count - 1] * (-count % period)
    if padding:
        clips = [core.std.DuplicateFrames(each, padding) for each in clips]
    lanes: list[vs.VideoNode] = []
    for stream, run in enumerate(filters):
        offsets = [stream * batch + i for i in range(batch)]
        inputs = [
            core.std.SelectEvery(each, period, offset, modify_duration=False) if period > 1 else each
            for each in clips
            for offset in offsets
        ]
        tall = core.std.BlankClip(inputs[0], height=batch * clip.height, format=target, keep=True)
        tall = core.std.ModifyFrame(tall, inputs, _selector(run, stream * batch, period))
        lanes += [
            core.std.CropAbs(tall, clip.width, clip.height, 0, i * clip.height) if batch > 1 else tall
            for i in range(batch)
        ]
    result = core.std.Interleave(lanes, modify_duration=False)[:count]
    return core.std.CopyFrameProps(result, clip)


def _selector(run: Filter, first: int, period: int) -> Callable[..., vs.VideoFrame]:
    def select(n: int, f: vs.VideoFrame | list[vs.VideoFrame]) -> vs.VideoFrame:
        return run(first + n * period, f if isinstance(f, list) else [f])

    return select
