"""Everything of a file comes back as it was, or it's known why not; and a comparison that would notice."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import roundtrip
from av.stream import Disposition
from click.testing import CliRunner
from lab.compare import Cell, compare, judge
from lab.excuses import EXCUSES
from lab.media import make, picture
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
    rows = [row for path in [*clips, *made] for row in roundtrip.go_round(path, tmp_path)]
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
    "chapters": [(0, 240, "One")],
    "metadata": {"title": "A film", "timecode": "01:00:00:00"},
    "tags": {"color_range": 1, "color_primaries": 1, "color_trc": 1, "colorspace": 1},
}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, set()),
        ({"draw": one_pixel_off}, {"planes"}),
        ({"times": (0, 1, 2, 3, 4)}, {"frames", "planes", "times"}),
        ({"times": (0, 1, 2, 4, 5, 6)}, {"times"}),
        ({"tags": {**WHOLE["tags"], "color_trc": 13}}, {"tags"}),
        ({"tags": {**WHOLE["tags"], "chroma_sample_location": 3}}, {"location"}),
        ({"sound": None}, {"streams", "sound", "sound at"}),
        ({"sound": "pcm_s16le"}, {"streams", "sound", "sound at"}),
        ({"subtitles": None}, {"streams", "texts", "texts at"}),
        ({"subtitles": "ass"}, {"streams"}),
        ({"fonts": [("b.ttf", b"font")]}, {"attached"}),
        ({"fonts": [("a.ttf", b"bold")]}, {"attached"}),
        ({"chapters": [(0, 240, "Two")]}, {"chapters"}),
        ({"chapters": [(0, 200, "One")]}, {"chapters"}),
        ({"metadata": {**WHOLE["metadata"], "title": "A movie"}}, {"metadata"}),
        ({"metadata": {"title": "A film"}}, {"timecode"}),
    ],
)
def test_the_comparison_notices(tmp_path, change, parts):
    before = read_parts(make(tmp_path / "in.mkv", **WHOLE))
    after = read_parts(make(tmp_path / "out.mkv", **{**WHOLE, **change}))
    cells = compare(before, after, "mkv", [], lossless=True)
    assert {part for part, cell in cells.items() if cell.kind == "DIFFERS"} == parts


@pytest.mark.parametrize("change", ["line", "time"])
def test_the_comparison_notices_another_subtitle(tmp_path, monkeypatch, change):
    before = read_parts(make(tmp_path / "in.mkv", **WHOLE))
    monkeypatch.setattr(
        "lab.media.LINES", ((40, 80, "Other"),) if change == "line" else ((43, 80, "First line"),)
    )
    after = read_parts(make(tmp_path / "out.mkv", **WHOLE))
    assert compare(before, after, "mkv", [], lossless=True)["texts"].kind == "DIFFERS"


LOST = "metadata lost: A; mp4"
SOUND = StreamPart("audio", "aac", Disposition(0), "jpn", "")
ON = replace(SOUND, disposition=Disposition.default)
FORCED = replace(SOUND, disposition=Disposition.forced)
MILLISECOND = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("part", "before", "after", "container", "said", "kind"),
    [
        ("times", [Fraction(1, 3)], [Fraction(333, 1000)], "mkv", [], "impossible"),
        ("times", [Fraction(1, 3)], [Fraction(333, 1000)], "mp4", [], "DIFFERS"),
        ("times", [Fraction(1, 3)], [Fraction(334, 1000)], "mkv", [], "DIFFERS"),
        ("times", None, [0, Fraction(1, 25), Fraction(2, 25)], "mp4", [], "impossible"),
        ("times", None, [0, Fraction(1, 25), Fraction(3, 25)], "mp4", [], "DIFFERS"),
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
        ("aspect", Fraction(4, 3), Fraction(1), "mkv", ["sample aspect ratio 4/3 is lost"], "told"),
        ("aspect", Fraction(4, 3), Fraction(3, 4), "mkv", ["sample aspect ratio 4/3 is lost"], "DIFFERS"),
        ("metadata", {"a": "1", "b": "2"}, {"a": None, "b": "2"}, "mp4", [LOST], "told"),
        (
            "metadata",
            {"a": "1", "b": "2"},
            {"a": None, "b": None},
            "mp4",
            [LOST],
            "DIFFERS",
        ),
        ("rotation", (), (0, 1, 1, 0), "mp4", [], "DIFFERS"),
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
