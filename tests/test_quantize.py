from itertools import product

import numpy as np
import pytest
import torch

from bdinn_core import Debander, DebandOptions, FormatError, Frame, FrameFormat, OptionError
from bdinn_core.quantize import change_depth, quantize

DEPTHS = (*range(8, 17), 32)


@pytest.mark.parametrize("color_range", ["limited", "full"])
@pytest.mark.parametrize("family", ["gray", "yuv", "rgb"])
def test_change_of_depth_equals_vapoursynth(family, color_range):
    vs = pytest.importorskip("vapoursynth")
    core = vs.core
    families = {"gray": vs.GRAY, "yuv": vs.YUV, "rgb": vs.RGB}

    def clip_format(depth: int):
        kind = vs.FLOAT if depth == 32 else vs.INTEGER
        return core.query_video_format(families[family], kind, depth, 0, 0)

    for source_depth, target_depth in product(DEPTHS, DEPTHS):
        fmt = FrameFormat(family=family, range=color_range).with_depth(source_depth)
        columns = []  # one pixel a column: black, white, and neutral chroma in both
        for p in range(fmt.num_planes):
            scale = fmt.scale(p)
            levels = (0, 0) if fmt.is_chroma(p) else (0, 1)
            columns.append([scale.zero + scale.span * level for level in levels])
        clip = core.std.BlankClip(format=clip_format(source_depth).id, width=2, height=1, length=1)

        def fill(n, f, columns=columns):
            f = f.copy()
            for p, values in enumerate(columns):
                np.asarray(f[p])[0] = values
            f.props["_Range"] = 1 if color_range == "full" else 0
            if family != "gray":
                f.props["_Matrix"] = 0 if family == "rgb" else 1
            return f

        clip = core.std.ModifyFrame(clip, clip, fill)
        target = clip_format(target_depth)
        expected = core.resize.Point(clip, format=target.id, dither_type="none").get_frame(0)
        frame = Frame(tuple(np.array([c], fmt.dtype) for c in columns), fmt)
        for dither in ("none", "blue_noise", "error_diffusion"):
            debander = Debander(DebandOptions(strength=0, output_depth=target_depth, dither=dither))
            result = debander(frame, 0)
            for p, plane in enumerate(result.planes):
                assert np.array_equal(plane, np.asarray(expected[p])), (source_depth, target_depth, dither, p)


@pytest.mark.parametrize("dither", ["blue_noise", "error_diffusion"])
@pytest.mark.parametrize("depth", [8, 10, 16])
def test_dither_keeps_the_mean_and_stays_within_a_code(dither, depth):
    fmt = FrameFormat(family="gray", bit_depth=depth)
    values = torch.linspace(100, 104, 256).repeat(256, 1) + 0.01
    codes = quantize(values, fmt, dither, 0, 0).astype(np.float64)
    assert codes.mean() == pytest.approx(values.mean().item(), abs=0.01)
    assert np.abs(codes - values.numpy()).max() <= (1 if dither == "blue_noise" else 1.5)
    local = torch.from_numpy(codes - values.numpy()).view(16, 16, 16, 16).mean((1, 3))
    assert local.abs().max() < 0.12


@pytest.mark.parametrize("dither", ["blue_noise", "error_diffusion", "none"])
@pytest.mark.parametrize("depth", [8, 16])
def test_codes_stay_codes(dither, depth):
    fmt = FrameFormat(family="gray", bit_depth=depth)
    codes = np.random.default_rng(0).integers(0, fmt.peak + 1, (70, 150)).astype(fmt.dtype)
    codes.flat[:2] = 0, fmt.peak
    assert np.array_equal(quantize(torch.from_numpy(codes.astype(np.float32)), fmt, dither, 1, 5), codes)


@pytest.mark.parametrize("dither", ["blue_noise", "error_diffusion", "none"])
def test_values_beyond_the_range_are_clipped(dither):
    values = torch.tensor([[-3.7, 255.4, 900.0, 0.0]]).repeat(8, 1)
    codes = quantize(values, FrameFormat(family="gray", range="full"), dither, 0, 0)
    assert codes[:, 0].max() == 0
    assert set(codes[:, 1:3].ravel()) == {255}


def test_blue_noise_has_no_low_frequencies():
    """Rounding noise of a flat 0.5: its slow part, which the eye sees, is far below white noise's."""
    fmt = FrameFormat(family="gray")
    codes = quantize(torch.full((256, 256), 100.5), fmt, "blue_noise", 0, 0) - 100.5
    white = np.random.default_rng(0).integers(0, 2, (256, 256)) - 0.5
    blurred = [np.abs(np.fft.fft2(noise))[1:16, 1:16].mean() for noise in (codes, white)]
    assert blurred[0] < 0.05 * blurred[1]


def test_dither_differs_by_plane_and_seed_but_not_by_frame():
    fmt, values = FrameFormat(family="yuv"), torch.full((64, 64), 100.5)
    first = quantize(values, fmt, "blue_noise", 0, 0)
    assert not np.array_equal(first, quantize(values, fmt, "blue_noise", 1, 0))
    assert not np.array_equal(first, quantize(values, fmt, "blue_noise", 0, 1))
    assert np.array_equal(first, quantize(values, fmt, "blue_noise", 0, 0))


def test_limited_range_of_every_code_is_a_power_of_two():
    source, target = FrameFormat(family="yuv"), FrameFormat(family="yuv", bit_depth=16)
    codes = torch.arange(256, dtype=torch.float32)[None]
    for plane in (0, 1):
        assert torch.equal(change_depth(codes, source, target, plane), codes * 256)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"family": "hsv"}, "hsv"),
        ({"family": "gray", "bit_depth": 7}, "7"),
        ({"family": "gray", "bit_depth": 24, "is_float": True}, "24"),
        ({"family": "rgb", "subsampling": (1, 1)}, r"\(1, 1\)"),
        ({"family": "yuv", "subsampling": (5, 0)}, r"\(5, 0\)"),
        ({"family": "yuv", "range": "tv"}, "tv"),
    ],
)
def test_impossible_formats_are_named(wrong, words):
    with pytest.raises(FormatError, match=words):
        FrameFormat(**wrong)


def test_planes_that_do_not_fit_are_named():
    fmt = FrameFormat(family="yuv", subsampling=(1, 1))
    good = (np.zeros((5, 7), np.uint8), np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint8))
    Frame(good, fmt)
    for planes, words in (
        (good[:1], "3 planes, not 1"),
        ((good[0], good[1], np.zeros((2, 3), np.uint8)), r"plane 2 .* \(3, 4\), not \(2, 3\)"),
        ((good[0].astype(np.uint16), *good[1:]), "plane 0 .* uint8, not uint16"),
        ((np.zeros((0, 7), np.uint8), *good[1:]), "plane 0"),
    ):
        with pytest.raises(FormatError, match=words):
            Frame(planes, fmt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 2.1}, {"strength": -1}, {"strength": "1"}, {"strength": (1, 1)},
        {"strength": float("nan")}, {"step": 0}, {"step": 17}, {"step": "automatic"}, {"limit": -0.1},
        {"planes": [3]}, {"planes": [0, 0]}, {"planes": "0"},
        {"mask": np.zeros((2, 2, 3), np.uint8)}, {"mask": np.zeros((2, 2), np.int8)},
        {"grain": -1}, {"grain": (1, 2, 99)}, {"dynamic_grain": 1}, {"seed": -1}, {"seed": 1.5},
        {"output_depth": 7}, {"output_depth": 0}, {"output_depth": 17}, {"dither": "bayer"}, {"model": ""},
        {"device": "gpu"}, {"fp16": "yes"}, {"tile_size": 100}, {"tile_size": 64}, {"overlap": -64},
        {"tile_size": 768, "overlap": 448}, {"batch": 0},
    ],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_named(wrong):
    name, value = list(wrong.items())[-1]
    with pytest.raises(OptionError) as caught:
        DebandOptions(**wrong)
    assert name in str(caught.value)
    shown = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    assert shown in str(caught.value) or any(
        repr(v) in str(caught.value) for v in np.atleast_1d(value).tolist()
    )
