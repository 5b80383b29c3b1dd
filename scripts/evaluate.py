"""Scores models and peers on scenes that training never saw; see `python scripts/evaluate.py --help`.

Every method gets the same frames; results are compared as they are, before rounding. Prints a table and
the project's targets with what was reached. Exit code 1 if a target is missed.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import click
import numpy as np
import torch
from lab.degrade import Coding, code, round_to_codes, round_to_step
from lab.holdout import Scene, held_out_scenes
from lab.methods import PEERS, Method, bdinn, nothing
from lab.metrics import psnr, smooth_mask
from lab.pictures import pictures_option
from lab.report import plot, print_table
from lab.score import PlaneScorer, Row, mean, select
from lab.targets import TARGETS, Extras, check_targets

from bdinn_core import BdinnError, DebandOptions, Frame, FrameFormat
from bdinn_core.checkpoint import weights_path
from bdinn_core.ycbcr import YCbCr

DEGRADATIONS: dict[str, tuple[Coding | None, int]] = {
    "quantised": (None, 8),
    "x264 crf 21": (Coding(codec="libx264", rate=21, options={"preset": "veryfast"}), 8),
    "x265 crf 24": (Coding(codec="libx265", rate=24, options={"preset": "veryfast"}), 8),
    "vp9 crf 32": (Coding(codec="libvpx-vp9", rate=32, options={"deadline": "good", "cpu-used": "6"}), 8),
    "svt-av1 crf 35": (Coding(codec="libsvtav1", rate=35, options={"preset": "8"}), 8),
    "x264 crf 33": (Coding(codec="libx264", rate=33, options={"preset": "medium", "aq-mode": "0"}), 8),
    "vp9 crf 52": (Coding(codec="libvpx-vp9", rate=52, options={"deadline": "good", "cpu-used": "6"}), 8),
    "10 bits": (None, 10),
    "x265 crf 26, 10 bits": (Coding(codec="libx265", rate=26, options={"preset": "veryfast"}), 10),
}
"""How scenes are coded, if at all, and at how many bits."""
BANDED = ("sky", "dark", "anime", "fog")
"""Drawn scenes that band: scored by CAMBI, and for flicker."""
FLICKER_FRAMES = 8
FLICKER_RATE = 21
COARSE = (
    ("coarse 6/6", 4, False),
    ("coarse 6/5", 8, False),
    ("coarse 6/6 as RGB", 4, True),
    ("coarse 6/5 as RGB", 8, True),
)
"""Name, step of the chroma planes, and whether the frame arrives as RGB."""

YUV420 = FrameFormat(family="yuv", subsampling=(1, 1))
YUV444 = FrameFormat(family="yuv")
RGB = FrameFormat(family="rgb", range="full")
BT709 = YCbCr(matrix="bt709")


def degrade(scene: Scene, coding: Coding | None, bit_depth: int = 8) -> Frame:
    """The scene in 4:2:0; coded, if at all, as the second of three equal frames."""
    y, u, v = (round_to_codes(plane, bit_depth) for plane in scene.planes)
    form = YUV420.with_depth(bit_depth)
    return Frame((y, u, v) if coding is None else code([(y, u, v)] * 3, coding, bit_depth)[1], form)


def score_frame(
    frame: Frame, scorers: list[PlaneScorer], methods: dict[str, Method], **labels: Any
) -> Iterator[Row]:
    """All methods on one frame; `labels` are the fields of `Row` that say which frame it is."""
    for name, method in methods.items():
        for plane, scorer, result in zip("YUV", scorers, method(frame), strict=False):  # grey has Y alone
            yield Row(method=name, plane=plane, **labels, **scorer(result))


def score_scene(scene: Scene, methods: dict[str, Method]) -> Iterator[Row]:
    """All methods on all degradations of a scene."""
    banded = scene.name.split()[0] in BANDED
    scorers = [PlaneScorer(p, scene.smooth_is_true, banded and i == 0) for i, p in enumerate(scene.planes)]
    for degradation, how in DEGRADATIONS.items():
        labels = {"degradation": degradation, "scene": scene.name, "drawn": scene.drawn}
        yield from score_frame(degrade(scene, *how), scorers, methods, **labels)


def coarse_gains(
    scene: Scene, methods: dict[str, Method], chroma_step: int, as_rgb: bool
) -> dict[str, float]:
    """Gain of whole 4:4:4 frames in RGB, dB by method: 6 bits of luma, fewer or as many of chroma.

    Args:
        scene: Its 4:4:4 planes are used.
        methods: All are given the same frame.
        chroma_step: 4 for 6 bits, 8 for 5.
        as_rgb: The frame arrives as 8-bit RGB, whose bands were made in Y'CbCr; else as YUV.
    """
    truth = BT709.decode(scene.full)
    steps = (4, chroma_step, chroma_step)
    coarse = np.stack([round_to_step(p, s) for p, s in zip(scene.full, steps, strict=True)])
    if as_rgb:
        frame = Frame(tuple(round_to_codes(BT709.decode(coarse))), RGB)
    else:
        frame = Frame(tuple(coarse.astype(np.uint8)), YUV444)

    def decibels(method: Method) -> float:
        result = np.stack(method(frame))
        return psnr(float(np.square((result if as_rgb else BT709.decode(result)) - truth).mean()))

    before = decibels(nothing)
    return {name: decibels(method) - before for name, method in methods.items()}


def flicker(scene: Scene, methods: dict[str, Method]) -> dict[str, float]:
    """Standard deviation over time in smooth regions of luma, by method; the scene itself stands still."""
    smooth = smooth_mask(torch.from_numpy(scene.planes[0])[None, None])[0, 0].numpy()
    results: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    luma, *chroma = scene.planes
    u, v = map(round_to_codes, chroma)
    for number in range(FLICKER_FRAMES):
        rng = np.random.default_rng([17, number])
        rate = FLICKER_RATE + int(rng.integers(-2, 3))
        coding = Coding(codec="libx264", rate=rate, options={"preset": "veryfast"})
        y = round_to_codes(luma + rng.normal(0, 0.5, smooth.shape))
        frame = Frame(code([(y, u, v)], coding)[0], YUV420)
        for name, method in methods.items():
            results[name].append(method(frame)[0][smooth])
    return {name: float(np.sqrt(np.stack(frames).var(0).mean())) for name, frames in results.items()}


def clean_change(scene: Scene, method: Method) -> float:
    """RMS change of the scene's luma at 10 bits, in 8-bit steps."""
    frame = Frame((round_to_codes(scene.planes[0], 10),), FrameFormat(family="gray", bit_depth=10))
    return float(np.sqrt(np.square(method(frame)[0] - nothing(frame)[0]).mean()))


def score_extras(scenes: list[Scene], models: dict[str, Method], peers: dict[str, Method]) -> Extras:
    """What `Row` has no place for."""
    everyone = {"input": nothing, **models, **peers}
    coarse: dict[str, dict[str, float]] = {}
    for name, step, as_rgb in COARSE:
        methods = models if as_rgb else everyone  # f3kdb's kin take no RGB
        gains = [coarse_gains(scene, methods, step, as_rgb) for scene in scenes]
        coarse[name] = {method: float(np.mean([g[method] for g in gains])) for method in methods}
    moving = [flicker(scene, everyone) for scene in scenes if scene.name.split()[0] in BANDED]
    return Extras(
        coarse=coarse,
        flicker={name: float(np.mean([f[name] for f in moving])) for name in everyone},
        clean={
            name: {scene.name: clean_change(scene, method) for scene in scenes if not is_rough(scene)}
            for name, method in models.items()
        },
    )


def is_rough(scene: Scene) -> bool:
    """Whether a scene is one of texture or grain, which has no clean version."""
    return scene.name.split()[0] in ("texture", "grain")


def compare_files(truth: Path, degraded: Path, methods: dict[str, Method], count: int) -> list[Row]:
    """Scores the first frames of two files: the original, of more than 8 bits, and what became of it."""
    from bdinn_core.video.reader import Source
    from bdinn_core.video.track import Picture

    def frames(path: Path) -> Iterator[Frame]:
        with closing(Source(str(path))) as source:
            yield from (item.frame for item in source.items(set()) if isinstance(item, Picture))

    rows: list[Row] = []
    for number, (original, frame) in enumerate(zip(frames(truth), frames(degraded), strict=False)):
        if number == count:
            break
        shapes = [[plane.shape for plane in f.planes] for f in (original, frame)]
        if shapes[0] != shapes[1]:
            raise click.UsageError(f"the files' planes differ in size: {shapes[0]}, {shapes[1]}")
        scorers = [PlaneScorer(plane, True, i == 0) for i, plane in enumerate(nothing(original))]
        labels = {"degradation": degraded.name, "scene": f"frame {number}", "drawn": False}
        rows += score_frame(frame, scorers, methods, **labels)
    return rows


def print_extras(extras: Extras) -> None:
    """Two lines a measure: methods, numbers."""
    for what, values in [*extras.coarse.items(), ("flicker", extras.flicker)]:
        unit = "standard deviation over time" if what == "flicker" else "RGB gain, dB"
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        click.echo(f"\n{what}: {unit}\n  {numbers}")
    for name, changes in extras.clean.items():
        numbers = ", ".join(f"{scene} {change:.2f}" for scene, change in changes.items())
        click.echo(f"\nclean at 10 bits, {name}: RMS change, 8-bit steps\n  {numbers}")


def write_record(rows: list[Row], path: Path, model: str) -> None:
    """Puts the mean luma scores into the record beside a model's weights, under `held_out`."""
    scores: dict[str, Any] = {}
    for degradation in DEGRADATIONS:
        luma = select(rows, degradation=degradation, plane="Y")
        for field in ("smooth", "detail", "contour"):
            for method, suffix in (("input", "_input"), (model, "")):
                value = mean(select(luma, method=method), field)
                scores.setdefault(degradation, {})[field + suffix] = value and round(value, 2)
    record = {**json.loads(path.read_text(encoding="utf-8")), "held_out": scores}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _check_outputs(json_file: Path | None, plot_file: Path | None, records: Iterable[Path]) -> None:
    """Refuses what can't be written before anything is scored."""
    for path in (json_file, plot_file):
        if path and not path.resolve().parent.is_dir():
            raise click.UsageError(f"there is no folder {path.parent} for {path.name}: make it first")
    if plot_file and plot_file.suffix not in (".png", ".svg"):
        raise click.UsageError(f"--plot draws a .png or an .svg, not {plot_file.name}")
    for path in records:
        if not path.is_file():
            raise click.UsageError(f"--record adds to the record of a training run, and {path} doesn't exist")


@click.command()
@click.option(
    "--model", "models", multiple=True, default=("fast", "quality"), show_default=True,
    help="fast, quality or a .safetensors file; may be given several times.",
)  # fmt: skip
@click.option(
    "--peers/--no-peers", default=True, show_default=True, help="pip install '.[bench]' brings them."
)
@click.option("--step", default="auto", show_default=True, help="Passed on to the models, as is ...")
@click.option("--limit", type=float, help="... the limit.")
@pictures_option()
@click.option(
    "--truth", type=click.Path(path_type=Path, exists=True), help="Score files of your own: this ..."
)
@click.option("--degraded", type=click.Path(path_type=Path, exists=True), help="... is what became of it.")
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many frames of such files.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="PyTorch's threads."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write all numbers here.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Also draw a PNG or SVG here.")
@click.option("--record", is_flag=True, help="Put each model's means into the record beside its weights.")
def main(
    models: tuple[str, ...],
    peers: bool,
    step: str,
    limit: float | None,
    pictures: Path | None,
    truth: Path | None,
    degraded: Path | None,
    frames: int,
    threads: int,
    json_file: Path | None,
    plot_file: Path | None,
    record: bool,
) -> None:
    """Scores models and peers on held-out scenes and checks the project's targets."""
    if (truth is None) != (degraded is None):
        raise click.UsageError("--truth and --degraded belong together")
    if record and (truth or step != "auto" or limit is not None or pictures is None):
        raise click.UsageError(
            "--record takes the scores of all held-out scenes and pictures, at the defaults"
        )
    names = [Path(model).stem for model in models]
    if len(set(names)) < len(names):
        raise click.UsageError(f"models are told apart by their names, and these are {', '.join(names)}")
    records = {Path(m).stem: weights_path(m).with_suffix(".json") for m in models if record}
    _check_outputs(json_file, plot_file, records.values())
    torch.set_num_threads(threads)
    changed: dict[str, Any] = {} if limit is None else {"limit": limit}
    try:
        options = {"device": "cpu", "step": step if step == "auto" else float(step), **changed}
        ours = {
            name: bdinn(DebandOptions(model=model, **options))
            for name, model in zip(names, models, strict=True)
        }
    except (BdinnError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    others = {name: make() for name, make in PEERS.items()} if peers else {}
    methods = {"input": nothing, **ours, **others}
    extras = None
    if truth and degraded:
        try:
            rows = compare_files(truth, degraded, methods, frames)
        except BdinnError as error:
            raise click.ClickException(str(error)) from error
        print_table(rows)
    else:
        scenes = held_out_scenes(pictures)
        rows = [row for scene in scenes for row in score_scene(scene, methods)]
        print_table(rows)
        extras = score_extras(scenes, ours, others)
        print_extras(extras)
    if json_file:
        values = {"rows": [asdict(row) for row in rows], "extras": extras and asdict(extras)}
        json_file.write_text(json.dumps(values, indent=1), encoding="utf-8")
    if plot_file:
        plot(rows, plot_file)
    for name, path in records.items():
        write_record(rows, path, name)
    if extras:
        for name in ours.keys() - TARGETS.keys():
            click.echo(f"\nno targets are known for {name}: they go by the names {', '.join(TARGETS)}")
        met = [check_targets(rows, extras, name, TARGETS[name]) for name in ours if name in TARGETS]
        raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
