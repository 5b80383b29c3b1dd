"""Count a model's work stage by stage, and time it beside what the machine could reach.

The floor of a stage is the longer of two times: that of its multiply-accumulates at the rate of a
32-channel 3x3 convolution, channels last, in the features' precision; and that of reading and writing its
tensors once at the bandwidth of a copy. Both rates are measured in the same run. The yardstick of the whole
is that convolution in float32. Rounds are interleaved and medians taken, so that a machine shared with
others slows all alike: read the ratios.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import click

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import torch
from lab.yardstick import KMAC_TARGETS, yardstick
from torch import nn

from bdinn_core import BDINN, load_model
from bdinn_core.network import Pyramid, fastest, has_half_precision
from bdinn_core.parallel import on_workers


class Work(NamedTuple):
    """What a stage of the network does, a pixel of the picture."""

    macs: float
    """Multiply-accumulates of convolutions and products."""
    latent: float
    """Averages and details read and written, float32."""
    features: float
    """Features and descriptions read and written."""

    def bytes(self, half: bool) -> float:
        """Bytes to be moved, with features in half precision or not."""
        return 4 * self.latent + (2 if half else 4) * self.features


def count_macs(*modules: nn.Module) -> int:
    """Multiply-accumulates of modules' convolutions a pixel of their scale."""
    layers = [layer for module in modules for layer in module.modules()]
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Conv2d))


def count_work(model: BDINN) -> dict[str, Work]:
    """The stages of a model, in the order in which they run."""
    widths, down, up = model.config.widths, {}, {}
    for i, (step, edit) in enumerate(zip(model.steps, model.edits, strict=True)):
        share, width, last = 4.0 ** -(i + 1), widths[i], i + 1 == len(widths)
        finer, coarser = (4 * widths[i - 1] if i else 0), (width if last else widths[i + 1] / 4)
        describe = Work(count_macs(step, edit.describe), 8, finer + width)
        context = count_macs(edit.context) / (1 if last else 4)
        layers = count_macs(step, edit.first, edit.hidden, edit.last)
        restore = Work(context + layers, 8, width + coarser + 2 * width * (1 + len(edit.hidden)))
        down[f"describe {i + 1}"] = Work(*(share * value for value in describe))
        up[f"restore {i + 1}"] = Work(*(share * value for value in restore))
    top = Work(count_macs(cast("nn.Module", model.top)), 2, 5 * widths[-1])
    return down | {"top": Work(*(share * value for value in top))} | dict(reversed(up.items()))


class Floor(NamedTuple):
    """What a stage can't be faster than, a pixel of the picture."""

    macs: float
    bytes: float
    convolving: float
    """Seconds of its multiply-accumulates."""
    moving: float
    """Seconds of its bytes."""
    seconds: float
    """The longer of both."""


def find_floor(work: Work, times: dict[str, float], half: bool) -> Floor:
    """The floor of a stage by the yardsticks among `times`."""
    moved = work.bytes(half)
    convolving, moving = work.macs * times["conv2d as used"], moved * times["copy"]
    return Floor(work.macs, moved, convolving, moving, max(convolving, moving))


def time_stages(network: Pyramid, x: torch.Tensor) -> dict[str, float]:
    """Seconds of every stage of one run."""
    seconds, description = {}, None
    low, highs, descriptions = network.pad(x), [], []

    def timed(name: str, stage: Callable[..., tuple], *inputs: torch.Tensor | None) -> tuple:
        start = time.perf_counter()
        results = stage(*inputs)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds[name] = time.perf_counter() - start
        return results

    for i, level in enumerate(network.levels):
        low, high, description = timed(f"describe {i + 1}", level.describe, low, description)
        highs.append(high)
        descriptions.append(description)
    low, features = timed("top", network.top, low, descriptions[-1])
    for i, level in reversed(list(enumerate(network.levels))):
        low, features = timed(f"restore {i + 1}", level.restore, low, highs[i], descriptions[i], features)
    return seconds


def time_convolution(device: torch.device, half: bool) -> float:
    """Seconds a multiply-accumulate of the convolution that is the yardstick."""
    call, macs = yardstick(device, half)
    return _time(call, device) / macs


def time_copy(device: torch.device) -> float:
    """Seconds a byte read or written."""
    source = torch.ones(2**25, device=device)
    target = torch.empty_like(source)
    return _time(lambda: target.copy_(source), device) / (2 * source.nbytes)


def _time(call: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Seconds a call, over several, after one that isn't counted."""
    call()
    start = time.perf_counter()
    for _ in range(times):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / times


def measure(network: Pyramid, x: torch.Tensor, half: bool, rounds: int) -> dict[str, float]:
    """Median seconds a pixel of every stage, and of the yardsticks."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        whole = _time(lambda: network.forward(x), x.device, 2) / x.numel()
        stages = on_workers(partial(time_stages, network, x))  # as the network itself is run on a CPU
        stages = {name: seconds / x.numel() for name, seconds in stages.items()}
        yardsticks = {
            "conv2d": time_convolution(x.device, False),
            "conv2d as used": time_convolution(x.device, half),
            "copy": time_copy(x.device),
        }
        found.append({"whole": whole} | stages | yardsticks)
    return {name: statistics.median(times[name] for times in found) for name in found[0]}


@click.command(help=__doc__)
@click.option("--model", default="fast", show_default=True)
@click.option("--width", default=1920, show_default=True)
@click.option("--height", default=1080, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--half/--no-half", default=None, help="half precision; left out, where it's faster")
@click.option("--threads", default=0, help="0 is torch's choice")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "target", type=click.Path(path_type=Path), help="write the figures there")
def main(
    model: str,
    width: int,
    height: int,
    device: str,
    half: bool | None,
    threads: int,
    rounds: int,
    target: Path | None,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    where = torch.device(device)
    half = has_half_precision(where) if half is None else half
    plain = load_model(model, where).requires_grad_(False)
    x = (60 + 3 * torch.rand(1, 1, height, width, device=where)).round()
    times = measure(fastest(plain, where, half), x, half, rounds)
    click.echo(
        f"{model}, {height}x{width}, {'half precision' if half else 'float32'}, "
        f"{torch.get_num_threads()} threads, median of {rounds} rounds"
    )
    click.echo(
        f"conv2d of 32 channels: {1e-9 / times['conv2d']:.0f} GMAC/s, "
        f"as used {1e-9 / times['conv2d as used']:.0f}; copy {1e-9 / times['copy']:.0f} GB/s"
    )
    click.echo(
        f"{'a pixel':<12} {'kMAC':>6} {'bytes':>6} {'conv2d ns':>9} {'bytes ns':>8} {'reached ns':>10} "
        f"{'to floor':>8}"
    )
    total = Floor(0, 0, 0, 0, 0)
    for name, work in count_work(plain).items():
        floor = find_floor(work, times, half)
        print_row(name, floor, times[name])
        total = Floor(*map(sum, zip(total, floor, strict=True)))
    print_row("whole", total, times["whole"])
    equal = times["whole"] / times["conv2d"] / 1000
    limit = KMAC_TARGETS.get(model)
    verdict = "" if limit is None else f" (target <= {limit:g}: {'met' if equal <= limit else 'MISSED'})"
    click.echo(f"the network takes as long as {equal:.2f} kMAC a pixel of float32 conv2d{verdict}")
    if target is not None:
        target.write_text(json.dumps({**times, "kmac": equal}, indent=1) + "\n")


def print_row(name: str, floor: Floor, spent: float) -> None:
    click.echo(
        f"{name:<12} {floor.macs / 1000:6.3f} {floor.bytes:6.1f} {1e9 * floor.convolving:9.2f} "
        f"{1e9 * floor.moving:8.2f} {1e9 * spent:10.2f} {spent / floor.seconds:7.1f}x"
    )


if __name__ == "__main__":
    main()
