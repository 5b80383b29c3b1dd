"""What's measured of planes: the share beside edges of bands, noise, and how far another one is off."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from banded import FORMATS, banded_frame, name_of

from bdinn_core import Frame, FrameFormat
from bdinn_core.measure import band_edges, mean_change, measure_plane, noise_level
from bdinn_core.options import Dither
from bdinn_core.quantize import quantize

HEIGHT, WIDTH = 96, 160


def ramp(along: float, across: float = 0.0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A gradient of so many 8-bit steps a pixel, float64."""
    y, x = np.mgrid[:height, :width]
    return 60.3 + along * x + across * y


def noise(sigma: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sigma, (height, width))


def gray(values: np.ndarray, depth: int = 32, interlaced: bool = False) -> Frame:
    """A frame of values in 8-bit steps, rounded where it's of integers."""
    fmt = FrameFormat(family="gray", bit_depth=depth, is_float=depth == 32)
    plane = (values - 16) / 219 if fmt.is_float else np.rint(values * 2.0 ** (depth - 8))
    return Frame((plane.astype(fmt.dtype),), fmt, interlaced)


def edges(values: np.ndarray) -> np.ndarray:
    return band_edges(torch.from_numpy(values.astype(np.float32))).numpy()


@pytest.mark.parametrize(("along", "across"), [(0.05, 0), (0, 0.05), (0.04, 0.03), (-0.04, 0.02)])
def test_a_ramp_of_eight_bits_has_bands(along, across):
    assert measure_plane(gray(ramp(along, across), 8), 0).banding > 0.5
    assert measure_plane(gray(ramp(along, across)), 0).banding == 0


@pytest.mark.parametrize("dither", ["blue_noise", "error_diffusion"])
def test_a_ramp_dithered_to_ten_bits_has_none(dither: Dither):
    fmt = FrameFormat(family="gray", bit_depth=10)
    values = torch.from_numpy(4 * ramp(0.04, 0.03)).float()
    assert measure_plane(Frame((quantize(values, fmt, dither, 0, 0),), fmt), 0).banding == 0


@pytest.mark.parametrize("depth", [8, 16, 32])
@pytest.mark.parametrize("slope", [0.15, 0.3, 1, 3])
def test_steep_gradients_have_none(depth, slope):
    values = ramp(slope)[:, : int(150 / slope)]
    assert measure_plane(gray(values, depth), 0).banding == 0


@pytest.mark.parametrize("depth", [8, 16, 32])
def test_noise_and_texture_have_none(depth):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for detail in (noise(1), np.sin(x + y), 2.0 * ((x + y) // 4 % 2), 1.0 * ((x + y) % 2)):
        values = ramp(0.04, 0.03) + detail
        assert measure_plane(gray(values, depth), 0).banding == 0


@pytest.mark.parametrize("height", [0.5, 0.8, 1, -1, 4, 5, -5, 40])
def test_only_low_edges_are_bands(height):
    """Both flat sides of 8 pixels are beside an edge, and the 2 pixels at which it may lie."""
    values = np.where(np.arange(WIDTH) < 80, 60.0, 60.0 + height) * np.ones((HEIGHT, 1))
    found = np.zeros_like(values, dtype=bool)
    found[:, 70:90] = 0.75 <= abs(height) <= 4.5
    assert np.array_equal(edges(values), found)


@pytest.mark.parametrize(("left", "right"), [(0.25, 0), (0, 0.25), (0.25, 0.25), (0.35, 0), (0, 0.35)])
def test_both_sides_must_be_flat(left, right):
    """As flat as three tenths of a step."""
    x = np.arange(WIDTH)
    values = np.where(x < 80, 60 + left * (x % 2), 62 + right * (x % 2)) * np.ones((HEIGHT, 1))
    assert edges(values).any() == (max(left, right) < 0.3)


def test_soft_edges_are_found():
    values = np.interp(np.arange(WIDTH), [78, 81], [60, 61]) * np.ones((HEIGHT, 1))
    assert edges(values)[:, 71:89].all() and edges(values).mean() == 18 / WIDTH


def test_both_directions_are_alike():
    values = np.rint(ramp(0.04, 0.03) + 3 * np.sin(ramp(0.01, 0.07)))
    found = edges(values)
    assert 0.2 < found.mean() < 0.95  # else there's little to compare
    assert np.array_equal(edges(values.T), found.T)


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_coarse_bands_are_looked_for_at_their_step(step):
    frame = gray(np.rint(ramp(0.04 * step, 0.03 * step) / step) * step, 8)
    measures = measure_plane(frame, 0)
    assert measures.step == step
    assert measures.banding > 0.5
    assert measure_plane(frame, 0, step) == measures
    assert (measure_plane(frame, 0, 1.0).banding > 0) == (step < 8)


def test_finer_bands_are_found_where_they_are_asked_for():
    frame = gray(ramp(0.01, 0.0075), 10)
    assert measure_plane(frame, 0)[:2] == (1, 0)
    assert measure_plane(frame, 0, 0.25).banding > 0.5


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1, 2, 4])
def test_noise_is_told_from_gradients(sigma):
    values = ramp(0.3, 0.2) + noise(sigma)
    assert noise_level(torch.from_numpy(values)) == pytest.approx(sigma, rel=0.1)
    for depth in (16, 32):
        assert measure_plane(gray(values, depth), 0).noise == pytest.approx(sigma, rel=0.1)


def test_flat_planes_have_no_noise():
    flat = np.full((HEIGHT, WIDTH), 60.0)
    edge = np.where(np.arange(WIDTH) < 81, 60.0, 160.0) * np.ones((HEIGHT, 1))
    object_in_it = flat + noise(9) * (np.arange(WIDTH) < 60)
    for values in (flat, edge, object_in_it):
        assert noise_level(torch.from_numpy(values)) == 0


def test_noise_of_interlaced_frames_is_that_of_a_field():
    values = ramp(0.04) + noise(1) + 9.0 * (np.arange(HEIGHT)[:, None] % 2) * np.sin(ramp(1))
    assert measure_plane(gray(values), 0).noise > 3
    assert measure_plane(gray(values, interlaced=True), 0).noise == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (17, 1), (2, 2), (3, 16), (15, 15), (17, 17)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_planes_too_small_for_bands_have_none(shape, interlaced):
    frame = gray(60 + np.linspace(0, 1, shape[1]).round() * np.ones(shape), 8, interlaced)
    for one in (frame, gray(frame.planes[0].T.astype(float), 8, interlaced)):
        assert measure_plane(one, 0) == (1, 0, 0)
        assert mean_change(one, one, 0) == 0


@pytest.mark.parametrize("size", [18, 19, 40])
def test_one_line_is_enough_for_bands(size):
    line = 60.0 + (np.arange(size) >= size // 2)[None]
    for values in (line, line.T):
        assert measure_plane(gray(values, 8), 0).banding == min(20, size) / size
    assert measure_plane(gray(line, 8, interlaced=True), 0).banding == min(20, size) / size


def test_bands_that_move_between_fields_are_found_in_each():
    values = np.rint(ramp(0, 0.03) + 0.5 * (np.arange(HEIGHT)[:, None] % 2))
    assert measure_plane(gray(values, 8), 0).banding == 0
    both = measure_plane(gray(values, 8, interlaced=True), 0).banding
    fields = [measure_plane(gray(values[parity::2], 8), 0).banding for parity in (0, 1)]
    assert both == pytest.approx(np.mean(fields))
    assert min(fields) > 0.3


def test_share_is_of_all_pixels_where_one_field_has_a_line_more():
    values = np.full((3, 40), 60.0)
    values[0::2, 20:] += 1
    assert measure_plane(gray(values, 8, interlaced=True), 0).banding == pytest.approx(2 / 3 * 20 / 40)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_a_picture_measures_the_same_at_any_depth(fmt):
    frame = banded_frame(replace(fmt, bit_depth=8, is_float=False))
    other = banded_frame(fmt)
    for p in range(fmt.num_planes):
        expected, measures = measure_plane(frame, p), measure_plane(other, p)
        assert expected.banding > 0.1
        assert measures[:2] == expected[:2]
        assert measures.noise == pytest.approx(expected.noise, abs=0.05 if fmt.is_float else 0)


@pytest.mark.parametrize("source_range", ["limited", "full"])
@pytest.mark.parametrize("family", ["gray", "yuv", "rgb"])
@pytest.mark.parametrize("depth", [8, 9, 10, 12, 16, 32])
def test_another_depth_is_no_change(family, source_range, depth):
    fmt = FrameFormat(family=family, range=source_range)
    frame, target = banded_frame(fmt), fmt.with_depth(depth)
    for p, plane in enumerate(frame.planes):
        a, b = fmt.scale(p), target.scale(p)
        values = (plane - a.zero) / a.span * b.span + b.zero
        codes = values if target.is_float else np.rint(values)
        planes = [np.zeros_like(other, target.dtype) for other in frame.planes]
        planes[p] = codes.astype(target.dtype)
        found = mean_change(frame, Frame(tuple(planes), target), p)
        rounding = 0 if source_range == "limited" and depth < 32 else 0.5 * 2.0 ** (8 - min(depth, 16))
        assert found <= rounding
        assert mean_change(Frame(tuple(planes), target), frame, p) <= rounding


@pytest.mark.parametrize("depth", [8, 10, 16, 32])
def test_change_is_the_mean_distance_in_8_bit_steps(depth):
    before = np.rint(ramp(0.04))
    after = before + np.where(np.arange(WIDTH) < WIDTH // 4, -3, 1)
    for source_depth in (8, depth):
        change = mean_change(gray(before, source_depth), gray(after, depth), 0)
        assert change == pytest.approx((3 + 3 * 1) / 4, rel=1e-4)
    assert mean_change(gray(before, depth), gray(before + 0.25, 16), 0) == pytest.approx(0.25, rel=1e-3)


def test_damaged_floats_have_part_in_nothing():
    values = np.rint(ramp(0.05))
    whole = measure_plane(gray(values), 0)
    damaged = values.copy()
    damaged[3, 4], damaged[5, 6], damaged[7, 8] = np.nan, np.inf, -np.inf
    measures = measure_plane(gray(damaged), 0)
    assert measures.noise == pytest.approx(whole.noise, abs=0.01)
    assert whole.banding - 0.05 < measures.banding <= whole.banding
    for before, after in [(damaged, damaged), (damaged, values), (values, damaged)]:
        assert mean_change(gray(before), gray(after), 0) == 0
    for ruin in (np.nan, np.inf):
        assert measure_plane(gray(np.full_like(values, ruin)), 0)[1:] == (0, 0)
        noisy = values + noise(1)
        noisy[40, 50] = ruin
        assert measure_plane(gray(noisy), 0).noise == pytest.approx(1, rel=0.1)
