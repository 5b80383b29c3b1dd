"""Metadata of files and streams: kept, or told."""

from fractions import Fraction

import av
import pytest
from av.stream import Disposition
from jobs import LOSSLESS
from lab.media import make, read, smooth

from bdinn_core.video.metadata import lost_keys, lost_marks

KEYS = [
    "account_id", "album", "album_artist", "artist", "comment", "compilation", "composer", "copyright",
    "creation_time", "date", "description", "director", "disc", "encoded_by", "episode_id", "episode_sort",
    "gapless_playback", "genre", "grouping", "hd_video", "host_computer", "isrc", "keywords", "language",
    "location", "lyrics", "make", "media_type", "model", "network", "original_format", "performer",
    "playback_requirements", "producer", "publisher", "season_number", "show", "software", "synopsis",
    "title", "track", "writer", "year",
]  # fmt: skip
VALUES = {"creation_time": "2021-05-25T16:21:51.000000Z", "location": "+37.7450-122.4301/", "date": "2020"}


@pytest.mark.parametrize("container", ["mp4", "m4v", "mov", "mkv"])
def test_keys_are_said_to_be_lost_that_the_muxer_drops(tmp_path, container):
    written = {key: VALUES.get(key, "1") for key in KEYS}
    clip = make(tmp_path / f"in.{container}", codec="mpeg4", draw=smooth, metadata=written)
    found = {key.lower() for key in read(clip).metadata}
    name = {"m4v": "ipod", "mkv": "matroska"}.get(container, container)
    assert lost_keys(name, KEYS) == [key for key in KEYS if key not in found]


def test_metadata_that_mp4_has_no_place_for_is_told(run, tmp_path):
    source = make(tmp_path / "in.mkv", metadata={"title": "A film", "foo": "bar"})
    assert run(source, tmp_path / "out.mkv", **LOSSLESS).warnings == []
    news = run(source, tmp_path / "out.mp4", **LOSSLESS)
    assert news.warnings == ["metadata lost: FOO; mp4 has no place for it, .mkv has"]
    assert read(tmp_path / "out.mp4").metadata["title"] == "A film"


@pytest.mark.parametrize("first", ["mp4", "mkv"])
@pytest.mark.parametrize("second", ["mp4", "mkv"])
def test_titles_of_streams_are_kept(run, tmp_path, first, second):
    source = make(tmp_path / f"in.{first}", codec="libx264", draw=smooth, width=96, height=64, sound="aac")
    run(source, tmp_path / f"out.{second}", **LOSSLESS)
    with av.open(str(tmp_path / f"out.{second}")) as container:
        found = container.streams.audio[0].metadata
    assert found.get("title", found.get("name")) == "In jpn"
    assert "NAME" not in found


MARKS = [
    "dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing_impaired", "visual_impaired",
    "clean_effects", "captions", "descriptions",
]  # fmt: skip


@pytest.mark.parametrize(
    ("container", "name"),
    [("mkv", "matroska"), ("mp4", "mp4"), ("m4v", "ipod"), ("mov", "mov"), ("ts", "mpegts"), ("avi", "avi")],
)
@pytest.mark.parametrize("mark", MARKS)
def test_marks_are_said_to_be_lost_that_the_muxer_drops(tmp_path, container, name, mark):
    clip = make(tmp_path / "in.mkv", codec="mpeg4", draw=smooth, sound="aac")
    with av.open(str(clip)) as source, av.open(str(tmp_path / f"out.{container}"), "w") as target:
        copies = [target.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        copies[1].disposition = Disposition[mark]
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    with av.open(str(tmp_path / f"out.{container}")) as result:
        kept = Disposition[mark] in Disposition(result.streams[1].disposition)
    assert lost_marks(name, Disposition[mark]) == ([] if kept else [mark])


def test_marks_that_are_lost_are_told(run, tmp_path):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, subtitles="subrip")
    job = {"codec": "libx264", "preset": "ultrafast"}
    assert not any("marked" in line for line in run(source, tmp_path / "out.mp4", **job).warnings)
    lost = "subtitle stream 1 is no longer marked forced: mov can't"
    assert lost in run(source, tmp_path / "out.mov", **job).warnings


def test_a_timecode_is_that_of_the_first_picture(run, tmp_path):
    source = make(
        tmp_path / "in.mov",
        codec="prores_ks",
        pix_fmt="yuv422p10le",
        draw=smooth,
        metadata={"timecode": "01:00:00:00"},
    )
    found = []
    for start in (Fraction(0), Fraction(1, 25)):
        output = tmp_path / f"{start.numerator}.mov"
        news = run(source, output, codec="prores_ks", start=start)
        with av.open(str(output)) as container:
            found.append(container.streams.video[0].metadata.get("timecode"))
        assert any("timecode is left out" in line for line in news.warnings) == bool(start)
    assert found == ["01:00:00:00", None]
