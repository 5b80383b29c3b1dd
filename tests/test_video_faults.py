"""Jobs in one go that are stopped, or whose files, disk or memory are taken away, leave nothing half done."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jobs import LIMIT_SECONDS, STOP_SECONDS, Start, end, names, wait_until
from lab.media import Media, assert_same_pictures, make, read, smooth

resource = pytest.importorskip("resource", reason="signals, mounts and limits are POSIX's")

ROOT = Path(__file__).parent.parent
FRAMES = 300
KILLS, STOPS = 20, 10
CODECS = {"mkv": ["--codec", "ffv1"], "mp4": ["--codec", "libx264", "--preset", "ultrafast"], "y4m": []}
"""Arguments for an output of that extension."""


def first(count: int, values: Iterable[Any]) -> list[Any]:
    """Parameters, all but the first `count` of them for the long run only: a job takes seconds to start."""
    marks = [pytest.mark.slow]
    return [pytest.param(value, marks=marks if n >= count else []) for n, value in enumerate(values)]


@pytest.fixture(scope="module")
def start(launch: Start) -> Start:
    """Starts `bdinn-video SOURCE OUTPUT MORE...` in a context, at whose end it's gone; one thread each."""

    def start(source: Path | str, output: Path | str, *more: object, **settings: Any) -> Any:
        codec = CODECS.get(Path(output).suffix[1:], [])
        return launch(source, output, *codec, *more, "--threads", 1, "--chunk-seconds", 0, **settings)

    return start


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A megabyte of noise, with sound and subtitles, with few pictures a second: Matroska writes every 5."""
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    rate = Fraction(5)
    return make(path, times=range(FRAMES), rate=rate, time_base=1 / rate, sound="aac", subtitles="subrip")


@pytest.fixture(scope="module")
def undisturbed(
    source: Path, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Media, float]]:
    """The result of a job that nothing happens to, by its extension, and the seconds it takes."""

    @cache
    def run(extension: str) -> tuple[Media, float]:
        output = tmp_path_factory.mktemp("undisturbed") / f"out.{extension}"
        began = time.monotonic()
        with start(source, output) as process:
            assert process.wait(LIMIT_SECONDS) == 0
        return read(output), time.monotonic() - began

    return run


def assert_complete(output: Path, expected: Media) -> None:
    found = read(output)
    assert_same_pictures(found, expected)
    assert (found.times, found.packets, found.texts) == (expected.times, expected.packets, expected.texts)


def part(folder: Path) -> Path | None:
    """The result while it's being made."""
    return next(folder.glob(".*.part*"), None)


def wait_for_part(process: "subprocess.Popen[str]", folder: Path) -> None:
    """Waits until a job has written pictures, which is more than the header of a file."""

    def has_pictures() -> bool:
        found = part(folder)
        return found is not None and found.stat().st_size > 10_000

    wait_until(process, has_pictures)


@pytest.mark.parametrize("number", first(2, range(KILLS)))
def test_a_killed_job_leaves_a_complete_result_or_what_was_there(
    tmp_path, start, source, undisturbed, number
):
    extension, existed = ("mkv", "mp4")[number % 2], number % 4 < 2
    expected, seconds = undisturbed(extension)
    output = tmp_path / f"out.{extension}"
    if existed:
        output.write_bytes(b"precious")
    moment = random.Random(number).uniform(0, seconds)
    with start(source, output, *["-y"] * existed) as process:
        time.sleep(moment)
        process.kill()
        process.wait(STOP_SECONDS)
    print(f"{number}: killed after {moment:.2f} of {seconds:.2f} s, leaves {names(tmp_path)}")
    assert {path.name for path in tmp_path.iterdir()} <= {output.name, getattr(part(tmp_path), "name", "")}
    if process.returncode == 0 or (output.exists() and output.read_bytes() != b"precious"):
        assert_complete(output, expected)
    else:
        assert output.exists() == existed


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("number", first(1, range(STOPS)))
def test_a_stopped_job_leaves_a_complete_result_or_nothing(
    tmp_path, start, source, undisturbed, sent, number
):
    extension = ("mkv", "mp4")[number % 2]
    expected, seconds = undisturbed(extension)
    output = tmp_path / f"out.{extension}"
    moment = random.Random(100 + number).uniform(0, seconds)
    with start(source, output) as process:
        time.sleep(moment)
        process.send_signal(sent)
        code, said = end(process, STOP_SECONDS)
    print(f"{number}: {sent.name} after {moment:.2f} of {seconds:.2f} s: {code}, {said!r}")
    if code == 128 + sent:
        assert re.fullmatch(r"Error: \w+; nothing incomplete is left\n", said)
        assert names(tmp_path) == []
    else:  # it came before anything was done, or after all was
        assert (code, said) in ((0, ""), (-sent, ""))
        assert names(tmp_path) == [output.name] * output.exists()
        if code == 0 or output.exists():
            assert_complete(output, expected)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("number", first(1, range(5)))
def test_a_signal_that_comes_when_the_result_is_in_place_does_not_deny_it(
    tmp_path, start, source, undisturbed, sent, number
):
    expected, _ = undisturbed("mkv")
    with start(source, tmp_path / "out.mkv") as process:
        wait_until(process, lambda: (tmp_path / "out.mkv").exists())
        process.send_signal(sent)
        _, said = end(process, STOP_SECONDS)
    assert_complete(tmp_path / "out.mkv", expected)
    assert "nothing was written" not in said
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize("pause", first(1, [0.02, 0, 0.2]))
def test_ctrl_c_twice_leaves_nothing(tmp_path, start, source, pause):
    with start(source, tmp_path / "out.mp4") as process:
        wait_for_part(process, tmp_path)
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        code, said = end(process, STOP_SECONDS)
    assert code in (130, -signal.SIGINT)
    assert len(said.splitlines()) <= 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("library", ["numpy", "av", "torch"])
def test_ctrl_c_while_it_is_imported_is_no_traceback(tmp_path, start, source, library):
    with start(source, tmp_path / "out.mkv") as process:
        mapped = Path(f"/proc/{process.pid}/maps")
        wait_until(process, lambda: f"/{library}/" in mapped.read_text())
        process.send_signal(signal.SIGINT)
        code, said = end(process, STOP_SECONDS)
    assert code in (130, -signal.SIGINT)
    assert len(said.splitlines()) <= 1
    assert names(tmp_path) == []


@pytest.fixture
def small_disk(mount_disk: Callable[[int], Path]) -> Path:
    """A folder on a disk of 200 KiB."""
    return mount_disk(200)


@pytest.mark.parametrize("extension", CODECS)
def test_a_full_disk_is_told_and_leaves_what_was_there(start, source, small_disk, extension):
    output = small_disk / f"out.{extension}"
    output.write_bytes(b"precious")
    with start(source, output, "-y") as process:
        code, said = end(process)
    assert code == 1
    assert re.fullmatch(
        r"Error: .* can't be (written on|completed) \(no space left on device\)\n", said, re.IGNORECASE
    )
    assert names(small_disk) == [output.name]
    assert output.read_bytes() == b"precious"


def test_a_full_device_behind_standard_output_is_told(start, source):
    with open("/dev/full", "wb") as full, start(source, "-", stdout=full) as process:
        code, said = end(process)
    assert (code, said) == (1, "Error: y4m can't be written on (No space left on device)\n")


@pytest.mark.parametrize("extension", first(1, CODECS))
def test_a_folder_that_is_removed_meanwhile_is_told(tmp_path, start, source, extension):
    folder = tmp_path / "results"
    folder.mkdir()
    with start(source, folder / f"out.{extension}") as process:
        wait_for_part(process, folder)
        shutil.rmtree(folder)
        code, said = end(process)
    assert code == 1
    assert re.fullmatch(r"Error: .*out.* can't be put in place \(No such file or directory\)\n", said)
    assert names(tmp_path) == []


def test_a_folder_that_takes_the_results_name_meanwhile_stays(tmp_path, start, source):
    with start(source, tmp_path / "out.mkv", "-y") as process:
        wait_for_part(process, tmp_path)
        (tmp_path / "out.mkv").mkdir()
        code, said = end(process)
    assert code == 1
    assert re.fullmatch(r"Error: .*out\.mkv can't be put in place \(Is a directory\)\n", said)
    assert names(tmp_path) == ["out.mkv"]


def test_a_file_that_takes_the_results_name_meanwhile_is_not_replaced(tmp_path, start, source):
    with start(source, tmp_path / "out.mkv") as process:
        wait_for_part(process, tmp_path)
        (tmp_path / "out.mkv").write_bytes(b"precious")
        code, said = end(process)
    assert (tmp_path / "out.mkv").read_bytes() == b"precious"
    assert code in (1, 2)
    assert re.fullmatch(r"Error: .*out\.mkv .*\n", said)
    assert names(tmp_path) == ["out.mkv"]


def test_an_encoder_that_fails_midway_leaves_nothing(tmp_path, start):
    # MPEG-4 can't say that a picture stays for two days, which its encoder finds when the next comes.
    days = 2 * 86400 * 25
    source = make(tmp_path / "in.mkv", draw=smooth, times=[*range(10), days, days + 1])
    with start(source, tmp_path / "out.mkv", "--codec", "mpeg4") as process:
        code, said = end(process)
    assert code == 1
    assert re.fullmatch(r"Error: mpeg4 failed \(.+\)\n", said)
    assert names(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize("more", [[], ["--strict"]])
@pytest.mark.parametrize("change", first(1, ["overwritten", "truncated", "deleted"]))
def test_a_source_that_is_changed_while_it_is_read(tmp_path, start, source, undisturbed, change, more):
    expected, _ = undisturbed("mkv")
    changing, folder = tmp_path / "in.mkv", tmp_path / "results"
    shutil.copyfile(source, changing)
    folder.mkdir()
    with start(changing, folder / "out.mkv", *more) as process:
        wait_for_part(process, folder)
        half = changing.stat().st_size // 2
        if change == "truncated":
            os.truncate(changing, half)
        elif change == "overwritten":
            with open(changing, "r+b") as file:
                file.seek(half)
                file.write(random.Random(0).randbytes(half))
        else:
            changing.unlink()
        code, said = end(process)
    if change == "deleted":  # the system keeps it for those who have it open
        assert (code, said) == (0, "")
        assert_complete(folder / "out.mkv", expected)
    elif more:
        assert code == 1
        assert re.fullmatch(r"Error: .*in\.mkv is damaged.*\n", said)
        assert names(folder) == []
    else:
        assert (code, said) == (3, "")
        assert 10 < len(read(folder / "out.mkv").frames) < FRAMES
        assert names(folder) == ["out.mkv"]


def test_a_reader_that_fails_midway_leaves_nothing(tmp_path, start, data_dir):
    with start(data_dir / "vp90-2-05-resize.ivf", tmp_path / "out.mkv") as process:
        code, said = end(process)
    assert code == 1
    assert re.fullmatch(r"Error: .* the picture changes from 352x288 .*\n", said)
    assert names(tmp_path) == []


def test_a_pipe_that_ends_within_a_picture_is_damage(tmp_path, start):
    whole = make(tmp_path / "in.y4m", codec="wrapped_avframe", times=range(10)).read_bytes()
    with start("-", tmp_path / "out.mkv", stdin=subprocess.PIPE) as process:
        process.stdin.buffer.write(whole[:-100])
        process.stdin.close()
        process.stdin = None
        code, said = end(process)
    assert (code, said) == (3, "")
    assert len(read(tmp_path / "out.mkv").frames) >= 9


@pytest.mark.parametrize("extension", first(1, CODECS))
def test_memory_that_runs_out_midway_is_told(tmp_path, start, extension):
    source = make(tmp_path / "in.mkv", width=1600, height=1200, times=range(24))
    # Kept memory would serve picture after picture: with this, each asks for its own.
    asking = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    with start(source, tmp_path / f"out.{extension}", env=asking) as process:
        wait_for_part(process, tmp_path)
        most = resource.getpagesize()  # less than is in use, so no more is given
        resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))
        code, said = end(process)
    assert code == 1
    *before, last = said.splitlines()
    assert all(line.startswith("x264 [error]: malloc") for line in before)  # the library's own
    assert re.fullmatch(r"Error: .*(out of memory|cannot allocate memory|external library).*", last)
    assert "unexpected" not in last
    assert names(tmp_path) == ["in.mkv"]
