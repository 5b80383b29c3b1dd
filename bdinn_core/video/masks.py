"""The mask of a job: a grey picture for all frames, or a clip with one for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np

from ..errors import InputError, OptionError
from ..planes import Frame
from .probe import VideoInfo
from .reader import Source
from .track import Picture

__all__ = ["Mask", "MaskClip", "open_mask"]


def _share(frame: Frame) -> np.ndarray:
    """How white each pixel is, 0..1, as (height, width) float32: luma, or the mean of R, G and B."""
    planes = frame.planes if frame.format.family == "rgb" else frame.planes[:1]
    scale = frame.format.scale(0)
    levels = [(plane.astype(np.float32) - scale.zero) / scale.span for plane in planes]
    return np.clip(sum(levels) / len(levels), 0, 1)


@contextmanager
def _named_mask() -> Iterator[None]:
    """Says of errors that it's the mask's file they are about."""
    try:
        yield
    except (InputError, OptionError) as error:
        raise type(error)(f"mask: {error}") from error


class MaskClip:
    """Masks read picture by picture, in step with the source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._items = source.items(set())

    def next(self, number: int) -> np.ndarray:
        """The mask of frame `number`, asked for in order: (height, width) float32, 0..1.

        Raises:
            InputError: if the clip has ended.
        """
        with _named_mask():
            for item in self._items:
                if isinstance(item, Picture):
                    return _share(item.frame)
        raise InputError(f"mask {self._source.name} ends before frame {number} of the source")

    def close(self) -> None:
        """Closes the clip."""
        self._source.close()


Mask = np.ndarray | MaskClip
"""(height, width) float32 for all frames, or a clip of them."""


def open_mask(name: str, info: VideoInfo, start: Fraction | None, end: Fraction | None, threads: int) -> Mask:
    """Reads a mask.

    Args:
        name: the mask's file.
        info: the source, whose size it must have.
        start: where the source is cut, as a clip must be too.
        end: likewise.
        threads: how many its decoder may have; 0 is one a core.

    Raises:
        InputError: if it can't be read or has another size.
    """
    with _named_mask():
        still = Source(name)
    try:
        found = still.tracks[0].info
        if (found.width, found.height) != (info.width, info.height):
            size = f"{found.width}x{found.height}"
            raise InputError(f"mask {name} is {size}, but the source is {info.width}x{info.height}")
        pictures: Iterator[Picture] = (item for item in still.items(set()) if isinstance(item, Picture))
        with _named_mask():
            first = next(pictures)
            if next(pictures, None) is None:
                return _share(first.frame)
    finally:
        still.close()
    rate = None if still.first_number is None else info.rate
    with _named_mask():
        return MaskClip(Source(name, start, end, threads, rate=rate))
