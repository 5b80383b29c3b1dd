"""Media files damaged at random: each ends in pictures or in one line that says what's wrong."""

import json
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lab.media import make, smooth

pytest.importorskip("resource", reason="limits of memory are POSIX's")

MUTANTS, FEW_MUTANTS = 500, 20
LIMIT_SECONDS = 60
"""How long a mutant, or the start of the program that reads it, may take; most take a few milliseconds."""
LARGEST_SEED = 125_000
"""Bytes. Larger real clips only take longer."""
KEYS = {"g": "5"}
QUIET_KEYS = {"g": "5", "x265-params": "log-level=none"}
FONT = ("font.ttf", b"font" * 20)
CLIPS: dict[str, dict[str, Any]] = {
    "h264.mp4": {
        "codec": "libx264", "options": KEYS, "sound": "aac", "subtitles": "mov_text",
        "chapters": [(0, 200, "One")], "rotation": 90,
    },
    "h264.mkv": {
        "codec": "libx264", "options": KEYS, "sound": "libopus", "subtitles": "ass", "fonts": [FONT],
        "metadata": {"title": "A title"},
    },
    "h264.ts": {"codec": "libx264", "options": KEYS, "sound": "aac"},
    "hevc.mp4": {"codec": "libx265", "options": QUIET_KEYS, "pix_fmt": "yuv420p10le"},
    "hevc.mkv": {"codec": "libx265", "options": QUIET_KEYS, "subtitles": "subrip"},
    "vp8.webm": {"codec": "libvpx", "options": KEYS},
    "vp9.webm": {"codec": "libvpx-vp9", "options": KEYS, "sound": "libopus"},
    "av1.mp4": {"codec": "libsvtav1", "options": KEYS},
    "ffv1.mkv": {"pix_fmt": "yuv444p16le", "sound": "flac"},
    "mpeg4.avi": {"codec": "mpeg4", "options": KEYS, "sound": "mp2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": KEYS, "sound": "mp2"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "sound": "pcm_s16le"},
    "flv1.flv": {"codec": "flv", "options": KEYS},
    "raw.y4m": {"codec": "wrapped_avframe"},
    "picture.png": {"codec": "png", "pix_fmt": "rgb24", "times": range(1)},
}  # fmt: skip
"""Files to be damaged, beside the small real clips."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, data_dir: Path) -> Path:
    """A folder of whole files."""
    folder = tmp_path_factory.mktemp("seeds")
    for name, clip in CLIPS.items():
        make(folder / name, **{"draw": smooth, "width": 96, "height": 64, "times": range(12), **clip})
    media = {".mp4", ".mkv", ".webm", ".ts", ".ivf", ".flv"}
    for clips in (data_dir, request.config.getoption("--shared") / "data" / "clips"):
        for path in clips.iterdir() if clips.is_dir() else ():
            if path.suffix in media and path.stat().st_size <= LARGEST_SEED:
                shutil.copyfile(path, folder / path.name)
    return folder


def read_mutants(seeds: Path, folder: Path, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """What came of each mutant: a line of `mutants.py`, or one about its crash or hang."""
    outcomes: list[dict[str, Any]] = []
    with open(folder.with_name("stderr"), "ab") as stderr:
        while len(outcomes) < len(numbers):
            rest = map(str, numbers[len(outcomes) :])
            command = [sys.executable, Path(__file__).with_name("mutants.py"), seeds, folder, *rest]
            outcomes += _read_until_failure(command, stderr)
    return outcomes


def _read_until_failure(command: list[Any], stderr: Any) -> list[dict[str, Any]]:
    """The outcomes of one process: at its end, or when a mutant crashes it or takes too long."""
    outcomes: list[dict[str, Any]] = []
    begun = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, bufsize=0) as process:
        assert process.stdout is not None
        while select.select([process.stdout], [], [], LIMIT_SECONDS)[0]:
            line = process.stdout.readline()
            if not line:
                what = f"crash: the process ended with {process.wait()}"
                break
            said = json.loads(line)
            if "result" in said:
                outcomes.append(said)
            begun = None if "result" in said else said
        else:
            process.kill()
            what = f"hang: nothing in {LIMIT_SECONDS} s"
    if begun is not None:
        outcomes.append({**begun, "result": what, "fine": False})
    else:
        assert process.returncode == 0, f"the program that reads mutants failed: {what}"
    return outcomes


def assert_fine(outcomes: list[dict[str, Any]], folder: Path) -> None:
    wrong = [f"mutant {o['number']} ({folder / o['name']}): {o['result']}" for o in outcomes if not o["fine"]]
    errors = folder.with_name("stderr").read_text(errors="replace")
    assert not wrong, "\n".join([*dict.fromkeys(wrong), errors[-5000:]])
    assert not list(folder.iterdir()), "files are left behind"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mutants and temporary files go."""
    folder = tmp_path / "mutants"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_mutants_end_in_pictures_or_an_error_of_one_line(seeds, folder, request):
    numbers = range(MUTANTS if request.config.getoption("--all") else FEW_MUTANTS)
    outcomes = read_mutants(seeds, folder, numbers)
    crashes, hangs = (sum(o["result"].startswith(what) for o in outcomes) for what in ("crash", "hang"))
    whole = sum(o["result"].endswith(" pictures") for o in outcomes)
    print(f"{len(outcomes)} mutants: {whole} read to their end, {crashes} crashes, {hangs} hangs")
    assert [o["number"] for o in outcomes] == list(numbers)
    assert_fine(outcomes, folder)
    assert len(numbers) / 10 < whole < len(numbers) * 9 / 10  # harmless damage, or fatal, tests little


def test_mutants_read_again_and_again_leave_nothing_in_memory(seeds, folder, request):
    few, rounds = FEW_MUTANTS, 20 if request.config.getoption("--all") else 5
    outcomes = read_mutants(seeds, folder, [*range(few)] * rounds)
    assert_fine(outcomes, folder)
    resident = [outcome["resident"] / 2**20 for outcome in outcomes]
    first, last = max(resident[: 2 * few]), max(resident[-few:])
    print(f"resident {first:.1f} MiB in the first two rounds, {last:.1f} MiB in the last of {rounds}")
    assert last < first + 4
    for what in ("files", "threads"):
        assert max(o[what] for o in outcomes[-few:]) <= max(o[what] for o in outcomes[:few]), what
