"""What a job says while it runs: how far it is, where its time goes, and its banding before and after."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from banded import FORMATS, banded_frame, name_of
from jobs import PROGRESS, News
from lab.media import assert_same_pictures, banded, make, read

from bdinn_core import cli
from bdinn_core.console import Lines
from bdinn_core.console_events import Events
from bdinn_core.farm import FarmOptions, run_one
from bdinn_core.measure import measure_plane
from bdinn_core.options import DebandOptions
from bdinn_core.planes import Frame, FrameFormat
from bdinn_core.transfer import WORDS, DeviceFrame
from bdinn_core.video import VideoJob, banding
from bdinn_core.video.banding import BandingLooks
from bdinn_core.video.progress import Work
from bdinn_core.video.workers import Pipe, Stopwatch, Workers

ROOT = Path(__file__).parent.parent
WORK = re.compile(r"((deband|encode|decode) \d+ %, ){3}banding \d+\.\d % -> \d+\.\d %")


class Told(News):
    """Adds up the work too."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[Work] = []

    @property
    def all_work(self) -> Work:
        return sum(self.works, start=Work())

    def work(self, work: Work) -> None:
        self.works.append(work)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of bands, which can be cut every half."""
    path = tmp_path_factory.mktemp("clip") / "in.mkv"
    return make(path, draw=banded, width=192, height=96, times=range(50))


@pytest.fixture
def deband(clip: Path, tmp_path: Path) -> Callable[..., Told]:
    """Runs a job on the clip, by default with the network that comes along."""

    def deband(name: str = "out.mkv", chunk_seconds: object = 0, workers: int = 1, **options: Any) -> Told:
        told = Told()
        job = VideoJob(source=str(clip), output=str(tmp_path / name), codec="ffv1")
        farm = FarmOptions(chunk_seconds=Fraction(chunk_seconds), workers=workers)
        told.report = run_one(job, DebandOptions(**{"device": "cpu", **options}), farm, told)
        assert told.frames == told.report.frames == 50
        return told

    return deband


def run(*arguments: object) -> int:
    """The exit code of `bdinn-video ARGUMENT...`."""
    return cli.main([*map(str, arguments), "--device", "cpu"])


def events(said: str) -> list[dict[str, Any]]:
    """What a command said in JSON."""
    return [json.loads(line) for line in said.splitlines()]


def test_work_adds_up():
    parts = [
        Work(decode_seconds=1.0, deband_seconds=2.0),
        Work(encode_seconds=1.0, looks=1, banding_before=0.5, banding_after=0.25),
        Work(deband_seconds=4.0, looks=1, banding_before=0.25),
    ]
    work = sum(parts, start=Work())
    assert work == Work(1.0, 6.0, 1.0, 2, 0.75, 0.25)
    assert work.stages == {"decode": 0.125, "deband": 0.75, "encode": 0.125}
    assert work.banding == (0.375, 0.125)
    assert (set(Work().stages.values()), Work().banding) == ({0.0}, None)


def test_a_stopwatch_stands_still_while_its_thread_waits_at_a_pipe():
    pipe: Pipe[int] = Pipe(1)
    at_work: dict[str, float] = {}
    altogether: dict[str, float] = {}

    def send() -> None:
        began, watch = time.monotonic(), Stopwatch()
        time.sleep(0.2)
        for item in range(3):
            pipe.put(item)  # the last when the second is taken
        pipe.finish()
        at_work["send"], altogether["send"] = watch.lap(), time.monotonic() - began

    def receive() -> None:
        began, watch = time.monotonic(), Stopwatch()
        for _ in pipe:
            time.sleep(0.2)
            at_work["receive"] = at_work.get("receive", 0) + watch.lap()
        altogether["receive"] = time.monotonic() - began

    with Workers(pipe) as workers:
        workers.start(send)
        workers.start(receive)
        workers.join()
    assert at_work["send"] >= 0.2
    assert altogether["send"] - at_work["send"] > 0.1
    assert at_work["receive"] >= 0.6
    assert altogether["receive"] - at_work["receive"] > 0.1


def test_a_job_tells_where_its_time_goes_and_what_becomes_of_banding(deband):
    began = time.monotonic()
    told = deband()
    work = told.all_work
    assert all(share > 0 for share in work.stages.values())
    assert sum(work.stages.values()) == pytest.approx(1)
    assert work.deband_seconds < time.monotonic() - began
    assert len(told.works) > 50  # as it goes
    before, after = work.banding
    assert before > 0.5
    assert after < 0.1


@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_tell_it_too(deband, tiny, workers):
    work = deband(chunk_seconds="1/2", workers=workers, model=tiny).all_work
    assert all(share > 0 for share in work.stages.values())
    assert work.banding[0] > 0.5


def test_looks_rest_from_one_chunk_to_the_next(deband, tiny, monkeypatch):
    monkeypatch.setattr(banding, "REST", 1e9)
    assert deband(chunk_seconds="1/2", model=tiny).all_work.looks == 1


def test_the_result_does_not_depend_on_looks(deband, tmp_path, monkeypatch):
    monkeypatch.setattr(banding, "REST", 0)
    assert deband("all.mkv").all_work.looks == 50
    monkeypatch.setattr(BandingLooks, "__call__", lambda *_: Work())
    assert deband("none.mkv").all_work.looks == 0
    assert_same_pictures(read(tmp_path / "all.mkv"), read(tmp_path / "none.mkv"))


def test_looks_rest_a_hundred_times_as_long_as_they_take(monkeypatch):
    now = 0.0
    frame = banded_frame(FrameFormat(family="gray"))

    def measure(*_: object) -> float:
        nonlocal now
        now += 0.5
        return 0.0

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr("bdinn_core.measure.banding_share", measure)
    look = BandingLooks()
    found: list[int] = []
    for moment in (10.0, 12.0, 110.9, 111.1, 112.0):
        now = moment
        found.append(look(frame, frame).looks)
    assert found == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_a_look_measures_luma_or_green_wherever_the_picture_is(fmt, interlaced):
    source = Frame(banded_frame(fmt).planes, fmt, interlaced)
    result = Frame(banded_frame(fmt, offset=0.4).planes, fmt, interlaced)
    plane = 1 if fmt.family == "rgb" else 0
    expected = [measure_plane(frame, plane).banding for frame in (source, result)]
    words = [torch.from_numpy(p.view(np.int16) if p.dtype == np.uint16 else p) for p in source.planes]
    assert all(tensor.dtype == WORDS[fmt.dtype] for tensor in words)
    for shown in (source, DeviceFrame(tuple(words), fmt, interlaced)):
        work = BandingLooks()(shown, result)
        assert [work.looks, work.banding_before, work.banding_after] == [1, *expected]
    assert expected[0] > 0.1


def test_lines_tell_it_where_there_is_no_terminal(clip, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Lines, "_show_seconds", 0)
    assert run(clip, tmp_path / "out.mkv", "--codec", "ffv1") == 0
    out, said = capfd.readouterr()
    assert (out, PROGRESS.sub("", said)) == ("", "")
    *lines, last = said.splitlines()
    assert len(lines) == 50
    assert re.fullmatch(rf"50/50 frames, \d+\.\d\d fps, 0:00:00 left, {WORK.pattern}", lines[-1])
    assert re.fullmatch(rf"50 frames in \d+\.\d s \(\d+\.\d\d fps\), {WORK.pattern}", last)


def command(*arguments: object, **settings: Any) -> "subprocess.CompletedProcess[bytes]":
    """Runs `bdinn-video ARGUMENT...`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "bdinn_core", *map(str, arguments), "--device", "cpu"]
    return subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, timeout=120, **settings)


def test_json_is_for_programs(clip):
    done = command(clip, "-", "--progress", "json", capture_output=True)
    assert (done.returncode, done.stdout[:10]) == (0, b"YUV4MPEG2 ")
    *shown, last = events(done.stderr.decode())
    assert shown[0] == {
        "event": "progress",
        "frames": 0,
        "total": 50,
        "fps": 0.0,
        "seconds_left": None,
        "stages": {"decode": 0.0, "deband": 0.0, "encode": 0.0},
        "banding": None,
    }
    assert [event["event"] for event in shown] == ["progress"] * len(shown)
    frames = [event["frames"] for event in [*shown, last]]
    assert (frames, frames[-1]) == (sorted(frames), 50)
    assert list(last) == ["event", "frames", "seconds", "fps", "stages", "banding"]
    assert last["event"] == "done"
    assert sum(last["stages"].values()) == pytest.approx(1, abs=1e-3)
    assert last["banding"]["before"] > last["banding"]["after"]


def test_json_tells_progress_as_it_goes(clip, tmp_path, tiny, monkeypatch, capfd):
    monkeypatch.setattr(Events, "_show_seconds", 0)
    assert run(clip, tmp_path / "out.mkv", "--progress", "json", "--model", tiny) == 0
    first, *shown, _ = events(capfd.readouterr().err)
    assert [event["frames"] for event in shown] == [*range(1, 51)]
    assert all(event["total"] == 50 for event in shown)
    assert first["seconds_left"] is None
    assert shown[0]["seconds_left"] > 0
    assert shown[-1]["seconds_left"] == 0


def test_json_tells_warnings_notes_and_errors(clip, tmp_path, tiny, capfd):
    source = make(tmp_path / "in.mkv", draw=banded, subtitles="subrip", times=range(50))
    arguments = ("--progress", "json", "--model", tiny, "--chunk-seconds", 1, "--drop-incompatible")
    arguments += ("--codec", "ffv1")
    assert run(source, tmp_path / "out.avi", *arguments) == 0
    told = [event for event in events(capfd.readouterr().err) if event["event"] in ("note", "warning")]
    assert [event["event"] for event in told] == ["note", "warning"]
    assert "is made in one go: avi holds no times" in told[0]["text"]
    assert "subtitle" in told[1]["text"]
    for more, code, text in [
        (["--strength", "3"], 2, "strength must be a number 0..2, not 3.0"),
        ([], 2, f"output {tmp_path / 'out.avi'} exists; add -y to replace it"),
    ]:
        assert run(clip, tmp_path / "out.avi", *more, "--progress", "json") == code
        assert events(capfd.readouterr().err) == [{"event": "error", "text": text, "exit_code": code}]


def test_json_tells_of_each_file(clip, tmp_path, tiny, capfd):
    shutil.copy(clip, tmp_path / "a.mkv")
    (tmp_path / "b.mkv").write_text("no video at all")
    results = tmp_path / "results"
    arguments = (tmp_path, results, "--model", tiny, "--progress")
    assert run(*arguments, "json") == 3
    told = events(capfd.readouterr().err)
    files = [event for event in told if event["event"] == "file"]
    assert files[0] == {
        "event": "file",
        "number": 1,
        "count": 2,
        "source": str(tmp_path / "a.mkv"),
        "output": str(results / "a.mkv"),
        "state": "done",
        "frames": 50,
        "seconds": files[0]["seconds"],
        "error": None,
    }
    assert (files[1]["number"], files[1]["state"], files[1]["frames"]) == (2, "failed", None)
    assert "isn't media FFmpeg can read" in files[1]["error"]
    assert (told[-1]["event"], told[-1]["frames"]) == ("done", 50)
    assert run(*arguments, "none") == 3
    said = capfd.readouterr().err.splitlines()
    assert [line[:8] for line in said] == ["1 of 2: ", "2 of 2: "]
    assert [word in line for word, line in zip(("before", "failed"), said, strict=True)] == [True, True]


def test_none_is_silent_but_for_what_is_amiss(clip, tmp_path, tiny, capfd):
    arguments = (clip, tmp_path / "out.mkv", "--progress", "none", "--model", tiny)
    assert run(*arguments) == 0
    assert capfd.readouterr() == ("", "")
    assert run(*arguments) == 2
    assert re.fullmatch("Error: output .* exists; add -y to replace it\n", capfd.readouterr().err)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's terminals")
@pytest.mark.parametrize("columns", [80, 30])
def test_a_bar_does_not_wrap(clip, tmp_path, monkeypatch, columns):
    monkeypatch.delenv("COLUMNS", raising=False)  # as pytest's workers have it
    said = on_terminal(columns, clip, tmp_path / "out.mkv", "--codec", "ffv1")
    assert "\x1b[1A" in said  # drawn over
    rows = [row for row in re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", said)) if row]
    drawn, (frames, work) = rows[:-2], rows[-2:]
    assert not [row for row in drawn if len(row) > columns]
    assert re.fullmatch(r"50 frames in \d+\.\d s \(\d+\.\d\d fps\)", frames)
    assert re.fullmatch(WORK, work)
    if columns == 80:
        assert re.fullmatch(r"━{26,40} 50/50 frames, \d+\.\d\d fps, 0:00:00 left", drawn[-2])
        assert re.fullmatch(WORK, drawn[-1])
    else:
        assert re.fullmatch(r"50/50 frames, .*…", drawn[-2])
        assert re.fullmatch(r"deband \d+ %, .*…", drawn[-1])


def on_terminal(columns: int, *arguments: object) -> str:
    """What `bdinn-video ARGUMENT...` writes to a terminal of that width."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    said: list[bytes] = []

    def listen() -> None:
        with suppress(OSError):  # once all other ends are closed
            while True:
                said.append(os.read(ours, 2**16))

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert command(*arguments, stdout=subprocess.DEVNULL, stderr=theirs).returncode == 0
    finally:
        os.close(theirs)
        listener.join()
        os.close(ours)
    return b"".join(said).decode()
