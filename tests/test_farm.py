"""Jobs in chunks: joined they are what they'd be in one go, and after any stop they go on."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from jobs import LIMIT_SECONDS, News, Start, end, names, wait_until
from lab.media import Media, assert_same_pictures, make, read, smooth
from test_video_damage import with_packets, zeroed

from bdinn_core.errors import InputError, OptionError, WorkerError
from bdinn_core.farm import FarmOptions, read_status, run_one
from bdinn_core.farm.chunks import borders
from bdinn_core.farm.folder import WorkFolder
from bdinn_core.farm.lock import FileLock, holder_of
from bdinn_core.farm.processes import Processes
from bdinn_core.options import DebandOptions
from bdinn_core.video import VideoJob

FFV1 = {"codec": "ffv1"}
A_SECOND = FarmOptions(chunk_seconds=Fraction(1))
Run = Callable[..., News]
CLIP = {"width": 96, "height": 64, "draw": smooth, "time_base": Fraction(1, 25)}
X264 = {"codec": "libx264", "options": {"g": "12", "bf": "2", "x264-params": "scenecut=0"}}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with a key picture every 12 pictures, sound and subtitles."""
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    return make(path, times=range(100), sound="aac", subtitles="subrip", **CLIP, **X264)


@pytest.fixture(scope="module")
def run_in_chunks(tiny: str) -> Run:
    """Runs a job in chunks of a second; says what was said."""

    def run(source: Path | str, output: Path | str, farm: FarmOptions = A_SECOND, **values: Any) -> News:
        options = {"model": tiny, "device": "cpu", **values.pop("options", {})}
        news = News()
        job = VideoJob(source=str(source), output=str(output), **{"threads": 1, **FFV1, **values})
        news.report = run_one(job, DebandOptions(**options), farm, news)
        assert news.frames == news.report.frames
        return news

    return run


def in_one_go(**values: Any) -> FarmOptions:
    return FarmOptions(chunk_seconds=Fraction(0), **values)


def assert_equal(found: Media, expected: Media) -> None:
    """Everything but how the video is encoded."""
    assert_same_pictures(found, expected)
    assert_same_but_pictures(found, expected)


def assert_same_but_pictures(found: Media, expected: Media) -> None:
    assert (found.times, found.packets, found.texts) == (expected.times, expected.packets, expected.texts)


@pytest.mark.parametrize(
    ("keys", "most", "expected"),
    [
        ([0, 30, 60, 90], 100, [0]),
        ([0, 30, 60, 90], 60, [0, 60]),
        ([0, 30, 60, 90], 45, [0, 30, 60]),
        ([0, 7, 20, 33, 48, 61, 95], 30, [0, 20, 48, 61, 78]),  # 95 is too far from 61
        ([0], 40, [0, 33, 66]),  # evenly
        ([0, 52], 50, [0, 26, 52]),
        ([0], 1, list(range(100))),
        ([0], Fraction(1, 2), list(range(100))),
    ],
)
def test_chunks_begin_at_key_pictures_or_divide_what_is_between(keys, most, expected):
    assert borders(list(range(100)), keys, Fraction(most)) == expected


CASES = [
    ("ffv1", "mkv", {}),
    ("ffv1", "mp4", {"sound": None, "subtitles": None}),
    ("libx264", "mkv", {}),
    ("libx264", "mp4", {"subtitles": None}),
    ("libx264", "ts", {"subtitles": None}),
    ("libx265", "mkv", {}),
    ("libx265", "mov", {"subtitles": None}),
    ("libsvtav1", "mkv", {}),
    ("libsvtav1", "mp4", {"subtitles": None}),
    ("libvpx-vp9", "webm", {"sound": "libopus", "subtitles": None}),
    ("prores_ks", "mov", {"pix_fmt": "yuv422p", "subtitles": None}),
]
FAST = {
    "libx264": {"preset": "ultrafast", "encoder_options": [("x264-params", "bframes=3:b-pyramid=normal")]},
    "libx265": {"preset": "ultrafast"},
    "libsvtav1": {"preset": "12"},
    "libvpx-vp9": {"encoder_options": [("cpu-used", "8"), ("deadline", "realtime")]},
}
UNEVEN = [3 * n + n % 3 for n in range(60)]
"""Times of a variable rate, which begin at 0 and of which none is another's multiple."""


def stored_times(path: Path) -> tuple[list[int | None], list[int], int | None]:
    """When pictures are decoded, in the order that they are stored; when they are shown; how long all are."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        shown = sorted(packet.pts or 0 for packet in packets)
        return [packet.dts for packet in packets], shown, container.streams.video[0].duration


@pytest.mark.parametrize(("codec", "extension", "clip"), CASES)
def test_joined_chunks_are_what_one_go_gives(run_in_chunks, tmp_path, model, codec, extension, clip):
    shape = {"sound": "aac", "subtitles": "subrip", "width": 96, "height": 64, **X264, **clip}
    tags = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}
    time_base = Fraction(1, 75)
    source = make(
        tmp_path / "in.mkv", times=UNEVEN, time_base=time_base, draw=smooth, tags=tags,
        chapters=[(0, 1000, "One"), (1000, 2000, "Two")], metadata={"title": "Film"}, **shape,
    )  # fmt: skip
    values = {"codec": codec, **FAST.get(codec, {}), "options": {"model": model, "grain": 1.0}}
    whole, joined = tmp_path / f"whole.{extension}", tmp_path / f"joined.{extension}"
    one = run_in_chunks(source, whole, in_one_go(), **values)
    farm = FarmOptions(chunk_seconds=Fraction(3, 4))
    many = run_in_chunks(source, joined, farm, **values)
    assert names(tmp_path) == sorted(["in.mkv", whole.name, joined.name])
    assert many.frames == one.frames == 60
    assert many.warnings == one.warnings
    a, b = read(joined), read(whole)
    assert_same_but_pictures(a, b)
    assert (a.tags, a.aspect, a.pix_fmt, a.codec, a.rotation) == (
        b.tags,
        b.aspect,
        b.pix_fmt,
        b.codec,
        b.rotation,
    )
    assert (a.streams, a.chapters, a.fonts) == (b.streams, b.chapters, b.fonts)
    assert a.metadata == b.metadata
    if codec in ("ffv1", "prores_ks"):
        assert_same_pictures(a, b)
    assert stored_times(joined) == stored_times(whole)


def test_the_joined_file_has_the_pictures_of_its_segments(run_in_chunks, tmp_path, source, monkeypatch):
    monkeypatch.setattr(WorkFolder, "remove", lambda _: None)
    run_in_chunks(source, tmp_path / "out.mkv", codec="libx265", preset="ultrafast")
    segments = [read(file) for file in sorted((tmp_path / "out.mkv.bdinn").glob("*.nut"))]
    assert len(segments) == 5
    joined = read(tmp_path / "out.mkv")
    parts = [frame for segment in segments for frame in segment.frames]
    assert_same_pictures(joined, Media(**{**vars(joined), "frames": parts}))
    assert joined.times == [time for segment in segments for time in segment.times]


def test_a_cut_out_part_is_joined_too(run_in_chunks, tmp_path, source):
    cut = {"start": Fraction("0.5"), "end": Fraction("3.3")}
    run_in_chunks(source, tmp_path / "whole.mkv", in_one_go(), **cut)
    run_in_chunks(source, tmp_path / "joined.mkv", **cut)
    joined = read(tmp_path / "joined.mkv")
    assert len(joined.frames) == 70
    assert_equal(joined, read(tmp_path / "whole.mkv"))


def test_a_mask_goes_with_the_chunks(run_in_chunks, tmp_path, source, model):
    mask = make(tmp_path / "mask.mkv", pix_fmt="gray", times=range(100), **CLIP)
    values = {"mask": str(mask), "options": {"model": model}}
    run_in_chunks(source, tmp_path / "whole.mkv", in_one_go(), **values)
    run_in_chunks(source, tmp_path / "joined.mkv", **values)
    assert_equal(read(tmp_path / "joined.mkv"), read(tmp_path / "whole.mkv"))
    run_in_chunks(source, tmp_path / "unmasked.mkv", options={"model": model})
    with pytest.raises(AssertionError):
        assert_equal(read(tmp_path / "unmasked.mkv"), read(tmp_path / "whole.mkv"))


@pytest.mark.parametrize("gop", ["250", "12"])
def test_open_groups_of_pictures_are_cut_cleanly(run_in_chunks, tmp_path, gop):
    options = {"g": gop, "bf": "3", "x264-params": "open-gop=1:scenecut=0:b-pyramid=normal"}
    source = make(tmp_path / "in.mp4", codec="libx264", options=options, times=range(100), draw=smooth)
    run_in_chunks(source, tmp_path / "whole.mkv", in_one_go())
    run_in_chunks(source, tmp_path / "joined.mkv", FarmOptions(chunk_seconds=Fraction(7, 10)))
    assert_equal(read(tmp_path / "joined.mkv"), read(tmp_path / "whole.mkv"))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"codec": "mpeg4"}, "nobody has tried to join what mpeg4 makes"),
        ({"codec": "libx264", "encoder_options": [("b", "1M")]}, "the encoder option b is for the whole"),
        (
            {"codec": "libx265", "encoder_options": [("x265-params", "open-gop=1")]},
            "open-gop=1 leaves",
        ),
        ({"output": "out.avi"}, "avi holds no times"),
    ],
)
def test_what_cannot_be_joined_is_made_in_one_go_and_said(run_in_chunks, tmp_path, source, values, why):
    values = {"output": "out.mkv", "start": Fraction(0), **values}
    output = tmp_path / values.pop("output")
    news = run_in_chunks(source, output, drop_incompatible=True, **values)
    assert len(news.notes) == 1
    assert f"{output} is made in one go: " in news.notes[0]
    assert why in news.notes[0]
    assert news.frames == 100


def test_a_short_video_needs_no_folder_and_no_words(run_in_chunks, tmp_path, source):
    news = run_in_chunks(source, tmp_path / "out.avi", FarmOptions(), drop_incompatible=True)
    assert (news.notes, news.frames) == ([], 100)
    news = run_in_chunks(source, tmp_path / "out.mkv", FarmOptions())
    assert (news.notes, news.frames) == ([], 100)


def test_damage_is_counted_as_in_one_go(run_in_chunks, tmp_path, source):
    broken = with_packets(source, zeroed(range(20, 27)), tmp_path / "in.mkv")
    one = run_in_chunks(broken, tmp_path / "whole.mkv", in_one_go())
    many = run_in_chunks(broken, tmp_path / "joined.mkv")
    assert one.report.damaged
    assert many.warnings == one.warnings
    assert_equal(read(tmp_path / "joined.mkv"), read(tmp_path / "whole.mkv"))


@pytest.mark.parametrize("broken", [range(23, 49), range(60, 100)], ids=["in the middle", "to the end"])
def test_a_chunk_without_any_picture_is_left_out(run_in_chunks, tmp_path, broken):
    """Its packets are noise of all pictures: nothing of it can be shown."""
    clip = {**CLIP, "codec": "mjpeg", "pix_fmt": "yuvj420p"}
    whole = make(tmp_path / "whole.mkv", times=range(100), **clip)
    source = with_packets(whole, zeroed(broken), tmp_path / "in.mkv")
    one = run_in_chunks(source, tmp_path / "one.mkv", in_one_go())
    many = run_in_chunks(source, tmp_path / "many.mkv", FarmOptions(chunk_seconds=Fraction(1, 5)))
    assert one.frames == many.frames == 100 - len(broken)
    assert many.warnings == one.warnings
    assert read(tmp_path / "many.mkv").times == read(tmp_path / "one.mkv").times


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of one matrix of colours, then two of another."""
    folder = tmp_path_factory.mktemp("changing")
    parts = [
        make(folder / f"{matrix}.ts", times=times, draw=smooth, tags={"colorspace": matrix}, **X264)
        for matrix, times in ((6, range(50)), (1, range(50, 100)))
    ]
    path = folder / "in.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_what_came_before_a_failure_is_kept_if_asked(run_in_chunks, tmp_path, changing):
    with pytest.raises(InputError, match=r"the matrix of its colours changes from 6 to 1") as caught:
        run_in_chunks(changing, tmp_path / "out.mkv")
    assert re.fullmatch(r"2 of \d chunks are kept in .*out.mkv.bdinn", caught.value.__notes__[0])
    one = run_in_chunks(changing, tmp_path / "whole.mkv", in_one_go(), keep_partial=True)
    many = run_in_chunks(changing, tmp_path / "joined.mkv", keep_partial=True)
    assert many.ended == one.ended == (50, True)
    assert many.warnings == one.warnings
    assert_equal(read(tmp_path / "joined.mkv"), read(tmp_path / "whole.mkv"))


@pytest.fixture(scope="module")
def killed(source: Path, launch: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that was killed when two of its chunks were done."""
    output = tmp_path_factory.mktemp("killed") / "out.mkv"
    with launch(source, output, *CHUNKED) as process:
        wait_until(process, lambda: len(journal(output)) >= 2)
        process.kill()
    assert not output.exists()
    return Path(f"{output}.bdinn")


@pytest.fixture
def stopped(killed: Path, tmp_path: Path) -> Path:
    """The result to be of that job."""
    shutil.copytree(killed, tmp_path / killed.name)
    return tmp_path / "out.mkv"


CHUNKED = ["--codec", "ffv1", "--chunk-seconds", "0.5", "--threads", "1"]


def journal(output: Path) -> dict[int, str]:
    """The segments of a job that are done: when each of their files was made."""
    folder = Path(f"{output}.bdinn")
    try:
        lines = (folder / "segments.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return {r["number"]: f"{(folder / r['file']).stat().st_mtime_ns}" for r in records}
    except FileNotFoundError:
        return {}


def test_a_killed_job_goes_on_where_it_was(launch, tmp_path, source, stopped):
    before = journal(stopped)
    assert not stopped.exists()
    with launch(source, stopped, *CHUNKED) as process:
        wait_until(process, lambda: len(journal(stopped)) > len(before))
        assert journal(stopped).items() >= before.items()
        code, said = end(process)
    assert (code, said) == (0, f"resuming {stopped}: {len(before)} of 9 chunks are done\n")
    assert names(tmp_path) == ["out.mkv"]
    with launch(source, tmp_path / "whole.mkv", *CHUNKED[:2], "--chunk-seconds", 0) as process:
        assert end(process) == (0, "")
    assert_equal(read(stopped), read(tmp_path / "whole.mkv"))


@pytest.mark.parametrize(
    ("seconds", "codec"),
    [(3, "ffv1"), *(pytest.param(60, codec, marks=pytest.mark.slow) for codec in ("ffv1", "libx265"))],
)
def test_a_job_killed_again_and_again_computes_nothing_twice(launch, tmp_path, seconds, codec):
    kills = 10 if seconds == 60 else 2
    clip = {"times": range(25 * seconds), "sound": "aac", **CLIP, **X264}
    source = make(tmp_path / "in.mkv", **clip)
    arguments = ["--codec", codec, "--chunk-seconds", seconds / 20, "--threads", 1]
    if codec == "libx265":
        arguments += ["--preset", "ultrafast"]
    began = time.monotonic()
    with launch(source, tmp_path / "undisturbed.mkv", *arguments) as process:
        assert end(process) == (0, "")
    most = time.monotonic() - began
    rng = random.Random(seconds)
    output = tmp_path / "out.mkv"
    again, known = 0, {}
    for _ in range(kills):
        with launch(source, output, *arguments) as process:
            if seconds == 60:
                time.sleep(rng.uniform(0, most * 0.6))
            else:  # where a moment by chance would mostly come before the first chunk
                wait_until(process, lambda known=known: len(journal(output)) > len(known))
            process.kill()
        done = journal(output)
        again += sum(done.get(number) != made for number, made in known.items()) if not output.exists() else 0
        known = known | done
    print(f"{codec}: killed {kills} times, {len(known)} chunks done by then, {again} of them again")
    assert again == 0
    if not output.exists():
        with launch(source, output, *arguments) as process:
            code, _ = end(process)
        assert code == 0
    found, expected = read(output), read(tmp_path / "undisturbed.mkv")
    assert len(found.frames) == 25 * seconds
    assert_equal(found, expected)
    assert stored_times(output) == stored_times(tmp_path / "undisturbed.mkv")


@pytest.mark.parametrize(
    ("sent", "workers"), [(signal.SIGINT, 1), pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow)]
)
def test_a_stopped_job_says_what_is_kept_and_how_to_go_on(launch, tmp_path, source, sent, workers):
    output = tmp_path / "out.mkv"
    more = [*CHUNKED, "--workers", workers]
    with launch(source, output, *more) as process:
        wait_until(process, lambda: len(journal(output)) >= 2)
        process.send_signal(sent)
        code, said = end(process)
    assert code == 128 + sent
    assert said.count("\n") == 1
    assert re.search(rf"Error: \w+; .*; \d of 9 chunks are kept in {output}.bdinn; ", said)
    command = re.search(r"go on by `(bdinn-video .*)`, or begin anew by `(.*) --restart`", said)
    assert command[1] == command[2]
    assert shlex.split(command[1])[1:6] == [str(source), str(output), *CHUNKED[:3]]
    assert not output.exists()
    with launch(*shlex.split(command[1])[1:]) as process:
        code, said = end(process)
    assert code == 0
    assert said.startswith("resuming ")


@pytest.mark.parametrize(("workers", "chunk_seconds"), [pytest.param(1, 0.5, marks=pytest.mark.slow), (2, 0)])
def test_a_stopped_batch_says_what_is_kept_and_leaves_nothing_else(
    launch, tmp_path, source, workers, chunk_seconds
):
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(source, tmp_path / "in" / f"{name}.mkv")
    more = ["--codec", "ffv1", "--chunk-seconds", chunk_seconds, "--threads", 1, "--workers", workers]
    results = tmp_path / "out"
    with launch(tmp_path / "in", results, *more, start_new_session=True) as process:
        if chunk_seconds:
            wait_until(process, lambda: journal(results / "a.mkv"))
        else:
            wait_until(process, lambda: results.exists() and len(names(results)) >= workers)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        code, said = end(process)
    assert code == 130
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("Error: interrupted; nothing incomplete is left")
    assert ("chunks are kept in" in last) == (chunk_seconds > 0)
    assert not list(results.rglob(".*.part.mkv")) or chunk_seconds
    with launch(tmp_path / "in", results, *more) as process:
        code, said = end(process)
    assert code == 0
    assert names(results) == ["a.mkv", "b.mkv", "c.mkv"]
    for name in names(results):
        assert len(read(results / name).frames) == 100


def test_a_job_stopped_when_its_result_is_in_place_is_known_to_be_done(
    run_in_chunks, tmp_path, source, launch, monkeypatch
):
    monkeypatch.setattr(WorkFolder, "remove", lambda _: None)
    output = tmp_path / "out.mkv"
    run_in_chunks(source, output)
    assert names(tmp_path) == ["out.mkv", "out.mkv.bdinn"]
    before = output.read_bytes()
    with launch(source, output, *CHUNKED) as process:
        assert end(process) == (0, f"resuming {output}: it was complete\n")
    assert names(tmp_path) == ["out.mkv"]
    assert output.read_bytes() == before


@pytest.mark.slow
def test_a_batch_goes_on_with_jobs_that_have_only_to_be_joined(launch, tmp_path, source, monkeypatch):
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "a.mkv")
    with launch(tmp_path / "in", tmp_path / "out", *CHUNKED) as process:
        folder = tmp_path / "out" / "a.mkv.bdinn"
        wait_until(process, lambda: len(journal(tmp_path / "out" / "a.mkv")) == 9)
        process.kill()
    assert folder.exists() or (tmp_path / "out" / "a.mkv").exists()
    with launch(tmp_path / "in", tmp_path / "out", *CHUNKED) as process:
        code, said = end(process)
    assert (code, said.splitlines()[-1]) == (0, "1 files: 0 failed, 0 are damaged")
    assert len(read(tmp_path / "out" / "a.mkv").frames) == 100


def test_results_may_go_above_the_sources_but_not_among_them(launch, tmp_path):
    folder = batch(tmp_path, 2)
    with launch(folder, folder, *CHUNKED) as process:
        code, said = end(process)
    assert (code, "results can't go where the sources are" in said) == (2, True)
    with launch(folder, tmp_path, *CHUNKED) as process:
        code, said = end(process)
    assert said.splitlines()[-1] == "3 files: 1 failed, 0 are damaged"
    assert (tmp_path / "001.mkv").exists()


def test_restart_begins_anew(launch, tmp_path, source, stopped):
    before = journal(stopped)
    with launch(source, stopped, *CHUNKED, "--restart") as process:
        wait_until(process, lambda: not journal(stopped).items() & before.items() and journal(stopped))
        assert end(process) == (0, "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": {"grain": 2.0}}, "grain was 0.0, now is 2.0"),
        ({"encoder_options": [("slices", "4")]}, "encoder_options was []"),
        ({"codec": "libx264"}, "codec was ffv1, now is libx264"),
        ({"chunk_seconds": "0.6"}, "chunk_seconds was 0.5, now is 0.6"),
    ],
)
def test_another_job_is_not_gone_on_with(run_in_chunks, source, stopped, change, said):
    before = journal(stopped)
    farm = FarmOptions(chunk_seconds=Fraction(change.pop("chunk_seconds", "0.5")))
    with pytest.raises(OptionError, match=re.escape(said)):
        run_in_chunks(source, stopped, farm, **change)
    assert journal(stopped) == before


def test_one_go_does_not_pass_over_what_is_kept(launch, source, stopped):
    with launch(source, stopped, *CHUNKED[:2], "--chunk-seconds", 0) as process:
        code, said = end(process)
    assert code == 2
    assert re.search(r"out.mkv.bdinn keeps \d of 9 chunks, which one go has no use for", said)
    with launch(source, stopped, *CHUNKED[:2], "--chunk-seconds", 0, "--restart") as process:
        assert end(process) == (0, "")
    assert names(stopped.parent) == ["out.mkv"]


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"chunks": 3, "threads": 1, "what": {}}', "no JSON"])
def test_a_damaged_manifest_is_told(run_in_chunks, source, stopped, manifest):
    Path(f"{stopped}.bdinn", "manifest.json").write_text(manifest)
    told = r"manifest.json isn't one of this version's .*; --restart makes it anew"
    with pytest.raises(InputError, match=told):
        run_in_chunks(source, stopped)
    with pytest.raises(InputError, match=told):
        read_status(str(stopped))
    assert run_in_chunks(source, stopped, FarmOptions(chunk_seconds=Fraction(1), restart=True)).frames == 100


def test_where_no_picture_is_wanted_a_line_says_so(run_in_chunks, tmp_path, source):
    with pytest.raises(OptionError, match=r"has no picture between start and end"):
        run_in_chunks(source, tmp_path / "out.mkv", start=Fraction("1.001"), end=Fraction("1.002"))
    assert names(tmp_path) == []


def test_a_changed_source_is_noticed(launch, tmp_path, source, stopped):
    changed = tmp_path / "changed.mkv"
    shutil.copy(source, changed)
    data = bytearray(changed.read_bytes())
    data[-100] ^= 1
    changed.write_bytes(data)
    with launch(changed, stopped, *CHUNKED) as process:
        code, said = end(process)
    assert code == 2
    assert "source was" in said
    assert "--restart" in said


def test_a_damaged_segment_is_made_again(launch, source, stopped, tmp_path):
    segment = min(Path(f"{stopped}.bdinn").glob("[!.]*.nut"))  # not one that was being written
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    count = len(journal(stopped))
    with launch(source, stopped, *CHUNKED) as process:
        code, said = end(process)
    assert (code, said) == (0, f"resuming {stopped}: {count - 1} of 9 chunks are done\n")


def test_a_record_that_was_cut_off_counts_for_nothing(launch, source, stopped):
    records = Path(f"{stopped}.bdinn", "segments.jsonl")
    text = records.read_text()
    records.write_text(text[:-20])
    count = len(journal(stopped))
    with launch(source, stopped, *CHUNKED) as process:
        code, said = end(process)
    assert (code, said) == (0, f"resuming {stopped}: {count} of 9 chunks are done\n")


def test_a_second_process_is_refused_while_the_first_is_at_work(launch, tmp_path, source):
    output = tmp_path / "out.mkv"
    with launch(source, output, *CHUNKED) as process:
        wait_until(process, lambda: journal(output))
        process.send_signal(signal.SIGSTOP)
        with launch(source, output, *CHUNKED) as second:
            code, said = end(second)
        assert code == 2
        assert "is being made by another process; --status shows how far" in said
        with launch(source, output, "--status", stdout=subprocess.PIPE) as asking:
            shown, _ = asking.communicate(timeout=LIMIT_SECONDS)
        process.send_signal(signal.SIGCONT)
        assert re.match(rf"{output}.bdinn: running \(process {process.pid}\), \d of 9 chunks, ", shown)
        assert end(process) == (0, "")
    assert names(tmp_path) == ["out.mkv"]


def test_status_of_a_stopped_job(stopped):
    status = read_status(str(stopped))
    assert (status.holder, status.chunks, status.pictures) == (None, 9, 100)
    assert status.done == len(journal(stopped))
    assert f"stopped, {status.done} of 9 chunks" in str(status)
    with pytest.raises(InputError, match=r"no job for other.mkv is running or stopped"):
        read_status("other.mkv")


def test_a_folder_of_somebody_elses_is_left_alone(run_in_chunks, tmp_path, source):
    folder = tmp_path / "out.mkv.bdinn"
    folder.mkdir()
    (folder / "thesis.doc").write_text("precious")
    with pytest.raises(OptionError, match=r"is for the work on .*, but holds thesis.doc; move it"):
        run_in_chunks(source, tmp_path / "out.mkv")
    assert names(folder) == ["thesis.doc"]


@pytest.fixture
def small_disk(mount_disk: Callable[[int], Path]) -> Path:
    """A folder on a disk of 300 KiB."""
    return mount_disk(300)


def test_after_a_full_disk_a_job_goes_on(launch, small_disk, tmp_path):
    source = make(tmp_path / "in.mkv", times=range(100), **X264)
    output = small_disk / "out.mkv"
    with launch(source, output, *CHUNKED) as process:
        code, said = end(process)
    assert code == 1
    assert re.search(r"no space left on device.*chunks are kept in .*go on by", said, re.IGNORECASE)
    assert not output.exists()
    done = len(journal(output))
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    with launch(source, output, *CHUNKED) as process:
        assert end(process) == (0, f"resuming {output}: {done} of 9 chunks are done\n")
    assert names(small_disk) == ["out.mkv"]


def test_the_lock_goes_with_its_process(tmp_path):
    path = tmp_path / "lock"
    assert holder_of(path) is None
    lock = FileLock(path)
    assert holder_of(path) == os.getpid()
    with pytest.raises(BlockingIOError):
        FileLock(path)
    lock.release()
    assert holder_of(path) is None


def test_workers_give_the_same_as_one(run_in_chunks, tmp_path, source, model):
    two_workers = FarmOptions(chunk_seconds=Fraction(1), workers=2)
    values = {"options": {"model": model, "grain": 1.0}}
    run_in_chunks(source, tmp_path / "whole.mkv", in_one_go(), **values)
    run_in_chunks(source, tmp_path / "joined.mkv", two_workers, **values)
    assert_equal(read(tmp_path / "joined.mkv"), read(tmp_path / "whole.mkv"))
    assert names(tmp_path) == ["joined.mkv", "whole.mkv"]


def children(process: "subprocess.Popen[str]") -> list[int]:
    """The worker processes of a job."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in listed if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_worker_that_dies_is_replaced(launch, tmp_path, source):
    output = tmp_path / "out.mkv"
    with launch(source, output, *CHUNKED, "--workers", 2) as process:
        wait_until(process, lambda: journal(output))
        os.kill(children(process)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    assert re.search(
        r"Warning: a worker died of chunk \d of .* \(exit code -9\): another does it again", said
    )
    with launch(source, tmp_path / "whole.mkv", *CHUNKED[:2], "--chunk-seconds", 0) as process:
        assert end(process) == (0, "")
    assert_equal(read(output), read(tmp_path / "whole.mkv"))


def test_workers_end_with_a_job_that_is_killed(launch, tmp_path, source):
    output = tmp_path / "out.mkv"
    with launch(source, output, *CHUNKED, "--workers", 2) as process:
        wait_until(process, lambda: journal(output))
        workers = children(process)
        process.kill()
        process.wait()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Deadly:
    """An order that kills who carries it out."""

    def on(self, _device: str) -> "Deadly":
        return self

    def carry_out(self, _progress: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __str__(self) -> str:
        return "a deadly order"


def test_an_order_of_which_workers_die_is_given_up_after_three(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}")
    crew, news = Processes(1, ["cpu"], 1), News()
    try:
        ((_, result),) = crew.carry_out(iter([Deadly()]), lambda _: news)
    finally:
        crew.close()
    assert isinstance(result, WorkerError)
    assert "3 workers died of a deadly order, the last with exit code -9" in str(result)
    assert len(news.warnings) == 2


def test_threads_are_divided_among_workers():
    assert [Processes(n, ["cpu"], 8).threads for n in (2, 3, 16)] == [4, 2, 1]


def batch(folder: Path, count: int) -> Path:
    """A folder of short videos, one of which is none and one in a folder of its own."""
    (folder / "in" / "more").mkdir(parents=True)
    first = make(folder / "in" / "more" / "000.mkv", times=range(12), draw=smooth)
    for number in range(1, count):
        shutil.copy(first, folder / "in" / f"{number:03}.mkv")
    (folder / "in" / "broken.mp4").write_bytes(b"no video at all")
    (folder / "in" / "notes.txt").write_text("not a video")
    return folder / "in"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_broken_file_does_not_stop_the_rest_of_a_batch(launch, tmp_path, source, workers):
    folder = batch(tmp_path, 3)
    shutil.copy(source, folder / "long.mkv")
    with launch(folder, tmp_path / "out", *CHUNKED, "--workers", workers) as process:
        code, said = end(process)
    assert code == 3
    results = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*"))
    assert results == ["001.mkv", "002.mkv", "long.mkv", "more/000.mkv"]
    assert len(read(tmp_path / "out" / "long.mkv").frames) == 100
    assert "1 of 5: " in said
    assert said.splitlines()[-1] == "5 files: 1 failed, 0 are damaged"
    assert re.search(r"broken.mkv: failed: .*broken.mp4 isn't media FFmpeg can read", said)
    assert said.index("long.mkv: done") < said.index("001.mkv: done")  # the longest first
    with launch(folder, tmp_path / "out", *CHUNKED) as process:
        code, said = end(process)
    assert code == 3
    assert said.count("was there before") == 8  # as it goes, and in the table


def test_status_of_a_batch_does_nothing(launch, tmp_path):
    folder = batch(tmp_path, 2)
    with launch(folder, tmp_path / "out", "--status", stdout=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert said == f"no job for {tmp_path / 'out'} is running or stopped\n"
    assert not (tmp_path / "out").exists()


def test_a_list_of_files(launch, tmp_path):
    folder = batch(tmp_path, 3)
    (tmp_path / "list.txt").write_text('\ufeffin/001.mkv\n\n# a comment\nin/001.mkv\n"in/more/000.mkv"\n')
    with launch(
        tmp_path / "list.txt", tmp_path / "out", "--codec", "libx264", "--extension", ".mp4"
    ) as process:
        code, said = end(process)
    assert (code, said.splitlines()[-1]) == (0, "2 files: 0 failed, 0 are damaged")
    assert names(tmp_path / "out") == ["000.mp4", "001.mp4"]
    (tmp_path / "list.txt").write_text(f"{folder}/more/000.mkv\nin/more/000.mkv\n")
    with launch(tmp_path / "list.txt", tmp_path / "out") as process:
        code, said = end(process)
    assert code == 2
    assert "would both become" in said


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_batch_of_many_files_leaks_nothing(launch, tmp_path, count):
    folder = batch(tmp_path, count)
    sizes: list[tuple[int, int]] = []
    log = subprocess.DEVNULL
    with launch(folder, tmp_path / "out", *CHUNKED, stderr=log) as process:
        for done in (count // 3, count):
            wait_until(process, lambda done=done: len(list((tmp_path / "out").rglob("*.mkv"))) >= done)
            status = Path(f"/proc/{process.pid}")
            resident = int(re.search(r"VmRSS:\s+(\d+)", (status / "status").read_text())[1])
            sizes.append((resident, len(list((status / "fd").iterdir()))))
        assert process.wait(LIMIT_SECONDS) == 3
    print(f"{count} files: KiB and open files after a third and at the end: {sizes}")
    assert len(list((tmp_path / "out").rglob("*.mkv"))) == count
    (before, files_before), (after, files_after) = sizes
    assert files_after <= files_before + 2
    assert after < before * 1.05


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chunk_seconds": -1}, "chunk_seconds must be a number of seconds >= 0, not -1"),
        ({"workers": -1}, "workers must be a whole number 0..256, not -1"),
        ({"ray": "auto", "workers": 2}, "workers are for this machine"),
        ({"ray": "auto", "chunk_seconds": Fraction(0)}, "leaves a cluster"),
        ({"devices": ["cpu", "bogus"]}, "device must be auto, cpu, cuda or cuda:N, not 'bogus'"),
        ({"devices": ["cpu", "cuda:0"]}, "devices must be of one kind"),
        ({"devices": ["cuda:0", "cuda:1"], "workers": 1}, "at least one for each of 2 devices"),
        ({"devices": ["cuda:0", "cuda:1"], "ray": "auto"}, "devices are those of this machine"),
        ({"extension": "mkv"}, "extension must be one such as .mkv"),
    ],
)
def test_wrong_options_are_named(values, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        FarmOptions(**values)
