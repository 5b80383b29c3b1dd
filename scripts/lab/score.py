"""Scores of results: rows of numbers, one a method and plane, and means over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bdinn_core.video.cambi import Cambi

from .metrics import LEAST_SHARE, cambi, contour_error, region_psnr, smooth_mask

__all__ = ["PlaneScorer", "Row", "mean", "select"]

COARSE_LOG_CONTRAST = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores of one plane of one scene after one degradation and one method; None where nothing to score."""

    degradation: str
    scene: str
    drawn: bool
    """Procedural, not a picture."""
    method: str
    plane: str
    """Y, U or V."""
    smooth: float | None
    """PSNR of smooth regions, dB."""
    detail: float | None
    """PSNR of the rest, dB."""
    contour: float | None
    """Contour error of smooth regions, 8-bit steps."""
    cambi: float | None = None
    """CAMBI of luma at 10 bits, dithered ..."""
    cambi_coarse: float | None = None
    """... and at `COARSE_LOG_CONTRAST`; both in excess of the truth's own score ..."""
    cambi_of_truth: float | None = None
    cambi_coarse_of_truth: float | None = None
    """... which are these."""


def dithered_10_bit(plane: np.ndarray) -> np.ndarray:
    """A plane in model units as 10-bit codes, with white noise of one code before rounding down.

    Codes of 10 bits or fewer stay what they are.
    """
    noise = np.random.default_rng(0).random(plane.shape)
    return np.clip(np.floor(plane * 4 + noise), 0, 1023).astype(np.uint16)


def _cambis(plane: np.ndarray) -> np.ndarray:
    codes = dithered_10_bit(plane)
    return np.array([cambi([codes]), cambi([codes], COARSE_LOG_CONTRAST)])


class PlaneScorer:
    """Scores results of one plane against its truth, of which it keeps what doesn't change.

    Args:
        truth: (height, width) float32, model units.
        smooth_is_true: Whether smooth regions can be scored.
        with_cambi: Whether to score banding as well.
    """

    def __init__(self, truth: np.ndarray, smooth_is_true: bool, with_cambi: bool) -> None:
        self._truth = truth
        smooth = smooth_mask(torch.from_numpy(truth)[None, None])[0, 0].numpy()
        self._detail = ~smooth
        self._smooth = smooth & smooth_is_true
        self._cambi = _cambis(truth) if with_cambi and Cambi.takes(*truth.shape) else None

    def __call__(self, result: np.ndarray) -> dict[str, Any]:
        """The scores of `Row`, by name."""
        error = result - self._truth

        scores: dict[str, Any] = {
            "smooth": region_psnr(error, self._smooth),
            "detail": region_psnr(error, self._detail),
            "contour": contour_error(error, self._smooth) if self._smooth.mean() >= LEAST_SHARE else None,
        }
        if self._cambi is not None:
            scores["cambi"], scores["cambi_coarse"] = map(float, _cambis(result) - self._cambi)
            scores["cambi_of_truth"], scores["cambi_coarse_of_truth"] = map(float, self._cambi)
        return scores


def select(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """The rows whose fields have these values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def mean(rows: Sequence[Row], field: str) -> float | None:
    """Mean of a field over the rows that have it."""
    values = [value for row in rows if (value := getattr(row, field)) is not None]
    return float(np.mean(values)) if values else None
