"""Makes a short banded clip, debands it with bdinn-video, and shows what changed.

Prints CAMBI (a measure of visible banding; 0 is none) and the PSNR of smooth regions before and after.
Everything goes into --out: both clips, a preview with the contrast raised, and a report for the browser.
"""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import click
import numpy as np
import torch
from av.video.stream import VideoStream
from lab.metrics import cambi, psnr, smooth_mask

WIDTH, HEIGHT, FRAMES, RATE = 640, 360, 24, 24


def true_luma(number: int) -> np.ndarray:
    """Frame `number` without banding: dusk behind hills, float32 (HEIGHT, WIDTH) in 8-bit steps."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) / HEIGHT
    glow = np.exp(-((x - 0.6 - 0.01 * number) ** 2 + (y - 0.75) ** 2) / 0.35)
    sky = 24 + 14 * y + 34 * glow
    ridge = 0.78 + 0.06 * np.sin(5 * x) + 0.02 * np.sin(23 * x + 1)
    grass = np.random.default_rng(0).normal(30, 4, (HEIGHT, WIDTH)).astype(np.float32)
    below = np.clip((y - ridge) * HEIGHT / 2 + 0.5, 0, 1)
    return sky * (1 - below) + grass * below


def write_sample(path: Path) -> None:
    """The clip in 8 bits, coded well enough that its bands come from the 8 bits alone."""
    with av.open(path, "w") as container:
        options = {"crf": "8", "preset": "veryfast", "x264-params": "log-level=none"}
        stream = cast(VideoStream, container.add_stream("libx264", rate=RATE, options=options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            codes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
            codes[:HEIGHT] = np.rint(true_luma(number))
            frame = av.VideoFrame.from_ndarray(codes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_luma(path: Path) -> Iterator[np.ndarray]:
    """Luma of every frame as 10-bit codes, uint16."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            deep = frame.format.components[0].bits > 8
            plane, kind = frame.planes[0], np.dtype(np.uint16 if deep else np.uint8)
            rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
            yield rows[:, : plane.width].astype(np.uint16) * (1 if deep else 4)


def smooth_psnr(frames: list[np.ndarray]) -> float:
    """PSNR of 10-bit frames to the truth over its smooth regions, dB."""
    errors = []
    for number, codes in enumerate(frames):
        truth = true_luma(number)
        smooth = smooth_mask(torch.from_numpy(truth)[None, None])[0, 0].numpy()
        errors.append(np.square(codes / 4 - truth)[smooth])
    return psnr(float(np.concatenate(errors).mean()))


def bdinn_video(*arguments: object) -> None:
    """Runs the command as a user would."""
    command = [sys.executable, "-m", "bdinn_core", *map(str, arguments), "-y"]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)


@click.command(help=__doc__)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("out"), show_default=True
)
def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    source, result = out / "sample.mp4", out / "debanded.mkv"
    preview, report = out / "preview.png", out / "report.html"
    write_sample(source)
    bdinn_video(source, result, "--crf", 12, "--report", report)
    bdinn_video(source, "--preview", 0.5, preview)
    before, after = list(read_luma(source)), list(read_luma(result))
    dither = np.random.default_rng(0)
    truth = [
        np.floor(true_luma(n) * 4 + dither.random((HEIGHT, WIDTH))).astype(np.uint16) for n in range(FRAMES)
    ]
    click.echo(f"{'':24} {'before':>8} {'after':>8} {'without banding':>16}")
    click.echo(f"{'CAMBI, 10 bits':24} {cambi(before):8.2f} {cambi(after):8.2f} {cambi(truth):16.2f}")
    click.echo(f"{'smooth regions, PSNR dB':24} {smooth_psnr(before):8.2f} {smooth_psnr(after):8.2f}")
    click.echo(f"\nbefore, after: {source}, {result}\na preview: {preview}\nfor the browser: {report}")


if __name__ == "__main__":
    main()
