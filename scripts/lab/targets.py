"""What the project promises of its models, and whether the evaluation's rows keep it."""

from collections.abc import Sequence
from dataclasses import dataclass

import click

from .methods import PEERS
from .score import Row, mean, select

__all__ = ["TARGETS", "Extras", "check_targets"]

LIGHT = ("x264 crf 21", "x265 crf 24", "vp9 crf 32", "svt-av1 crf 35")
HEAVY = ("x264 crf 33", "vp9 crf 52")


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Least or largest values; dB, or as their names say."""

    quantised_psnr: float
    """Smooth regions after rounding to 8 bits."""
    light_gain: float
    """Smooth regions after each of `LIGHT`, over the input."""
    heavy_gains: tuple[float, float]
    """The same after those of `HEAVY`, in its order ..."""
    heavy_contours: tuple[float, float]
    """... and the contour error over the input's, at most."""
    coded_detail_gain: float
    """Detail, mean over all coded scenes, over the input."""
    untouched_detail_loss: float
    """Detail of texture and of grain after rounding, at most below the input."""
    coarse_gain: float
    """Whole frames in RGB of each kind of coarse picture, over the input."""
    over_best_peer: float = 4.0
    """Smooth regions after rounding and after each of `LIGHT`."""
    coded_detail_loss: float = 0.1
    """Detail of any coded scene, at most below the input."""
    cambi_left: float = 0.15
    """Share of the input's excess over the truth's own score that may be left."""
    cambi_below: float = 0.3
    """How far a scene's score may end below the truth's own."""
    clean_change: float = 0.15
    """RMS change of what has no banding, at most, 8-bit steps."""


TARGETS = {
    "fast": Targets(
        quantised_psnr=70,
        light_gain=7,
        heavy_gains=(1.5, 5),
        heavy_contours=(0.5, 0.5),
        coded_detail_gain=0,
        untouched_detail_loss=0.3,
        coarse_gain=1.5,
    ),
    "quality": Targets(
        quantised_psnr=72,
        light_gain=8.5,
        heavy_gains=(2.2, 6),
        heavy_contours=(0.4, 0.42),
        coded_detail_gain=0.2,
        untouched_detail_loss=0.2,
        coarse_gain=3,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What isn't in the rows: means over scenes, by method."""

    coarse: dict[str, dict[str, float]]
    """RGB gain in dB by kind of coarse picture."""
    flicker: dict[str, float]
    """Standard deviation over time, 8-bit steps."""
    clean: dict[str, dict[str, float]]
    """RMS change of clean scenes in 8-bit steps, by scene; of our models alone."""


class _Check:
    """Prints each target beside what was reached; remembers whether all were met."""

    def __init__(self) -> None:
        self.met = True

    def __call__(self, what: str, reached: float, target: float, *, at_most: bool = False) -> None:
        good = reached <= target if at_most else reached >= target
        self.met &= good
        relation = "at most" if at_most else "at least"
        click.echo(f"  {what:44} {reached:+8.2f}  {relation} {target:+.2f}  {'ok' if good else 'MISSED'}")


def check_targets(rows: Sequence[Row], extras: Extras, model: str, targets: Targets) -> bool:
    """Prints every target of a model with what was reached; true if all are met.

    Smooth regions are those of drawn scenes: the truth of a photograph has noise of a fraction of a code,
    which no debander brings back.
    """
    check = _Check()
    click.echo(f"\ntargets of {model} (luma; smooth regions of drawn scenes)")
    luma = select(rows, plane="Y")
    drawn = select(luma, drawn=True)
    peers = {row.method for row in rows} & PEERS.keys()

    def value(field: str, degradation: str, method: str = model) -> float:
        found = mean(select(drawn, degradation=degradation, method=method), field)
        if found is None:
            raise click.ClickException(f"no drawn scene has a {field} score for {degradation}")
        return found

    def gain(degradation: str) -> float:
        return value("smooth", degradation) - value("smooth", degradation, "input")

    check("quantised, smooth, dB", value("smooth", "quantised"), targets.quantised_psnr)
    for degradation in LIGHT:
        check(f"{degradation}, smooth, gain, dB", gain(degradation), targets.light_gain)
    if peers:
        for degradation in ("quantised", *LIGHT):
            best = max(value("smooth", degradation, peer) for peer in peers)
            over = value("smooth", degradation) - best
            check(f"{degradation}, smooth, over the best peer, dB", over, targets.over_best_peer)
    for degradation, least, most in zip(HEAVY, targets.heavy_gains, targets.heavy_contours, strict=True):
        check(f"{degradation}, smooth, gain, dB", gain(degradation), least)
        ratio = value("contour", degradation) / value("contour", degradation, "input")
        check(f"{degradation}, contour error over the input's", ratio, most, at_most=True)
    _check_detail(check, luma, model, targets)
    for kind, gains in extras.coarse.items():
        check(f"{kind}, RGB, gain, dB", gains[model], targets.coarse_gain)
    for degradation in ("quantised", *LIGHT, *HEAVY):
        most = targets.cambi_left * max(value("cambi", degradation, "input"), 0)
        check(f"{degradation}, CAMBI's excess", value("cambi", degradation), most, at_most=True)
        least = min(
            r.cambi for r in select(drawn, degradation=degradation, method=model) if r.cambi is not None
        )
        check(f"{degradation}, CAMBI, least excess of a scene", least, -targets.cambi_below)
    check("flicker over the input's", extras.flicker[model] / extras.flicker["input"], 1.0, at_most=True)
    for scene, change in extras.clean[model].items():
        check(f"clean at 10 bits, change: {scene}", change, targets.clean_change, at_most=True)
    return check.met


def _check_detail(check: _Check, luma: Sequence[Row], model: str, targets: Targets) -> None:
    before = {(r.degradation, r.scene): r.detail for r in select(luma, method="input")}

    def gains(degradations: Sequence[str], kind: str = "") -> dict[tuple[str, str], float]:
        return {
            key: row.detail - first
            for row in select(luma, method=model)
            if (key := (row.degradation, row.scene))[0] in degradations
            and row.scene.startswith(kind)
            and row.detail is not None
            and (first := before[key]) is not None
        }

    for kind in ("texture", "grain"):
        found = gains(["quantised"], kind).values()
        check(f"quantised {kind}, detail, gain, dB", sum(found) / len(found), -targets.untouched_detail_loss)
    coded = gains([*LIGHT, *HEAVY])
    worst = min(coded, key=lambda key: coded[key])
    check(f"{worst[0]}, detail, worst: {worst[1]}, dB", coded[worst], -targets.coded_detail_loss)
    check("coded, detail, mean gain, dB", sum(coded.values()) / len(coded), targets.coded_detail_gain)
