"""What containers hold is what the table says; what a job loses by that is told."""

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Disposition
from jobs import LOSSLESS
from lab.media import LINES, make, read, smooth

from bdinn_core.errors import OutputError
from bdinn_core.video.codecs import keeps_aspect, keeps_colours, keeps_location
from bdinn_core.video.containers import CONTAINERS, Container, find_container

NAMES = {
    "mkv": "matroska", "webm": "webm", "mp4": "mp4", "m4v": "ipod", "mov": "mov", "3gp": "3gp", "3g2": "3g2",
    "f4v": "f4v", "ts": "mpegts", "mpg": "mpeg", "avi": "avi", "flv": "flv", "nut": "nut", "ogv": "ogv",
}  # fmt: skip
"""Of containers, by the extension of files."""
CODECS = {
    "webm": ("libvpx-vp9", "libopus"), "mpg": ("mpeg2video", "mp2"), "avi": ("mpeg4", "ac3"),
    "ogv": ("libvpx", "libopus"),
}  # fmt: skip
"""Of video and sound that they hold; else H.264 and AAC."""
SIZE = {"width": 96, "height": 64, "draw": smooth}
KEYS = [
    "account_id", "album", "album_artist", "artist", "comment", "compilation", "composer", "copyright",
    "creation_time", "date", "description", "director", "disc", "encoded_by", "episode_id", "episode_sort",
    "gapless_playback", "genre", "grouping", "hd_video", "host_computer", "isrc", "keywords", "language",
    "location", "lyrics", "make", "media_type", "model", "network", "original_format", "performer",
    "playback_requirements", "producer", "publisher", "season_number", "show", "software", "synopsis",
    "timecode", "title", "track", "writer", "year",
]  # fmt: skip
VALUES = {
    "creation_time": "2021-05-25T16:21:51.000000Z", "location": "+37.7450-122.4301/", "date": "2020",
    "timecode": "01:00:00:00",
}  # fmt: skip
MARKS = [
    "dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing_impaired", "visual_impaired",
    "clean_effects", "captions", "descriptions",
]  # fmt: skip
each_container = pytest.mark.parametrize("extension", NAMES)
Change = Callable[[OutputContainer, list[Any]], object]


@pytest.fixture(scope="module")
def remux(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Change], tuple[Container, Path]]:
    """Writes a file of video and sound, changed by a function of the container and its streams."""
    folder = tmp_path_factory.mktemp("remux")
    sources: dict[tuple[str, str], Path] = {}

    def remux(extension: str, change: Change) -> tuple[Container, Path]:
        video, sound = codecs = CODECS.get(extension, ("libx264", "aac"))
        if codecs not in sources:
            # Whose clock MPEG-2 has no rate for.
            path = folder / f"{video}.{'mpg' if video == 'mpeg2video' else 'mkv'}"
            sources[codecs] = make(path, codec=video, sound=sound, options={"bf": "0"}, **SIZE)
        output = folder / f"out.{extension}"
        with av.open(str(sources[codecs])) as source, av.open(str(output), "w") as target:
            copies = [target.add_stream_from_template(stream, opaque=True) for stream in source.streams]
            for copy in copies:
                copy.disposition = Disposition(0)
                copy.metadata.clear()
            change(target, copies)
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[packet.stream.index]
                    target.mux(packet)
        return find_container(NAMES[extension]), output

    return remux


def video_codec(extension: str) -> str:
    return CODECS.get(extension, ("libx264",))[0]


def lower(metadata: dict[str, str]) -> set[str]:
    return {"title" if key == "name" else key.lower() for key in metadata}


def test_all_of_the_table_is_tested():
    twins = {"avif", "dvd", "svcd", "vcd", "vob", "ogg"}  # a still picture; MPEG-PS and Ogg by other names
    assert {*NAMES.values(), *twins} == set(CONTAINERS)


def test_a_container_that_isnt_listed_holds_nothing_for_sure():
    unknown = find_container("gxf")
    assert unknown.lost_keys(["title"]) == ["title"]
    assert unknown.lost_stream_keys("audio", {"language": "jpn", "title": "A"}) == ["language", "title"]
    assert unknown.lost_marks(Disposition.forced) == ["forced"]
    assert not (unknown.chapters or unknown.rotation or unknown.times or unknown.cover_art)


@each_container
def test_keys_of_the_file(remux, extension):
    written = {key: VALUES.get(key, "1") for key in KEYS}
    holds, path = remux(extension, lambda target, _: target.metadata.update(written))
    with av.open(str(path)) as result:
        found = lower(result.metadata)
        if extension == "ogv":
            found |= lower(result.streams[0].metadata)
        found |= {"timecode"} & lower(result.streams.video[0].metadata)
    assert holds.lost_keys(KEYS) == [key for key in KEYS if key not in found]


@each_container
@pytest.mark.parametrize("language", ["jpn", "en"])
def test_keys_of_streams(remux, extension, language):
    written = {"language": language, **{key: VALUES.get(key, "1") for key in KEYS if key != "language"}}

    def change(target: OutputContainer, copies: list[Any]) -> None:
        for copy in copies:
            copy.metadata.update(written)

    holds, path = remux(extension, change)
    with av.open(str(path)) as result:
        for stream in result.streams.video[0], result.streams.audio[0]:
            found = lower(stream.metadata)
            if stream.metadata.get("language") != language:
                found.discard("language")
            # Only MOV's kind makes a track of timecode, and of the first stream that has one.
            same = [key for key in written if key != "timecode" or stream.type == "video"]
            lost = [key for key in holds.lost_stream_keys(stream.type, written) if key in same]
            assert lost == [key for key in same if key not in found]


@each_container
@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_streams(remux, extension, mark):
    def change(target: OutputContainer, copies: list[Any]) -> None:
        copies[1].disposition = Disposition[mark]

    holds, path = remux(extension, change)
    with av.open(str(path)) as result:
        kept = Disposition[mark] in Disposition(result.streams[1].disposition)
    assert holds.lost_marks(Disposition[mark]) == ([] if kept else [mark])


@each_container
def test_chapters(remux, extension):
    chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
    holds, path = remux(extension, lambda target, _: target.set_chapters([chapter]))
    with av.open(str(path)) as result:
        found = len(result.chapters())
    assert found == holds.chapters or extension == "ogv"  # which keeps them in sound alone


@each_container
def test_attachments(remux, extension):
    def change(target: OutputContainer, _: list[Any]) -> None:
        target.add_attachment("a.ttf", "application/x-truetype-font", b"font")

    holds = find_container(NAMES[extension])
    try:
        _, path = remux(extension, change)
        with av.open(str(path)) as result:
            found = len(result.streams.attachments)
    except FFmpegError:
        found = 0
    assert found == holds.attachments


@each_container
def test_times_of_pictures(run, tmp_path, extension):
    times, tick = [0, 1001, 3003, 4004, 4505, 9009], Fraction(1, 30000)
    clip = {"codec": "libx264", "times": times, "time_base": tick, "rate": Fraction(30000, 1001), **SIZE}
    source, output = make(tmp_path / "in.mp4", **clip), tmp_path / f"out.{extension}"
    codec = video_codec(extension)
    if not find_container(NAMES[extension]).times:
        with pytest.raises(
            OutputError, match=f"at 0.150 s a picture isn't where .* {extension} holds no times"
        ):
            run(source, output, codec=codec)
        return
    if extension == "mpg":  # MPEG-2 itself has few rates
        return
    run(source, output, codec=codec)
    found = read(output).times
    # Some count from when the first picture is decoded.
    moved = [time - found[0] for time in found]
    assert all(abs(a - b * tick) <= Fraction(1, 1000) for a, b in zip(moved, times, strict=True))


def test_a_start_after_0_where_there_are_no_times(run, tmp_path):
    source = make(tmp_path / "in.mkv", times=range(5, 9), **SIZE)
    with pytest.raises(
        OutputError, match=r"shown at 0\.200 s, but in avi at 0; give --start 0, or choose \.mkv"
    ):
        run(source, tmp_path / "out.avi", **LOSSLESS)
    run(source, tmp_path / "out.avi", **LOSSLESS, start=Fraction(0))
    assert read(tmp_path / "out.avi").times == [Fraction(n, 25) for n in range(4)]


@pytest.mark.parametrize(
    ("extension", "codec"),
    [
        ("mkv", "ffv1"), ("webm", "libvpx-vp9"), ("mp4", "ffv1"), ("mov", "libx264"), ("m4v", "libx264"),
        ("3gp", "libx264"), ("avi", "ffv1"), ("avi", "libvpx-vp9"), ("flv", "libvpx-vp9"), ("nut", "ffv1"),
        ("nut", "libvpx-vp9"), ("nut", "libx264"), ("nut", "libx265"), ("nut", "libsvtav1"),
        ("ts", "libx265"),
    ],
)  # fmt: skip
def test_what_a_picture_says_is_kept_or_told(run, tmp_path, extension, codec):
    said = {"colorspace": 9, "color_primaries": 9, "color_trc": 16}
    tags = {**said, "sample_aspect_ratio": Fraction(4, 3), "chroma_sample_location": 3}
    clip = {"codec": "libx264", "tags": tags, "rotation": 90, **SIZE}
    source, output = make(tmp_path / "in.mp4", **clip), tmp_path / f"out.{extension}"
    warnings = "; ".join(run(source, output, codec=codec).warnings)
    holds, after = find_container(NAMES[extension]), read(output)
    kept = holds.aspect or keeps_aspect(codec)
    assert (after.aspect == Fraction(4, 3), "aspect ratio 4/3 is lost" in warnings) == (kept, not kept)
    kept = holds.location or keeps_location(codec, 3)
    assert (after.frames[0].chroma_location == 3, "location 3 is lost" in warnings) == (kept, not kept)
    assert (after.rotation == 90, "rotation is lost" in warnings) == (holds.rotation, not holds.rotation)
    colours = holds.colours | keeps_colours(codec)
    for name, found, value in zip(
        ("matrix", "primaries", "transfer"), after.tags[1:], said.values(), strict=True
    ):
        kept = name in colours
        told = re.search(f"tags of colour are lost: {codec} has no place here for .*{name} {value}", warnings)
        assert (found == value, told is not None) == (kept, not kept)


def test_the_matrix_and_range_of_rgb_need_no_tag(run, tmp_path):
    tags = {"colorspace": 0, "color_range": 2}
    source = make(tmp_path / "in.mkv", pix_fmt="gbrp10le", tags=tags, width=96, height=64)
    assert run(source, tmp_path / "out.nut", **LOSSLESS).warnings == []


@pytest.mark.parametrize(
    ("extension", "codec"),
    [
        ("mkv", "mpeg4"), ("webm", "libvpx-vp9"), ("mp4", "mpeg4"), ("mov", "mpeg4"), ("avi", "mpeg4"),
        ("avi", "libvpx-vp9"), ("flv", "libvpx-vp9"), ("nut", "mpeg4"), ("nut", "libx265"),
    ],
)  # fmt: skip
def test_full_range_is_kept_or_refused(run, tmp_path, extension, codec):
    source, output = make(tmp_path / "in.mkv", tags={"color_range": 2}, **SIZE), tmp_path / f"out.{extension}"
    if "range" in find_container(NAMES[extension]).colours | keeps_colours(codec):
        run(source, output, codec=codec, preset="ultrafast" if codec == "libx265" else None)
        assert read(output).tags[0] == 2
    else:
        with pytest.raises(
            OutputError, match=rf"{codec} in {extension} can't say .* full range; .*ffv1 in \.mkv"
        ):
            run(source, output, codec=codec)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each of some codecs, by FFmpeg's name of it."""
    folder = tmp_path_factory.mktemp("streams")
    video = {"h264": "libx264", "hevc": "libx265", "vp8": "libvpx", "vp9": "libvpx-vp9", "ffv1": "ffv1"}
    video |= {"mpeg2video": "mpeg2video", "mjpeg": "mjpeg"}
    files = {}
    for name, codec in video.items():
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        options = {"bf": "0", "strict": "-1"} if codec in ("mpeg2video", "mjpeg") else {}
        # NUT has the clock that MPEG-2 wants.
        clip = {"codec": codec, "options": options, "times": range(12), **SIZE, "pix_fmt": pix_fmt}
        clip["draw"] = lambda _, width, height, number: smooth("yuv420p", width, height, number)
        files[name] = make(folder / f"{name}.nut", **clip)
    for name in ("aac", "ac3", "mp2", "flac", "opus", "pcm_s16le"):
        whole = make(folder / f"{name}.mkv", sound=f"lib{name}" if name == "opus" else name, **SIZE)
        files[name] = folder / f"{name}.mka"
        copy(whole, 1, files[name])
    return files


def copy(source: Path, index: int, target: Path) -> None:
    """Copies one stream into a file of its own."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = before.streams[index]
        result = after.add_stream_from_template(stream, opaque=True)
        for packet in before.demux(stream):
            if packet.size:
                packet.stream = result
                after.mux(packet)


@pytest.mark.parametrize("extension", ["ts", "mpg", "flv", "ogv", "mov"])
def test_codecs_that_are_recognised(streams, tmp_path, extension):
    holds = find_container(NAMES[extension])
    for name, path in streams.items():
        output = tmp_path / f"{name}.{extension}"
        try:
            copy(path, 0, output)
            with av.open(str(output)) as result:
                context = result.streams[0].codec_context
                found = context.codec.canonical_name
                recognised = found in (name, "mp3" if name == "mp2" else name) and any(result.decode())
        except (FFmpegError, ValueError, AttributeError):
            recognised = False
        if holds.codecs is not None:
            assert (name in holds.codecs) == recognised, name
        elif name in holds.refuses:
            assert not recognised, name


@pytest.mark.parametrize("extension", [key for key, name in NAMES.items() if find_container(name).text])
def test_text_is_converted_to_what_is_taken(run, tmp_path, extension):
    text = find_container(NAMES[extension]).text
    name, codec = ("in.mp4", "mov_text") if text == "subrip" else ("in.mkv", "subrip")
    source = make(tmp_path / name, codec="libx264", subtitles=codec, **SIZE)
    news = run(source, tmp_path / f"out.{extension}", codec=video_codec(extension))
    assert any(f"is converted to {text} for {NAMES[extension]}" in line for line in news.warnings)
    with av.open(str(tmp_path / f"out.{extension}")) as result:
        assert result.streams.subtitles[0].codec_context.codec.canonical_name == text
    found = [line for _, line in read(tmp_path / f"out.{extension}").texts if line]
    assert found == [line for _, _, line in LINES]


def test_metadata_that_mp4_has_no_place_for_is_told(run, tmp_path):
    source = make(tmp_path / "in.mkv", metadata={"title": "A film", "foo": "bar"})
    assert run(source, tmp_path / "out.mkv", **LOSSLESS).warnings == []
    news = run(source, tmp_path / "out.mp4", **LOSSLESS)
    assert news.warnings == ["metadata lost: FOO; mp4 has no place for it, .mkv has"]
    assert read(tmp_path / "out.mp4").metadata["title"] == "A film"


@pytest.mark.parametrize(
    ("extension", "lines"),
    [
        ("mkv", []),
        ("mp4", ["metadata of audio stream 1 lost: SOURCE; mp4 has no place for it, .mkv has"]),
        (
            "ts",
            [
                "rotation is lost: mpegts has no place for it here",
                "metadata of audio stream 1 lost: title, SOURCE; mpegts has no place for it, .mkv has",
                "metadata lost: title; mpegts has no place for it, .mkv has",
                "chapters are lost: mpegts has no place for them, .mkv has",
            ],
        ),
        (
            "flv",
            [
                "rotation is lost: flv has no place for it here",
                "metadata of audio stream 1 lost: language, title, SOURCE; flv has no place for it, .mkv has",
                "chapters are lost: flv has no place for them, .mkv has",
            ],
        ),
    ],
)
def test_all_that_is_lost_is_told(run, tmp_path, extension, lines):
    clip = {"codec": "libx264", "sound": "aac", "chapters": [(0, 200, "One")], "rotation": 90, **SIZE}
    keys = {"sound_metadata": {"SOURCE": "a disc"}, "metadata": {"title": "A film"}}
    make(tmp_path / "in.mkv", **clip, **keys)
    news = run(tmp_path / "in.mkv", tmp_path / f"out.{extension}", codec="libx264")
    assert news.warnings == lines


def test_what_a_stream_says_of_itself_as_of_the_whole_file_isnt_told(run, tmp_path):
    """MP4 has the time of creation twice."""
    time = {"creation_time": "2021-05-25T16:21:51.000000Z"}
    source = make(tmp_path / "in.mp4", codec="libx264", sound="aac", metadata=time, **SIZE)
    with av.open(str(source)) as container:
        assert container.streams.audio[0].metadata["creation_time"] == time["creation_time"]
    assert run(source, tmp_path / "out.mkv", **LOSSLESS).warnings == []


@pytest.mark.parametrize("first", ["mp4", "mkv"])
@pytest.mark.parametrize("second", ["mp4", "mkv"])
def test_titles_of_streams_are_kept(run, tmp_path, first, second):
    source = make(tmp_path / f"in.{first}", codec="libx264", sound="aac", **SIZE)
    run(source, tmp_path / f"out.{second}", **LOSSLESS)
    with av.open(str(tmp_path / f"out.{second}")) as container:
        found = container.streams.audio[0].metadata
    assert found.get("title", found.get("name")) == "In jpn"
    assert "NAME" not in found


def test_marks_that_are_lost_are_told(run, tmp_path):
    source = make(tmp_path / "in.mkv", subtitles="subrip", **SIZE)
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
