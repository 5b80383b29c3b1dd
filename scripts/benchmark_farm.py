"""What cutting a job into chunks costs, and what several workers gain.

python scripts/benchmark_farm.py [--json FILE]

Runs `bdinn-video` on a made clip: in one go, in chunks, and in chunks shared by workers. Whole commands are
timed, start-up and joining included, by turns; what counts is their ratio. FFV1 encodes every picture
by itself, so that the encoder loses nothing at a cut.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from lab.media import make

RATE = 25


def draw(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """Gradients that move on and on: of a picture that equals the last one, the network does nothing."""
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        ramp = np.add.outer(np.arange(plane.height), np.arange(plane.width)) // 4 + number
        rows[:, : plane.width] = 40 + np.abs(ramp % 320 - 160)
    return frame


def run(source: Path, output: Path, arguments: list[str]) -> float:
    """Seconds that a job takes."""
    command = [sys.executable, "-m", "bdinn_core", str(source), str(output), "--codec", "ffv1", *arguments]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - began
    output.unlink()
    return seconds


@click.command(help=__doc__)
@click.option("--seconds", default=60, show_default=True, help="Length of the clip.")
@click.option(
    "--size", type=(int, int), default=(640, 360), show_default=True, help="Width and height of it."
)
@click.option(
    "--workers", type=int, default=(2,), multiple=True, show_default=True, help="How many; may be repeated."
)
@click.option("--repeat", default=3, show_default=True, help="Runs of each; the median counts.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Writes the figures there too.")
def main(
    seconds: int, size: tuple[int, int], workers: tuple[int, ...], repeat: int, path: Path | None
) -> None:
    width, height = size
    ways = {"in one go": ["--chunk-seconds", "0"], "in chunks": []}
    ways |= {f"{count} workers": ["--workers", str(count)] for count in workers}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.mkv")
        clip: dict[str, Any] = {"codec": "libx264", "options": {"preset": "veryfast"}, "draw": draw}
        clip |= {"width": width, "height": height, "time_base": Fraction(1, RATE), "sound": "aac"}
        make(source, times=range(seconds * RATE), **clip)
        for _ in range(repeat):
            for name, arguments in ways.items():
                times[name].append(run(source, Path(folder, "out.mkv"), arguments))
    medians = {name: statistics.median(values) for name, values in times.items()}
    whole = medians["in one go"]
    print(f"{seconds} s of {width}x{height}, {repeat} runs each")
    for name, median in medians.items():
        spread = f"{min(times[name]):.1f} to {max(times[name]):.1f}"
        fps = seconds * RATE / median
        print(f"{name:>12}: {median:6.1f} s ({spread}), {fps:6.1f} fps, {median / whole:.3f} of one go")
    if path is not None:
        path.write_text(json.dumps({"seconds": times, "ratios": {n: m / whole for n, m in medians.items()}}))


if __name__ == "__main__":
    main()
