"""Time a job of bdinn-video end to end and stage by stage, beside what it could reach.

The clip is a gradient with noise that moves, made for the purpose, or --input. Rounds are interleaved and
medians taken, so that a machine shared with others slows all alike: read the ratios. Targets stand beside
what has one. Of the pipeline, the ceiling is what the cores allow: its stages, one after the other on all
of them, can't take less time than their work.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import av
import numpy as np
import torch
from lab.speed import FILTERS, decode, ffmpeg_fps, vapoursynth_fps
from lab.yardstick import KMAC_TARGETS, yardstick

from bdinn_core import Debander, DebandOptions, Frame, load_model
from bdinn_core.network import fastest, has_half_precision
from bdinn_core.video import Progress, VideoJob, run_job
from bdinn_core.video.codecs import plan_encoding
from bdinn_core.video.reader import Source
from bdinn_core.video.writer import MediaWriter


class Row(NamedTuple):
    """A line of the table."""

    name: str
    value: float
    unit: str
    target: str = ""


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """A gradient with noise that moves, 4:2:0 of 8 bits, lightly coded."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        options = {"preset": "veryfast", "crf": "18"}
        video = output.add_stream("libx264", rate=24, options=options, width=width, height=height)
        for number in range(frames):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane in frame.planes:
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
                y, x = np.indices((plane.height, plane.width))
                noise = rng.normal(0, 0.3, x.shape)
                rows[:, : plane.width] = np.rint(60 + 0.03 * (x + 3 * number) + 0.02 * y + noise)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))


class _Clock(Progress):
    """Knows when the work began."""

    def begin(self, total: int | None, done: int = 0) -> None:
        self.start = time.perf_counter()


class Stages:
    """The stages of a job, each to be run alone, and the job."""

    def __init__(self, path: Path, folder: Path, model: str, codec: str, preset: str | None, threads: int):
        self.path, self.threads = path, threads
        self.job = VideoJob(
            source=str(path),
            output=str(folder / "out.mkv"),
            codec=codec,
            preset=preset,
            threads=threads,
            overwrite=True,
        )
        self.options = DebandOptions(model=model)
        with closing(Source(str(path))) as source:
            info = source.tracks[0].info
            self.encoding = plan_encoding(codec, info, preset=preset, threads=threads)
        depth = self.encoding.pixel.bit_depth
        self.engine = Debander(DebandOptions(model=model, output_depth=depth))
        self.pictures = decode(path)
        self.results = self._process([picture.frame for picture in self.pictures])

    def decode(self) -> None:
        """Reading."""
        decode(self.path, self.threads)

    def network(self) -> None:
        """All that the engine does."""
        self._process([picture.frame for picture in self.pictures])

    def network_on_thirds(self) -> None:
        """The same number of frames, each of them thrice and with planes of its own."""
        count = len(self.pictures)
        stills = [self.pictures[i // 3].frame for i in range(count)]
        self._process([Frame(tuple(p.copy() for p in f.planes), f.format, f.interlaced) for f in stills])

    def encode(self) -> None:
        """Writing what the engine made."""
        with ExitStack() as opened:
            source = opened.enter_context(closing(Source(str(self.path))))
            encodings = {source.tracks[0].index: self.encoding}
            writer = opened.enter_context(closing(MediaWriter(self.job, source, encodings, print)))
            for picture, frame in zip(self.pictures, self.results, strict=True):
                writer.picture(replace(picture, content=frame))
            writer.finish()

    def run(self) -> float:
        """The job: all of them at the same time. Seconds since the engine was loaded."""
        clock = _Clock()
        run_job(self.job, self.options, clock)
        return time.perf_counter() - clock.start

    def _process(self, frames: Sequence[Frame]) -> list[Frame]:
        size = self.engine.batch_size
        batches = [self.engine.process(frames[i : i + size], i) for i in range(0, len(frames), size)]
        return [frame for batch in batches for frame in batch]

    def peak_mebibytes(self) -> float:
        """Largest resident memory of the job in a process of its own."""
        command = [sys.executable, "-m", "bdinn_core", self.job.source, self.job.output, "-y"]
        command += ["--codec", self.job.codec, "--threads", str(self.threads)]
        command += ["--model", str(self.options.model)]
        command += ["--preset", self.job.preset] if self.job.preset else []
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # it didn't see that
        if process.returncode:
            raise click.ClickException(f"{' '.join(command)} failed")
        return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def network_alone(model: str, device: torch.device, plane: np.ndarray) -> tuple[Callable[[], None], float]:
    """A call of the network on a plane, and its kMAC a pixel."""
    network = load_model(model, device).requires_grad_(False)
    half = has_half_precision(device)
    version = fastest(network, device, half)
    x = torch.from_numpy(plane.astype(np.float32))[None, None].to(device)

    def run() -> None:
        with torch.inference_mode():
            version.forward(x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run, network.kmac_per_pixel


def convolution(device: torch.device, half: bool) -> tuple[Callable[[], None], float]:
    """Some calls of the yardstick, and their kMAC."""
    call, macs = yardstick(device, half)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(10):
                call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run, 10 * macs / 1000


class Times(NamedTuple):
    """Medians of a candidate, in seconds."""

    wall: float
    cpu: float


def median_times(candidates: dict[str, Callable[[], float | None]], rounds: int) -> dict[str, Times]:
    """Times of each candidate over interleaved rounds, after one that isn't counted.

    A candidate may tell by itself how many seconds it took.
    """
    times: dict[str, list[Times]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, call in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            told = call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                times[name].append(Times(wall if told is None else told, cpu))
    return {n: Times(*map(statistics.median, zip(*values, strict=True))) for n, values in times.items()}


def measure(stages: Stages, rounds: int) -> list[Row]:
    """The table but for peers."""
    engine, count = stages.engine, len(stages.pictures)
    luma = stages.pictures[0].frame.planes[0]
    network, kmac = network_alone(str(engine.options.model), engine.device, luma)
    conv, conv_kmac = convolution(engine.device, False)
    same, _ = convolution(engine.device, has_half_precision(engine.device))
    names = ("decode", "network", "encode")
    candidates: dict[str, Callable[[], float | None]] = {name: getattr(stages, name) for name in names}
    candidates |= {
        "job": stages.run,
        "thrice": stages.network_on_thirds,
        "alone": network,
        "conv": conv,
        "same": same,
    }
    times = median_times(candidates, rounds)
    slowest = max(times[name].wall for name in names)
    work = sum(times[name].cpu for name in names) / (os.cpu_count() or 1)
    rows = [Row("job", count / times["job"].wall, "fps")]
    rows += [Row(f"{name} stage", count / times[name].wall, "fps") for name in names]
    total = sum(times[name].wall for name in names)
    rows += [Row(f"share of {name}", 100 * times[name].wall / total, "%") for name in names]
    megapixels = sum(plane.size for plane in stages.pictures[0].frame.planes) / 1e6
    kmac_of = {
        name: times["alone"].wall / luma.size * conv_kmac / times[name].wall for name in ("conv", "same")
    }
    limit = KMAC_TARGETS.get(str(engine.options.model))
    rows += [
        Row("job to its slowest stage", 100 * slowest / times["job"].wall, "%", ">= 85"),
        Row("ceiling of that by the cores", 100 * slowest / max(slowest, work), "%"),
        Row("network stage a megapixel", 1000 * times["network"].wall / count / megapixels, "ms/Mpx"),
        Row("network itself", 1e9 * times["alone"].wall / luma.size, "ms/Mpx"),
        Row("... to its kMAC of such conv2d", kmac_of["same"] / kmac, "x"),
        Row("... in kMAC of float32 conv2d", kmac_of["conv"], "kMAC", f"<= {limit:g}" if limit else ""),
        Row("frames thrice to moving", times["network"].wall / times["thrice"].wall, "x", ">= 2.5"),
        Row("peak memory of the job", stages.peak_mebibytes(), "MiB"),
    ]
    if engine.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(engine.device) / 2**20
        rows.append(Row("peak memory of the GPU", peak, "MiB"))
    return rows


def measure_peers(stages: Stages, rounds: int) -> list[Row]:
    """Other debanders' frames per second, and this one's in VapourSynth; those that can't run are named."""
    peers: dict[str, Callable[[], float | str]] = {
        "ffmpeg deband": partial(ffmpeg_fps, stages.pictures),
        **{name: partial(vapoursynth_fps, stages.path, name) for name in FILTERS},
    }
    found: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in list(peers):
            fps = peers[name]()
            if isinstance(fps, str):
                click.echo(f"{name} left out: {fps}")
                del peers[name]
            else:
                found[name].append(fps)
    return [Row(name, statistics.median(found[name]), "fps") for name in peers]


def print_table(rows: Sequence[Row], old: dict[str, float] | None) -> None:
    for row in rows:
        line = f"{row.name:<30} {row.value:10.2f} {row.unit:<7} {row.target:<8}"
        if old is not None and row.name in old:
            line += f" was {old[row.name]:10.2f}, now {row.value / old[row.name]:6.2f}x"
        click.echo(line.rstrip())


@click.command(help=__doc__)
@click.option("--input", "path", type=click.Path(exists=True, path_type=Path), help="a clip of your own")
@click.option("--width", default=1920, show_default=True)
@click.option("--height", default=1080, show_default=True)
@click.option("--frames", default=24, show_default=True, help="of the clip that is made")
@click.option("--rounds", default=3, show_default=True)
@click.option("--model", default="fast", show_default=True)
@click.option("--codec", default="libx265", show_default=True)
@click.option("--preset", help="of the encoder")
@click.option("--threads", default=0, help="as of bdinn-video")
@click.option("--peers/--no-peers", default=True, help="the other debanders too")
@click.option("--json", "target", type=click.Path(path_type=Path), help="write the figures there")
@click.option("--compare", type=click.Path(exists=True, path_type=Path), help="with figures written before")
def main(
    path: Path | None,
    width: int,
    height: int,
    frames: int,
    rounds: int,
    model: str,
    codec: str,
    preset: str | None,
    threads: int,
    peers: bool,
    target: Path | None,
    compare: Path | None,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder, "clip.mkv")
            make_clip(path, width, height, frames)
        stages = Stages(path, Path(folder), model, codec, preset, threads)
        first = stages.pictures[0].frame
        click.echo(
            f"{first.width}x{first.height} {first.format.family}, {first.format.bit_depth} bits, "
            f"{len(stages.pictures)} frames, {model}, {codec}, {torch.get_num_threads()} threads, "
            f"{stages.engine.device}; median of {rounds} rounds"
        )
        rows = measure(stages, rounds)
        if peers:
            rows += measure_peers(stages, rounds)
    print_table(rows, json.loads(compare.read_text()) if compare else None)
    if target is not None:
        target.write_text(json.dumps({row.name: row.value for row in rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
