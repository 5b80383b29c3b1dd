"""The debanders that are compared: a frame of integers in, planes in model units out, never rounded.

Peers that take high depths get the codes at 16 bits, so that their results aren't rounded either.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np

from bdinn_core import Debander, DebandOptions, Frame
from bdinn_core.video.formats import PixelFormat, read_planes, write_planes

__all__ = ["PEERS", "Method", "bdinn", "model_units", "nothing"]

Method = Callable[[Frame], list[np.ndarray]]
"""Restores a frame; float32 planes in model units."""


def model_units(frame: Frame) -> list[np.ndarray]:
    """The planes of a frame in 8-bit steps, float32."""
    return [
        plane.astype(np.float32) * np.float32(frame.format.steps_per_value(i))
        for i, plane in enumerate(frame.planes)
    ]


nothing: Method = model_units
"""The input itself, for comparison."""


def bdinn(options: DebandOptions) -> Method:
    """This project's engine."""
    debander = Debander(options)

    def restore(frame: Frame) -> list[np.ndarray]:
        results = debander.restore([frame], 0)[0]
        return [
            plane if result is None else result.cpu().numpy() * np.float32(frame.format.steps_per_value(i))
            for i, (plane, result) in enumerate(zip(model_units(frame), results, strict=True))
        ]

    return restore


def _at_depth(frame: Frame, bits: int) -> Frame:
    """A limited-range frame of integers at another depth; rounded where it has fewer bits."""
    form = frame.format.with_depth(bits)
    ratio = 2.0 ** (bits - frame.format.bit_depth)
    planes = (np.clip(np.rint(plane * ratio), 0, form.peak).astype(form.dtype) for plane in frame.planes)
    return Frame(tuple(planes), form)


def _vapoursynth(apply: Callable[[Any, Any], Any]) -> Method:
    """A filter of VapourSynth: `apply(core, clip)`."""
    import vapoursynth as vs

    core: Any = vs.core

    def restore(frame: Frame) -> list[np.ndarray]:
        deep = _at_depth(frame, 16)
        form = core.query_video_format(vs.YUV, vs.INTEGER, 16, *deep.format.subsampling)
        blank = core.std.BlankClip(format=form, width=deep.width, height=deep.height, length=1)

        def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
            filled = f.copy()
            for i, plane in enumerate(deep.planes):
                np.asarray(filled[i])[...] = plane
            return filled

        clip = apply(core, core.std.ModifyFrame(blank, blank, fill))
        with clip.get_frame(0) as result:
            planes = tuple(np.asarray(result[i]).copy() for i in range(len(deep.planes)))
        return model_units(Frame(planes, deep.format))

    return restore


def _ffmpeg(name: str, bits: int) -> Method:
    """A filter of FFmpeg at its defaults and this bit depth."""

    def restore(frame: Frame) -> list[np.ndarray]:
        deep = _at_depth(frame, bits)
        pixel = PixelFormat(family="yuv", bit_depth=bits, subsampling=deep.format.subsampling)
        clock = Fraction(1, 25)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=deep.width, height=deep.height, format=pixel.name, time_base=clock)
        deband, sink = graph.add(name), graph.add("buffersink")
        source.link_to(deband)
        deband.link_to(sink)
        graph.configure()
        video = av.VideoFrame(deep.width, deep.height, pixel.name)
        write_planes(video, deep, None)
        video.pts, video.time_base = 0, clock
        source.push(video)
        source.push(None)
        result: Any = sink.pull()
        return model_units(read_planes(result, pixel, deep.format)[0])

    return restore


PEERS: dict[str, Callable[[], Method]] = {
    "vszip": lambda: _vapoursynth(lambda core, clip: core.vszip.Deband(clip)),
    "placebo": lambda: _vapoursynth(lambda core, clip: core.placebo.Deband(clip, planes=7)),
    "placebo, no grain": lambda: _vapoursynth(
        lambda core, clip: core.placebo.Deband(clip, planes=7, grain=0)
    ),
    "ffmpeg deband": lambda: _ffmpeg("deband", 16),
    "ffmpeg gradfun": lambda: _ffmpeg("gradfun", 8),
}
"""Every peer at its defaults, on all planes; vszip adds no grain, placebo does, so it's there without too."""
