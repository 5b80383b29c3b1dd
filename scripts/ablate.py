"""Trains variants of the network for equal steps on equal data, and prints what each choice is worth.

Short runs: differences of a tenth of a decibel are noise, as the seeds show.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from lab.pictures import pictures_option
from lab.recipe import Recipe
from torch import nn
from torch.nn import functional as F
from train import Run

from bdinn_core.network import BDINN, CONFIGS
from bdinn_core.network.bdinn import kmac_per_pixel
from bdinn_core.network.blocks import LatentEdit, LiftingStep
from bdinn_core.network.subnet import (
    amount_around,
    convolution,
    difference_features,
    replicate_pad,
    zero_convolution,
)

BASE = CONFIGS["fast"]
NEVER = 99


def of_levels(levels: int) -> BDINN:
    """The base with as many levels."""
    widths, depths = ((values + values[-1:] * levels)[:levels] for values in (BASE.widths, BASE.depths))
    return BDINN(replace(BASE, widths=widths, depths=depths))


def ordinary() -> BDINN:
    """Ordinary convolutions; wider where the base has banded ones, for equal cost."""
    return BDINN(replace(BASE, widths=(8, 24, 33, 49, 49, 49), banded_from_level=NEVER))


class _Deaf(nn.Module):
    """Stands in for what hands something on between scales, and hands nothing on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), self.width, *x.shape[2:])


def without_context() -> BDINN:
    """No features from the coarser scale."""
    model = BDINN(BASE)
    for edit, width in zip(model.edits, BASE.widths, strict=True):
        edit.context = _Deaf(width)  # pyright: ignore[reportAttributeAccessIssue]
    return model


class _Blind(LatentEdit):
    """Doesn't see what the finer scales saw."""

    def description(self, low, high, finer):
        return super().description(low, high, None if finer is None else torch.zeros_like(finer))


class _PlainHaar(LiftingStep):
    """Haar alone: the averages predict nothing."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # without the filter

    def _predicted(self, low: torch.Tensor) -> torch.Tensor:
        return low.new_zeros(1)


class _SubnetStep(LiftingStep):
    """The averages predict the details by a subnet of their squashed differences."""

    def __init__(self, channels: int, width: int) -> None:
        nn.Module.__init__(self)  # without the filter
        self.first, self.last = convolution(3 * channels, width), zero_convolution(width, 3 * channels)

    def _predicted(self, low: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(self.first(replicate_pad(difference_features(low), 1)))
        return self.last(replicate_pad(hidden, 1))


def with_steps(make: Callable[[int], LiftingStep]) -> BDINN:
    """The base with other lifting steps, made from the scale's width."""
    model = BDINN(BASE)
    model.steps = nn.ModuleList(make(width) for width in BASE.widths)  # pyright: ignore
    return model


class _Ungated(LatentEdit):
    def _edited(self, high, gate, shift):
        return high + shift * amount_around(high)


class _Unshifted(LatentEdit):
    def _edited(self, high, gate, shift):
        return high * (1 + torch.tanh(gate))


class _ShiftedAnywhere(LatentEdit):
    def _edited(self, high, gate, shift):
        return high * (1 + torch.tanh(gate)) + shift


def edited_by(kind: type[LatentEdit]) -> BDINN:
    """The base with another kind of edit."""
    model = BDINN(BASE)
    for edit in model.edits:
        edit.__class__ = kind
    return model


class UShape(nn.Module):
    """A plain U-shape of about equal cost: features go down by strides, come up by interpolation, add up."""

    def __init__(self) -> None:
        super().__init__()
        widths = BASE.widths
        self.down = nn.ModuleList(
            convolution(12 if i == 0 else 4 * widths[i - 1], width) for i, width in enumerate(widths)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(coarser, width, 1) for coarser, width in zip(widths[1:], widths, strict=False)
        )
        self.hidden = nn.ModuleList(
            nn.ModuleList(
                convolution(width, width, level >= BASE.banded_from_level) for _ in range(max(depth, 1))
            )
            for level, (width, depth) in enumerate(zip(widths, BASE.depths, strict=True), start=1)
        )
        self.last = zero_convolution(widths[0], 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restored planes (N, 1, H, W) of x, whose sides are multiples of 64."""
        f = F.pixel_unshuffle(difference_features(x), 2)
        downs = []
        for i, layer in enumerate(self.down):
            f = F.gelu(layer(replicate_pad(f if i == 0 else F.pixel_unshuffle(f, 2), 1)))
            downs.append(f)
        for i in reversed(range(len(downs))):
            if i < len(downs) - 1:
                f = downs[i] + F.interpolate(self.up[i](f), scale_factor=2, mode="bilinear")
            for layer in self.hidden[i]:  # type: ignore[union-attr]
                f = f + F.gelu(layer(replicate_pad(f, 1)))
        return x + F.pixel_shuffle(self.last(replicate_pad(f, 1)), 2)


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "base": lambda: BDINN(BASE),
    "ordinary convolutions": ordinary,
    "7 levels": lambda: of_levels(7),
    "5 levels": lambda: of_levels(5),
    "4 levels": lambda: of_levels(4),
    "plain U-shape": UShape,
    "Haar alone": lambda: with_steps(lambda _: _PlainHaar()),
    "predicted by subnets": lambda: with_steps(lambda width: _SubnetStep(1, width // 3)),
    "no context from coarser": without_context,
    "no descriptions of finer": lambda: edited_by(_Blind),
    "no gate": lambda: edited_by(_Ungated),
    "no shift": lambda: edited_by(_Unshifted),
    "shifts anywhere": lambda: edited_by(_ShiftedAnywhere),
}


@click.command(help=__doc__)
@pictures_option()
@click.option("--only", multiple=True, type=click.Choice(list(VARIANTS)), help="These variants alone.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each variant."
)
@click.option("--first-seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=800, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Append one JSON object a run here."
)
def main(
    pictures: Path | None,
    only: tuple[str, ...],
    seeds: int,
    first_seed: int,
    steps: int,
    threads: int,
    json_file: Path | None,
) -> None:
    click.echo(f"{'variant':26} kMAC/px seed  last loss  smooth, gain  detail, gain  (dB, mean of all kinds)")
    for seed in range(first_seed, first_seed + seeds):
        for name in only or VARIANTS:
            recipe = Recipe(config="fast", steps=steps, seed=seed, threads=threads, average=0.99, warmup=100)
            with TemporaryDirectory() as folder:
                run = Run(recipe, Path(folder), pictures, VARIANTS[name])
                with run.pool() as pool:
                    losses = [run.train_step(pool).item() for _ in range(steps)]
                scores = run.scores().values()
            cost = kmac_per_pixel(run.model, 1, 2**7)  # a side of whole blocks for the deepest variant
            loss = float(np.mean(losses[-steps // 4 :]))
            smooth, detail = (
                float(np.nanmean([getattr(s, r) - getattr(s, f"{r}_input") for s in scores]))
                for r in ("smooth", "detail")
            )
            click.echo(f"{name:26} {cost:7.2f} {seed:4}  {loss:9.4f}  {smooth:+12.2f}  {detail:+12.2f}")
            if json_file:
                result = {"variant": name, "seed": seed, "loss": loss, "smooth": smooth, "detail": detail}
                with json_file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
