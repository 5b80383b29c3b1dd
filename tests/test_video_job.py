"""Whole jobs. At strength 0, what goes through all stages must come out as it was."""

import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import benchmark_video
import numpy as np
import pytest
import torch
from av.stream import Disposition
from click.testing import CliRunner
from jobs import FAST_X265, LOSSLESS
from lab.media import ASS_HEADER, LINES, assert_same_pictures, make, planes, read, smooth

from bdinn_core.engine import Debander
from bdinn_core.errors import InputError, OptionError, OutputError
from bdinn_core.options import DebandOptions
from bdinn_core.planes import Frame, FrameFormat
from bdinn_core.transfer import DeviceFrame


@pytest.mark.parametrize(
    "pix_fmt",
    [
        "yuv420p", "yuv422p10le", "yuv444p12le", "yuv440p", "yuv411p", "yuv410p", "yuv420p16le", "gray",
        "gray12le", "gray16le", "gbrp10le", "bgr0", "bgra", "rgb48le", "rgba64le", "yuva420p", "yuva444p10le",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(64, 48), (37, 23)])
def test_strength_0_keeps_every_bit(run, tmp_path, pix_fmt, size):
    source = make(tmp_path / "in.mkv", pix_fmt=pix_fmt, width=size[0], height=size[1], times=range(3))
    run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert_same_pictures(read(source), read(tmp_path / "out.mkv"))


def test_ten_bits_are_the_source_times_four(run, tmp_path):
    source = make(tmp_path / "in.mkv", pix_fmt="yuva420p", tags={"color_range": 1})
    run(source, tmp_path / "out.mkv", codec="ffv1")
    before, after = read(source), read(tmp_path / "out.mkv")
    assert after.pix_fmt == "yuva420p10le"
    for a, b in zip(before.frames, after.frames, strict=True):
        *colours, alpha = planes(a)
        *colours_after, alpha_after = planes(b)
        for x, y in zip(colours, colours_after, strict=True):
            np.testing.assert_array_equal(x.astype(np.uint16) << 2, y)
        np.testing.assert_array_equal(np.rint(alpha / 255 * 1023), alpha_after)


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("libx265", "o.mkv"),
        ("libx265", "o.mp4"),
        ("libx264", "o.mov"),
        ("libsvtav1", "o.mp4"),
        ("ffv1", "o.mkv"),
    ],
)
def test_colour_tags_and_times_are_kept(run, tmp_path, codec, name):
    tags = {
        "color_range": 2,
        "colorspace": 1,
        "color_primaries": 1,
        "color_trc": 13,
        "chroma_sample_location": 3,
        "sample_aspect_ratio": Fraction(4, 3),
    }
    shown = [0, 1001, 3003, 4004, 4505, 9009, 10010]
    time_base = Fraction(1, 30000)
    # mp4, which holds times of 1/30000 s exactly.
    source = make(
        tmp_path / "in.mp4",
        codec="libx264",
        draw=smooth,
        width=96,
        height=64,
        times=shown,
        time_base=time_base,
        tags=tags,
    )
    news = run(
        source,
        tmp_path / name,
        codec=codec,
        preset=None if codec == "ffv1" else "10" if codec == "libsvtav1" else "ultrafast",
    )
    before, after = read(source), read(tmp_path / name)
    assert after.tags == before.tags == (2, 1, 1, 13)
    assert after.frames[0].chroma_location == before.frames[0].chroma_location == 3
    # Matroska has no place for it, nor does PyAV look into the frames of ffv1.
    lost = codec == "ffv1"
    assert after.aspect == (1 if lost else Fraction(4, 3))
    assert news.warnings == (
        ["sample aspect ratio 4/3 is lost: ffv1 has no place for it here"] if lost else []
    )
    exact = [t * time_base for t in shown]
    rounded = [Fraction(round(t * 1000), 1000) for t in exact]
    assert before.times == exact
    assert after.times == (rounded if name.endswith("mkv") else exact)


def test_an_untagged_source_does_not_become_full_range(run, tmp_path):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64)
    run(source, tmp_path / "out.mkv", **FAST_X265)
    assert read(tmp_path / "out.mkv").tags in ((0, 2, 2, 2), (1, 2, 2, 2))


def test_full_range_stays_full(run, tmp_path):
    source = make(
        tmp_path / "in.mkv",
        codec="mjpeg",
        pix_fmt="yuvj420p",
        draw=smooth,
        width=96,
        height=64,
        options={"strict": "-1"},
    )
    run(source, tmp_path / "out.mkv", **FAST_X265)
    before, after = read(source), read(tmp_path / "out.mkv")
    assert (before.tags[0], after.tags[0], after.pix_fmt) == (2, 2, "yuv420p10le")
    difference = planes(after.frames[0])[0] / 1023 - planes(before.frames[0])[0] / 255
    assert np.abs(difference).mean() < 0.005


def test_full_range_that_would_read_back_as_limited_is_refused(run, tmp_path):
    source = make(tmp_path / "in.mkv", pix_fmt="yuv422p", width=96, height=64, tags={"color_range": 2})
    with pytest.raises(OutputError, match="full range"):
        run(source, tmp_path / "o.mov", codec="prores_ks")
    assert not list(tmp_path.glob("*o.*"))


@pytest.mark.parametrize(
    ("pix_fmt", "tags", "expected"),
    [
        ("yuv422p", {"color_range": 2}, (2, 2, 2, 2)),
        ("yuv422p", {"colorspace": 9}, (1, 9, 2, 2)),
        ("yuv422p", {"color_primaries": 9, "color_trc": 16, "color_range": 2}, (2, 2, 9, 16)),
        ("yuv422p", {}, (0, 2, 2, 2)),
        ("gbrp10le", {"color_primaries": 1}, (2, 2, 1, 2)),
        ("gbrp10le", {"color_primaries": 1, "color_trc": 13, "colorspace": 0}, (2, 0, 1, 13)),
    ],
)
def test_mp4_keeps_tags_that_stand_alone(run, tmp_path, pix_fmt, tags, expected):
    source = make(tmp_path / "in.mkv", pix_fmt=pix_fmt, tags=tags)
    assert run(source, tmp_path / "out.mp4", **LOSSLESS).warnings == []
    assert read(tmp_path / "out.mp4").tags == expected


@pytest.mark.parametrize("name", ["o.mkv", "o.mp4"])
@pytest.mark.parametrize("first", [5, 132])
def test_a_start_after_0_stays(run, tmp_path, name, first):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, times=range(first, first + 6))
    run(source, tmp_path / name, **FAST_X265)
    assert read(tmp_path / name).times == [Fraction(t, 25) for t in range(first, first + 6)]


@pytest.mark.parametrize(("name", "texts"), [("o.mkv", "subrip"), ("o.mp4", "mov_text")])
@pytest.mark.parametrize(
    ("source_name", "source_texts", "sound"),
    [
        ("i.mkv", "subrip", "aac"),
        ("i.mkv", "ass", "ac3"),
        ("i.mkv", "webvtt", "aac"),
        ("i.mp4", "mov_text", "aac"),
    ],
)
def test_sound_is_copied_and_subtitles_are_kept_or_converted(
    run, tmp_path, name, texts, source_name, source_texts, sound
):
    source = make(
        tmp_path / source_name,
        codec="libx264",
        draw=smooth,
        width=96,
        height=64,
        times=range(12),
        sound=sound,
        subtitles=source_texts,
        chapters=[(0, 200, "One"), (200, 480, "Two")],
        metadata={"title": "A film"},
    )
    news = run(source, tmp_path / name, **FAST_X265)
    before, after = read(source), read(tmp_path / name)
    assert [data for _, data in after.packets[1]] == [data for _, data in before.packets[1]]
    for (a, _), (b, _) in zip(before.packets[1], after.packets[1], strict=True):
        assert abs(a - b) <= Fraction(1, 1000)
    assert [(t, text) for t, text in after.texts if text] == [
        (Fraction(a, 1000), text) for a, _, text in LINES
    ]
    assert after.chapters == before.chapters
    assert after.metadata["title"] == "A film"
    assert [language for kind, language, _ in after.streams if kind in ("audio", "subtitle")] == [
        "jpn",
        "ger",
    ]
    assert [bool(d & Disposition.forced) for kind, _, d in after.streams if kind == "subtitle"] == [True]
    converted = source_name[-3:] != name[-3:]
    assert news.warnings == (
        [f"subtitle stream 2 ({source_texts.replace('subrip', 'srt').replace('ass', 'ssa')}) is converted to "
         f"{texts} for {'mp4' if name == 'o.mp4' else 'matroska'}"] if converted else []
    )  # fmt: skip


@pytest.mark.parametrize("only", [b"Default", b"Main"])
@pytest.mark.parametrize("style", ["Default", "Default ", "Other", ""])
def test_a_style_the_header_hasnt_is_the_default_one_in_mp4(run, tmp_path, monkeypatch, style, only):
    """Else FFmpeg makes the text transparent, and its size 0."""
    monkeypatch.setattr("lab.media.STYLE", style)
    monkeypatch.setattr("lab.media.ASS_HEADER", ASS_HEADER.replace(b"Style: Default", b"Style: " + only))
    source = make(tmp_path / "in.mkv", draw=smooth, subtitles="ass")
    run(source, tmp_path / "out.mp4", **LOSSLESS)
    assert [text for _, text in read(tmp_path / "out.mp4").texts if text] == [text for _, _, text in LINES]


def test_fonts_go_from_matroska_to_matroska(run, tmp_path):
    source = make(tmp_path / "in.mkv", fonts=[("font.ttf", b"not really a font" * 20)])
    run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert read(tmp_path / "out.mkv").fonts == {"font.ttf": b"not really a font" * 20}


def test_rotation_is_kept(run, tmp_path):
    source = make(tmp_path / "in.mp4", codec="libx264", draw=smooth, width=96, height=64, rotation=90)
    run(source, tmp_path / "out.mp4", **FAST_X265)
    assert read(tmp_path / "out.mp4").rotation == read(source).rotation == 90


def test_a_cut_takes_sound_and_subtitles_along(run, tmp_path):
    source = make(tmp_path / "in.mkv", draw=smooth, times=range(75), sound="pcm_s16le", subtitles="subrip")
    run(source, tmp_path / "out.mkv", start=Fraction(1, 10), end=Fraction(2), **LOSSLESS)
    whole, cut = read(source), read(tmp_path / "out.mkv")
    assert cut.times == [Fraction(t, 25) for t in range(47)]
    np.testing.assert_array_equal(planes(cut.frames[0])[0], planes(whole.frames[3])[0])
    assert cut.texts == [(0, "Second, with a comma")]  # on since 0.12 s, the first picture kept
    kept = [data for time, data in whole.packets[1] if Fraction(3, 25) <= time < 2]
    assert [data for _, data in cut.packets[1]] == kept
    assert 0 <= cut.packets[1][0][0] < Fraction(1, 20)


def test_a_result_is_what_the_engine_makes_of_the_picture_and_its_number(run, tmp_path, model):
    source = make(tmp_path / "in.mkv", pix_fmt="yuv420p", draw=smooth, times=range(5))
    options = {"strength": (1.0, 0.5, 2.0), "grain": 1.5, "seed": 7, "batch": 2}
    run(source, tmp_path / "out.mkv", options, codec="ffv1")
    engine = Debander(DebandOptions(model=model, device="cpu", output_depth=10, **options))
    fmt = FrameFormat(family="yuv", subsampling=(1, 1))
    before, after = read(source), read(tmp_path / "out.mkv")
    for number, (a, b) in enumerate(zip(before.frames, after.frames, strict=True)):
        expected = engine(Frame(tuple(planes(a)), fmt), number)
        for x, y in zip(expected.planes, planes(b), strict=True):
            np.testing.assert_array_equal(x, y)


def _half_white(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """White on the left in even pictures, on the right in odd ones; else black."""
    frame = av.VideoFrame(width, height, pix_fmt)
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)
    rows[...] = 0
    rows[:, (width // 2) * (number % 2) :][:, : width // 2] = 255
    return frame


@pytest.mark.parametrize("name", ["mask.png", "mask.mkv"])
def test_a_mask_scales_the_strength(run, tmp_path, name):
    source = make(tmp_path / "in.mkv", pix_fmt="gray", draw=smooth, times=range(4))
    if name.endswith("png"):
        mask = make(tmp_path / name, codec="png", pix_fmt="gray", times=[0], draw=_half_white)
    else:
        tags = {"color_range": 2}
        mask = make(tmp_path / name, pix_fmt="gray", times=range(4), draw=_half_white, tags=tags)
    active = {"strength": 1}
    run(source, tmp_path / "all.mkv", active, **LOSSLESS)
    run(source, tmp_path / "masked.mkv", active, mask=str(mask), **LOSSLESS)
    kept, full, masked = (read(tmp_path / n).frames for n in ("in.mkv", "all.mkv", "masked.mkv"))
    for number in range(4):
        a, b, c = (planes(frames[number])[0] for frames in (kept, full, masked))
        assert (a != b).mean() > 0.1
        white = slice(32, 64) if number % 2 and name.endswith("mkv") else slice(0, 32)
        expected = a.copy()
        expected[:, white] = b[:, white]
        np.testing.assert_array_equal(c, expected)


def test_a_mask_of_another_size_or_too_short_is_refused(run, tmp_path):
    source = make(tmp_path / "in.mkv", times=range(5))
    other = make(tmp_path / "other.mkv", width=32, times=range(5))
    short = make(tmp_path / "short.mkv", times=range(3))
    with pytest.raises(InputError, match="is 32x48, but the source is 64x48"):
        run(source, tmp_path / "out.mkv", mask=str(other), **LOSSLESS)
    with pytest.raises(InputError, match="ends before frame 3"):
        run(source, tmp_path / "out.mkv", mask=str(short), **LOSSLESS)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        ({"output": "nodir/out.mkv"}, OptionError, "nodir doesn't exist"),
        ({"output": "out.xyz"}, OptionError, "out.xyz has no container's extension"),
        ({"output": "in.mkv", "overwrite": True}, OptionError, "is the same file as the input"),
        ({"output": "there.mkv"}, OptionError, "exists; add -y"),
        ({"output": "out.m3u8"}, OptionError, "out.m3u8 isn't one file but many; use .mkv, .mp4 or .mov"),
        ({"output": "out.jpg"}, OptionError, "use .mkv, .mp4 or .mov, or .png or .tif for pictures"),
        ({"output": "out.ffmeta", "codec": "libx264"}, OptionError, "out.ffmeta is no container of video"),
        ({"output": "out.yuv", "codec": "libx264"}, OptionError, "out.yuv is no container of video"),
        ({"output": "n" * 300 + ".mkv"}, OutputError, "can't be written"),
        ({"mask": "no.png"}, InputError, "mask: no.png: no such file"),
        ({"output": "out.y4m", "codec": "ffv1"}, OptionError, "y4m isn't encoded: leave out codec"),
        ({"output": "out.webm", "codec": "libx264"}, OutputError, "webm can't hold libx264"),
        ({"encoder_options": [("nosuch", "1")]}, OptionError, "Unknown option: nosuch"),
        ({"encoder_options": [("bframes", "x")]}, OptionError, "Invalid value for bframes: x"),
        ({"encoder_options": [("bframes", "99")]}, OptionError, "max consecutive bframe count"),
        ({"preset": "silly"}, OptionError, "silly"),
        ({"codec": "libx264", "encoder_options": [("nosuch", "1")]}, OptionError, "nosuch"),
        ({"codec": "libsvtav1", "encoder_options": [("nosuch", "1")]}, OptionError, "nosuch"),
        ({"codec": "ffv1", "encoder_options": [("coder", "x")]}, OptionError, "coder"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    run, tmp_path, monkeypatch, capfd, job, error, message
):
    monkeypatch.chdir(tmp_path)
    make(Path("in.mkv"), draw=smooth, width=96, height=64)
    Path("there.mkv").write_bytes(b"kept")
    with pytest.raises(error, match=message):
        run("in.mkv", **{"output": "out.mkv", **job})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "there.mkv"]
    assert Path("there.mkv").read_bytes() == b"kept"
    assert capfd.readouterr() == ("", "")


def test_encoders_say_nothing_on_stderr(run, tmp_path, capfd):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, times=range(3))
    for codec in ("libx265", "libx264", "libsvtav1", "libvpx-vp9", "ffv1"):
        run(source, tmp_path / f"{codec}.mkv", codec=codec)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p16le", "gray12le", "yuva444p"])
def test_y4m_files_hold_planes_range_and_rate(run, tmp_path, pix_fmt):
    tags = {"color_range": 2}
    source = make(
        tmp_path / "in.mkv", pix_fmt=pix_fmt, width=37, height=23, rate=Fraction(30000, 1001), tags=tags
    )
    run(source, tmp_path / "out.y4m", pix_fmt="source")
    with av.open(str(tmp_path / "out.y4m")) as y4m:
        assert y4m.streams.video[0].average_rate == Fraction(30000, 1001)
    before, after = read(source), read(tmp_path / "out.y4m")
    assert after.tags[0] == 2
    assert_same_pictures(before, after)
    run(tmp_path / "out.y4m", tmp_path / "again.mkv", **LOSSLESS)
    again = read(tmp_path / "again.mkv")
    assert again.tags[0] == 2
    assert_same_pictures(before, again)


def test_y4m_warns_of_a_variable_frame_rate_and_refuses_what_it_has_not(run, tmp_path):
    uneven = make(tmp_path / "in.mkv", times=[0, 1, 3, 4, 9])
    assert "no timestamps" in run(uneven, tmp_path / "out.y4m").warnings[0]
    rgb = make(tmp_path / "rgb.mkv", pix_fmt="gbrp10le")
    with pytest.raises(OutputError, match="y4m has no gbrp10le"):
        run(rgb, tmp_path / "rgb.y4m")
    with pytest.raises(OptionError, match="y4m isn't encoded"):
        run(uneven, tmp_path / "out.y4m", crf=3.0, overwrite=True)


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("h264_10bits.mp4", FAST_X265),
        ("vp91-2-04-yuv444.mkv", FAST_X265),
        ("testvid_1022ms.mp4", FAST_X265),
        ("sample_h265.ts", FAST_X265),
        ("bear-vp9-odd-dimensions.webm", {"codec": "ffv1"}),
        ("vp91-2-04-yuv440.mkv", {"codec": "ffv1"}),
    ],
)
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_real_clips(run, tmp_path, data_dir, name, job, container):
    _check_real_clip(run, data_dir / name, tmp_path / f"out.{container}", job)


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_real_clip_with_subtitles(run, tmp_path, shared_dir, container):
    source = shared_dir / "data/clips/sample_with_srt.mkv"
    _check_real_clip(run, source, tmp_path / f"out.{container}", FAST_X265)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_dog.mp4", "video_big_buck_bunny.mp4"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_long_real_clips(run, tmp_path, shared_dir, name, container):
    _check_real_clip(run, shared_dir / "data/clips" / name, tmp_path / f"out.{container}", FAST_X265)


def _check_real_clip(run: Any, source: Path, output: Path, job: dict[str, Any]) -> None:
    """Same number of frames, times, sound, subtitles and colour tags."""
    news = run(source, output, **job)
    assert not any("ended after" in line for line in news.warnings)
    before, after = read(source), read(output)
    assert len(after.times) == len(before.times)
    half_a_tick = Fraction(0 if output.suffix == ".mp4" else 1, 2000)
    assert all(abs(a - b) <= half_a_tick for a, b in zip(before.times, after.times, strict=True))
    assert after.tags[1:] == before.tags[1:]
    # Neither ffv1 nor mp4 beside it says the range: there limited goes unsaid.
    unsaid = job.get("codec") == "ffv1" and output.suffix == ".mp4"
    allowed = {before.tags[0], {0: 1, 1: 0 if unsaid else 1}.get(before.tags[0], 2)}
    assert after.tags[0] in allowed
    assert after.aspect == before.aspect
    if before.frames[0].chroma_location != 1:  # what is taken for granted may stay unsaid
        assert after.frames[0].chroma_location == before.frames[0].chroma_location
    assert after.packets.keys() == before.packets.keys()
    for stream, packets in before.packets.items():
        assert [data for _, data in after.packets[stream]] == [data for _, data in packets]
        # Matroska's clock and the edit lists of mp4 count milliseconds; sound in mp4 counts samples.
        for (a, _), (b, _) in zip(packets, after.packets[stream], strict=True):
            assert abs(a - b) <= Fraction(1, 1000) + Fraction(1, 44100)
    assert [text for _, text in after.texts if text] == [text for _, text in before.texts if text]


def test_a_chroma_location_nobody_keeps_is_told(run, tmp_path):
    source = make(tmp_path / "in.mkv", tags={"chroma_sample_location": 3})
    assert run(source, tmp_path / "out.mkv", codec="ffv1").warnings == []
    news = run(source, tmp_path / "out.mp4", codec="ffv1")
    assert news.warnings == ["chroma location 3 is lost: ffv1 has no place for it here"]
    assert read(tmp_path / "out.mp4").frames[0].chroma_location == 0


@pytest.mark.parametrize(
    ("layout", "location", "again"),
    [("420", 0, "420"), ("420jpeg", 2, "420jpeg"), ("420mpeg2", 1, "420mpeg2"), ("420paldv", 3, "420paldv")],
)
def test_only_a_named_chroma_location_of_y4m_counts(run, tmp_path, layout, location, again):
    source = tmp_path / "in.y4m"
    frame = b"FRAME\n" + bytes(64 * 48 * 3 // 2)
    source.write_bytes(f"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C{layout}\n".encode() + frame * 2)
    run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert read(tmp_path / "out.mkv").frames[0].chroma_location == location
    run(source, tmp_path / "out.y4m", pix_fmt="source")
    header = (tmp_path / "out.y4m").read_bytes().split(b"\n")[0]
    assert header == f"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C{again}".encode()


@pytest.mark.parametrize("options", [{"strength": (1.0, 1.0, 1.0)}, {"grain": (1, 2, 3)}, {"planes": (1, 2)}])
def test_planes_that_grey_has_not_are_refused(run, tmp_path, options):
    source = make(tmp_path / "in.mkv", pix_fmt="gray")
    with pytest.raises(OptionError, match="grey"):
        run(source, tmp_path / "out.mkv", options, **LOSSLESS)
    assert not list(tmp_path.glob("*out*"))


def test_a_cut_keeps_the_sound_a_decoder_warms_up_with(run, tmp_path):
    source = make(tmp_path / "in.mkv", draw=smooth, times=range(75), sound="aac")
    run(source, tmp_path / "out.mkv", start=Fraction(1), end=Fraction(2), **LOSSLESS)
    before, after = read(source), read(tmp_path / "out.mkv")
    first = next(time for time, data in before.packets[1] if data == after.packets[1][0][1])
    assert 1 - Fraction(1024, 48000) - Fraction(1, 1000) <= first < 1
    assert abs(after.packets[1][0][0] - (first - 1)) <= Fraction(2, 1000)


def test_a_subtitle_that_began_long_before_a_cut_is_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.media.LINES", ((40, 4000, "Long"), (4200, 60, "Later")))
    source = make(tmp_path / "in.mkv", draw=smooth, times=range(125), subtitles="subrip")
    run(source, tmp_path / "out.mkv", start=Fraction(3), **LOSSLESS)
    assert read(tmp_path / "out.mkv").texts == [(0, "Long"), (Fraction(6, 5), "Later")]


def test_a_name_as_long_as_the_system_takes(run, tmp_path):
    source = make(tmp_path / "in.mkv", times=range(2))
    output = tmp_path / ("n" * 250 + ".mkv")
    run(source, output, **LOSSLESS)
    assert len(read(output).frames) == 2


def test_libx265_refuses_an_odd_size_by_name(run, tmp_path, data_dir):
    with pytest.raises(OutputError, match=r"161x121.*codecs that can: libsvtav1, libvpx-vp9, ffv1"):
        run(data_dir / "bear-vp9-odd-dimensions.webm", tmp_path / "out.mkv")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("width", "height", "frames"), [(192, 108, 600), pytest.param(640, 360, 10_000, marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_the_length_of_a_video(tiny, width, height, frames):
    program = Path(__file__).parent / "growth.py"
    command = [sys.executable, program, *map(str, (width, height, frames)), tiny]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    first, *rest = (size / 2**20 for size in found["tenths"])
    print(f"resident in the first {frames // 10} frames {first:.0f} MiB, at most {max(rest):.0f} MiB later")
    assert found["frames"] == frames
    assert max(rest) < 1.02 * first


@pytest.mark.parametrize("codec", ["libx265", "libx264", "libsvtav1", "ffv1"])
def test_one_thread_makes_the_same_pictures(run, tmp_path, codec):
    """But for what an encoder decides by its threads; and afterwards, torch has as many as before."""
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64)
    before = torch.get_num_threads()
    for threads in (0, 1):
        run(source, tmp_path / f"{threads}.mkv", {"strength": 1}, codec=codec, threads=threads)
    assert torch.get_num_threads() == before
    automatic, single = (read(tmp_path / f"{threads}.mkv") for threads in (0, 1))
    if codec == "ffv1":
        assert_same_pictures(automatic, single)
    assert automatic.times == single.times


def test_a_network_in_one_thread_is_given_one(run, tmp_path, monkeypatch):
    seen: list[int] = []
    process = Debander.process

    def look(self: Debander, *arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return process(self, *arguments)

    monkeypatch.setattr(Debander, "process", look)
    run(make(tmp_path / "in.mkv", times=range(2)), tmp_path / "out.mkv", threads=1, **LOSSLESS)
    assert seen == [1, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would do it")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_without_a_gpu_the_cpu_decodes_and_a_line_says_so(run, tmp_path, name):
    source = make(tmp_path / "in.mkv", codec="libx264", draw=smooth, width=96, height=64)
    news = run(source, tmp_path / "out.mkv", hwaccel=name, **LOSSLESS)
    assert len(news.warnings) == 1
    assert re.fullmatch(rf"hwaccel {name} finds no such GPU \(.+\): the CPU decodes", news.warnings[0])
    assert_same_pictures(read(source), read(tmp_path / "out.mkv"))


def test_stills_reach_the_network_once(run, tmp_path, seen):
    def on_threes(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
        return smooth(pix_fmt, width, height, 8 * (number // 3))

    source = make(tmp_path / "in.mkv", draw=on_threes, times=range(12))
    run(source, tmp_path / "out.mkv", {"grain": 1.0}, codec="ffv1")
    assert sum(seen) == 4 * 3
    first, second = (planes(frame) for frame in read(tmp_path / "out.mkv").frames[:2])
    assert not np.array_equal(first[0], second[0])  # each has grain of its own


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("pix_fmt", "device", "handed_over"),
    [("yuv420p", "cuda", True), ("yuv420p10le", "cuda", True), ("yuv420p", "cpu", False)],
)
def test_a_gpu_decodes_the_same_pictures(run, tmp_path, monkeypatch, pix_fmt, device, handed_over):
    codec = "libx265" if "10" in pix_fmt else "libx264"
    source = make(tmp_path / "in.mkv", pix_fmt=pix_fmt, codec=codec, draw=smooth, width=256, height=144)
    kinds: list[type] = []
    process = Debander.process

    def look(self: Debander, frames: Any, *others: Any) -> Any:
        kinds.extend(type(frame) for frame in frames)
        return process(self, frames, *others)

    monkeypatch.setattr(Debander, "process", look)
    news = run(source, tmp_path / "out.mkv", {"device": device, "strength": 0}, hwaccel="cuda", **LOSSLESS)
    assert news.warnings == []
    assert set(kinds) == {DeviceFrame if handed_over else Frame}
    assert_same_pictures(read(source), read(tmp_path / "out.mkv"))
    run(source, tmp_path / "gpu.mkv", {"device": device, "strength": 1}, hwaccel="cuda", codec="ffv1")
    run(source, tmp_path / "host.mkv", {"device": device, "strength": 1}, codec="ffv1")
    assert_same_pictures(read(tmp_path / "gpu.mkv"), read(tmp_path / "host.mkv"))


def test_the_benchmark_prints_targets_and_compares(tiny, tmp_path):
    clip = make(tmp_path / "in.mkv", codec="libx264", draw=smooth, width=96, height=64, times=range(9))
    options = ["--input", clip, "--model", tiny, "--codec", "ffv1", "--rounds", "1", "--no-peers"]

    def table(*more: object) -> list[str]:
        done = CliRunner().invoke(
            benchmark_video.main, [*map(str, [*options, *more])], catch_exceptions=False
        )
        assert done.exit_code == 0
        return done.output.splitlines()

    head, *rows = table("--json", tmp_path / "old.json")
    assert head.startswith("96x64 yuv, 8 bits, 9 frames")
    names = list(json.loads((tmp_path / "old.json").read_text()))
    assert [row[:30].strip() for row in rows] == names
    assert any(row.startswith("frames thrice to moving") and row.endswith(">= 2.5") for row in rows)
    again = table("--compare", tmp_path / "old.json")
    assert all(" was " in row and row.endswith("x") for row in again[1:])


@pytest.mark.parametrize("name", ["out.mkv", "out.y4m", "%d.png", "out.tif"])
def test_a_cut_without_a_picture_is_refused(run, tmp_path, name):
    source = make(tmp_path / "in.mkv", pix_fmt="gray", width=96, height=64)
    with pytest.raises(OptionError, match=r"in\.mkv, stream 0, has no picture between start and end"):
        run(source, tmp_path / name, start=Fraction(5, 100), end=Fraction(6, 100))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
