"""The mask of a job: a grey picture for all frames, or a clip with one for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np

from ..errors import InputError, OptionError
from ..planes import Frame
from .damage import Damage
from .job import VideoJob
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
    """Masks read picture by picture, in step with the source.

    Each is the one that is shown at the time of the source's picture, both counted from the first of their
    files: so a picture that one of them has lost shifts nothing. Clips without times go by number.

    Args:
        source: the clip.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pictures = (item for item in source.items(set()) if isinstance(item, Picture))
        info = source.tracks[0].info
        self._tick = info.time_base
        self._tolerance = 1 / (4 * info.rate)  # a container may count milliseconds
        self._picture: Picture | None = None
        self._share: np.ndarray | None = None

    @property
    def damage(self) -> Damage:
        """What was found wrong with the clip."""
        return self._source.damage

    @property
    def goes_by_number(self) -> bool:
        """Whether it says no times."""
        return not self._source.has_times

    def at(self, picture: Picture) -> np.ndarray:
        """The mask of a picture of the source, asked for in order: (height, width) float32, 0..1.

        Raises:
            InputError: if the clip has ended.
        """
        while not self._reaches(picture):
            with _named_mask():
                self._picture, self._share = next(self._pictures, None), None
            if self._picture is None:
                found = f" ({self.damage})" if self.damage else ""
                frame = f"frame {picture.number} of the source"
                raise InputError(f"mask {self._source.name} ends before {frame}{found}")
        if self._share is None:
            assert self._picture is not None
            self._share = _share(self._picture.frame)
        return self._share

    def close(self) -> None:
        """Closes the clip."""
        self._source.close()

    def _reaches(self, wanted: Picture) -> bool:
        """Whether what was read last is the mask of a picture of the source, or a later one."""
        picture = self._picture
        if picture is None:
            return False
        if self.goes_by_number:
            return picture.number >= wanted.number
        return picture.time + picture.duration * self._tick > wanted.time + self._tolerance


Mask = np.ndarray | MaskClip
"""(height, width) float32 for all frames, or a clip of them."""


def open_mask(job: VideoJob, name: str, source: Source, info: VideoInfo) -> Mask:
    """Reads a mask.

    Args:
        job: how it's read.
        name: the mask's file.
        source: from whose first picture on a clip is wanted.
        info: the picture, whose size it must have.

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
    rate, start = None if still.first_number is None else info.rate, source.skipped
    if still.has_times:  # what's shown then may have begun before
        start = max(Fraction(0), start - 1 / found.rate)
    with _named_mask():
        try:
            clip = Source(name, start or None, job.end, job.threads, strict=job.strict, rate=rate)
        except OptionError as error:
            where = f"{float(source.skipped):.3f} s"
            raise InputError(f"{name} ends before the source's picture at {where}") from error
        return MaskClip(clip)
