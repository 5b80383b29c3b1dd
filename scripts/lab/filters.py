"""Gaussian blur and cubic resize of one plane, as products with one matrix per axis.

A dense matrix per axis costs little at the sizes used here (a few hundred pixels a side), and one
expression serves blurring, enlarging and antialiased reduction alike.
"""

import numpy as np

__all__ = ["blur", "resize"]


def _apply(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return rows @ plane @ columns.T


def _gaussian(size: int, sigma: float) -> np.ndarray:
    x = np.arange(size, dtype=np.float32)
    weights = np.exp(-0.5 * ((x[:, None] - x[None, :]) / np.float32(sigma)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _catmull_rom(source: int, target: int) -> np.ndarray:
    """Matrix (target, source) of the Catmull-Rom cubic, widened when it reduces."""
    scale = max(source / target, 1.0)
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    t = np.abs(centre[:, None] - np.arange(source)[None, :]) / scale
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a (height, width) float32 plane; weights are renormalised at the borders.

    Args:
        plane: Any unit.
        sigma: Standard deviation in pixels, > 0.
    """
    return _apply(plane, _gaussian(plane.shape[0], sigma), _gaussian(plane.shape[1], sigma))


def resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resamples a (height, width) float32 plane by a Catmull-Rom cubic, antialiased when it shrinks."""
    return _apply(plane, _catmull_rom(plane.shape[0], height), _catmull_rom(plane.shape[1], width))
