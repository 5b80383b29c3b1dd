"""Everything of a file comes back as it was, or it's known why not; and a comparison that would notice."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import roundtrip
from av.stream import Disposition
from click.testing import CliRunner
from lab.compare import Cell, compare, judge
from lab.excuses import EXCUSES
from lab.media import LINES, join, make, picture, smooth
from lab.parts import StreamPart, read_parts

CLIPS = ["h264_10bits.mp4", "sample_h265.ts", "testvid_1022ms.mp4", "bear-vp9-odd-dimensions.webm"]
REFUSED = {"invalid-bitstream.webm", "subsample_encrypted_altref.webm", "vp90-2-05-resize.ivf"}
"""What can't be decoded, or changes its size."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Path]:
    return roundtrip.make_clips(tmp_path_factory.mktemp("made"))


def check(rows: list[roundtrip.Row]) -> None:
    assert rows
    for row in rows:
        refused = "refused" in row.cells
        assert {part: cell.why for part, cell in row.cells.items() if cell.kind == "DIFFERS"} == {}, row
        if row.job.startswith("ffv1"):
            assert refused == (row.file in REFUSED), row
            assert refused or row.cells["planes"].kind == "equal", row


def test_made_clips(made, tmp_path):
    check([row for path in made for row in roundtrip.go_round(path, tmp_path)])


@pytest.mark.parametrize("name", CLIPS)
def test_small_clips(data_dir, tmp_path, name):
    check(list(roundtrip.go_round(data_dir / name, tmp_path)))


@pytest.mark.slow
def test_all_clips_and_no_excuse_without_need(shared_dir, made, tmp_path):
    clips = sorted(path for path in (shared_dir / "data/clips").iterdir() if path.suffix != ".md")
    assert len(clips) > 30
    work = {path: roundtrip.jobs_of(path) for path in clips} | {path: [*roundtrip.JOBS] for path in made}
    rows = [row for path, jobs in work.items() for row in roundtrip.go_round(path, tmp_path, jobs)]
    check(rows)
    given = "\n".join(cell.why for row in rows for cell in row.cells.values() if cell.kind != "DIFFERS")
    assert [excuse for excuse in EXCUSES if (excuse.why or excuse.said) not in given] == []


def one_pixel_off(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    frame = picture(pix_fmt, width, height, number)
    if number == 3:
        np.frombuffer(frame.planes[2], np.uint8)[0] ^= 1
    return frame


WHOLE = {
    "sound": "flac",
    "subtitles": "subrip",
    "fonts": [("a.ttf", b"font")],
    "covers": [("cover.jpg", "mjpeg")],
    "chapters": [(0, 240, "One")],
    "metadata": {"title": "A film", "timecode": "01:00:00:00"},
    "sound_metadata": {"source": "a disc"},
    "tags": {"color_range": 1, "color_primaries": 1, "color_trc": 1, "colorspace": 1},
}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, set()),
        ({"draw": one_pixel_off}, {"planes"}),
        ({"times": (0, 1, 2, 3, 4)}, {"frames", "planes", "times"}),
        ({"times": (0, 1, 2, 4, 5, 6)}, {"times"}),
        ({"times": range(1, 7)}, {"begin", "times"}),
        ({"tags": {**WHOLE["tags"], "color_trc": 13}}, {"tags"}),
        ({"tags": {**WHOLE["tags"], "chroma_sample_location": 3}}, {"location"}),
        ({"sound": None}, {"streams", "sound", "sound at", "of streams"}),
        ({"sound": "pcm_s16le"}, {"streams", "sound", "sound at"}),
        ({"sound_metadata": {}}, {"of streams"}),
        ({"sound_metadata": {"source": "another"}}, {"of streams"}),
        ({"subtitles": None}, {"streams", "texts", "texts at", "of streams"}),
        ({"subtitles": "ass"}, {"streams"}),
        ({"fonts": [("b.ttf", b"font")]}, {"attached"}),
        ({"fonts": [("a.ttf", b"bold")]}, {"attached"}),
        ({"covers": [("cover.png", "png")]}, {"streams", "cover art"}),
        ({"covers": [("other.jpg", "mjpeg")]}, {"cover art"}),
        ({"covers": []}, {"streams", "cover art", "of streams"}),
        ({"chapters": [(0, 240, "Two")]}, {"chapters"}),
        ({"chapters": [(0, 200, "One")]}, {"chapters"}),
        ({"metadata": {**WHOLE["metadata"], "title": "A movie"}}, {"metadata"}),
        ({"metadata": {"title": "A film"}}, {"timecode"}),
    ],
)
def test_the_comparison_notices(tmp_path, change, parts):
    before = read_parts(make(tmp_path / "in.mkv", **WHOLE))
    after = read_parts(make(tmp_path / "out.mkv", **{**WHOLE, **change}))
    assert differing(before, after) == parts


def differing(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The parts that do so."""
    cells = compare(before, after, "mkv", [], lossless=True)
    return {part for part, cell in cells.items() if cell.kind == "DIFFERS"}


@pytest.mark.parametrize(
    ("line", "parts"), [((40, 80, "Other"), {"texts"}), ((43, 80, "First line"), {"texts at"})]
)
def test_the_comparison_notices_another_subtitle(tmp_path, monkeypatch, line, parts):
    before = read_parts(make(tmp_path / "in.mkv", **WHOLE))
    monkeypatch.setattr("lab.media.LINES", (line, *LINES[1:]))
    assert differing(before, read_parts(make(tmp_path / "out.mkv", **WHOLE))) == parts


def test_the_comparison_notices_another_picture_of_the_second_video(tmp_path):
    same, other = (
        make(tmp_path / f"{name}.mkv", draw=draw)
        for name, draw in (("same", picture), ("other", one_pixel_off))
    )
    before, after = (
        read_parts(join(tmp_path / f"{name}.mkv", [same, second]))
        for name, second in (("before", same), ("after", other))
    )
    assert differing(before, after) == {"planes"}


@pytest.mark.parametrize("change", [{"color_trc": 13}, {"colorspace": 9}])
def test_the_comparison_notices_tags_that_change_midway(tmp_path, change):
    tags = {"color_range": 1, "color_primaries": 1, "color_trc": 1, "colorspace": 1}
    for name, second in (("in", tags), ("out", {**tags, **change})):
        parts = [
            make(tmp_path / "part.h264", codec="libx264", draw=smooth, tags=said).read_bytes()
            for said in (tags, second)
        ]
        (tmp_path / f"{name}.h264").write_bytes(b"".join(parts))
    assert differing(*(read_parts(tmp_path / f"{name}.h264") for name in ("in", "out"))) == {"tags"}


LOST = "metadata lost: A; mp4"
LOST_1 = "metadata of audio stream 1 lost: A; mp4 has no place for it"
UNLABELLED = "metadata of audio stream 1 lost: language; mpegts has no place for it"
UNNAMED = "metadata of cover art stream 1 lost: filename; mp4 has no place for it"
UNMARKED = "audio stream 1 is no longer marked forced: nut can't"
SQUARE = "sample aspect ratio 4/3 is lost"
NO_TIMECODE = "timecode is left out: it's that of the source's first picture"
JPEG = ("a.jpg", "image/jpeg", b"1")
ART_OUT = "cover art stream 1 (mjpeg) is left out: mov can't hold it"
SOUND = StreamPart("audio", "aac", Disposition(0), "jpn", "")
ON = replace(SOUND, disposition=Disposition.default)
FORCED = replace(SOUND, disposition=Disposition.forced)
MILLISECOND = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("part", "before", "after", "container", "said", "kind"),
    [
        ("times", {0: [Fraction(1, 3)]}, {0: [Fraction(333, 1000)]}, "mkv", [], "impossible"),
        ("times", {0: [Fraction(1, 3)]}, {0: [Fraction(333, 1000)]}, "mp4", [], "DIFFERS"),
        ("times", {0: [Fraction(1, 3)]}, {0: [Fraction(334, 1000)]}, "mkv", [], "DIFFERS"),
        ("times", {0: None}, {0: [0, Fraction(1, 25), Fraction(2, 25)]}, "mp4", [], "impossible"),
        ("times", {0: None}, {0: [0, Fraction(1, 25), Fraction(3, 25)]}, "mp4", [], "DIFFERS"),
        ("sound at", {1: [Fraction(0)]}, {1: [MILLISECOND]}, "mkv", [], "impossible"),
        ("sound at", {1: [Fraction(0)]}, {1: [2 * MILLISECOND]}, "mkv", [], "DIFFERS"),
        (
            "streams",
            {1: SOUND},
            {1: ON},
            "mp4",
            [],
            "impossible",
        ),
        ("streams", {1: SOUND}, {1: ON}, "mkv", [], "DIFFERS"),
        ("streams", {1: SOUND}, {1: FORCED}, "mp4", [], "DIFFERS"),
        ("streams", {1: SOUND}, {}, "mkv", [], "DIFFERS"),
        ("streams", {1: SOUND}, {}, "mkv", ["audio stream 1 (aac) is left out"], "told"),
        ("streams", {1: SOUND}, {}, "mkv", ["audio stream 2 (aac) is left out"], "DIFFERS"),
        ("aspect", {0: Fraction(4, 3)}, {0: Fraction(1)}, "mkv", [SQUARE], "told"),
        (
            "aspect",
            {0: Fraction(4, 3)},
            {0: Fraction(3, 4)},
            "mkv",
            [SQUARE],
            "DIFFERS",
        ),
        ("metadata", {"a": "1", "b": "2"}, {"a": None, "b": "2"}, "mp4", [LOST], "told"),
        (
            "metadata",
            {"a": "1", "b": "2"},
            {"a": None, "b": None},
            "mp4",
            [LOST],
            "DIFFERS",
        ),
        ("rotation", {0: ()}, {0: (0, 1, 1, 0)}, "mp4", [], "DIFFERS"),
        ("rotation", {0: (0, 1, 1, 0)}, {0: ()}, "ts", ["rotation is lost: mpegts"], "told"),
        ("rotation", {0: (0, 1, 1, 0)}, {0: ()}, "ts", [], "DIFFERS"),
        ("begin", Fraction(0), Fraction(2, 25), "ts", [], "impossible"),
        ("begin", Fraction(0), Fraction(2, 25), "mp4", [], "DIFFERS"),
        ("begin", Fraction(0), Fraction(2), "ts", [], "DIFFERS"),
        ("cover art", {1: JPEG}, {}, "mov", [ART_OUT], "told"),
        ("cover art", {1: JPEG}, {}, "mov", [], "DIFFERS"),
        ("cover art", {1: JPEG}, {1: (None, None, b"1")}, "mp4", [UNNAMED], "told"),
        (
            "cover art",
            {1: JPEG},
            {1: (None, None, b"2")},
            "mp4",
            [UNNAMED],
            "DIFFERS",
        ),
        (
            "cover art",
            {1: (None, None, b"1")},
            {1: JPEG},
            "mkv",
            [],
            "impossible",
        ),
        ("of streams", {1: {"a": "1", "b": "2"}}, {1: {"b": "2"}}, "mp4", [LOST_1], "told"),
        ("of streams", {1: {"a": "1", "b": "2"}}, {1: {}}, "mp4", [LOST_1], "DIFFERS"),
        ("of streams", {2: {"a": "1", "b": "2"}}, {1: {"b": "2"}}, "mp4", [LOST_1], "DIFFERS"),
        ("streams", {1: SOUND}, {1: replace(SOUND, language="und")}, "ts", [UNLABELLED], "told"),
        ("streams", {1: SOUND}, {1: replace(SOUND, language="und")}, "ts", [LOST_1], "DIFFERS"),
        ("streams", {1: FORCED}, {1: SOUND}, "nut", [UNMARKED], "told"),
        (
            "streams",
            {1: SOUND},
            {1: SOUND},
            "mov",
            [NO_TIMECODE],
            "equal",
        ),
        (
            "sound",
            {1: [b"1"]},
            {1: [b"2"]},
            "mov",
            [NO_TIMECODE],
            "DIFFERS",
        ),
    ],
)
def test_an_excuse_excuses_nothing_else(part, before, after, container, said, kind):
    assert judge(part, before, after, container, said).kind == kind


@pytest.mark.parametrize("fault", [False, True])
def test_the_script_prints_a_table_and_tells_faults_by_its_exit_code(tmp_path, monkeypatch, fault):
    if fault:
        tags = {"tags": Cell("DIFFERS", "1 is 2")}
        monkeypatch.setattr(roundtrip, "compare", lambda *files, **job: compare(*files, **job) | tags)
    source = make(tmp_path / "in.mkv", codec="libx264", **{**WHOLE, "fonts": []})
    result = CliRunner().invoke(roundtrip.main, [f"{source}", "--job", "ffv1 in mp4"])
    assert result.exit_code == int(fault), result.output
    head, row, *rest = result.output.splitlines()
    assert head.startswith("file")
    assert row.startswith("in.mkv")
    assert ("in.mkv, ffv1 in mp4, tags: 1 is 2" in rest[-1]) == fault
    assert fault or rest[-1] == "ffv1: 18 planes in 1 files came back bit for bit"
