"""What `bdinn-video` says as events for programs: JSON on standard error, an object a line.

    progress    frames, total, fps, seconds_left, stages, banding   when it begins, then once a second at most
    note        text; of a report too, before `done`
    warning     text
    file        number, count, source, output, state, frames, seconds, error   when one of several has ended
    done        frames, seconds, fps, stages, banding
    error       text, exit_code                                     instead of `done`

`frames` counts those that an earlier run of the same job has done, `fps` doesn't. `stages` has the shares of
`decode`, `deband` and `encode` in the time that they were at work; `banding`, `before` and `after`, the share
of pixels beside an edge of a band, in the frames looked at. What isn't known is null.
"""

import json
from typing import Any

from .console import Console
from .farm import Outcome

__all__ = ["Events"]

EVENT_SECONDS = 1


class Events(Console):
    """Prints events."""

    _show_seconds = EVENT_SECONDS

    def begin(self, total: int | None, done: int = 0) -> None:
        """Starts the clock, and tells how much there is to do."""
        super().begin(total, done)
        self._show()

    def note(self, line: str) -> None:
        """A note."""
        self._tell("note", text=line)

    def warn(self, line: str) -> None:
        """A warning."""
        self._tell("warning", text=line)

    def fail(self, line: str, exit_code: int) -> None:
        """The last event of a command that fails."""
        self._tell("error", text=line, exit_code=exit_code)

    def tell_file(self, outcome: Outcome, number: int, count: int) -> None:
        """A file of several has ended."""
        self._tell(
            "file",
            number=number,
            count=count,
            source=outcome.job.source,
            output=outcome.job.output,
            state=outcome.state,
            frames=None if outcome.report is None else outcome.report.frames,
            seconds=round(outcome.seconds, 3),
            error=None if outcome.error is None else f"{outcome.error}",
        )

    def _show(self) -> None:
        left = self._seconds_left()
        self._tell(
            "progress",
            frames=self._done,
            total=self._total,
            fps=round(self._fps(), 3),
            seconds_left=None if left is None else round(left, 1),
            **self._work_in_numbers(),
        )

    def _show_end(self) -> None:
        self._tell(
            "done",
            frames=self._done,
            seconds=round(self._seconds(), 3),
            fps=round(self._fps(), 3),
            **self._work_in_numbers(),
        )

    def _work_in_numbers(self) -> dict[str, Any]:
        stages = {name: round(share, 4) for name, share in self._work.stages.items()}
        if self._work.banding is None:
            return {"stages": stages, "banding": None}
        before, after = self._work.banding
        return {"stages": stages, "banding": {"before": round(before, 4), "after": round(after, 4)}}

    def _tell(self, event: str, **values: Any) -> None:
        self._print(json.dumps({"event": event, **values}))
