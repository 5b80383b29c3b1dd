"""Frames per second of debanders on a clip in memory: FFmpeg's, and those of VapourSynth.

`python -m lab.speed FILE NAME` prints those of a VapourSynth filter: in a process of its own, since a
broken driver may crash it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import av.filter
import numpy as np

from bdinn_core.video.reader import Source
from bdinn_core.video.track import Picture

__all__ = ["FILTERS", "decode", "ffmpeg_fps", "vapoursynth_fps"]

FILTERS: dict[str, Callable[[Any, Any], Any]] = {
    "bdinn.Deband": lambda core, clip: core.bdinn.Deband(clip),
    "vszip.Deband": lambda core, clip: core.vszip.Deband(clip),
    "placebo.Deband": lambda core, clip: core.placebo.Deband(clip, planes=7),
}
"""At their defaults, but that all do all planes."""


def decode(path: Path, threads: int = 0) -> list[Picture]:
    """All pictures of a file."""
    source = Source(str(path), threads=threads)
    try:
        return [item for item in source.items(set()) if isinstance(item, Picture)]
    finally:
        source.close()


def ffmpeg_fps(pictures: Sequence[Picture]) -> float:
    """Of FFmpeg's deband."""
    first = pictures[0].carrier
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format.name, time_base=first.time_base
    )
    deband, sink = graph.add("deband"), graph.add("buffersink")
    source.link_to(deband)
    deband.link_to(sink)
    graph.configure()
    start = time.perf_counter()
    for picture in pictures:
        source.push(picture.carrier)
        sink.pull()
    return len(pictures) / (time.perf_counter() - start)


def vapoursynth_fps(path: Path, name: str) -> float | str:
    """Of a filter of `FILTERS`; why it can't run, where it can't."""
    command = [sys.executable, "-m", "lab.speed", str(path), name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return float(done.stdout)
    return (done.stderr.strip().splitlines() or ["it crashed"])[-1]


def _time_filter(path: Path, name: str) -> float:
    import vapoursynth as vs

    frames = [picture.frame for picture in decode(path)]
    form = frames[0].format
    family = {"gray": vs.GRAY, "yuv": vs.YUV, "rgb": vs.RGB}[form.family]
    kind = vs.FLOAT if form.is_float else vs.INTEGER
    core: Any = vs.core
    blank = core.std.BlankClip(
        format=core.query_video_format(family, kind, form.bit_depth, *form.subsampling),
        width=frames[0].width,
        height=frames[0].height,
        length=len(frames),
        keep=True,
    )

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        filled = f.copy()
        for p, plane in enumerate(frames[n].planes):
            np.asarray(filled[p])[...] = plane
        return filled

    filtered = FILTERS[name](core, core.std.ModifyFrame(blank, blank, fill))
    filtered.get_frame(0)  # loads and compiles what it needs
    start = time.perf_counter()
    for _ in filtered.frames(close=True, collect_garbage=False):
        pass
    return len(frames) / (time.perf_counter() - start)


if __name__ == "__main__":
    print(_time_filter(Path(sys.argv[1]), sys.argv[2]))
