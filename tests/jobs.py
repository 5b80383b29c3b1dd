"""For tests of whole jobs."""

from bdinn_core.video import Progress
from bdinn_core.video.pipeline import Report

LOSSLESS = {"codec": "ffv1", "pix_fmt": "source"}
FAST_X265 = {"preset": "ultrafast"}


class News(Progress):
    """Keeps what a job says."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.frames = 0
        self.warnings: list[str] = []
        self.report = Report(0, False)

    def begin(self, total: int | None) -> None:
        self.total = total

    def advance(self, frames: int) -> None:
        self.frames += frames

    def warn(self, line: str) -> None:
        self.warnings.append(line)
