"""Runs a long job and prints how much memory it holds on the way: `growth.py WIDTH HEIGHT FRAMES MODEL`.

A program, so that nothing else is in its memory. Prints JSON: the frames written, and the most resident
bytes in each tenth of them.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import av
from lab.media import make, smooth

from bdinn_core.options import DebandOptions
from bdinn_core.video import Progress, VideoJob, run_job


def resident() -> int:
    """Bytes of memory in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch(Progress):
    """Looks at the memory when a picture is written."""

    def __init__(self, expected: int) -> None:
        self.done, self.expected = 0, expected
        self.tenths = [0] * 10

    def advance(self, frames: int) -> None:
        tenth = 10 * self.done // self.expected
        self.done += frames
        self.tenths[tenth] = max(self.tenths[tenth], resident())


def moving(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """A gradient that moves on and starts again."""
    return smooth(pix_fmt, width, height, number % 64)


def main() -> None:
    width, height, frames = map(int, sys.argv[1:4])
    with tempfile.TemporaryDirectory() as folder:
        options = {"preset": "ultrafast"}
        source = make(
            Path(folder, "in.mkv"),
            codec="libx264",
            options=options,
            draw=moving,
            width=width,
            height=height,
            times=range(frames),
        )
        watch = Watch(frames)
        output = str(Path(folder, "out.mkv"))
        job = VideoJob(source=str(source), output=output, codec="libx264", preset="ultrafast")
        run_job(job, DebandOptions(model=sys.argv[4], device="cpu"), watch)
    json.dump({"frames": watch.done, "tenths": watch.tenths}, sys.stdout)


main()
