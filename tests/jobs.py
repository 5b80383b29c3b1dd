"""For tests of whole jobs."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from bdinn_core.video import Progress
from bdinn_core.video.formats import PixelFormat, Tags
from bdinn_core.video.pipeline import Report
from bdinn_core.video.probe import VideoInfo

Start = Callable[..., Any]
LIMIT_SECONDS = 120
"""How long a job may take where other work goes on too; by itself it takes a few seconds."""
STOP_SECONDS = 30
"""How long it may go on once it's told to end."""
PROGRESS = re.compile(r"(Warning: .*|\d+(/\d+)? frames, .*|\d+ frames in .*)\n")
LOSSLESS = {"codec": "ffv1", "pix_fmt": "source"}
FAST_X265 = {"preset": "ultrafast"}


class News(Progress):
    """Keeps what a job says."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.frames = 0
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.report = Report(0)

    @property
    def ended(self) -> tuple[int, bool]:
        """How many pictures there are, and whether the source is damaged."""
        return self.report.frames, self.report.damaged

    def begin(self, total: int | None, done: int = 0) -> None:
        self.total = total
        self.frames = done

    def advance(self, frames: int) -> None:
        self.frames += frames

    def note(self, line: str) -> None:
        self.notes.append(line)

    def warn(self, line: str) -> None:
        self.warnings.append(line)


def info(pix_fmt: str = "yuv420p", width: int = 128, height: int = 96) -> VideoInfo:
    """What a source of that format and size is known to be."""
    pixel = PixelFormat.from_name(pix_fmt)
    return VideoInfo(
        width=width,
        height=height,
        pix_fmt=pix_fmt,
        pixel=pixel,
        format=pixel.frame_format(0),
        tags=Tags(),
        time_base=Fraction(1, 25),
        rate=Fraction(25),
        interlaced=False,
        display_matrix=None,
    )


def heed_ctrl_c() -> None:
    """For a process that's started: whoever starts the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(process: "subprocess.Popen[str]", reached: Callable[[], object]) -> None:
    """Waits until a job has come so far."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not reached():
        assert process.poll() is None, f"the job ended with {process.poll()} before it came so far"
        assert time.monotonic() < deadline, f"the job didn't come so far in {LIMIT_SECONDS} s"
        time.sleep(0.001)


def end(process: "subprocess.Popen[str]", seconds: float = LIMIT_SECONDS) -> tuple[int, str]:
    """The exit code of a job, and what it said apart from progress and warnings."""
    _, said = process.communicate(timeout=seconds)
    return process.returncode, PROGRESS.sub("", said)


def names(folder: Path) -> list[str]:
    """Of all that's in a folder."""
    return sorted(path.name for path in folder.iterdir())
