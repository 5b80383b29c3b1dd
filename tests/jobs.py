"""For tests of whole jobs."""

from fractions import Fraction

from bdinn_core.video import Progress
from bdinn_core.video.formats import PixelFormat, Tags
from bdinn_core.video.pipeline import Report
from bdinn_core.video.probe import VideoInfo

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
