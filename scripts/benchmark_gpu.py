"""Check what runs on a GPU, then time it: banded deformable convolution, the networks, the engine.

Nothing is timed while a check is red: the script stops with exit code 1. Times are those of the GPU, by
events, medians of interleaved rounds; the engine's are by the clock, uploads and downloads included. A
missed target doesn't fail the script. Without a GPU, --interpret runs the checks alone, on small shapes in
Triton's interpreter.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from benchmark_ops import Inputs, make_inputs
from torch.nn import functional as F

from bdinn_core import Debander, DebandOptions, Frame, FrameFormat, banded_deform_conv2d, load_model
from bdinn_core.network import BDINN, BDINNConfig, Pyramid, fastest

CHANNELS, SIZE = (16, 32, 64), (270, 480)
LIMITS = {torch.float32: 2e-5, torch.float16: 4e-3}
"""Largest difference from `naive` in float32 on the same numbers, relative to its largest value."""
FP16_LIMIT, FP32_LIMIT = 0.05, 1e-3
"""Largest differences of the networks from the plain one in float32, in 8-bit steps."""
TARGETS = {
    "forward": 5.0,
    "forward + backward": 4.0,
    "fast, ms": 0.7,
    "fast, fps": 450.0,
    "quality, fps": 60.0,
}

Call = Callable[[], Any]


def picture(height: int, width: int) -> np.ndarray:
    """8-bit codes of a banded glow, with a noisy corner."""
    y, x = np.mgrid[0:height, 0:width]
    codes = np.rint(60 + 0.02 * x + 0.01 * y + 20 * np.exp(-((x - width / 2) ** 2) / (0.05 * width**2)))
    corner = codes[: height // 4, : width // 4]
    corner += np.random.default_rng(0).integers(-25, 25, corner.shape)
    return codes.astype(np.uint8)


def frame_of(height: int, width: int, shift: int) -> Frame:
    """A 4:2:0 frame of 8 bits, all of whose planes differ; each shift gives another."""
    sizes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    planes = [picture(h, w) + np.uint8(shift + 40 * p) for p, (h, w) in enumerate(sizes)]
    return Frame(tuple(planes), FrameFormat(family="yuv", subsampling=(1, 1)))


def bdc(inputs: Inputs, backend: Any, backward: bool) -> tuple[torch.Tensor, ...]:
    """The result, and the gradients of all inputs if asked for."""
    if not backward:
        with torch.no_grad():
            return (banded_deform_conv2d(*inputs, padding=1, backend=backend),)
    tensors = [t.detach().requires_grad_() for t in inputs]
    output = banded_deform_conv2d(*tensors, padding=1, backend=backend)
    return output, *torch.autograd.grad(output, tensors, output)


def convolution(inputs: Inputs, backward: bool) -> tuple[torch.Tensor, ...]:
    """The same with an ordinary convolution."""
    x, weight = inputs.input.detach(), inputs.weight.detach()
    if not backward:
        return (F.conv2d(x, weight, padding=1),)
    x.requires_grad_()
    weight.requires_grad_()
    output = F.conv2d(x, weight, padding=1)
    return output, *torch.autograd.grad(output, (x, weight), output)


def bdc_inputs(channels: int, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Inputs:
    """As `benchmark_ops` makes them, channels-last as a network's are, outputs of about 1."""
    inputs = make_inputs(channels, *size)
    inputs = inputs._replace(weight=inputs.weight / math.sqrt(9 * channels))
    last = torch.channels_last
    return Inputs(*(t.to(device, dtype).contiguous(memory_format=last) for t in inputs))


def check_bdc(channels: int, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> float:
    """Largest relative difference of result and gradients from `naive`.

    Of 1000 values the one that differs most doesn't count: where a tap lies at the edge of a pixel, rounding
    decides on which side, and so which slope its gradient is.
    """
    inputs = bdc_inputs(channels, size, device, dtype)
    expected = bdc(Inputs(*(t.float() for t in inputs)), "naive", backward=True)
    errors = []
    for fast, naive in zip(bdc(inputs, "triton", backward=True), expected, strict=True):
        difference = (fast.float() - naive).abs().flatten()
        error = difference.kthvalue(difference.numel() - difference.numel() // 1000).values
        errors.append(math.nan if difference.isnan().any() else (error / naive.abs().max()).item())
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def check_network(model: BDINN, pyramid: Pyramid, x: torch.Tensor) -> float:
    """Largest difference of a pyramid from the plain model, in 8-bit steps."""
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return (pyramid.forward(x) - model(x)).abs().max().item()


def small_model() -> BDINN:
    """One whose weights all matter, for the interpreter."""
    torch.manual_seed(0)
    model = BDINN(BDINNConfig(widths=(8, 12), depths=(0, 1), banded_from_level=2))
    for parameter in model.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    return model.requires_grad_(False)


def checks(device: torch.device, interpret: bool) -> Iterator[tuple[str, float, float]]:
    """Every check as its name, the largest error and the limit."""
    from bdinn_core.network.cuda import CudaPyramid

    size, channels = ((6, 7), (16,)) if interpret else (SIZE, CHANNELS)
    for c in channels:
        for dtype, limit in LIMITS.items():
            yield f"BDC, C = {c}, {str(dtype)[6:]}", check_bdc(c, size, device, dtype), limit
    shipped = () if interpret else ("fast", "quality")
    models = {name: load_model(name, device) for name in shipped} or {"small": small_model()}
    x = torch.from_numpy(picture(*((9, 14) if interpret else (1080, 1920)))).float().to(device)[None, None]
    for name, model in models.items():
        yield f"{name}, float32", check_network(model, CudaPyramid(model, False), x), FP32_LIMIT
        yield f"{name}, float16", check_network(model, CudaPyramid(model, True), x), FP16_LIMIT
        if not interpret:
            recorded = fastest(model, device, True)
            yield f"{name}, recorded", check_network(model, recorded, x), FP16_LIMIT
            yield f"{name}, replayed", check_network(model, recorded, x.flip(3) + 20.25), FP16_LIMIT
    if not interpret:
        frame = frame_of(270, 480, 0)
        cpu, gpu = (
            Debander(DebandOptions(device=d, output_depth=16))(frame, 0).planes for d in ("cpu", "cuda")
        )
        error = max(np.abs(a.astype(float) - b).max() for a, b in zip(cpu, gpu, strict=True)) / 256
        yield "engine, against the CPU", float(error), FP16_LIMIT


def median_ms(candidates: dict[str, Call], rounds: int, calls: int, queued: bool) -> dict[str, float]:
    """Median milliseconds a call of each candidate.

    Args:
        candidates: What to time.
        rounds: Rounds over all of them, one of which isn't counted.
        calls: Calls between two events.
        queued: Whether calls pile up behind a sleeping GPU first, so that starting them takes no time.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for counted in range(-1, rounds):
        for name, call in candidates.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            call()
            torch.cuda.synchronize()
            if queued:
                torch.cuda._sleep(40_000_000)  # cycles, about 20 ms
            start.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
            if counted >= 0:
                times[name].append(start.elapsed_time(end) / calls)
    return {name: statistics.median(values) for name, values in times.items()}


def time_bdc(rounds: int) -> list[dict[str, Any]]:
    """One row a direction, type and channel count."""
    rows = []
    for backward in (False, True):
        for dtype in LIMITS:
            for channels in CHANNELS:
                inputs = bdc_inputs(channels, SIZE, torch.device("cuda"), dtype)
                candidates: dict[str, Call] = {
                    "triton": partial(bdc, inputs, "triton", backward),
                    "torchvision": partial(bdc, inputs, "torchvision", backward),
                    "conv2d": partial(convolution, inputs, backward),
                }
                ms = median_ms(candidates, rounds, calls=10, queued=True)
                direction = "forward + backward" if backward else "forward"
                row = {"direction": direction, "dtype": str(dtype)[6:], "C": channels, **ms}
                rows.append(row | {"torchvision/triton": ms["torchvision"] / ms["triton"]})
    return rows


def time_networks(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a megapixel of planes of each model: four 1080p planes a call, in half precision."""
    from bdinn_core.network.cuda import CudaPyramid

    device, rows = torch.device("cuda"), []
    x = torch.from_numpy(picture(1080, 1920)).float().cuda().expand(4, 1, -1, -1).contiguous()
    for name in ("fast", "quality"):
        model = load_model(name, device).requires_grad_(False)
        candidates = {
            "plain": model.forward,
            "kernels": CudaPyramid(model, True).forward,
            "recorded": fastest(model, device, True).forward,
        }
        with torch.no_grad(), torch.autocast("cuda", torch.float16):
            calls: dict[str, Call] = {key: partial(run, x) for key, run in candidates.items()}
            ms = median_ms(calls, rounds, calls=3, queued=False)
        rows.append({"model": name} | {key: value / (x.numel() / 1e6) for key, value in ms.items()})
    return rows


def time_engine(name: str, threads: int, seconds: float) -> float:
    """1080p frames a second through `Debander.process`, in as many threads with a stream each."""
    debander = Debander(DebandOptions(model=name, device="cuda"))
    size = debander.batch_size
    batches = [[frame_of(1080, 1920, size * b + i) for i in range(size)] for b in range(4)]

    def work(until: float) -> int:
        done = 0
        with torch.cuda.stream(torch.cuda.Stream()):
            while True:
                done += len(debander.process(batches[done // size % 4], done))
                if time.perf_counter() >= until:
                    return done

    work(0)  # compiles and records
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, [start + seconds] * threads))
    return done / (time.perf_counter() - start)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table, its columns those of the first row."""
    click.echo("  ".join(f"{key:>18}" for key in rows[0]))
    for row in rows:
        click.echo("  ".join(f"{v:18.3f}" if isinstance(v, float) else f"{v:>18}" for v in row.values()))


def print_target(name: str, value: float, reached: bool) -> None:
    click.echo(f"{name}: {value:.2f}, target {TARGETS[name]:g}: {'reached' if reached else 'MISSED'}")


@click.command(help=__doc__)
@click.option("--rounds", default=15, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Time for each of the engine's figures.")
@click.option("--interpret", is_flag=True, help="Only check, on the CPU, in Triton's interpreter.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write all figures there as well.")
def main(rounds: int, seconds: float, interpret: bool, path: Path | None) -> None:
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported, which is only now
    elif not torch.cuda.is_available():
        raise click.ClickException("no GPU here; --interpret runs the checks without one")
    device = torch.device("cpu" if interpret else "cuda")
    name = "Triton's interpreter" if interpret else torch.cuda.get_device_name()
    figures: dict[str, Any] = {"device": name, "torch": torch.__version__}
    click.echo(f"{name}, torch {torch.__version__}")
    figures["checks"] = []
    for what, error, limit in checks(device, interpret):
        figures["checks"].append((what, error, limit))
        click.echo(f"{what}: off by {error:.1e}, at most {limit:g}: {'ok' if error <= limit else 'RED'}")
    red = [what for what, error, limit in figures["checks"] if not error <= limit]
    if red:
        raise click.ClickException(f"not timed, as these are red: {'; '.join(red)}")
    if not interpret:
        figures |= time_all(rounds, seconds)
    if path:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def time_all(rounds: int, seconds: float) -> dict[str, Any]:
    """Time, print and compare with the targets."""
    click.echo(f"\nBDC, 3x3, {SIZE[0]}x{SIZE[1]}, ms")
    rows = time_bdc(rounds)
    print_rows(rows)
    for direction in ("forward", "forward + backward"):
        worst = min(row["torchvision/triton"] for row in rows if row["direction"] == direction)
        print_target(direction, worst, worst >= TARGETS[direction])
    click.echo("\nnetworks in half precision, ms a megapixel of planes")
    networks = time_networks(rounds)
    print_rows(networks)
    print_target("fast, ms", networks[0]["recorded"], networks[0]["recorded"] <= TARGETS["fast, ms"])
    click.echo("\nengine, 1080p, 4:2:0, 8 bits, frames a second")
    engine = [
        {"model": model, "threads": threads, "fps": time_engine(model, threads, seconds)}
        for model in ("fast", "quality")
        for threads in (1, 2)
    ]
    print_rows(engine)
    for model in ("fast", "quality"):
        best = max(row["fps"] for row in engine if row["model"] == model)
        print_target(f"{model}, fps", best, best >= TARGETS[f"{model}, fps"])
    return {"bdc_ms": rows, "network_ms_per_megapixel": networks, "engine_fps": engine}


if __name__ == "__main__":
    main()
