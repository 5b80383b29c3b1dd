"""What `bdinn-video` says on standard error.

    Console         warnings, notes and errors
    ├── Lines       ... and how far the job is, in a line now and then
    │   └── Bar     ... or in a bar, on a terminal
    └── Events      all of it for programs, as JSON

Standard output may be y4m and is left alone.
"""

import os
import sys
import time
from collections.abc import Sequence
from math import inf
from types import TracebackType
from typing import Self

from .farm import Outcome
from .video.progress import Progress, Work

__all__ = ["KINDS", "Console", "Lines", "open_console"]

KINDS = ("bar", "json", "none")
LINE_SECONDS = 10
"""How often progress is told where there is no terminal."""


class Console(Progress):
    """Counts what's done; a context, in which a job is. It says what's amiss or unusual, and no more."""

    _show_seconds: float = inf
    """How often progress is shown at most."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._done = self._before = 0
        self._work = Work()
        self._began = self._shown = time.monotonic()
        self._ended: float | None = None

    def begin(self, total: int | None, done: int = 0) -> None:
        """Starts the clock."""
        self._total = total
        self._done = self._before = done
        self._began = self._shown = time.monotonic()

    def advance(self, frames: int) -> None:
        """Counts pictures."""
        self._done += frames
        if time.monotonic() - self._shown >= self._show_seconds:
            self._shown = time.monotonic()
            self._show()

    def work(self, work: Work) -> None:
        """Adds up work."""
        self._work += work

    def stop(self) -> None:
        """Stops the clock: the job is done, though not all that's to be done behind it."""
        self._ended = time.monotonic()

    def note(self, line: str) -> None:
        """Says something."""
        self._print(line)

    def warn(self, line: str) -> None:
        """Says a warning."""
        self._print(f"Warning: {line}")

    def fail(self, line: str, exit_code: int) -> None:
        """Says what ends the command."""
        self._print(f"Error: {line}")

    def figures(self) -> dict[str, str]:
        """How it went, by name: for a report."""
        stages = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self._work.stages.items())
        return {"speed": f"{self._fps():.2f} fps", "time at": stages}

    def tell_file(self, outcome: Outcome, number: int, count: int) -> None:
        """Says what became of a file, with which `number` of `count` have ended."""
        self.note(f"{number} of {count}: {outcome}")

    def tell_files(self, outcomes: Sequence[Outcome]) -> None:
        """Says what became of all files, at the end."""

    def __enter__(self) -> Self:
        """Says nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After success, says how it went."""
        if error is None:
            self._show_end()

    def _show(self) -> None:
        """Shows how far it is."""

    def _show_end(self) -> None:
        """Shows that it's done."""

    def _print(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")  # at once, as several threads may have something to say
        sys.stderr.flush()

    def _seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    def _fps(self) -> float:
        return (self._done - self._before) / max(self._seconds(), 1e-3)

    def _seconds_left(self) -> float | None:
        """`None` where nobody knows."""
        if self._total is None or self._done <= self._before:
            return None
        return max(0, self._total - self._done) / self._fps()


class Lines(Console):
    """Says in words how far it is."""

    _show_seconds = LINE_SECONDS
    _between = ", "
    """Frames and work."""

    def tell_files(self, outcomes: Sequence[Outcome]) -> None:
        """Prints a table, at whose end is what failed."""
        for outcome in sorted(outcomes, key=lambda outcome: (outcome.error is not None, outcome.job.output)):
            self._print(f"{outcome}")
        states = [outcome.state for outcome in outcomes]
        failed, damaged = states.count("failed"), states.count("damaged")
        self._print(f"{len(states)} files: {failed} failed, {damaged} are damaged")

    def _show(self) -> None:
        self._print_both(self._frames_in_words())

    def _show_end(self) -> None:
        frames = f"{self._done - self._before} frames in {self._seconds():.1f} s"
        self._print_both(f"{frames} ({self._fps():.2f} fps)")

    def _print_both(self, frames: str) -> None:
        self._print(self._between.join(filter(None, [frames, self._work_in_words()])))

    def _frames_in_words(self) -> str:
        if self._total is None:
            return f"{self._done} frames, {self._fps():.2f} fps"
        words = f"{self._done}/{self._total} frames, {self._fps():.2f} fps"
        seconds = self._seconds_left()
        if seconds is None:
            return words
        minutes, second = divmod(round(seconds), 60)
        return f"{words}, {minutes // 60}:{minutes % 60:02}:{second:02} left"

    def _work_in_words(self) -> str:
        """The stages, that which takes longest first, and banding; nothing before there's any work."""
        stages = sorted(self._work.stages.items(), key=lambda stage: -stage[1])
        words = [f"{name} {100 * share:.0f} %" for name, share in stages if share]
        if self._work.banding is not None:
            before, after = self._work.banding
            words.append(f"banding {100 * before:.1f} % -> {100 * after:.1f} %")
        return ", ".join(words)


def open_console(kind: str) -> Console:
    """A console of one of `KINDS`; instead of a bar there are lines where there's no terminal to draw on."""
    if kind == "none":
        return Console()
    if kind == "json":
        from .console_events import Events

        return Events()
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return Lines()
    from .console_bar import Bar

    return Bar()
