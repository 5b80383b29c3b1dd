"""What `step="auto"` finds: the distance between a plane's levels, and the Y'CbCr behind an RGB picture."""

import numpy as np
import pytest
import torch

from bdinn_core import Debander, DebandOptions, Frame, FrameFormat
from bdinn_core.steps import plane_step
from bdinn_core.ycbcr import YCbCr, find_ycbcr

HEIGHT, WIDTH = 96, 160


def clouds(codes: float, seed: int = 0) -> np.ndarray:
    """A smooth plane of about `codes` 8-bit steps from 90 up, float64."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    phase = np.random.default_rng(seed).uniform(0, 6, 2)
    return 90 + codes * (0.5 + 0.25 * (np.sin(3 * x + phase[0]) + np.cos(4 * y + x + phase[1])))


def gray(values: np.ndarray, depth: int = 8, **kwargs) -> Frame:
    form = FrameFormat(family="gray", bit_depth=depth, **kwargs)
    return Frame(
        (np.rint(values).astype(form.dtype) if not form.is_float else values.astype(form.dtype),), form
    )


@pytest.mark.parametrize("step", [1, 2, 4, 8])
@pytest.mark.parametrize("depth", [8, 10, 16])
def test_integers_tell_their_step(step, depth):
    coarse = np.rint(clouds(80) / step) * step
    assert plane_step(gray(coarse * 2 ** (depth - 8), depth), 0) == step


@pytest.mark.parametrize("depth", [16, 32])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_floats_tell_their_step(depth, step):
    coarse = np.rint(clouds(80) / step) * step
    assert plane_step(gray((coarse - 16) / 219, depth, is_float=True), 0) == step


def test_finer_levels_than_eight_bits_are_no_step():
    assert plane_step(gray(clouds(4) * 4, 10), 0) == 1
    assert plane_step(gray(clouds(2) / 255, 32, is_float=True), 0) == 1


def test_a_logo_does_not_hide_the_step():
    coarse = np.rint(clouds(80) / 4) * 4
    coarse[4:10, 4:20] += 1
    assert plane_step(gray(coarse), 0) == 4


def small_object(level: float) -> np.ndarray:
    """One flat level but for a shaded disc of under 2 % of the area."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(y - 40, x - 70)
    return np.where(distance < 9, level + 60 - 5 * distance, level)


@pytest.mark.parametrize("level", [0, 16, 128])
def test_a_flat_plane_with_a_small_object_has_step_one(level):
    assert plane_step(gray(small_object(level)), 0) == 1
    planes = tuple(np.rint(small_object(level)).astype(np.uint8) for _ in range(3))
    assert find_ycbcr(Frame(planes, FrameFormat(family="rgb"))) is None


@pytest.mark.parametrize(
    "values",
    [
        np.full((HEIGHT, WIDTH), 128.0),  # flat
        np.where(np.arange(WIDTH) // 40 % 2, 64, 192) * np.ones((HEIGHT, 1)),  # a drawing of two colours
        np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH)),
        np.full((1, 1), 8.0),
    ],
    ids=["flat", "two colours", "noise", "pixel"],
)
def test_what_has_no_bands_has_step_one(values):
    assert plane_step(gray(values), 0) == 1


def test_damaged_floats_are_no_reason_to_fail():
    values = clouds(20) / 255
    values[3, 4], values[5, 6] = np.nan, np.inf
    assert plane_step(gray(values, 32, is_float=True), 0) == 1


def coarse_rgb(matrix, color_range, steps=(4, 8, 8)) -> tuple[Frame, np.ndarray]:
    """An RGB frame whose bands were made in Y'CbCr, and its truth, (3, H, W)."""
    ycbcr = YCbCr(matrix=matrix, range=color_range)
    planes = np.stack([clouds(60), 128 + (clouds(40, 1) - 110), 128 + (clouds(40, 2) - 110)])

    coarse = np.stack([np.rint(p / s) * s for p, s in zip(planes, steps, strict=True)])
    rgb = np.clip(np.rint(ycbcr.decode(coarse)), 0, 255).astype(np.uint8)
    return Frame(tuple(rgb), FrameFormat(family="rgb")), ycbcr.decode(planes)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_the_matrix_of_an_rgb_picture_is_found(matrix, color_range):
    frame, _ = coarse_rgb(matrix, color_range)
    found = find_ycbcr(frame)
    assert found is not None
    assert found[0] == YCbCr(matrix=matrix, range=color_range)
    assert tuple(found[1]) == (4, 8, 8)


def test_rgb_without_coarse_levels_stays_rgb():
    planes = tuple(np.rint(clouds(60, seed)).astype(np.uint8) for seed in range(3))
    assert find_ycbcr(Frame(planes, FrameFormat(family="rgb"))) is None
    assert find_ycbcr(Frame(planes, FrameFormat(family="yuv"))) is None


def test_ycbcr_is_the_standards():
    ycbcr = YCbCr(matrix="bt709")
    assert ycbcr.from_rgb @ np.array([255, 255, 255]) + ycbcr.zero == pytest.approx([235, 128, 128], abs=1e-3)
    assert ycbcr.from_rgb @ np.array([0, 0, 255]) + ycbcr.zero == pytest.approx(
        [31.81, 240, 117.73], abs=0.01
    )
    assert ycbcr.from_rgb @ ycbcr.to_rgb == pytest.approx(np.eye(3), abs=1e-5)


def test_coarse_planes_and_pictures_are_restored():
    def decibels(values, truth) -> float:
        return float(10 * np.log10(255**2 / np.square(values - truth).mean()))

    truth = clouds(80)
    frame = gray(np.rint(truth / 4) * 4)
    result = Debander().restore([frame], 0)[0][0]
    assert result is not None
    assert decibels(result.numpy(), truth) > decibels(frame.planes[0], truth) + 5
    assert np.abs(result.numpy() - frame.planes[0]).max() <= 2 + 1e-4  # rounding was off by no more
    fixed = Debander(DebandOptions(step=4, limit=0.5)).restore([frame], 0)[0][0]
    assert fixed is not None and torch.equal(result, fixed)

    picture, colours = coarse_rgb("bt709", "limited")
    restored = np.stack([p.numpy() for p in Debander().restore([picture], 0)[0] if p is not None])
    halved = Debander(DebandOptions(limit=0.5)).restore([picture], 0)[0]
    assert np.array_equal(restored, np.stack([p.numpy() for p in halved if p is not None]))
    assert decibels(restored, colours) > decibels(np.stack(picture.planes), colours) + 4


def test_options_hold_for_pictures_restored_in_ycbcr():
    picture, _ = coarse_rgb("bt709", "limited")
    red, green, blue = Debander(DebandOptions(planes=[1])).restore([picture], 0)[0]
    assert red is None and blue is None and green is not None
    whole = Debander().restore([picture], 0)[0][1]
    assert whole is not None and torch.equal(green, whole)
    weak = Debander(DebandOptions(strength=(0, 0.5, 1))).restore([picture], 0)[0]
    assert weak[0] is None and weak[1] is not None
    before = torch.from_numpy(picture.planes[1].astype(np.float32))
    assert torch.allclose(weak[1] - before, (whole - before) / 2, atol=1e-4)
