"""Lines, circles and words on pictures, smooth at their edges.

A canvas is (H, W, 3) float R'G'B' of 0..255, painted in place; places on it are (y, x) in pixels, whose
centres are at whole numbers. What lies beyond its borders is cut off.
"""

import numpy as np

from bdinn_core.show.lettering import INK, PAPER, letter

__all__ = ["Colour", "circle", "outline", "stroke", "write"]

Colour = tuple[int, int, int]


def stroke(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, width: float, colour: Colour) -> None:
    """Draws a line with round ends, which are (y, x) in pixels; where they are one, a dot."""
    first = np.clip(np.floor(np.minimum(start, end) - width), 0, canvas.shape[:2]).astype(int)
    last = np.clip(np.ceil(np.maximum(start, end) + width) + 1, 0, canvas.shape[:2]).astype(int)
    y, x = np.mgrid[first[0] : last[0], first[1] : last[1]]
    y, x, (down, right) = y - start[0], x - start[1], end - start
    along = np.clip((y * down + x * right) / max(down**2 + right**2, 1e-9), 0, 1)
    inside = width / 2 - np.hypot(y - along * down, x - along * right)
    paint(canvas[first[0] : last[0], first[1] : last[1]], inside + 0.5, colour)


def outline(canvas: np.ndarray, corners: np.ndarray, colour: Colour) -> None:
    """Draws thin lines from corner to corner, (corners, 2), and back to the first."""
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        stroke(canvas, start, end, 0.6, colour)


def circle(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    """Draws a thin circle."""
    y, x = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]]
    paint(canvas, 1.3 - np.abs(np.hypot(y - centre[0], x - centre[1]) - radius), colour)


def write(canvas: np.ndarray, text: str, top: int, left: int, colour: Colour) -> None:
    """Writes on a canvas; what doesn't fit is cut off."""
    place = canvas[top:, left:]
    ink = letter(text, place.shape[1])[: len(place), :, 0].astype(float) - PAPER
    paint(place[: len(ink)], ink / (INK - PAPER), colour)


def paint(canvas: np.ndarray, cover: np.ndarray, colour: Colour) -> None:
    """Lays a colour on a canvas (H, W, 3), as thickly as `cover` (H, W) says: 1 hides what's below."""
    canvas += np.clip(cover, 0, 1)[..., None] * (np.array(colour) - canvas)
