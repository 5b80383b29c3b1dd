"""Previews: a picture that shows source and result, contrast raised, and what was changed.

Of one time it shows the whole picture; of several, a row each with the part that has most bands.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import batched
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from ..engine import Debander
from ..measure import banding_share, find_bands, mean_change
from ..options import DebandOptions
from ..planes import Frame
from ..steps import plane_step
from ..video.job import VideoJob
from .colours import RADIUS_PX, Colours, changes, draw
from .lettering import letter, width_of
from .samples import Sample, clock, deband_at, pictures

__all__ = ["Window", "crop", "draw_preview", "window_of"]

CONTRAST = 16
"""Factor of the raised contrast: a band of one 8-bit step can be seen on any screen."""
LARGEST = (1920, 1080)
"""Of one time, the most that's shown; larger pictures are shown in part."""
LARGEST_OF_MANY = (480, 270)
LOOKED_AT, MOST = 24, 4
"""How many pictures are looked at for the most banded, and how many are shown."""
GRID_PX = 4
"""What a window's corner is a multiple of: of chroma's pixels, however it's subsampled."""
REACH_PX = 2 * RADIUS_PX
GAP_PX = 4
FULL_CHANGE = 1.0
"""The change, in 8-bit steps, that a map shows in full colour."""
RAISED, LOWERED = (255, 150, 40), (60, 150, 255)
"""The colours of a map, where the result is brighter and where it's darker."""
_BEFORE, _AFTER = (255, 150, 40), (60, 220, 255)

Window = tuple[int, int, int, int]
"""A part of a picture: left, top, width, height in pixels."""


def draw_preview(
    job: VideoJob,
    options: DebandOptions,
    times: Sequence[Fraction] | Literal["auto"],
    tell: Callable[[str], None],
) -> np.ndarray:
    """Draws the preview of a source.

    Args:
        job: names the source and how it's read.
        options: how to deband it.
        times: in seconds after its first picture; `auto` finds the most banded pictures.
        tell: is told a line about each picture.

    Returns:
        (height, width, 3) uint8.

    Raises:
        BdinnError: if a picture can't be read or debanded.
    """
    network = Debander(options)  # loaded once, as it's shared by all for as long as it's held
    if times == "auto":
        times = _most_banded_times(job, options)
    rows: list[np.ndarray] = []
    for time in times:
        sample = deband_at(job, options, time)
        tell(_describe(sample))
        cells = _cells(sample, LARGEST if len(times) == 1 else LARGEST_OF_MANY)
        rows.append(_grid([cells[:3], cells[3:]] if len(times) == 1 else [cells]))
    del network
    return _stack(rows, 0)


def _most_banded_times(job: VideoJob, options: DebandOptions) -> Sequence[Fraction]:
    """Those of the most banded pictures of as many parts, in order."""
    found: list[tuple[float, Fraction]] = []
    for picture in pictures(job, options, LOOKED_AT):
        luma = picture.frame.format.luma_plane
        step = plane_step(picture.frame, luma)
        found.append((banding_share(picture.frame, luma, step), picture.time))
    parts = batched(found, max(1, -(-len(found) // MOST)))
    return [max(part)[1] for part in parts]


def _describe(sample: Sample) -> str:
    luma = sample.source.format.luma_plane
    before, after = (banding_share(frame, luma, sample.step) for frame in (sample.source, sample.result))
    change = mean_change(sample.source, sample.result, luma)
    return (
        f"{clock(sample.time)}: banding {100 * before:.1f} % -> {100 * after:.1f} %, "
        f"mean change {change:.2f} of an 8-bit step"
    )


def crop(frame: Frame, window: Window) -> Frame:
    """A part of a frame, copied; its corner is at whole pixels of chroma."""
    form = frame.format
    planes: list[np.ndarray] = []
    for p, plane in enumerate(frame.planes):
        across, down = form.subsampling if form.is_chroma(p) else (0, 0)
        left, top = window[0] >> across, window[1] >> down
        height, width = form.plane_size(window[2], window[3], p)
        planes.append(plane[top : top + height, left : left + width].copy())
    return Frame(tuple(planes), form, frame.interlaced)


def _cells(sample: Sample, largest: tuple[int, int]) -> list[np.ndarray]:
    """The pictures of a sample, each with its title: as it is, and what changed; with contrast, and bands."""
    window = window_of(sample.source, sample.step, *largest)
    around = _widened(window, sample.source)
    source, result = crop(sample.source, around), crop(sample.result, around)
    colours = Colours.of(sample.info)
    whole = window[2:] == (sample.source.width, sample.source.height)
    time = clock(sample.time) + ("" if whole else f", {window[2]}x{window[3]} at {window[0]},{window[1]}")
    pictures = {
        f"source  {time}": draw(source, colours),
        "result": draw(result, colours),
        "changes: orange brighter, blue darker": _draw_changes(changes(source, result)),
        f"source, contrast x{CONTRAST}": draw(source, colours, CONTRAST),
        f"result, contrast x{CONTRAST}": draw(result, colours, CONTRAST),
        "edges of bands: orange source, cyan result": _draw_bands(source, result, sample.step),
    }
    left, top = window[0] - around[0], window[1] - around[1]
    width, height = window[2:]
    return [
        _titled(title, picture[top : top + height, left : left + width])
        for title, picture in pictures.items()
    ]


def _draw_changes(change: torch.Tensor) -> np.ndarray:
    """A map: black is unchanged."""
    amount = (change / FULL_CHANGE).clamp(-1, 1).numpy()[..., None]
    rgb = np.maximum(amount, 0) * np.array(RAISED) + np.maximum(-amount, 0) * np.array(LOWERED)
    return rgb.round().astype(np.uint8)


def _draw_bands(source: Frame, result: Frame, step: float) -> np.ndarray:
    """Where luma has edges of bands of a height in 8-bit steps."""
    luma = source.format.luma_plane
    picture = np.zeros((source.height, source.width, 3), np.uint8)
    for frame, colour in ((source, _BEFORE), (result, _AFTER)):
        picture[find_bands(frame, luma, step, sides=False).numpy()] = colour
    return picture


def window_of(frame: Frame, step: float, width: int, height: int) -> Window:
    """The part of that size that has most edges of luma's bands, of a height in 8-bit steps.

    The whole picture, if it's no larger.
    """
    width, height = min(width, frame.width), min(height, frame.height)
    found = find_bands(frame, frame.format.luma_plane, step)
    sums = F.pad(found.double().cumsum(0).cumsum(1), (1, 0, 1, 0))  # of all above and to the left
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    inside = inside[::GRID_PX, ::GRID_PX]
    top, left = divmod(int(inside.argmax()), inside.shape[1])
    return GRID_PX * left, GRID_PX * top, width, height


def _widened(window: Window, frame: Frame) -> Window:
    """A part with what its local means reach beyond it."""
    left, top = (max(0, at - REACH_PX) for at in window[:2])
    right = min(frame.width, window[0] + window[2] + REACH_PX)
    bottom = min(frame.height, window[1] + window[3] + REACH_PX)
    return left, top, right - left, bottom - top


def _titled(title: str, picture: np.ndarray) -> np.ndarray:
    """A picture below its title; as wide as that at least."""
    strip = letter(title, max(picture.shape[1], width_of(title)))
    return _stack([strip, picture], 0, gap=0)


def _grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    return _stack([_stack(row, 1) for row in rows], 0)


def _stack(pictures: Sequence[np.ndarray], axis: int, gap: int = GAP_PX) -> np.ndarray:
    """Pictures side by side (1) or one below the other (0), with gaps, at the size of the largest."""
    across = max(picture.shape[1 - axis] for picture in pictures)
    parts: list[np.ndarray] = []
    for number, picture in enumerate(pictures, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (0, gap if number < len(pictures) else 0)
        pad[1 - axis] = (0, across - picture.shape[1 - axis])
        parts.append(np.pad(picture, pad))
    return np.concatenate(parts, axis)
