import re

import av
import numpy as np
import pytest
from av.video.format import names
from lab.media import picture, planes

from bdinn_core.errors import FormatError
from bdinn_core.planes import FrameFormat
from bdinn_core.video.formats import PixelFormat, Repacker, alpha_to_depth, read_planes, write_planes


def _pixel(name: str) -> PixelFormat | None:
    try:
        return PixelFormat.from_name(name)
    except FormatError:
        return None


PLANAR = [name for name in sorted(names) if (pixel := _pixel(name)) and pixel.name == name]
FEW_BITS = re.compile(r"(rgb|bgr)(4|8|444|555|565)|mono|pal8")
"""Read as planes of 8 bits, which they can't hold in turn."""
PACKED = [
    name
    for name in sorted(names)
    if (pixel := _pixel(name))
    and pixel.name != name
    and not pixel.is_float
    and not FEW_BITS.match(name)
    and not name.startswith("yuvj")  # the same planes under another name: never converted
]
ODD_ONLY_READ = {"p010le", "p016le"}
"""swscale writes chroma wrongly at odd sizes."""


@pytest.mark.parametrize(
    ("name", "family", "depth", "subsampling", "alpha"),
    [
        ("yuv420p", "yuv", 8, (1, 1), False),
        ("yuvj422p", "yuv", 8, (1, 0), False),
        ("yuv440p12le", "yuv", 12, (0, 1), False),
        ("yuv410p", "yuv", 8, (2, 2), False),
        ("yuv411p", "yuv", 8, (2, 0), False),
        ("yuva444p16be", "yuv", 16, (0, 0), True),
        ("nv12", "yuv", 8, (1, 1), False),
        ("p210le", "yuv", 10, (1, 0), False),
        ("yuyv422", "yuv", 8, (1, 0), False),
        ("rgb24", "rgb", 8, (0, 0), False),
        ("bgra", "rgb", 8, (0, 0), True),
        ("x2rgb10le", "rgb", 10, (0, 0), False),
        ("rgba64be", "rgb", 16, (0, 0), True),
        ("pal8", "rgb", 8, (0, 0), True),
        ("gray", "gray", 8, (0, 0), False),
        ("gray12be", "gray", 12, (0, 0), False),
    ],
)
def test_what_a_format_is(name, family, depth, subsampling, alpha):
    expected = PixelFormat(family=family, bit_depth=depth, subsampling=subsampling, alpha=alpha)
    assert PixelFormat.from_name(name) == expected
    assert expected.exists


@pytest.mark.parametrize("name", ["nosuch", "cuda", "bayer_rggb8", "xyz12le", "ya8", "gray32le"])
def test_formats_that_are_no_planes_are_refused_by_name(name):
    with pytest.raises(FormatError, match=name):
        PixelFormat.from_name(name)


def test_there_are_formats_to_test():
    assert len(PLANAR) > 50
    assert len(PACKED) > 60


@pytest.mark.parametrize("name", PLANAR)
def test_planes_are_read_and_written_unchanged(name):
    pixel = PixelFormat.from_name(name)
    fmt = pixel.frame_format(0)
    source = av.VideoFrame(37, 23, name)
    rng = np.random.default_rng(1)
    for plane in source.planes:
        np.frombuffer(plane, fmt.dtype)[...] = rng.integers(0, 200, plane.buffer_size // fmt.dtype.itemsize)
    frame, alpha = read_planes(source, pixel, fmt)
    assert (alpha is not None) == pixel.alpha
    target = av.VideoFrame(37, 23, name)
    write_planes(target, frame, alpha)
    again, alpha_again = read_planes(target, pixel, fmt)
    for a, b in zip(frame.planes, again.planes, strict=True):
        np.testing.assert_array_equal(a, b)
    if alpha is not None:
        np.testing.assert_array_equal(alpha, alpha_again)


def test_rgb_planes_are_in_the_order_r_g_b():
    source = av.VideoFrame.from_ndarray(np.full((2, 2, 3), (10, 20, 30), np.uint8), "rgb24")
    pixel = PixelFormat.from_name("rgb24")
    frame, _ = read_planes(Repacker()(source, pixel.name), pixel, pixel.frame_format(0))
    assert [int(plane[0, 0]) for plane in frame.planes] == [10, 20, 30]


@pytest.mark.parametrize("name", PACKED)
def test_packed_formats_hold_the_values_of_their_planes(name):
    pixel = PixelFormat.from_name(name)
    width, height = (36, 24) if name in ODD_ONLY_READ else (37, 23)
    source = picture(pixel.name, width, height, 1)
    source.colorspace, source.color_range = 8, 2  # YCgCo, which swscale has no arithmetic for
    repack = Repacker()
    packed = repack(source, name)
    again = repack(packed, pixel.name)
    assert (packed.format.name, packed.colorspace, packed.color_range) == (name, 8, 2)
    for a, b in zip(planes(source), planes(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_packed_frame_comes_out_the_same_every_time():
    # swscale's threads overwrote each other's rows about once in 600 conversions.
    source = picture("yuv422p", 37, 23, 1)
    expected = planes(source)
    repack = Repacker()
    for _ in range(3000):
        for a, b in zip(expected, planes(repack(repack(source, "uyvy422"), "yuv422p")), strict=True):
            np.testing.assert_array_equal(a, b)


def test_alpha_is_full_range_at_every_depth():
    eight, ten = FrameFormat(family="gray"), FrameFormat(family="gray", bit_depth=10)
    single = FrameFormat(family="gray", bit_depth=32, is_float=True)
    alpha = np.array([[0, 1, 128, 255]], np.uint8)
    np.testing.assert_array_equal(alpha_to_depth(alpha, eight, ten), [[0, 4, 514, 1023]])
    np.testing.assert_array_equal(alpha_to_depth(alpha_to_depth(alpha, eight, ten), ten, eight), alpha)
    np.testing.assert_allclose(alpha_to_depth(alpha, eight, single), alpha / 255, rtol=1e-6)
