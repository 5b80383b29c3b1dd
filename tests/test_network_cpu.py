"""The network's version for CPUs against the plain one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from benchmark_network import count_work
from test_network import SIZES, SMALL, picture, shaken

from bdinn_core import BDINN, BDINNConfig, load_model, parallel
from bdinn_core.jit import fast_jit
from bdinn_core.network import CONFIGS, Coarse, fastest
from bdinn_core.network.cpu import CpuPyramid
from bdinn_core.ops import vector_math
from bdinn_core.ops.bfloat16 import narrow, widen

ODD = BDINNConfig(widths=(3, 17, 33), depths=(2, 0, 1), banded_from_level=1)
"""Widths around the 16 channels that loops take at once; layers of both kinds, and none."""
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 0.05}
"""Mean error over the mean change, for random weights on random pictures."""


@pytest.fixture(scope="module")
def fast() -> BDINN:
    return load_model("fast")


def banded_picture(height: int, width: int) -> torch.Tensor:
    """A gradient in 8-bit steps, with noise and a small bright object."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    values = 60 + 0.03 * y + 0.02 * x + 0.3 * torch.randn(height, width, generator=generator)
    values[height // 2 : height // 2 + 9, width // 3 : width // 3 + 7] += 90
    return values.round()[None, None]


def agree(given: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(given, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("size", [*SIZES, (130, 70)])
@pytest.mark.parametrize("config", [CONFIGS["fast"], SMALL, ODD], ids=["fast", "small", "odd"])
def test_agrees_with_the_plain_network(config, size, dtype):
    model, x = shaken(config, torch.float32), picture(2, 1, *size, dtype=torch.float32)
    with torch.no_grad():
        expected = model(x)
    error = (CpuPyramid(model, dtype).forward(x) - expected).abs().mean()
    change = (expected - x).abs().mean()
    assert error <= TOLERANCES[dtype] * change
    assert size == (1, 1) or change > 1


@pytest.mark.parametrize(
    ("dtype", "most", "mean"), [(torch.float32, 1e-3, 1e-5), (torch.bfloat16, 0.1, 5e-3)]
)
def test_trained_network_agrees_on_a_picture(fast, dtype, most, mean):
    x = banded_picture(201, 333)
    with torch.no_grad():
        expected = fast(x)
    difference = (CpuPyramid(fast, dtype).forward(x) - expected).abs()
    assert difference.max() < most
    assert difference.mean() < mean
    assert (expected - x).abs().max() > 0.4


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_tiles_go_the_same_way(fast, dtype):
    x = banded_picture(128, 192)
    network = CpuPyramid(fast, dtype)
    coarse = network.restore_coarse(network.encode_fine(x))
    given = network.restore_fine(x, Coarse(coarse.low.contiguous(), coarse.features.float().contiguous()))
    agree(given, network.forward(x), 1e-5 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_results_are_the_same_whatever_the_number_of_threads_and_the_neighbours(fast, dtype):
    x = torch.cat([banded_picture(150, 100), banded_picture(150, 100).flip(3)])
    network = CpuPyramid(fast, dtype)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results += [network.forward(x), torch.cat([network.forward(one) for one in x.split(1)])]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("size", [(4, 5), (130, 70)])
def test_nothing_is_read_that_was_not_written(fast, dtype, size, monkeypatch):
    """`torch.empty` poisoned with NaN, scratch memory too, which is new in new threads."""
    network, x = CpuPyramid(fast, dtype), banded_picture(*size)
    expected = network.forward(x)
    workers = ThreadPoolExecutor(2)
    monkeypatch.setattr(parallel, "_workers", lambda _: workers)
    torch.use_deterministic_algorithms(True)
    try:
        given = network.forward(x)
    finally:
        torch.use_deterministic_algorithms(False)
        workers.shutdown()
    assert torch.isfinite(given).all()
    agree(given, expected, 1e-3 if dtype == torch.float32 else 0.1)  # its threads aren't single-threaded


def test_only_widths_of_whole_vectors_go_with_any_batch(fast):
    assert CpuPyramid(fast, torch.float32).any_batch
    assert not CpuPyramid(BDINN(ODD), torch.float32).any_batch


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("level", [0.0, 16.25, 235.0])
def test_a_flat_plane_comes_back_bit_for_bit(level, dtype):
    plane = torch.full((1, 1, 40, 72), level)
    assert torch.equal(CpuPyramid(shaken(SMALL, torch.float32), dtype).forward(plane), plane)


def test_only_planes_have_a_version_for_cpus():
    joint = BDINN(BDINNConfig(widths=(6, 8), depths=(0, 1), banded_from_level=2, in_channels=3))
    assert fastest(joint, torch.device("cpu"), True) is joint
    assert isinstance(fastest(BDINN(SMALL), torch.device("cpu"), False), CpuPyramid)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_work_is_counted(name):
    model = BDINN(CONFIGS[name])
    total = sum(work.macs for work in count_work(model).values())
    assert total / 1000 == pytest.approx(model.kmac_per_pixel, rel=1e-9)


FUNCTIONS = {
    "exp": (np.linspace(-90, 0, 999), np.exp),
    "log": (np.geomspace(1e-30, 1e30, 999), np.log),
    "asinh": (np.concatenate([np.linspace(-3, 3, 999), [-1e8, -40, 0, 300, 7e4]]), np.arcsinh),
    "tanh": (np.linspace(-20, 20, 999), np.tanh),
    "gelu": (np.linspace(-9, 9, 999), lambda x: torch.nn.functional.gelu(torch.from_numpy(x)).numpy()),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vector_math(name):
    x, exact = FUNCTIONS[name]
    function = getattr(vector_math, name)

    def apply(values, out):
        for i in range(values.size):
            out[i] = function(values[i])

    given = np.empty(x.size, np.float32)
    fast_jit(apply)(x.astype(np.float32), given)
    expected = exact(x.astype(np.float32).astype(np.float64))
    assert np.all(np.abs(given - expected) <= 5e-7 * (1 + np.abs(expected)))
    assert given[x == 0].tolist() == exact(x[x == 0]).tolist()


def test_bfloat16_is_rounded_as_torch_rounds_it():
    values = torch.cat([torch.randn(999), torch.tensor([0.0, 1.00390625, 1.01171875, -3e38])])
    bits = np.empty(len(values), np.uint16)

    @fast_jit
    def there(values, bits):
        for i in range(values.size):
            bits[i] = narrow(values[i], bits.dtype)

    @fast_jit
    def back(bits, values):
        for i in range(values.size):
            values[i] = widen(bits[i])

    there(values.numpy(), bits)
    expected = values.bfloat16()
    assert np.array_equal(bits, expected.view(torch.uint16).numpy())
    back(bits, values.numpy())
    assert torch.equal(values, expected.float())
