"""Time Deband beside the classic debanders in VapourSynth: frames per second, in one run.

The clip is a noisy gradient, made before the clock starts. Rounds are interleaved and medians taken, so
that a machine shared with others slows all alike; read the ratios. Peers that aren't installed, or can't
run here, are named with the reason (`pip install '.[bench]'` brings them).
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the plugin does, before torch is imported

import numpy as np
import vapoursynth as vs

core: Any = vs.core
FILTERS: dict[str, Callable[[vs.VideoNode], vs.VideoNode]] = {
    "bdinn.Deband": lambda clip: core.bdinn.Deband(clip),
    "vszip.Deband": lambda clip: core.vszip.Deband(clip),
    "placebo.Deband": lambda clip: core.placebo.Deband(clip, planes=7),
}
"""At their defaults, but that all do all planes."""


def make_clip(width: int, height: int, frames: int) -> vs.VideoNode:
    """A 4:2:0 clip of one frame, a gradient with noise, over and over."""
    blank = core.std.BlankClip(format=vs.YUV420P8, width=width, height=height, length=1)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        filled = f.copy()
        for p in range(3):
            plane = np.asarray(filled[p])
            y, x = np.indices(plane.shape)
            noise = np.random.default_rng(p).normal(0, 0.3, plane.shape)
            plane[:] = np.rint(60 + 0.03 * x + 0.02 * y + noise)
        return filled

    return core.std.Loop(core.std.ModifyFrame(blank, blank, fill), frames)


def time_round(make: Callable[[vs.VideoNode], vs.VideoNode], clip: vs.VideoNode) -> float:
    """Frames per second of one pass through the filter."""
    filtered = make(clip)
    start = time.perf_counter()
    for _ in filtered.frames(close=True, collect_garbage=False):
        pass
    return clip.num_frames / (time.perf_counter() - start)


def why_not(name: str) -> str | None:
    """Why a filter can't run here; tried in a process of its own, which a broken driver may crash."""
    command = [sys.executable, __file__, "--only", name, "--frames", "1", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    words = done.stderr.strip().splitlines() or ["it crashed"]
    return words[-1]


@click.command(help=__doc__)
@click.option("--width", default=1920, show_default=True)
@click.option("--height", default=1080, show_default=True)
@click.option("--frames", default=8, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", type=click.Choice(list(FILTERS)), help="time this one alone")
def main(width: int, height: int, frames: int, rounds: int, only: str | None) -> None:
    reasons = {} if only else {name: why_not(name) for name in FILTERS}
    clip = make_clip(width, height, frames)
    times: dict[str, list[float]] = {
        name: [] for name in FILTERS if reasons.get(name) is None and only in (None, name)
    }
    for name in times:
        time_round(FILTERS[name], clip[:2])  # loads and compiles what it needs
    for _ in range(rounds):
        for name, results in times.items():
            results.append(time_round(FILTERS[name], clip))
    click.echo(f"{width}x{height} 4:2:0, 8 bits: {frames} frames, median of {rounds} rounds")
    for name in FILTERS:
        if name in times:
            click.echo(f"{name:<16} {statistics.median(times[name]):8.2f} fps")
        elif reasons.get(name):
            click.echo(f"{name:<16} left out: {reasons[name]}")


if __name__ == "__main__":
    main()
