"""Which streams are debanded, copied, converted, left out or refused."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from jobs import LOSSLESS
from lab.media import assert_same_pictures, join, make, make_captioned, planes, read, seconds, smooth

from bdinn_core.errors import InputError, OptionError, OutputError
from bdinn_core.video import reader


def two_videos(folder: Path, late: int = 0, count: int = 3) -> Path:
    """Two streams of video, of 48 and of 32 lines; the second one comes so many pictures later."""
    times = {48: range(count), 32: range(late, late + count)}
    parts = [make(folder / f"{height}.mkv", times=shown, height=height) for height, shown in times.items()]
    return join(folder / "in.mkv", parts)


@pytest.mark.parametrize("number", [0, 1])
def test_one_video_stream_is_debanded_and_the_other_copied(run, tmp_path, number):
    source = two_videos(tmp_path)
    news = run(
        source, tmp_path / "out.mkv", {"strength": 1}, video_stream=number, codec="ffv1", pix_fmt="source"
    )
    assert news.warnings == [f"video stream {1 - number} (ffv1) is copied as it is, not debanded"]
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        for one, other in zip(before.streams.video, after.streams.video, strict=True):
            for container in (before, after):
                container.seek(0)
            first, second = (next(c.decode(s)) for c, s in ((before, one), (after, other)))
            assert (first.width, first.height) == (second.width, second.height)
            same = all(map(np.array_equal, planes(first), planes(second)))
            assert same == (one.index != number)


def test_a_copied_video_keeps_its_last_picture_in_mp4(run, tmp_path):
    """Matroska needn't say how long it's shown."""
    run(two_videos(tmp_path), tmp_path / "out.mp4", **LOSSLESS)
    assert len(pictures(tmp_path / "out.mp4", 1)) == 3


def pictures(path: Path, index: int) -> list[tuple[Fraction, list[np.ndarray]]]:
    """When the pictures of a stream are shown, and their planes."""
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.video[index])
        return [(seconds(frame.pts, frame.time_base), planes(frame)) for frame in frames]


def same(
    one: list[tuple[Fraction, list[np.ndarray]]], other: list[tuple[Fraction, list[np.ndarray]]]
) -> bool:
    """Whether times and planes are equal."""
    pairs = zip(one, other, strict=True)
    return all(a == b and all(map(np.array_equal, x, y)) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize(
    ("late", "cut", "count"), [(1, {}, 4), (0, {"start": Fraction(1, 25), "end": Fraction(3, 25)}, 2)]
)
def test_all_video_streams_are_debanded_as_each_would_be(run, tmp_path, late, cut, count):
    source, job = two_videos(tmp_path, late=late, count=4), {"codec": "ffv1", "pix_fmt": "source", **cut}
    news = run(source, tmp_path / "all.mkv", {"strength": 1}, video_stream="all", **job)
    assert news.warnings == []
    assert news.frames == 2 * count
    for index in (0, 1):
        run(source, tmp_path / f"{index}.mkv", {"strength": 1}, video_stream=index, **job)
        found, alone = (pictures(tmp_path / f"{name}.mkv", index) for name in ("all", index))
        assert len(found) == count
        assert same(found, alone)
        assert not same(found, pictures(source, index)[:count])


def test_a_video_stream_that_begins_late_is_done_by_itself(run, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "HELD_BYTES", 2**19)
    source = two_videos(tmp_path, late=80, count=90)
    with pytest.raises(InputError, match=r"begins too late to be done beside the first.*--video-stream"):
        run(source, tmp_path / "out.mkv", **LOSSLESS, video_stream="all")
    assert run(source, tmp_path / "out.mkv", **LOSSLESS, video_stream=1).frames == 90


@pytest.mark.parametrize("name", ["out.y4m", "%d.tiff"])
def test_pictures_alone_are_of_one_video_stream(run, tmp_path, name):
    with pytest.raises(OptionError, match=f"{name} holds one video stream, not all: name one"):
        run(two_videos(tmp_path), tmp_path / name, video_stream="all")


def test_a_video_stream_that_isnt_there(run, tmp_path):
    with pytest.raises(OptionError, match=r"video_stream 1 isn't there: .*in\.mkv has 1, counted from 0"):
        run(make(tmp_path / "in.mkv"), tmp_path / "out.mkv", video_stream=1)


@pytest.mark.parametrize(
    ("clip", "output", "codec", "what"),
    [
        ({"sound": "ac3"}, "out.webm", "libvpx-vp9", "webm can't hold audio stream 1 (ac3)"),
        ({"fonts": [("a.ttf", b"font")]}, "out.mp4", "libx264", "mp4 can't hold attachment stream 1"),
        ({"sound": "flac"}, "out.mov", "libx264", "mov can't hold audio stream 1 (flac)"),
        ({"sound": "pcm_s16le", "layout": "5.1"}, "out.mp4", "libx264", "mp4 can't hold audio stream 1 (pcm"),
        ({"subtitles": "ass"}, "out.ts", "libx264", "mpegts can't hold subtitle stream 1 (ssa)"),
    ],
)
def test_a_stream_the_container_cant_hold(run, tmp_path, clip, output, codec, what):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, **clip)
    with pytest.raises(OutputError, match=f"{re.escape(what)}.*--drop-incompatible"):
        run(source, tmp_path / output, codec=codec)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    news = run(source, tmp_path / output, codec=codec, drop_incompatible=True)
    assert any("is left out: " in line for line in news.warnings)
    assert [kind for kind, _, _ in read(tmp_path / output).streams] == ["video"]


def test_sound_whose_channels_have_no_names(run, tmp_path):
    """Matroska has none for PCM; MP4 wants them."""
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, sound="pcm_s16le")
    run(source, tmp_path / "out.mp4", codec="libx264")
    before, after = (list(read(path).packets.values()) for path in (source, tmp_path / "out.mp4"))
    assert [[data for _, data in stream] for stream in before] == [
        [data for _, data in stream] for stream in after
    ]


def captions(path: Path) -> list[bytes | None]:
    found = [frame.side_data.get("A53_CC") for frame in read(path).frames]
    return [None if data is None else bytes(data) for data in found]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_closed_captions_are_kept(run, tmp_path, codec):
    source = make_captioned(tmp_path)
    expected = captions(source)
    assert len(expected) == 6
    assert None not in expected
    news = run(source, tmp_path / "out.mkv", codec=codec, preset="ultrafast")
    assert not any("captions" in line for line in news.warnings)
    assert captions(tmp_path / "out.mkv") == expected


def test_closed_captions_that_are_lost_are_told_once(run, tmp_path):
    news = run(make_captioned(tmp_path), tmp_path / "out.mkv", **LOSSLESS)
    assert len([line for line in news.warnings if "closed captions are lost: ffv1" in line]) == 1
    assert set(captions(tmp_path / "out.mkv")) == {None}


def test_pictures_are_the_same_with_and_without_captions(run, tmp_path):
    source = make_captioned(tmp_path)
    run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert_same_pictures(read(source), read(tmp_path / "out.mkv"))
