"""High dynamic range: metadata in, metadata out, or a refusal."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from jobs import FAST_X265, LOSSLESS, info
from lab.media import assert_same_pictures, make, read, smooth

from bdinn_core.errors import InputError, OutputError
from bdinn_core.video.codecs import plan_encoding
from bdinn_core.video.hdr import HDR, read_hdr

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
PQ = {"color_primaries": 9, "color_trc": 16, "colorspace": 9}


@pytest.fixture(scope="module")
def hdr10(tmp_path_factory) -> Path:
    options = {"x265-params": f"log-level=error:master-display={DISPLAY}:max-cll=1000,400", **FAST_X265}
    clip = {"codec": "libx265", "pix_fmt": "yuv420p10le", "draw": smooth, "width": 96, "height": 64}
    return make(tmp_path_factory.mktemp("hdr") / "in.mkv", options=options, tags=PQ, **clip)


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("codec", "preset", "chromaticity", "luminance"),
    [
        ("libx265", "ultrafast", 0, 0),
        ("libx264", "ultrafast", 0, 0),
        ("libsvtav1", "10", 2**-16, 2**-8),  # AV1's own units
    ],
)
def test_static_metadata_is_kept(run, hdr10, tmp_path, codec, preset, container, chromaticity, luminance):
    output = tmp_path / f"out.{container}"
    assert run(hdr10, output, codec=codec, preset=preset).warnings == []
    one, other = (read_hdr(read(path).frames[0]) for path in (hdr10, output))
    assert one.light == other.light == (1000, 400)
    assert one.mastering is not None
    assert other.mastering is not None
    for name in ("red", "green", "blue", "white"):
        for a, b in zip(getattr(one.mastering, name), getattr(other.mastering, name), strict=True):
            assert abs(a - b) <= chromaticity
    assert abs(one.mastering.brightest - other.mastering.brightest) <= luminance
    assert abs(one.mastering.darkest - other.mastering.darkest) <= luminance
    frame = read(output).frames[0]
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)


def test_what_cant_be_kept_is_refused_or_dropped(run, hdr10, tmp_path):
    lost = r"ffv1 can't say the source's mastering display, content light level.*libx265.*--hdr drop"
    with pytest.raises(OutputError, match=lost):
        run(hdr10, tmp_path / "out.mkv", **LOSSLESS)
    news = run(hdr10, tmp_path / "out.mkv", **LOSSLESS, hdr="drop")
    assert news.warnings == ["left out: mastering display, content light level; the colour tags are kept"]
    assert_same_pictures(read(hdr10), read(tmp_path / "out.mkv"))
    assert not read_hdr(read(tmp_path / "out.mkv").frames[0])


def test_y4m_says_what_it_cant_carry(run, hdr10, tmp_path):
    news = run(hdr10, tmp_path / "out.y4m")
    lost = "mastering display, content light level"
    assert news.warnings == [f"y4m can't say the source's {lost}, nor its colours: tell the encoder"]


def test_light_without_a_display_is_kept(run, tmp_path):
    options = {"x265-params": "log-level=error:max-cll=1000,400", **FAST_X265}
    clip = {"codec": "libx265", "pix_fmt": "yuv420p10le", "draw": smooth, "width": 96, "height": 64}
    source = make(tmp_path / "in.mkv", options=options, tags=PQ, **clip)
    run(source, tmp_path / "out.mkv", **FAST_X265)
    assert read_hdr(read(tmp_path / "out.mkv").frames[0]) == HDR(light=(1000, 400))


@pytest.mark.parametrize("name", ["HDR10+", "Dolby Vision"])
def test_metadata_of_single_frames_is_refused_by_name(name):
    source = replace(info("yuv420p10le"), hdr=HDR(light=(1000, 400), dynamic=(name,)))
    with pytest.raises(OutputError, match=rf"{re.escape(name)} can't be encoded again.*--hdr drop"):
        plan_encoding("libx265", source)
    assert "max-cll" not in plan_encoding("libx265", source, drop_hdr=True).options["x265-params"]


def test_real_hdr10_plus(run, shared_dir, tmp_path):
    clip = shared_dir / "data" / "clips" / "hdr10-video-with-sdr-container.mp4"
    with pytest.raises(OutputError, match=r"HDR10\+ can't be encoded again"):
        run(clip, tmp_path / "out.mkv", end=Fraction(1, 10), **FAST_X265)


def test_metadata_that_begins_later_stops_the_job(run, tmp_path):
    clip = {"codec": "libx265", "pix_fmt": "yuv420p10le", "draw": smooth, "width": 96, "height": 64}
    parts = []
    for light in ("", ":max-cll=1000,400"):
        options = {"x265-params": f"log-level=error{light}", **FAST_X265}
        parts.append(make(tmp_path / "part.hevc", options=options, tags=PQ, **clip).read_bytes())
    source = tmp_path / "in.hevc"
    source.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match=r"dynamic range changes \(content light level; --hdr.*at 0\.240 s"):
        run(source, tmp_path / "out.mkv", **FAST_X265)
    assert run(source, tmp_path / "part.mkv", **FAST_X265, keep_partial=True).ended == (6, True)
    assert run(source, tmp_path / "out.mkv", **FAST_X265, hdr="drop").frames == 12
    assert run(source, tmp_path / "out.y4m").frames == 12
