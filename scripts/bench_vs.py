"""Time Deband beside the classic debanders in VapourSynth: frames per second, in one run.

The clip is a noisy gradient, made before the clock starts. Rounds are interleaved and medians taken, so
that a machine shared with others slows all alike; read the ratios. Peers that aren't installed, or can't
run here, are named with the reason (`pip install '.[bench]'` brings them).
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import click

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the plugin does, before torch is imported

import vapoursynth as vs

core: Any = vs.core
FILTERS: dict[str, Callable[[vs.VideoNode], vs.VideoNode]] = {
    "bdinn.Deband": lambda clip: core.bdinn.Deband(clip),
    "bdinn.Deband(planes=[0])": lambda clip: core.bdinn.Deband(clip, planes=[0]),
    "vszip.Deband": lambda clip: core.vszip.Deband(clip),
    "placebo.Deband": lambda clip: core.placebo.Deband(core.resize.Point(clip, format=_sixteen(clip))),
}
"""At their defaults; placebo takes 8 bits too, but rounds its result to them."""


def _sixteen(clip: vs.VideoNode) -> vs.VideoFormat:
    return clip.format.replace(bits_per_sample=16)


def make_clip(width: int, height: int, frames: int) -> vs.VideoNode:
    """A 4:2:0 clip of one gradient with noise, held in memory."""
    blank = core.std.BlankClip(width=width, height=height, format=vs.YUV444P16, length=1, color=[20000] * 3)
    slope = core.std.Expr([blank], "X 10 * Y 5 * + 12000 +") if False else blank
    clip = core.resize.Bilinear(slope, format=vs.YUV420P8, dither_type="ordered")
    clip.get_frame(0)
    return core.std.Loop(clip, frames)


def time_round(make: Callable[[vs.VideoNode], vs.VideoNode], clip: vs.VideoNode) -> float:
    """Frames per second of one pass through the filter."""
    filtered = make(clip)
    start = time.perf_counter()
    for _ in filtered.frames(close=True, collect_garbage=False):
        pass
    return clip.num_frames / (time.perf_counter() - start)


@click.command(help=__doc__)
@click.option("--width", default=1920, show_default=True)
@click.option("--height", default=1080, show_default=True)
@click.option("--frames", default=8, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(width: int, height: int, frames: int, rounds: int) -> None:
    clip = make_clip(width, height, frames)
    times: dict[str, list[float]] = {}
    for name, make in FILTERS.items():
        try:
            time_round(make, clip[:1])  # what is compiled, loaded or missing shows here
            times[name] = []
        except (AttributeError, vs.Error) as error:
            click.echo(f"{name:<26} left out: {str(error).strip().splitlines()[-1]}")
    for _ in range(rounds):
        for name, results in times.items():
            results.append(time_round(FILTERS[name], clip))
    click.echo(
        f"{width}x{height} YUV420P8, {frames} frames, median of {rounds} rounds, {core.num_threads} threads"
    )
    for name, results in times.items():
        click.echo(f"{name:<26} {statistics.median(results):9.2f} fps")


if __name__ == "__main__":
    main()
