"""Time the backends of banded deformable convolution against torchvision and an ordinary convolution.

Prints one row a channel count. A backend that disagrees with `naive` on the very input it would be
timed on is not timed: the script stops with exit code 1. Rounds are interleaved and medians taken,
so that a machine shared with others slows all alike; read the ratios.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import click

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import torch
from torch.nn import functional as F

from bdinn_core import banded_deform_conv2d

TOLERANCE = 1e-4
"""Largest difference from `naive` in float32, relative to its largest value, at 576 products a sum."""


class Inputs(NamedTuple):
    """Tensors of one same-size 3x3 convolution, as `banded_deform_conv2d` takes them."""

    input: torch.Tensor
    rotation: torch.Tensor
    stretch: torch.Tensor
    rescale: torch.Tensor
    weight: torch.Tensor


def make_inputs(channels: int, height: int, width: int) -> Inputs:
    """Random values; independent grids at every pixel, the worst case for a cache."""
    angle = torch.rand(1, 1, height, width) * 2 * torch.pi
    return Inputs(
        torch.randn(1, channels, height, width),
        torch.cat([angle.sin(), angle.cos()], 1),
        torch.empty(1, 1, height, width).uniform_(0.5, 3.0),
        torch.empty(1, 1, height, width).uniform_(1.0, 1.5),
        torch.randn(channels, channels, 3, 3),
    )


def median_times(candidates: dict[str, Callable[[], torch.Tensor]], rounds: int) -> dict[str, float]:
    """Median seconds of each candidate over interleaved rounds of three calls.

    A first call in each round isn't counted: it finds the caches full of the last candidate's data.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            call()
            for _ in range(3):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@click.command(help=__doc__)
@click.option("--height", default=270, show_default=True)
@click.option("--width", default=480, show_default=True)
@click.option("--channels", default="16,32,64", show_default=True, help="Channel counts, in and out.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=0, help="Threads for every candidate; 0 is torch's choice.")
def main(height: int, width: int, channels: str, rounds: int, threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    click.echo(
        f"3x3, {height}x{width}, float32, {torch.get_num_threads()} threads, median of {rounds} rounds, ms"
    )
    click.echo(
        f"{'C':>4} {'conv2d':>8} {'cpu':>8} {'torchvision':>12} {'torchvision/cpu':>16} {'cpu/conv2d':>11}"
    )
    for count in map(int, channels.split(",")):
        inputs = make_inputs(count, height, width)
        expected = banded_deform_conv2d(*inputs, padding=1, backend="naive")
        candidates: dict[str, Callable[[], torch.Tensor]] = {
            "cpu": partial(banded_deform_conv2d, *inputs, padding=1, backend="cpu"),
            "torchvision": partial(banded_deform_conv2d, *inputs, padding=1, backend="torchvision"),
        }
        for name, call in candidates.items():
            error = ((call() - expected).abs().max() / expected.abs().max()).item()
            if not error <= TOLERANCE:
                raise click.ClickException(
                    f"{name} differs from naive by {error:.1e} at C = {count}: not timed"
                )
        candidates["conv2d"] = partial(F.conv2d, inputs.input, inputs.weight, padding=1)
        ms = {name: 1000 * seconds for name, seconds in median_times(candidates, rounds).items()}
        click.echo(
            f"{count:>4} {ms['conv2d']:8.1f} {ms['cpu']:8.1f} {ms['torchvision']:12.1f} "
            f"{ms['torchvision'] / ms['cpu']:15.1f}x {ms['cpu'] / ms['conv2d']:10.2f}x"
        )


if __name__ == "__main__":
    main()
