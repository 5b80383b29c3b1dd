import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import Thread

import av
import pytest
from av.packet import Packet
from lab.media import make, smooth

from bdinn_core.errors import InputError, OptionError
from bdinn_core.video.reader import Source
from bdinn_core.video.track import Picture


def pictures(source: Source) -> list[Picture]:
    return [item for item in source.items(set()) if isinstance(item, Picture)]


def times(path: Path, start: str | None = None, end: str | None = None) -> list[tuple[int, int]]:
    source = Source(
        str(path), None if start is None else Fraction(start), None if end is None else Fraction(end)
    )
    try:
        return [(p.pts, p.duration) for p in pictures(source)]
    finally:
        source.close()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"This is a letter, not a film.\n" * 40, "isn't media FFmpeg can read"),
    ],
)
def test_what_is_no_media_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        Source(str(tmp_path / name))


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        Source(str(tmp_path))


def test_damage_before_the_first_picture_is_refused(data_dir):
    with pytest.raises(InputError, match=r"invalid-bitstream\.webm: no picture could be decoded"):
        Source(str(data_dir / "invalid-bitstream.webm"))


def test_a_change_of_size_names_the_time(data_dir):
    source = Source(str(data_dir / "vp90-2-05-resize.ivf"))
    with pytest.raises(InputError, match=r"from 352x288 .* to 282x173 .* at 0\.100 s"):
        pictures(source)
    source.close()


def test_what_the_first_frame_says(tmp_path):
    tags = {
        "color_range": 1,
        "colorspace": 9,
        "color_primaries": 9,
        "color_trc": 16,
        "chroma_sample_location": 3,
    }
    path = make(tmp_path / "a.mkv", pix_fmt="yuv420p10le", tags=tags)
    source = Source(str(path))
    info = source.tracks[0].info
    assert (info.width, info.height, info.pix_fmt, info.rate, info.time_base) == (
        64,
        48,
        "yuv420p10le",
        25,
        Fraction(1, 1000),
    )
    assert (info.format.bit_depth, info.format.subsampling, info.format.range) == (10, (1, 1), "limited")
    assert (info.tags.range, info.tags.matrix, info.tags.primaries, info.tags.transfer) == (1, 9, 9, 16)
    assert info.tags.chroma_location == 3
    assert source.estimated_frames == 6
    source.close()


def test_an_untagged_source_stays_untagged(tmp_path):
    source = Source(str(make(tmp_path / "a.mkv")))
    assert (
        source.tracks[0].info.tags.range,
        source.tracks[0].info.tags.matrix,
        source.tracks[0].info.tags.primaries,
    ) == (0, 2, 2)
    assert source.tracks[0].info.format.range == "limited"
    source.close()


def test_full_range_by_name(tmp_path):
    path = make(tmp_path / "a.mkv", codec="mjpeg", pix_fmt="yuvj420p", options={"strict": "-1"})
    source = Source(str(path))
    assert (
        source.tracks[0].info.pixel.name,
        source.tracks[0].info.format.range,
        source.tracks[0].info.tags.range,
    ) == (
        "yuv420p",
        "full",
        2,
    )
    source.close()


def test_variable_frame_rate_keeps_times_and_gives_durations(tmp_path):
    shown = [0, 1001, 3003, 4004, 4505, 9009]
    path = make(
        tmp_path / "a.mp4",
        codec="libx264",
        draw=smooth,
        times=shown,
        time_base=Fraction(1, 30000),
        rate=Fraction(30),
    )
    read = times(path)
    assert [pts for pts, _ in read] == shown
    assert [duration for _, duration in read[:-1]] == [b - a for a, b in pairwise(shown)]


def test_pictures_are_counted_from_0(tmp_path):
    source = Source(str(make(tmp_path / "a.mkv")), Fraction(1, 25))
    assert [p.number for p in pictures(source)] == [0, 1, 2, 3, 4]
    source.close()


@pytest.mark.parametrize(
    "name", ["in.ts", "in.m2v", "in.h264", "in.hevc", "in.mpg", "in.flv", "in.avi", "in.nut"]
)
@pytest.mark.parametrize("first", [1, 3, 40, 55])
def test_a_cut_is_exact_wherever_key_pictures_are(tmp_path, name, first):
    codec = {".m2v": "mpeg2video", ".mpg": "mpeg2video", ".avi": "mpeg4", ".hevc": "libx265"}
    options = {"g": "50"} | ({"x265-params": "log-level=none"} if name == "in.hevc" else {})
    path = make(
        tmp_path / name,
        codec=codec.get(Path(name).suffix, "libx264"),
        options=options,
        draw=smooth,
        width=96,
        height=64,
        times=range(60),
    )
    source = Source(str(path), Fraction(first, 25), strict=True)
    wanted = [p.frame.planes[0] for p in pictures(source)]
    source.close()
    source = Source(str(path))
    whole = [p.frame.planes[0] for p in pictures(source)]
    source.close()
    assert len(wanted) == 60 - first
    assert all((a == b).all() for a, b in zip(wanted, whole[first:], strict=True))


@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, "0.2", range(5)),
        ("0.2", None, range(5, 60)),
        ("0.21", "0.4", range(6, 10)),  # between two pictures: the next one
        ("1.6", "1.68", range(40, 42)),
        ("0", "99", range(60)),
    ],
)
def test_a_cut_starts_at_0_and_holds_the_right_pictures(tmp_path, codec, start, end, expected):
    # A key frame every 12 pictures and, with libx264, B-frames.
    options = {"g": "12", "qp": "0"} if codec == "libx264" else {}
    whole = make(tmp_path / "a.mkv", codec=codec, options=options, draw=smooth, times=range(60))
    source = Source(str(whole))
    wanted = [p.frame.planes[0] for p in pictures(source) if p.number in expected]
    source.close()
    cut = Source(
        str(whole), None if start is None else Fraction(start), None if end is None else Fraction(end)
    )
    found = pictures(cut)
    cut.close()
    assert [p.pts for p in found] == [40 * i for i in range(len(expected))]
    assert all((a == b.frame.planes[0]).all() for a, b in zip(wanted, found, strict=True))


def test_times_of_reordered_pictures_in_avi(tmp_path):
    """It stores one time a packet, in the order of decoding."""
    path = make(tmp_path / "in.avi", codec="libx264", options={"bf": "3"}, draw=smooth, times=range(30))
    source = Source(str(path), strict=True)
    shown = pictures(source)
    source.close()
    assert [p.pts for p in shown] == list(range(30))
    brightness = [p.frame.planes[0].mean() for p in shown]  # grows from picture to picture
    assert brightness == sorted(brightness)


def test_times_in_avi_begin_anew_with_a_key_picture(tmp_path):
    """Pictures that never come out, since what they refer to is cut off, must not shift the others."""
    options = {"bf": "2", "g": "20"}
    whole = make(tmp_path / "whole.avi", codec="libx264", options=options, draw=smooth, times=range(60))
    with av.open(str(whole)) as container, av.open(str(tmp_path / "in.avi"), "w") as target:
        copy = target.add_stream_from_template(container.streams.video[0])
        for number, each in enumerate(p for p in container.demux(video=0) if p.size):
            if number >= 8:
                each.pts = each.dts = number - 8
                each.stream = copy
                target.mux(each)
    source = Source(str(tmp_path / "in.avi"))
    shown = pictures(source)
    source.close()
    assert [(p.pts, p.duration) for p in shown] == [(n, 1) for n in range(11, 52)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes stay open on purpose
@pytest.mark.parametrize("name", ["in.mkv", "in.avi", "in.ts", "in.flv"])
def test_a_pipe_is_cut_as_a_file_is(tmp_path, name):
    path = make(tmp_path / name, codec="libx264", options={"g": "50"}, draw=smooth, times=range(60))
    found = []
    os.mkfifo(tmp_path / "pipe")
    for place in (path, tmp_path / "pipe"):
        if place != path:
            feed = Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()), daemon=True)
            feed.start()
        source = Source(str(place), Fraction(1), strict=True)
        found.append([(p.pts, p.duration, p.frame.planes[0].tobytes()) for p in pictures(source)])
        source.close()
    assert len(found[0]) == 35
    assert found[0] == found[1]


def test_a_start_past_the_end_is_refused(tmp_path):
    with pytest.raises(OptionError, match="past the last picture"):
        Source(str(make(tmp_path / "a.mkv")), Fraction(10))


def test_a_start_after_0_stays_without_a_cut(data_dir):
    read = times(data_dir / "sample_h265.ts")
    assert read[0] == (132000, 3000)
    assert len(read) == 30


def test_sound_is_cut_with_the_picture(tmp_path):
    path = make(tmp_path / "a.mkv", times=range(50), draw=smooth, sound="pcm_s16le")
    source = Source(str(path), Fraction(1, 2), Fraction(1))
    packets = [item for item in source.items({1}) if isinstance(item, Packet)]
    shown = [packet.pts * Fraction(1, 1000) for packet in packets if packet.pts is not None]
    source.close()
    assert 0 <= shown[0] < 0.03
    assert 0.45 < shown[-1] < 0.5


def test_chapters_are_cut_and_shifted(tmp_path):
    path = make(
        tmp_path / "a.mkv", times=range(50), chapters=[(0, 400, "A"), (400, 1500, "B"), (1500, 2000, "C")]
    )
    source = Source(str(path), Fraction(1), Fraction(7, 5))
    chapters = [
        (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"])
        for c in source.timeline.chapters(source.container)
    ]
    source.close()
    assert chapters == [(0, Fraction(2, 5), {"title": "B"})]
