"""Cover art stays with the file where the container has a place for it; else it's refused, or told."""

import os
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition
from lab.media import cover_art, make, read, smooth

from bdinn_core.errors import OutputError

JOB = {"codec": "libx264", "preset": "ultrafast"}
CLIP = {"codec": "libx264", "width": 96, "height": 64, "draw": smooth, "options": {"bf": "0"}}
NAMES = {"mjpeg": "front.jpg", "png": "front.png"}


def found(path: Path) -> list[tuple[int, bytes, str | None, str | None]]:
    """Index, file, name and type of all cover art."""
    with av.open(str(path)) as container:
        art = {s.index: s for s in container.streams if s.disposition & Disposition.attached_pic}
        files = [p for p in container.demux() if p.size and p.stream_index in art]
        return [
            (p.stream_index, bytes(p), p.stream.metadata.get("filename"), p.stream.metadata.get("mimetype"))
            for p in files
        ]


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
@pytest.mark.parametrize("first", ["mkv", "mp4"])
@pytest.mark.parametrize("second", ["mkv", "mp4"])
@pytest.mark.parametrize("cut", [{}, {"start": Fraction(2, 25)}])
def test_it_is_kept(run, tmp_path, codec, first, second, cut):
    source = make(tmp_path / f"in.{first}", covers=[(NAMES[codec], codec)], **CLIP)
    output = tmp_path / f"out.{second}"
    lines = run(source, output, **JOB, **cut).warnings
    lost = "metadata of cover art stream 1 lost: filename; mp4 has no place for it, .mkv has"
    told = [line for line in lines if "cover art" in line]
    assert told == ([lost] if (first, second) == ("mkv", "mp4") else [])
    extension = Path(NAMES[codec]).suffix
    name = (NAMES[codec] if first == "mkv" else f"cover{extension}") if second == "mkv" else None
    mimetype = {"mjpeg": "image/jpeg", "png": "image/png"}[codec] if second == "mkv" else None
    assert found(output) == [(1, cover_art(codec), name, mimetype)]
    assert len(read(output).frames) == 6 - bool(cut) * 2


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_several_stay_in_their_places(run, tmp_path, container):
    fonts = [("a.ttf", b"font")] if container == "mkv" else []
    covers = [("front.jpg", "mjpeg"), ("back.png", "png")]
    source = make(tmp_path / f"in.{container}", covers=covers, fonts=fonts, sound="aac", **CLIP)
    assert run(source, tmp_path / f"out.{container}", **JOB).warnings == []
    assert len(found(source)) == 2
    assert found(tmp_path / f"out.{container}") == found(source)
    assert read(tmp_path / f"out.{container}").fonts == dict(fonts)


@pytest.mark.parametrize(
    ("extension", "name"), [("mov", "mov"), ("m4v", "ipod"), ("avi", "avi"), ("ts", "mpegts"), ("nut", "nut")]
)
@pytest.mark.parametrize("first", ["mkv", "mp4"])
def test_where_there_is_no_place_it_is_refused(run, tmp_path, first, extension, name):
    source = make(tmp_path / f"in.{first}", covers=[("front.jpg", "mjpeg")], **CLIP)
    output = tmp_path / f"out.{extension}"
    with pytest.raises(
        OutputError, match=f"{name} can't hold cover art stream 1 .*choose .mkv, which.* or leave"
    ):
        run(source, output, **JOB)
    lines = run(source, output, **JOB, drop_incompatible=True).warnings
    assert f"cover art stream 1 (mjpeg) is left out: {name} can't hold it" in lines
    with av.open(str(output)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's pipes")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes close with the process
def test_from_a_pipe_it_is_refused(run, tmp_path):
    """Which can't be read twice, and Matroska has it in the header; .mkv isn't what to go to."""
    source, pipe = make(tmp_path / "in.mkv", covers=[("front.jpg", "mjpeg")], **CLIP), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    expected = r"out\.mkv: matroska can't hold cover art stream 1 \(mjpeg\); leave it out by --drop"
    with pytest.raises(OutputError, match=expected):
        run(pipe, tmp_path / "out.mkv", **JOB)
    writer.join()


def test_pictures_of_chapters_are_refused(run, tmp_path):
    """QuickTime has them in a track of their own, to which that of the video refers."""
    source = with_pictures_of_chapters(tmp_path)
    with av.open(str(source)) as container:
        assert Disposition.timed_thumbnails in Disposition(container.streams[1].disposition)
    with pytest.raises(OutputError, match=r"matroska can't hold video stream 1 .*; leave it out"):
        run(source, tmp_path / "out.mkv", **JOB)


def with_pictures_of_chapters(folder: Path) -> Path:
    """A MOV whose track of timecode is said to be one of chapters, and to be the second video."""
    clip: dict[str, Any] = {**CLIP, "metadata": {"timecode": "01:00:00:00"}}
    with av.open(str(make(folder / "one.mov", **clip))) as one, av.open(str(folder / "in.mov"), "w") as two:
        video = one.streams.video[0]
        copies = [two.add_stream_from_template(video) for _ in range(2)]
        copies[0].metadata["timecode"] = "01:00:00:00"
        for packet in one.demux(video):
            if packet.size:
                times = packet.pts, packet.dts
                for copy in copies:
                    packet.stream = copy
                    two.mux(packet)
                    packet.pts, packet.dts = times
    data = (folder / "in.mov").read_bytes()
    where = data.index(b"tmcd", data.index(b"tref"))
    (folder / "in.mov").write_bytes(data[:where] + b"chap" + (2).to_bytes(4) + data[where + 8 :])
    return folder / "in.mov"
