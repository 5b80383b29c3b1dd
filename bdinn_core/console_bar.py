"""Progress of a job as a bar, for terminals."""

from math import inf
from types import TracebackType

from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .console import Lines

__all__ = ["Bar"]

BAR_WIDTH = 40


class Bar(Lines):
    """Follows a job in two rows: a bar with the frames, and the work; cut off where a terminal is narrow."""

    _show_seconds = inf  # the rows are drawn anew by a thread of their own
    _between = "\n"

    def __init__(self) -> None:
        super().__init__()
        self._live = Live(
            get_renderable=self._draw, console=Terminal(stderr=True), redirect_stdout=False, transient=True
        )

    def begin(self, total: int | None, done: int = 0) -> None:
        """Starts the clock, and shows the bar."""
        super().begin(total, done)
        self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar down; after success, says how it went, else leaves what was shown."""
        self._live.transient = error is None
        self._live.stop()
        super().__exit__(kind, error, trace)

    def _draw(self) -> Group:
        above = Table.grid(padding=(0, 1))
        above.add_column(max_width=BAR_WIDTH)
        above.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=self._total, completed=self._done, pulse=self._total is None)
        above.add_row(bar, self._frames_in_words())
        return Group(above, Text(self._work_in_words(), no_wrap=True, overflow="ellipsis"))

    def _print(self, line: str) -> None:
        if self._live.is_started:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            super()._print(line)
