"""Scores a model on scenes it never saw; see `python scripts/evaluate.py --help`.

PSNR of the engine's float, undithered result at its default options against the float truth, for
smooth and detail regions apart.
Exit code 1 if a target below is missed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from lab.degrade import Coding, Planes, code, round_to_codes
from lab.holdout import Scene, held_out_scenes
from lab.metrics import cambi, psnr, smooth_mask
from lab.pictures import pictures_option

from bdinn_core import Debander, DebandOptions, Frame, FrameFormat

SMOOTH_GAIN_QUANTISED_DB = 6.0
SMOOTH_GAIN_CODED_DB = 4.0
DETAIL_LOSS_DB = 0.2
LEAST_SHARE = 0.02
"""A region smaller than this share of a plane isn't scored."""

DEGRADATIONS: dict[str, Coding | None] = {
    "quantised": None,
    "x264 crf 21": Coding(codec="libx264", crf=21, options={"preset": "veryfast"}),
    "x265 crf 24": Coding(codec="libx265", crf=24, options={"preset": "veryfast"}),
    "vp9 crf 32": Coding(codec="libvpx-vp9", crf=32, options={"deadline": "good", "cpu-used": "6"}),
    "svt-av1 crf 35": Coding(codec="libsvtav1", crf=35, options={"preset": "8"}),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores of one plane of one scene after one degradation, in dB; None where a region is too small."""

    degradation: str
    scene: str
    drawn: bool
    plane: str
    """Y, U or V."""
    smooth_input: float | None
    smooth: float | None
    detail_input: float | None
    detail: float | None
    cambi_truth: float | None = None
    """CAMBI of luma at 10 bits, dithered: the truth's own, ..."""
    cambi_input: float | None = None
    """... the input's (not dithered), ..."""
    cambi: float | None = None
    """... and the result's."""


def degrade(scene: Scene, coding: Coding | None) -> Planes:
    """The scene in 8 bits; coded, if at all, as the second of three equal frames."""
    y, u, v = (round_to_codes(plane) for plane in scene.planes)
    return (y, u, v) if coding is None else code([(y, u, v)] * 3, coding)[1]


def restore(debander: Debander, plane: np.ndarray) -> np.ndarray:
    """The engine's result for one plane of 8-bit codes, before rounding, float32."""
    values = debander.restore([Frame((plane,), FrameFormat(family="gray"))], 0)[0][0]
    assert values is not None  # only a plane that isn't chosen comes back as None
    return values.numpy()


def dithered_10_bit(plane: np.ndarray) -> np.ndarray:
    """A plane in model units as 10-bit codes, with white noise of one code before rounding down."""
    noise = np.random.default_rng(0).random(plane.shape)
    return np.clip(np.floor(plane * 4 + noise), 0, 1023).astype(np.uint16)


def score_plane(
    scene: Scene, degradation: str, index: int, degraded: np.ndarray, restored: np.ndarray
) -> Row:
    """Scores plane `index` of a scene."""
    truth = scene.planes[index]
    smooth = smooth_mask(torch.from_numpy(truth)[None, None])[0, 0].numpy()

    def region(values: np.ndarray, mask: np.ndarray) -> float | None:
        return psnr(float(np.square(values - truth)[mask].mean())) if mask.mean() >= LEAST_SHARE else None

    smooth_scored = smooth & scene.smooth_is_true
    row = {
        "smooth_input": region(degraded, smooth_scored),
        "smooth": region(restored, smooth_scored),
        "detail_input": region(degraded, ~smooth),
        "detail": region(restored, ~smooth),
    }
    if index == 0:
        row["cambi_truth"] = cambi([dithered_10_bit(truth)])
        row["cambi_input"] = cambi([degraded.astype(np.uint16) * 4])
        row["cambi"] = cambi([dithered_10_bit(restored)])
    return Row(degradation=degradation, scene=scene.name, drawn=scene.drawn, plane="YUV"[index], **row)


def mean(rows: list[Row], field: str) -> float | None:
    """Mean of a field over the rows that have it."""
    values = [value for row in rows if (value := getattr(row, field)) is not None]
    return float(np.mean(values)) if values else None


def gain(rows: list[Row], region: str) -> float | None:
    """Mean gain of a region over its input, dB."""
    before, after = mean(rows, f"{region}_input"), mean(rows, region)
    return None if before is None or after is None else after - before


def line(name: str, rows: list[Row]) -> str:
    """One line of the table: the means of some rows."""

    def number(value: float | None, signed: bool = False) -> str:
        return "      -" if value is None else f"{value:{'+' if signed else ''}7.2f}"

    cells = [f"{name:26}"]
    for region in ("smooth", "detail"):
        cells += [
            number(mean(rows, f"{region}_input")),
            number(mean(rows, region)),
            number(gain(rows, region), True),
        ]
    cells += [number(mean(rows, field)) for field in ("cambi_truth", "cambi_input", "cambi")]
    return " ".join(cells)


def print_table(rows: list[Row]) -> None:
    """Prints, for each degradation, every scene's luma and the means of all planes."""
    heads = ["smooth:", "result", "gain", "detail:", "result", "gain", "CAMBI:", "input", "result"]
    click.echo(f"{'PSNR, dB':26} " + " ".join(f"{head:>7}" for head in heads))
    for degradation in DEGRADATIONS:
        mine = [row for row in rows if row.degradation == degradation]
        luma = [row for row in mine if row.plane == "Y"]
        click.echo(f"\n{degradation}")
        for row in luma:
            click.echo(line(f"  {row.scene}", [row]))
        click.echo(line("  mean Y", luma))
        click.echo(line("  mean Y, drawn scenes", [row for row in luma if row.drawn]))
        for plane in "UV":
            click.echo(line(f"  mean {plane}", [row for row in mine if row.plane == plane]))


def check_targets(rows: list[Row]) -> bool:
    """Prints each target with what was reached (luma, mean over scenes); true if all are met."""
    met = True
    click.echo("\ntargets (luma)")
    for degradation, coding in DEGRADATIONS.items():
        luma = [row for row in rows if row.degradation == degradation and row.plane == "Y"]
        least = SMOOTH_GAIN_QUANTISED_DB if coding is None else SMOOTH_GAIN_CODED_DB
        for region, target in (("smooth", least), ("detail", -DETAIL_LOSS_DB)):
            scored = [row for row in luma if getattr(row, region) is not None]
            reached = gain(scored, region)
            if reached is None:
                raise click.ClickException(f"no scene has a {region} region")
            worst = min(scored, key=lambda row: gain([row], region) or 0.0)
            verdict = "ok" if reached >= target else "MISSED"
            met &= reached >= target
            click.echo(
                f"  {degradation:15} {region} {reached:+6.2f} dB (at least {target:+.1f}) {verdict:6}"
                f"  worst: {worst.scene} {gain([worst], region):+.2f}"
            )
    return met


def write_record(rows: list[Row], path: Path) -> None:
    """Puts the mean luma scores into the record beside a model's weights, under `held_out_psnr_db`."""
    fields = ("smooth_input", "smooth", "detail_input", "detail")
    scores = {}
    for degradation in DEGRADATIONS:
        luma = [row for row in rows if row.degradation == degradation and row.plane == "Y"]
        scores[degradation] = {field: round(value, 2) for field in fields if (value := mean(luma, field))}
    record = {**json.loads(path.read_text(encoding="utf-8")), "held_out_psnr_db": scores}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@click.command()
@click.option("--model", default="fast", show_default=True, help="fast, quality or a .safetensors file.")
@pictures_option
@click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="PyTorch's threads."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write all rows here."
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Also put the means into this record, the .json beside a model's weights.",
)
def main(model: str, pictures: Path, threads: int, json_file: Path | None, record: Path | None) -> None:
    """Scores a model on held-out scenes and checks the project's targets."""
    torch.set_num_threads(threads)
    debander = Debander(DebandOptions(model=model, device="cpu"))
    rows = []
    for scene in held_out_scenes(pictures if pictures.is_dir() else None):
        for degradation, coding in DEGRADATIONS.items():
            for index, plane in enumerate(degrade(scene, coding)):
                rows.append(score_plane(scene, degradation, index, plane, restore(debander, plane)))
    print_table(rows)
    met = check_targets(rows)
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    if record:
        write_record(rows, record)
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
