"""The kernels in Triton: on a GPU where there is one, and in Triton's interpreter on any machine.

Triton looks for TRITON_INTERPRET when it's imported, which torch may do at any time: so one test here runs
all the others in a process of its own.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from banded import FORMATS, banded_frame, name_of
from test_banded_deform_conv import SHAPES, make_case
from test_network import SMALL, picture, shaken

from bdinn_core import Debander, DebandOptions, OptionError, banded_deform_conv2d, load_model
from bdinn_core.network import BDINN, Coarse, fastest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
pytestmark = pytest.mark.filterwarnings(
    "ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning"
)

# What the interpreter can't do: products of bfloat16.
HALVES = [torch.float16] if INTERPRETED else [torch.float16, torch.bfloat16]
TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Of the largest value. Halves are compared with sums in float32 of the same numbers."""


def kernels(test):
    """Marks tests that need kernels to run on `DEVICE`."""
    return test if INTERPRETED else pytest.mark.cuda(test)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
@pytest.mark.skipif(not find_spec("triton"), reason="no Triton on this platform")
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parent.parent
    result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def large_blocks(monkeypatch):
    """In the interpreter a program costs about the same whatever its size: few large ones."""
    if INTERPRETED:
        from bdinn_core.network import cuda
        from bdinn_core.ops.banded_deform_conv import triton

        monkeypatch.setattr(triton, "POINTS", 256)
        monkeypatch.setattr(cuda, "MOST_PIXELS", 2**11)
        monkeypatch.setattr(cuda, "MOST_VALUES", 2**20)


def values_and_gradients(backend, name, dtype, strided=False):
    """The result and all gradients of a shape from `SHAPES`, in float32."""
    tensors, keywords = make_case(name, torch.float32)
    tensors = [t.to(DEVICE, dtype) for t in tensors]
    if backend == "naive":  # on the same numbers, without their rounding
        tensors = [t.float() for t in tensors]
    if strided:
        tensors = [torch.stack([t, t], -1)[..., 0] for t in tensors]
        assert not any(t.is_contiguous() for t in tensors)
    tensors = [t.requires_grad_() for t in tensors]
    output = banded_deform_conv2d(*tensors, **keywords, backend=backend)
    torch.manual_seed(1)
    along = torch.randn(output.shape).to(DEVICE, dtype).to(output.dtype)
    return [t.float() for t in (output, *torch.autograd.grad(output, tensors, along))]


def assert_agree(name, dtype, **options):
    for fast, naive in zip(
        values_and_gradients("triton", name, dtype, **options),
        values_and_gradients("naive", name, dtype),
        strict=True,
    ):
        assert fast.shape == naive.shape
        if naive.numel():
            assert (fast - naive).abs().max() <= TOLERANCES[dtype] * max(naive.abs().max().item(), 1)


@kernels
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "groups"])
def test_float32_agrees_with_naive(name, large_blocks):
    assert_agree(name, torch.float32)


@kernels
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["stride 2", "48 channels", "batch 0"])
def test_halves_agree_with_naive(name, dtype, large_blocks):
    assert_agree(name, dtype)


@kernels
def test_blocks_of_any_number_of_pixels_agree():
    assert_agree("stride 2", torch.float32)


@kernels
def test_non_contiguous_inputs(large_blocks):
    assert_agree("stride 2", torch.float32, strided=True)


@kernels
def test_without_rescale_and_bias(large_blocks):
    (x, rotation, stretch, _, weight, _), keywords = make_case("stride 2", torch.float32)
    expected = banded_deform_conv2d(x, rotation, stretch, None, weight, **keywords, backend="naive")
    moved = [None if t is None else t.to(DEVICE) for t in (x, rotation, stretch, None, weight)]
    result = banded_deform_conv2d(*moved, **keywords, backend="triton")
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=2e-5)


@kernels
def test_positions_far_outside_read_zero(large_blocks):
    (x, rotation, stretch, rescale, weight, _), keywords = make_case("stride 2", torch.float32)
    weight[:, :, 1, :] = 0  # the row that isn't stretched
    moved = [t.to(DEVICE) for t in (x, rotation, stretch * 1e12, rescale, weight)]
    assert not banded_deform_conv2d(*moved, **keywords, backend="triton").any()


@kernels
@pytest.mark.parametrize(("name", "dtype"), [("groups", torch.float32), ("odd", torch.float64)])
def test_what_it_does_not_take_is_refused(name, dtype):
    tensors, keywords = make_case(name, dtype)
    with pytest.raises(OptionError, match=r"triton takes one group of float32"):
        banded_deform_conv2d(*(t.to(DEVICE) for t in tensors), **keywords, backend="triton")


def test_is_refused_where_triton_does_not_run():
    if INTERPRETED:
        pytest.skip("here it runs")
    tensors, keywords = make_case("odd", torch.float32)
    with pytest.raises(OptionError, match=r"on a GPU that Triton runs on, not 1 of torch.float32 on cpu"):
        banded_deform_conv2d(*tensors, **keywords, backend="triton")


def pyramid_of(model: BDINN, half: bool):
    from bdinn_core.network.cuda import CudaPyramid

    return CudaPyramid(model.to(DEVICE), half)


def smooth_picture(height: int, width: int) -> torch.Tensor:
    """A banded ramp, and a corner of noise."""
    return torch.from_numpy(banded_frame(FORMATS[0], width, height).planes[0]).float()[None, None]


@kernels
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 7, 5), (1, 1, 27, 40)])
def test_pyramid_agrees_with_the_plain_network(shape, large_blocks):
    model, x = shaken(SMALL, torch.float32), picture(*shape, dtype=torch.float32)
    with torch.no_grad():
        expected = model(x)
        result = pyramid_of(model, half=False).forward(x.to(DEVICE)).cpu()
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6 * 255 * 4)  # weights that change all


@kernels
@pytest.mark.parametrize(("half", "tolerance"), [(True, 0.05), (False, 1e-4)][: 1 if INTERPRETED else 2])
def test_shipped_model_agrees_with_the_plain_network(half, tolerance, large_blocks):
    model, x = load_model("fast"), smooth_picture(60, 64)
    with torch.no_grad():
        expected = model(x)
        result = pyramid_of(model, half).forward(x.to(DEVICE)).cpu()
    assert (expected - x).abs().max() > 0.5
    assert (result - expected).abs().max() <= tolerance


@kernels
@pytest.mark.parametrize("half", [True] if INTERPRETED else [True, False])
def test_pyramid_in_parts_is_the_whole(half, large_blocks):
    """As the engine restores tiles: fine scales apart from coarse ones."""
    pyramid, x = pyramid_of(shaken(SMALL, torch.float32), half), smooth_picture(16, 24).to(DEVICE)
    encoded = pyramid.encode_fine(x)
    coarse = pyramid.restore_coarse(encoded.clone())
    strided = Coarse(*(t.repeat(1, 1, 1, 2)[..., : t.shape[3]] for t in coarse))
    torch.testing.assert_close(
        pyramid.restore_fine(x, strided), pyramid.forward(x), rtol=0, atol=1e-3 if half else 1e-5
    )


@kernels
@pytest.mark.parametrize("half", [False, True])
def test_a_flat_plane_comes_back_bit_for_bit(half, large_blocks):
    plane = torch.full((1, 1, 10, 17), 16.3, device=DEVICE)
    assert torch.equal(pyramid_of(shaken(SMALL, torch.float32), half).forward(plane), plane)


@pytest.mark.cuda
def test_replays_are_what_was_recorded():
    """Of more shapes than are kept, in several threads, each with a stream of its own."""
    from concurrent.futures import ThreadPoolExecutor

    model = load_model("fast").cuda()
    graphed, bare = fastest(model, DEVICE, True), pyramid_of(model, half=True)
    pictures = [smooth_picture(40 + 8 * i, 90).cuda() for i in range(10)]
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        expected = [bare.forward(x) for x in pictures]
    torch.cuda.synchronize()

    def run(i: int) -> bool:
        with torch.cuda.stream(torch.cuda.Stream()):
            return torch.equal(graphed.forward(pictures[i % 10]), expected[i % 10])

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(60)))


@pytest.mark.cuda
@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
@pytest.mark.parametrize("dither", ["blue_noise", "none"])  # errors that diffuse go ways of their own
def test_gpu_makes_the_codes_that_the_cpu_makes(fmt, dither):
    """But for values that lie between two codes almost exactly."""
    frame = banded_frame(fmt)
    options = {"dither": dither, "grain": 0.3}
    cpu, gpu = (Debander(DebandOptions(device=d, **options))(frame, 5) for d in ("cpu", "cuda"))
    for p, (a, b) in enumerate(zip(cpu.planes, gpu.planes, strict=True)):
        assert a.dtype == b.dtype
        steps = abs(a.astype(float) - b.astype(float)) * fmt.steps_per_value(p)
        assert steps.mean() < 0.05
        one_code = 0.12 if fmt.is_float else fmt.steps_per_value(p)  # of half floats, about
        assert steps.max() <= 0.06 + one_code


@pytest.mark.skipif(INTERPRETED or not find_spec("triton"), reason="it starts the interpreter itself")
def test_benchmark_checks_in_the_interpreter(tmp_path):
    script, figures = Path(__file__).parent.parent / "scripts" / "benchmark_gpu.py", tmp_path / "figures.json"
    command = [sys.executable, str(script), "--interpret", "--json", str(figures)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "RED" not in result.stdout
    assert len(json.loads(figures.read_text())["checks"]) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_benchmark_without_a_gpu_says_so():
    from benchmark_gpu import main
    from click.testing import CliRunner

    result = CliRunner().invoke(main, [])
    assert (result.exit_code, result.output) == (
        1,
        "Error: no GPU here; --interpret runs the checks without one\n",
    )


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or not find_spec("triton"), reason="needs Triton's compiler")
@pytest.mark.parametrize("capability", [80, 86, 90])
def test_kernels_compile_for_gpus_that_are_not_here(capability):
    script = Path(__file__).parent / "compile_triton.py"
    result = subprocess.run(
        [sys.executable, str(script), str(capability)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "merge" in result.stdout and "backward_weight" in result.stdout
