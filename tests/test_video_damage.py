"""Damaged sources: all that can be decoded is, and what can't is said."""

import itertools
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.logging import get_level
from jobs import LOSSLESS
from lab.media import make, planes, read, smooth

from bdinn_core import cli
from bdinn_core.errors import InputError
from bdinn_core.video import reader
from bdinn_core.video.reader import Source

FRAMES = 50


def clip(path: Path, codec: str = "libx264", **more) -> Path:
    """Every 10th picture is a key picture."""
    options = {"ffv1": {}, "mpeg2video": {"g": "10"}}.get(codec, {"g": "10", "bf": "2"})
    return make(
        path, codec=codec, options=options, draw=smooth, width=96, height=64, times=range(FRAMES), **more
    )


def with_packets(path: Path, change, target: Path) -> Path:
    """A copy of a file, with `change(number, bytes)` in place of each video packet; `None` leaves it out."""
    numbers = itertools.count()
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        copies = [container.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            video = packet.stream.type == "video"
            changed = change(next(numbers), bytes(packet)) if video and packet.size else bytes(packet)
            if packet.size and changed is not None:
                new = av.Packet(changed)
                new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
                new.duration, new.is_keyframe = packet.duration, packet.is_keyframe
                new.stream = copies[packet.stream.index]
                container.mux(new)
    return target


def zeroed(wanted: range):
    """Zeros instead of the packets with these numbers, whose first bytes stay."""
    return lambda number, data: data[:16] + bytes(max(len(data) - 16, 1)) if number in wanted else data


@pytest.mark.parametrize("codec", ["libx264", "ffv1", "mpeg2video"])
def test_damaged_packets_are_counted_and_the_rest_is_kept(run, tmp_path, codec):
    source = with_packets(clip(tmp_path / "whole.mkv", codec), zeroed(range(22, 25)), tmp_path / "in.mkv")
    news = run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert news.report.damaged
    assert FRAMES - 15 <= news.frames <= FRAMES  # up to the next key picture
    assert re.search(r"in\.mkv is damaged: .*\d+ pictures? couldn't be decoded", news.warnings[-1])
    again = run(source, tmp_path / "many.mkv", **LOSSLESS, threads=16)
    assert (again.frames, again.warnings) == (news.frames, news.warnings)
    whole, kept = read(tmp_path / "whole.mkv"), read(tmp_path / "out.mkv")
    exact = {frame.pts: planes(frame) for frame in whole.frames}
    same = [all(map(np.array_equal, planes(f), exact[f.pts])) for f in kept.frames]
    assert all(same[:20])
    assert all(same[-10:])


def test_a_slice_of_ffv1_whose_checksum_differs_is_told(run, tmp_path):
    def flip(number: int, data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 85]) + data[middle + 1 :] if number == 5 else data

    options = {"level": "3", "slicecrc": "1", "slices": "4"}
    whole = make(tmp_path / "whole.mkv", options=options, draw=smooth, width=96, height=64)
    source = with_packets(whole, flip, tmp_path / "in.mkv")
    news = run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert (news.frames, news.report.damaged) == (6, True)
    assert "1 picture decoded with faults; it begins at 0.160 s" in news.warnings[-1]
    with pytest.raises(InputError, match=r"in\.mkv is damaged after 0\.160 s"):
        run(source, tmp_path / "strict.mkv", **LOSSLESS, strict=True)
    assert run(whole, tmp_path / "again.mkv", **LOSSLESS, strict=True).warnings == []


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_strict_stops_at_the_first_damage(run, tmp_path, codec):
    source = with_packets(clip(tmp_path / "whole.mkv", codec), zeroed(range(22, 25)), tmp_path / "in.mkv")
    with pytest.raises(InputError, match=r"in\.mkv is damaged after 0\.\d+ s"):
        run(source, tmp_path / "out.mkv", **LOSSLESS, strict=True)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name or "part" in path.name] == []
    run(tmp_path / "whole.mkv", tmp_path / "out.mkv", **LOSSLESS, strict=True)


@pytest.mark.parametrize("container", ["mkv", "ts", "mp4", "avi"])
def test_a_source_that_ends_early_is_told(run, tmp_path, container):
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    whole = clip(tmp_path / f"whole.{container}", "mpeg4" if container == "avi" else "libx264", muxer=options)
    source = tmp_path / f"in.{container}"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 8 // 10])
    news = run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert 10 < news.frames < 45
    if container == "ts":  # it nowhere says how long it is
        return
    assert news.report.damaged
    assert "missing at the end" in news.warnings[-1]
    assert read(tmp_path / "out.mkv").times[-1] < Fraction(FRAMES, 25)
    with pytest.raises(InputError, match=r"in\.\w+ is damaged"):
        run(source, tmp_path / "strict.mkv", **LOSSLESS, strict=True)


def test_packets_that_are_missing_leave_their_time_to_the_picture_before(run, tmp_path):
    whole = clip(tmp_path / "whole.mkv", "ffv1")
    source = with_packets(whole, lambda n, data: None if n in (20, 21) else data, tmp_path / "in.mkv")
    news = run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert news.frames == FRAMES - 2
    times = [frame.pts for frame in read(tmp_path / "out.mkv").frames]
    assert times == [40 * n for n in range(FRAMES) if n not in (20, 21)]


def test_nothing_is_written_where_nothing_decodes(run, tmp_path):
    whole = clip(tmp_path / "whole.mkv", "ffv1")
    source = with_packets(whole, lambda _, data: bytes(len(data)), tmp_path / "in.mkv")
    with pytest.raises(InputError, match=r"in\.mkv: no picture could be decoded"):
        run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert not (tmp_path / "out.mkv").exists()


def test_damage_before_a_cut_is_nobodys_business(run, tmp_path):
    source = with_packets(clip(tmp_path / "whole.mkv"), zeroed(range(2, 6)), tmp_path / "in.mkv")
    news = run(source, tmp_path / "out.mkv", **LOSSLESS, start=Fraction(1), strict=True)
    assert not news.report.damaged
    assert news.frames == 25


def test_what_came_before_a_change_of_size_is_kept_if_asked(run, tmp_path, data_dir):
    source = data_dir / "vp90-2-05-resize.ivf"
    with pytest.raises(InputError, match=r"from 352x288 .* to 282x173 .* at 0\.100 s"):
        run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert not (tmp_path / "out.mkv").exists()
    news = run(source, tmp_path / "out.mkv", **LOSSLESS, keep_partial=True)
    assert news.ended == (3, True)
    assert "at 0.100 s" in news.warnings[-1]
    assert "what came before is kept: 3 pictures" in news.warnings[-1]
    assert len(read(tmp_path / "out.mkv").frames) == 3


@pytest.mark.parametrize("container", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("first", range(5))
def test_a_cut_of_a_whole_file_is_not_called_damaged(run, tmp_path, container, first):
    source = make(
        tmp_path / f"in.{container}",
        codec="libx264",
        options={"g": "12", "bf": "3"},
        draw=smooth,
        width=96,
        height=64,
        times=range(20),
    )
    news = run(source, tmp_path / "out.mkv", **LOSSLESS, start=Fraction(first, 25), strict=True)
    assert (news.frames, news.warnings) == (20 - first, [])


def test_a_file_that_begins_within_a_group_can_be_cut(run, tmp_path):
    """What comes before the first key picture is no damage, and counts for nothing at the end."""
    whole = clip(tmp_path / "whole.ts", "mpeg2video")
    source = with_packets(whole, lambda number, data: None if number < 5 else data, tmp_path / "in.ts")
    frames = run(source, tmp_path / "whole.mkv", **LOSSLESS).frames
    news = run(source, tmp_path / "out.mkv", **LOSSLESS, start=Fraction(1, 5))
    assert (news.frames, news.report.damaged) == (frames - 5, False)


def test_short_packets_of_sound_keep_their_times(run, tmp_path):
    """Matroska counts milliseconds, of which a packet may be less."""
    clip(tmp_path / "whole.mkv", "ffv1", sound="pcm_s16le")
    with av.open(str(tmp_path / "whole.mkv")) as source, av.open(str(tmp_path / "in.mkv"), "w") as target:
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        sent = 0
        for packet in source.demux():
            parts = [bytes(packet)] if packet.stream.type == "video" else split(bytes(packet), 128)
            for part in parts if packet.size else []:
                new = av.Packet(part)
                new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
                new.stream = copies[packet.stream.index]
                if packet.stream.type == "audio":
                    new.pts = new.dts = sent // 48  # milliseconds, rounded down
                    sent += 32
                target.mux(new)
    for output in ("out.mkv", "out.mov"):
        news = run(tmp_path / "in.mkv", tmp_path / output, codec="libx264", preset="ultrafast", crf=0)
        assert (news.frames, news.report.damaged) == (FRAMES, False)
        before, after = (next(iter(read(tmp_path / name).packets.values())) for name in ("in.mkv", output))
        assert b"".join(data for _, data in before) == b"".join(data for _, data in after)
        assert abs(after[-1][0] - before[-1][0]) <= Fraction(2, 1000)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def test_what_cannot_be_decoded_is_not_held_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "HELD_BYTES", 2**14)
    whole = clip(tmp_path / "whole.mkv", "ffv1", sound="pcm_s16le")
    source = with_packets(whole, lambda _, data: bytes(len(data)), tmp_path / "in.mkv")
    with pytest.raises(InputError, match=r"no picture within .* could be decoded"):
        Source(str(source))


@pytest.mark.parametrize("when", ["mask", "source"])
def test_a_mask_stays_in_step_where_pictures_are_lost(run, tmp_path, when):
    """The mask is white in the second half: there alone the result may differ."""
    source = make(
        tmp_path / "source.mkv", options={"g": "1"}, draw=smooth, width=96, height=64, times=range(FRAMES)
    )

    def half(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
        frame = av.VideoFrame(width, height, pix_fmt)
        rows = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)
        rows[:] = 255 * (number >= FRAMES // 2)
        return frame

    mask = make(tmp_path / "mask.mkv", pix_fmt="gray", draw=half, width=96, height=64, times=range(FRAMES))
    short = with_packets(
        {"mask": mask, "source": source}[when],
        lambda number, data: None if number in (5, 6, 7) else data,
        tmp_path / "short.mkv",
    )
    files = {"mask": mask, "source": source, when: short}
    run(files["source"], tmp_path / "out.mkv", {"strength": 1}, mask=str(files["mask"]), **LOSSLESS)
    exact = {frame.pts: planes(frame) for frame in read(source).frames}
    same = {
        frame.pts: all(map(np.array_equal, planes(frame), exact[frame.pts]))
        for frame in read(tmp_path / "out.mkv").frames
    }
    assert same == {pts: pts < 40 * FRAMES // 2 for pts in same}


def test_damage_of_a_mask_is_told(run, tmp_path):
    source = clip(tmp_path / "source.mkv", "ffv1")
    mask = with_packets(source, zeroed(range(22, 25)), tmp_path / "mask.mkv")
    level = get_level()
    news = run(source, tmp_path / "out.mkv", mask=str(mask), **LOSSLESS)
    assert news.ended == (FRAMES, True)
    assert "mask.mkv is damaged" in news.warnings[-1]
    with pytest.raises(InputError, match=r"mask: .*mask\.mkv is damaged after"):
        run(source, tmp_path / "strict.mkv", mask=str(mask), **LOSSLESS, strict=True)
    assert get_level() == level


def test_a_change_of_aspect_ratio_stops_the_job_and_can_be_cut(run, tmp_path):
    parts = [
        make(
            tmp_path / f"{aspect.numerator}.m2v",
            codec="mpeg2video",
            draw=smooth,
            options={"bf": "0"},
            width=64,
            height=48,
            tags={"sample_aspect_ratio": aspect},
        )
        for aspect in (Fraction(1), Fraction(4, 3))
    ]
    source = tmp_path / "in.m2v"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match=r"sample aspect ratio changes from 1 to 4/3 at (0\.\d+) s") as error:
        run(source, tmp_path / "out.mkv", **LOSSLESS)
    moment = Fraction(re.search(r"at ([\d.]+) s", str(error.value))[1])
    assert run(source, tmp_path / "first.mkv", **LOSSLESS, end=moment).frames == 6
    assert run(source, tmp_path / "second.mkv", codec="libx264", start=moment).frames == 6
    assert read(tmp_path / "second.mkv").aspect == Fraction(4, 3)
    earlier = moment - Fraction(1, 25)
    with pytest.raises(InputError, match="sample aspect ratio changes from 1 to 4/3"):
        run(source, tmp_path / "both.mkv", **LOSSLESS, start=earlier)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "in.h264"), ("mpeg2video", "in.m2v")])
def test_a_change_of_colours_stops_the_job(run, tmp_path, codec, name):
    parts = [
        make(tmp_path / f"{matrix}{name}", codec=codec, draw=smooth, tags={"colorspace": matrix}).read_bytes()
        for matrix in (6, 1)
    ]
    source = tmp_path / name
    source.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match=r"the matrix of its colours changes from 6 to 1 .* at 0\.\d+ s"):
        run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert not (tmp_path / "out.mkv").exists()
    assert run(source, tmp_path / "out.mkv", **LOSSLESS, keep_partial=True).ended == (6, True)
    assert read(tmp_path / "out.mkv").tags[1] == 6


def test_damage_within_a_cut_is_told(run, tmp_path):
    source = with_packets(
        clip(tmp_path / "whole.mkv", "mpeg2video"), zeroed(range(12, 13)), tmp_path / "in.mkv"
    )
    news = run(source, tmp_path / "out.mkv", **LOSSLESS, end=Fraction(1))
    assert news.frames == 24
    assert "1 picture couldn't be decoded" in news.warnings[-1]


def test_sound_whose_times_go_back_is_copied_in_order(run, tmp_path):
    whole = clip(tmp_path / "whole.mkv", sound="flac")
    data = bytearray(whole.read_bytes())
    blocks = list(re.finditer(rb"\xa3(?:[\x81-\xfe]|[\x40-\x7f].)\x82(..)\x80", bytes(data), re.DOTALL))
    data[blocks[3].start(1) : blocks[3].end(1)] = blocks[1][1]  # the time of a block of sound
    (tmp_path / "in.mkv").write_bytes(data)
    news = run(tmp_path / "in.mkv", tmp_path / "out.mkv", **LOSSLESS)
    assert news.ended == (FRAMES, True)
    assert "of other streams out of order" in news.warnings[-1]
    before, after = (
        [data for stream in read(path).packets.values() for _, data in stream]
        for path in (whole, tmp_path / "out.mkv")
    )
    assert before == after


def test_the_exit_code_says_so(tmp_path, model, capfd):
    source = with_packets(clip(tmp_path / "whole.mkv"), zeroed(range(22, 25)), tmp_path / "in.mkv")
    rest = ["--model", model, "--device", "cpu", "--codec", "ffv1"]
    assert cli.main([str(source), str(tmp_path / "out.mkv"), *rest]) == 3
    assert (tmp_path / "out.mkv").exists()
    assert cli.main([str(source), str(tmp_path / "strict.mkv"), *rest, "--strict"]) == 1
    assert not (tmp_path / "strict.mkv").exists()
    assert cli.main([str(tmp_path / "whole.mkv"), str(tmp_path / "whole.out.mkv"), *rest]) == 0
    capfd.readouterr()


def test_no_clip_of_the_real_world_is_called_damaged_that_is_not(run, shared_dir, tmp_path):
    names = ["roadtrip-vp92-10bit.webm", "sample.avi", "sample.flv", "sample_mdat_too_long.mp4"]
    names += ["bear-vp9-odd-dimensions.webm", "sample_fragmented.mp4", "h265_video.mp4"]
    for name in names:
        output = tmp_path / f"{name}.mkv"
        news = run(shared_dir / "data" / "clips" / name, output, **LOSSLESS, strict=True)
        assert not news.report.damaged
