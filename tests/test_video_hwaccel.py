"""Frames that stay where they were decoded. Here that's the host's memory, which is handed over alike."""

from fractions import Fraction

import av
import numpy as np
import pytest
from banded import banded_frame, equal
from lab.media import make, make_captioned, make_interlaced, picture, smooth

from bdinn_core import Debander, DebandOptions, Frame
from bdinn_core.steps import plane_step
from bdinn_core.transfer import DeviceFrame, fetch
from bdinn_core.video.formats import PixelFormat, Repacker, read_planes, write_planes
from bdinn_core.video.hwaccel import without_pixels, wrap_planes
from bdinn_core.video.probe import stored_format

HANDED_OVER = ["nv12", "p010le", "p016le"]


def both(video: av.VideoFrame) -> tuple[DeviceFrame, Frame]:
    """A frame's planes, handed over and read."""
    pixel = PixelFormat.from_name(video.format.name)
    form = pixel.frame_format(1)
    handed = wrap_planes(video, form)
    assert handed is not None
    return handed, read_planes(Repacker()(video, pixel.name), pixel, form)[0]


def semi_planar(name: str, frame: Frame) -> av.VideoFrame:
    video = av.VideoFrame(frame.width, frame.height, PixelFormat.from_name(name).name)
    write_planes(video, frame, None)
    return Repacker()(video, name)


def banded_pair(name: str) -> tuple[DeviceFrame, Frame]:
    form = PixelFormat.from_name(name).frame_format(1)
    return both(semi_planar(name, banded_frame(form, 98, 76)))


@pytest.mark.parametrize("name", HANDED_OVER)
def test_planes_are_handed_over_unchanged(name):
    video = Repacker()(picture(PixelFormat.from_name(name).name, 98, 76, 1), name)
    handed, expected = both(video)
    for plane in video.planes:  # the decoder uses its frame again
        np.frombuffer(plane, np.uint8)[...] = 0
    assert (handed.width, handed.height) == (98, 76)
    for words, plane in zip(handed.planes, expected.planes, strict=True):
        np.testing.assert_array_equal(fetch(words, expected.format.dtype), plane)


@pytest.mark.parametrize(("name", "size"), [("yuv444p", (64, 48)), ("nv12", (63, 48)), ("nv12", (64, 47))])
def test_what_cant_be_handed_over_is_none(name, size):
    video = av.VideoFrame(*size, name)
    assert wrap_planes(video, PixelFormat.from_name(name).frame_format(1)) is None


@pytest.mark.parametrize("name", HANDED_OVER)
@pytest.mark.parametrize(
    "options",
    [{}, {"planes": [0], "grain": 1.0}, {"strength": 0}, {"strength": 0, "output_depth": 12}],
    ids=str,
)
def test_the_engine_makes_the_same_of_them(name, options):
    handed, read = banded_pair(name)
    debander = Debander(DebandOptions(device="cpu", **options))
    assert equal(debander.process([handed], 7)[0], debander(read, 7))


def test_their_fields_are_kept_apart():
    handed, read = banded_pair("nv12")
    debander = Debander(DebandOptions(device="cpu"))
    woven = debander.process([DeviceFrame(handed.planes, handed.format, interlaced=True)], 0)[0]
    assert equal(woven, debander(Frame(read.planes, read.format, interlaced=True), 0))
    assert not equal(woven, debander(read, 0))


def test_those_that_come_again_reuse_the_networks_result(seen):
    debander = Debander(DebandOptions(device="cpu"))
    results = [debander.process([banded_pair("nv12")[0]], i)[0] for i in range(3)]
    assert sum(seen) == 3
    assert all(equal(results[0], result) for result in results)


@pytest.mark.parametrize("name", HANDED_OVER)
@pytest.mark.parametrize("step", [1, 2, 4])
def test_their_steps_are_found(name, step):
    form = PixelFormat.from_name(name).frame_format(1)
    frame = banded_frame(form, 98, 76)
    unit = step * 2 ** (form.bit_depth - 8)
    coarse = Frame(tuple(plane // unit * unit for plane in frame.planes), form)
    handed, read = both(semi_planar(name, coarse))
    assert [plane_step(handed, p) for p in range(3)] == [plane_step(read, p) for p in range(3)]
    assert plane_step(handed, 0) == step


def test_a_carrier_has_the_properties_alone(tmp_path):
    make(tmp_path / "in.mkv", codec="libx264", draw=smooth, width=96, height=64)
    with av.open(str(tmp_path / "in.mkv")) as container:
        frame = list(container.decode(video=0))[1]
    carrier = without_pixels(frame, "yuv420p")
    assert len(carrier.side_data) == 0
    assert (carrier.pts, carrier.width, carrier.height) == (frame.pts, 96, 64)
    assert Fraction(carrier.time_base) == Fraction(frame.time_base)
    assert stored_format(carrier) == "yuv420p"


def test_captions_and_fields_bring_the_pixels_along(tmp_path):
    with av.open(str(make_captioned(tmp_path))) as container:
        captioned = without_pixels(next(container.decode(video=0)), "yuv420p")
    assert captioned.side_data.get("A53_CC") is not None
    with av.open(str(make_interlaced(tmp_path / "in.mkv", "bff"))) as container:
        assert without_pixels(next(container.decode(video=0)), "yuv420p").interlaced_frame
