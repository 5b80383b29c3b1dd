from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from banded import FORMATS, banded_frame, equal, name_of

from bdinn_core import (
    Debander,
    DebandOptions,
    DeviceMemoryError,
    FormatError,
    Frame,
    FrameFormat,
    OptionError,
    deband,
    reuse,
)
from bdinn_core.restorer import Restorer
from bdinn_core.tiling import plan_tiles
from bdinn_core.ycbcr import YCbCr, find_ycbcr


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    y, x = np.mgrid[0:180, 0:320]
    return np.rint(60 + 0.03 * x + 0.02 * y).astype(np.uint8)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
@pytest.mark.parametrize("options", [{"strength": 0}, {"limit": 0}, {"planes": []}], ids=str)
def test_doing_nothing_returns_the_input_bit_for_bit(fmt, options):
    frame = banded_frame(fmt)
    assert equal(Debander(DebandOptions(**options))(frame, 3), frame)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_every_format_is_debanded(fmt):
    frame = banded_frame(fmt)
    result = Debander()(frame, 0)
    assert result.format == fmt
    for p, (before, after) in enumerate(zip(frame.planes, result.planes, strict=True)):
        assert after.shape == before.shape
        assert after.dtype == before.dtype
        change = (after.astype(np.float64) - before) * fmt.steps_per_value(p)
        assert np.abs(change).max() <= 2 + 0.5 * fmt.steps_per_value(p) * (not fmt.is_float)
        assert fmt.bit_depth == 8 or np.abs(change).max() > 0.05


def test_the_same_picture_at_every_depth_is_changed_alike():
    results = []
    for depth in (8, 10, 16):
        fmt = FrameFormat(family="gray", bit_depth=depth)
        values = Debander().restore([banded_frame(fmt)], 0)[0][0]
        assert values is not None
        results.append(values * fmt.steps_per_value(0))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(results[0], results[2], rtol=0, atol=1e-3)


def test_bands_become_a_ramp(ramp):
    y, x = np.mgrid[0:180, 0:320]
    truth = 60 + 0.03 * x + 0.02 * y
    result = deband(ramp, output_dtype=np.float32)
    assert np.square(result - truth).mean() < 0.25 * np.square(ramp - truth).mean()


def test_untouched_planes_are_the_inputs_own_arrays():
    frame = banded_frame(FORMATS[2])
    result = Debander(DebandOptions(planes=[0]))(frame, 0)
    assert result.planes[1] is frame.planes[1]
    assert result.planes[2] is frame.planes[2]
    assert not np.array_equal(result.planes[0], frame.planes[0])


def test_strength_per_plane_and_limit():
    frame = banded_frame(FrameFormat(family="yuv", bit_depth=16))
    half, full = (
        Debander(DebandOptions(strength=s, limit=0.25)).restore([frame], 0)[0] for s in ((0.5, 0, 1), 1)
    )
    change = [
        None if v is None else v - torch.from_numpy(p.astype(np.float32))
        for v, p in zip(half + full, frame.planes * 2, strict=True)
    ]
    assert change[1] is None
    torch.testing.assert_close(change[0] * 2, change[3], rtol=0, atol=0.02)  # codes of 16 bits in float32
    torch.testing.assert_close(change[2], change[5])
    assert change[3].abs().max() <= 0.25 * 256


def test_step_scales_the_bands_looked_for():
    """Bands 4 codes high at step 4 come out as bands 1 code high at step 1, times 4."""
    ones = banded_frame(FrameFormat(family="gray", bit_depth=32, is_float=True))
    fours = Frame((ones.planes[0] * np.float32(4),), ones.format)
    a = Debander(DebandOptions(step=1, limit=1)).restore([ones], 0)[0][0]
    b = Debander(DebandOptions(step=4, limit=1)).restore([fours], 0)[0][0]
    torch.testing.assert_close(a * 4, b, rtol=0, atol=1e-5)


def test_moving_interlaced_gradients_need_their_fields_apart():
    """What the decision stands on: as a whole frame, this one comes out worse than it went in."""
    y, x = np.mgrid[0:240, 0:360]
    truth = 40 + 90 * np.exp(-((x - 150 - 4 * (y % 2)) ** 2 + (y - 100) ** 2) / (2 * 90**2))
    codes = np.rint(truth).astype(np.uint8)

    def psnr(interlaced: bool) -> float:
        frame = Frame((codes,), FrameFormat(family="gray"), interlaced)
        result = Debander().restore([frame], 0)[0][0].numpy()
        return 10 * np.log10(255**2 / np.mean((result - truth) ** 2))

    before = 10 * np.log10(255**2 / np.mean((codes - truth) ** 2))
    print(f"rounded {before:.1f} dB, as a frame {psnr(False):.1f} dB, by fields {psnr(True):.1f} dB")
    assert psnr(True) > before + 3
    assert psnr(True) > psnr(False) + 3


def test_interlaced_frames_keep_their_fields_apart():
    frame = replace(banded_frame(FORMATS[2]), interlaced=True)
    result = Debander(DebandOptions(output_depth=32)).process([frame], 0)[0]
    for field in (0, 1):
        part = Frame(tuple(p[field::2] for p in frame.planes), frame.format)
        alone = Debander(DebandOptions(output_depth=32))(part, 0)
        for p in range(3):
            np.testing.assert_allclose(result.planes[p][field::2], alone.planes[p], rtol=0, atol=1e-6)
    line = Frame((np.full((1, 40), 7, np.uint8),), FORMATS[0], True)
    assert Debander()(line, 0).planes[0].shape == (1, 40)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_mask_scales_the_change(kind):
    frame = banded_frame(FORMATS[2], 97, 75)
    white = 1 if kind is np.float32 else np.iinfo(kind).max
    mask = np.zeros((75, 97), kind)
    mask[:, 40:] = white
    plain = Debander().restore([frame], 0)[0]
    masked = Debander(DebandOptions(mask=mask)).restore([frame], 0)[0]
    for p, (free, held) in enumerate(zip(plain, masked, strict=True)):
        edge = 40 >> (p > 0)
        assert np.array_equal(held[:, :edge].numpy(), frame.planes[p][:, :edge])
        assert torch.equal(held[:, edge:], free[:, edge:])
    per_frame = Debander().restore([frame], 0, [mask])[0]
    assert all(torch.equal(a, b) for a, b in zip(per_frame, masked, strict=True))


def test_mask_of_another_size_is_refused():
    with pytest.raises(FormatError, match=r"\(75, 97\), not \(75, 96\)"):
        Debander(DebandOptions(mask=np.zeros((75, 96), np.uint8)))(banded_frame(FORMATS[0]), 0)


@pytest.mark.parametrize(
    "mask",
    [np.full((75, 97), 255, np.int32), np.full((75, 97), 255.0), np.full((75, 97), np.nan), "mask.png"],
)
def test_masks_that_are_none_are_refused(mask):
    with pytest.raises(OptionError, match="mask must be"):
        DebandOptions(mask=mask)
    with pytest.raises(OptionError, match="mask must be"):
        Debander().process([banded_frame(FORMATS[0])], 0, [mask])


def test_as_many_masks_as_frames():
    with pytest.raises(FormatError, match="1 frames, not 2"):
        Debander().process([banded_frame(FORMATS[0])], 0, [None, None])


def test_autocast_around_it_changes_nothing(ramp):
    expected = deband(ramp, output_dtype=np.float32)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(deband(ramp, output_dtype=np.float32), expected)


def test_per_plane_values_need_as_many_planes():
    with pytest.raises(FormatError, match=r"strength \(1.0, 0.5, 0.5\)"):
        Debander(DebandOptions(strength=(1, 0.5, 0.5)))(banded_frame(FORMATS[0]), 0)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_result_depends_on_no_neighbour_in_the_batch(batch):
    frames = [banded_frame(FORMATS[2], offset=20.0 * i) for i in range(5)]
    debander = Debander(DebandOptions(batch=batch, grain=0.5))
    together = debander.process(frames, 10)
    backwards = [debander(frame, 10 + i) for i, frame in reversed(list(enumerate(frames)))][::-1]
    assert all(equal(a, b) for a, b in zip(together, backwards, strict=True))


def test_grain_is_a_function_of_frame_plane_and_seed():
    flat = Frame((np.full((200, 300), 1000, np.uint16),) * 3, FrameFormat(family="yuv", bit_depth=16))

    def grain(number: int, **options) -> np.ndarray:
        debander = Debander(DebandOptions(strength=0, grain=2, **options))
        return np.stack([v.numpy() for v in debander.restore([flat], number)[0] if v is not None]) - 1000

    first = grain(0)
    assert first.std() == pytest.approx(2 * 256, rel=0.01)
    assert abs(first.mean()) < 0.02 * first.std()
    assert np.array_equal(first, grain(0))
    for other in (first[1], grain(1)[0], grain(0, seed=1)[0]):
        assert abs(np.corrcoef(first[0].ravel(), other.ravel())[0, 1]) < 0.02
    assert np.array_equal(grain(5, dynamic_grain=False), grain(9, dynamic_grain=False))
    neighbours = np.corrcoef(first[0, :, 1:].ravel(), first[0, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_grain_reaches_chosen_planes_alone():
    frame = banded_frame(FORMATS[2])
    result = Debander(DebandOptions(strength=0, grain=(3, 0, 3), planes=[0, 1]))(frame, 0)
    assert not np.array_equal(result.planes[0], frame.planes[0])
    assert result.planes[1] is frame.planes[1]
    assert result.planes[2] is frame.planes[2]


@pytest.mark.parametrize("gradient", ["float", "rounded"])
@pytest.mark.parametrize(("size", "tile"), [((200, 1000), 768), ((1500, 250), 832), ((900, 850), 768)])
@pytest.mark.parametrize("slope", [0.02, 0.005])
def test_tiles_leave_no_seam(gradient, size, tile, slope):
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    values = 70 + slope * x + 0.6 * slope * y
    image = (np.rint(values) if gradient == "rounded" else values).astype(np.float32) / 255
    whole = deband(image)
    tiled = deband(image, tile_size=tile)
    assert np.abs(whole - tiled).max() * 255 <= 0.001


@pytest.mark.parametrize("overlap", [0, 64, 128])
@pytest.mark.parametrize("size", [(129, 700), (576, 130), (333, 1025), (1, 300)])
def test_tiles_cover_every_pixel_once(size, overlap):
    plan = plan_tiles(*size, tile_size=256, overlap=overlap)
    plane = torch.rand(1, 2, *size, dtype=torch.float64)
    tiles = list(plan.cut(plane))
    assert {tile.shape for tile in tiles} == {(1, 2, plan.height, plan.width)}
    assert max(plan.height, plan.width) <= 256
    assert len(tiles) == plan.count
    whole = plan.blend(tiles)[..., : size[0], : size[1]]
    torch.testing.assert_close(whole, plane, rtol=0, atol=1e-12)
    reduced = plan.reduced(8)
    small = torch.rand(1, 1, reduced.tops[-1] + reduced.height, reduced.lefts[-1] + reduced.width)
    torch.testing.assert_close(reduced.blend(reduced.cut(small)), small)
    for starts, length in ((plan.tops, plan.height), (plan.lefts, plan.width)):
        assert all(a % 64 == 0 and a + length - b >= overlap for a, b in pairwise(starts))


def test_tiles_of_an_untouched_picture_are_exact():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    assert np.array_equal(deband(noise, strength=0, tile_size=768), noise)


def test_not_a_number_stays_where_it_is():
    image = np.full((64, 64), 0.5, np.float32)
    image[10, 10], image[50, 50] = np.nan, np.inf
    result = deband(image)
    assert np.isnan(result[10, 10])
    assert np.isinf(result[50, 50])
    assert np.isfinite(result).sum() == image.size - 2


@pytest.mark.parametrize("dither", ["blue_noise", "error_diffusion", "none"])
def test_one_wild_pixel_leaves_the_others_alone(dither):
    image = np.full((200, 300), 0.5, np.float32)
    image[100, 100] = 3e38
    assert np.abs(np.delete(deband(image), 100, 0) - 0.5).max() < 0.02
    image[100, 100] = np.nan
    codes = deband(image, output_depth=8, dither=dither)
    assert codes[100, 100] == 0
    assert np.isin(np.delete(codes.ravel(), 100 * 300 + 100), (127, 128)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (1, 1), (1, 3, 3)])
def test_deband_keeps_shape_and_type(dtype, shape):
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (np.random.default_rng(0).random(shape) * scale).astype(dtype)
    before = image.copy()
    result = deband(image)
    assert (result.shape, result.dtype) == (shape, dtype)
    assert np.array_equal(image, before)
    result[...] = 0  # a copy, whatever was done to it
    assert np.array_equal(image, before)
    undithered = deband(image, strength=0, output_dtype=np.float32)
    assert undithered.dtype == np.float32
    assert np.array_equal(undithered, image.astype(np.float32))


def test_deband_rounds_its_undithered_result(ramp):
    values = deband(ramp, output_dtype=np.float32)
    for dither in ("blue_noise", "error_diffusion", "none"):
        assert np.abs(deband(ramp, dither=dither) - values).max() <= (0.5 if dither == "none" else 1.5)
    ten_bits = deband(ramp, output_depth=10)
    assert ten_bits.dtype == np.uint16
    assert np.abs(ten_bits - values * 1023 / 255).max() <= 1
    assert deband(ramp, output_depth=32).dtype == np.float32


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros((2, 2, 4), np.uint8), {}, r"\(2, 2, 4\)"),
        (np.zeros((0, 2), np.uint8), {}, r"\(0, 2\)"),
        (np.zeros((2, 2), np.int32), {}, "int32"),
        ([[1, 2]], {}, "list"),
        (np.full((2, 2), 1024, np.uint16), {"bit_depth": 10}, "1024"),
        (np.zeros((2, 2), np.uint8), {"bit_depth": 10}, "10"),
        (np.zeros((2, 2), np.uint16), {"bit_depth": 8}, "8"),
        (np.zeros((2, 2), np.float32), {"bit_depth": 8}, "8"),
        (np.zeros((2, 2), np.uint8), {"output_dtype": np.int8}, "int8"),
        (np.zeros((2, 2), np.uint8), {"output_dtype": np.float32, "output_depth": 10}, "exclude"),
        (np.zeros((2, 2), np.uint8), {"strenght": 1}, "strenght"),
        (np.zeros((2, 2), np.uint8), {"device": "cuda:97"}, "cuda:97"),
    ],
)
def test_bad_images_and_options_are_named(array, options, words):
    with pytest.raises((FormatError, OptionError), match=words):
        deband(array, **options)


@pytest.mark.parametrize("able", [False, True])
def test_half_precision_on_a_cpu_is_bfloat16_where_it_has_it(ramp, monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    exact, given = (deband(ramp, output_dtype=np.float32, device="cpu", fp16=fp16) for fp16 in (False, None))
    assert np.array_equal(given, exact) == (not able)
    assert np.abs(given - exact).max() <= 0.05
    if not able:
        with pytest.raises(OptionError, match="fp16 True needs"):
            Debander(DebandOptions(fp16=True, device="cpu"))


def test_a_model_is_loaded_once_and_released_with_its_last_user():
    import gc

    from bdinn_core import engine

    first, second = Debander(), Debander()
    assert first._network is second._network
    del first, second
    gc.collect()
    assert not engine._networks


def thrice(fmt: FrameFormat, interlaced: bool = False) -> list[Frame]:
    """Three pictures, each three times, every frame with planes of its own."""
    return [replace(banded_frame(fmt, offset=16.0 * (i // 3)), interlaced=interlaced) for i in range(9)]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("fmt", [FORMATS[2], FORMATS[7], FORMATS[8]], ids=name_of)
def test_frames_that_come_again_reuse_the_networks_result_and_nothing_else(fmt, interlaced, batch, seen):
    frames = thrice(fmt, interlaced)
    options = DebandOptions(grain=0.5, batch=batch)
    expected = [Debander(options)(frame, 5 + i) for i, frame in enumerate(frames)]
    seen.clear()
    debander = Debander(options)
    results = [
        result for i in range(0, 9, batch) for result in debander.process(frames[i : i + batch], 5 + i)
    ]
    assert all(equal(a, b) for a, b in zip(results, expected, strict=True))
    assert not equal(results[0], results[1])  # each has grain of its own
    assert sum(seen) == 3 * 3 * (1 + interlaced)


def test_bands_of_ycbcr_in_rgb_that_come_again(seen):
    y, x = np.mgrid[0:120, 0:160]
    planes = np.stack([80 + 0.2 * x, 120 + 0.1 * y, 120 + 0.1 * x])
    ycbcr = YCbCr(matrix="bt709")
    codes = np.rint(ycbcr.decode(np.rint(planes / 4) * 4)).clip(0, 255).astype(np.uint8)
    frame = Frame(tuple(codes), FrameFormat(family="rgb"))
    assert find_ycbcr(frame) is not None
    debander = Debander(DebandOptions(output_depth=16))
    first, second = debander(frame, 0), debander(Frame(tuple(codes.copy()), frame.format), 1)
    assert equal(first, second)
    assert sum(seen) == 3
    codes[2, -1, -1] ^= 1  # one code of one plane may change how all are seen
    assert equal(debander(frame, 2), Debander(debander.options)(frame, 2))
    assert sum(seen) == 9


def test_only_the_planes_that_changed_are_seen_again(seen):
    frame = banded_frame(FORMATS[2])
    debander = Debander()
    debander(frame, 0)
    frame.planes[0][-1, -1] += 1  # in place, as by a caller that fills its arrays anew
    assert equal(debander(frame, 1), Debander()(frame, 1))
    assert seen == [1, 2, 1, 1, 2]  # luma, both of chroma; luma alone; and again by the other


@pytest.mark.parametrize("batch", [1, 8])
def test_chroma_that_stands_still_is_seen_once(batch, seen):
    moving = [banded_frame(FORMATS[2], offset=3.0 * i) for i in range(16)]
    frames = [Frame((f.planes[0], *moving[0].planes[1:]), f.format) for f in moving]
    debander = Debander(DebandOptions(batch=batch))
    for i in range(0, 16, batch):
        debander.process(frames[i : i + batch], i)
    assert sum(seen) == 16 + 2


def test_what_a_plane_means_is_part_of_it():
    limited, full = (banded_frame(replace(FORMATS[1], range=r)) for r in ("limited", "full"))
    debander = Debander()
    debander(limited, 0)
    same_values = Frame(limited.planes, full.format)
    assert equal(debander(same_values, 0), Debander()(same_values, 0))


def test_not_a_number_comes_again(seen):
    image = np.full((40, 50), 0.5, np.float32)
    image[10, 10] = np.nan
    fmt = FrameFormat(family="gray", bit_depth=32, is_float=True)
    debander = Debander()
    first, second = (debander(Frame((image.copy(),), fmt), i).planes[0] for i in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert seen == [1]


def test_threads_that_share_a_debander_see_a_plane_once(seen):
    frames = [frame for frame in thrice(FORMATS[2]) for _ in range(4)]
    debander = Debander(DebandOptions(grain=0.5))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(debander, frames, range(len(frames))))
    assert sum(seen) <= 12  # 9, but for a thread that lags behind the others
    expected = [Debander(debander.options)(frame, i) for i, frame in enumerate(frames)]
    assert all(equal(a, b) for a, b in zip(results, expected, strict=True))


def test_a_failure_is_forgotten(monkeypatch):
    frame = banded_frame(FORMATS[2])
    debander = Debander()
    with monkeypatch.context() as broken:
        broken.setattr(Restorer, "__call__", lambda self, planes: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            debander(frame, 0)
    assert equal(debander(frame, 0), Debander()(frame, 0))


@pytest.mark.parametrize("method", ["fill", "detach"])
def test_a_failure_while_results_are_put_down_is_forgotten(method, monkeypatch):
    frame = banded_frame(FORMATS[2])
    debander = Debander()

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(reuse._Result, method, fail)
        with pytest.raises(MemoryError):
            debander(frame, 0)
    assert not debander._reuse._kept
    frame.planes[0][:] += 1  # in place: it must not be known by the array
    assert equal(debander(frame, 0), Debander()(frame, 0))


def test_few_results_are_kept():
    debander = Debander(DebandOptions(batch=8))
    debander.process([banded_frame(FORMATS[2], offset=8.0 * i) for i in range(8)], 0)
    assert sum(len(result.planes) for result in debander._reuse._kept) == 6


class _SmallMemory:
    """A network on a device that holds so many pixels at once."""

    def __init__(self, network: Any, pixels: int) -> None:
        self._network, self._pixels = network, pixels
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._network, name)
        return partial(self._run, part) if name in ("forward", "encode_fine", "restore_fine") else part

    def _run(self, part: Any, x: torch.Tensor, *more: Any) -> torch.Tensor:
        self.calls += 1
        if x[:, 0].numel() > self._pixels:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return part(x, *more)


def test_out_of_memory_makes_tiles_smaller_once_and_for_good(monkeypatch):
    fmt = FrameFormat(family="gray", bit_depth=16)
    frames = [banded_frame(fmt, 1700, 200, offset=i) for i in range(3)]
    said: list[str] = []
    debander = Debander(warn=said.append)
    network = _SmallMemory(debander._network, 1024 * 256)
    monkeypatch.setattr(debander._restorer, "_network", network)
    results = [debander(frame, i) for i, frame in enumerate(frames)]
    assert said == ["out of memory: from here on, planes are cut into tiles of 832 px"]
    assert network.calls == 1 + 3 * 2 * 3  # a failure; then three tiles, fine scales down and up
    tiled = Debander(DebandOptions(tile_size=832))
    assert all(equal(a, tiled(frame, i)) for i, (frame, a) in enumerate(zip(frames, results, strict=True)))


def test_out_of_memory_with_the_smallest_tiles_is_an_error(monkeypatch):
    debander = Debander(warn=lambda line: None)
    monkeypatch.setattr(debander._restorer, "_network", _SmallMemory(debander._network, 100))
    for _ in range(2):
        with pytest.raises(DeviceMemoryError, match="cpu doesn't suffice for 1 planes of 7"):
            debander(banded_frame(FORMATS[0], 1700, 200), 0)


@pytest.mark.cuda
@pytest.mark.parametrize(("fp16", "tolerance"), [(False, 0.02), (True, 0.05)])
def test_gpu_agrees_with_the_cpu(ramp, fp16, tolerance):
    on_cpu = deband(ramp, output_dtype=np.float32, device="cpu")
    on_gpu = deband(ramp, output_dtype=np.float32, device="cuda", fp16=fp16)
    assert np.abs(on_cpu - on_gpu).max() <= tolerance
