"""The rate of outputs that have no timestamps."""

from collections.abc import Callable

from .probe import VideoInfo
from .track import Picture

__all__ = ["ConstantRate"]


class ConstantRate:
    """Watches the pictures of an output without timestamps: a variable frame rate becomes constant.

    Args:
        what: the output.
        info: the source's picture.
        warn: is told once if that alters anything.
    """

    def __init__(self, what: str, info: VideoInfo, warn: Callable[[str], None]) -> None:
        self._what = what
        self._each = 1 / (info.time_base * info.rate)
        self._warn = warn
        self._uneven = False

    def __call__(self, picture: Picture) -> None:
        """Looks at the next picture."""
        if not self._uneven and abs(picture.duration / self._each - 1) > 0.1:
            self._uneven = True
            self._warn(f"{self._what} has no timestamps: the source's variable frame rate becomes constant")
