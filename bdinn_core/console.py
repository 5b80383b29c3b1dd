"""Progress and warnings of a job on standard error: a bar on a terminal, else a line now and then."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .video import Progress

if TYPE_CHECKING:
    import rich.progress

__all__ = ["Console"]

LINE_SECONDS = 10
"""How often progress is told where there is no terminal."""


class Console(Progress):
    """A context that reports on standard error; standard output may be y4m and is left alone."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._done = self._before = 0
        self._began = self._told = time.monotonic()
        self._bar: rich.progress.Progress | None = None

    def begin(self, total: int | None, done: int = 0) -> None:
        """Starts the clock, and the bar if there is a terminal."""
        self._total = total
        self._done = self._before = done
        self._began = self._told = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=total, fps="")
            self._bar.start()

    def advance(self, frames: int) -> None:
        """Counts pictures."""
        self._done += frames
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, fps=f"{self._fps():.2f} fps")
        elif time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._print(self._line())

    def note(self, line: str) -> None:
        """Prints a line."""
        self._print(line)

    def warn(self, line: str) -> None:
        """Prints a warning."""
        self._print(f"Warning: {line}")

    def __enter__(self) -> Self:
        """Reports nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar down and, after success, says how it went."""
        if self._bar is not None:
            self._bar.stop()
        if error is None:
            seconds = time.monotonic() - self._began
            self._print(f"{self._done - self._before} frames in {seconds:.1f} s ({self._fps():.2f} fps)")

    def _fps(self) -> float:
        return (self._done - self._before) / max(time.monotonic() - self._began, 1e-3)

    def _line(self) -> str:
        if self._total is None:
            return f"{self._done} frames, {self._fps():.2f} fps"
        left = round(max(0, self._total - self._done) / max(self._fps(), 1e-3))
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        return f"{self._done}/{self._total} frames, {self._fps():.2f} fps, {clock} left"

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _bar() -> "rich.progress.Progress":
    # Only where there is a terminal to draw on.
    import rich.console
    import rich.progress

    return rich.progress.Progress(
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[fps]}"),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    )
