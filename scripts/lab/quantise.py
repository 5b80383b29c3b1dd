"""Quantisation without a codec: to 8 bits, to fewer, and at 10 bits."""

import numpy as np

from .degrade import round_to_step

__all__ = ["quantise", "random_step", "requantise"]

COARSE_STEPS = (2.0, 4.0, 8.0)
"""Of 7, 6 and 5 bits, in 8-bit steps."""
TRUNCATED_SHARE = 0.15
TWICE_SHARE = 0.25


def random_step(rng: np.random.Generator) -> float:
    """A distance between levels: mostly 1, sometimes a quarter (10 bits), sometimes coarse.

    The engine finds coarse levels by itself; here they are for what was coded after, or drawn over.
    """
    return float(rng.choice((1.0, 0.25, *COARSE_STEPS), p=(0.75, 0.15, 0.03, 0.05, 0.02)))


def requantise(rng: np.random.Generator, plane: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Few levels as pictures come by them: rounded or truncated, once or twice.

    Args:
        rng: All chance comes from here.
        plane: (height, width) float32, model units.
        step: Distance of the levels in 8-bit steps.

    Returns:
        The coarse plane and its truth, both float32. Truncation darkens by half a step on average.
        Nothing in the coarse plane tells that it did, so the truth is darkened with it.
    """
    truth = plane
    if step > 1 and rng.random() < TRUNCATED_SHARE:
        shift = np.float32((step - 1) / 2)
        coarse = round_to_step(round_to_step(plane, 1) - shift, step)
        truth = plane - shift
    else:
        coarse = round_to_step(plane, step)
    if step > 1 and rng.random() < TWICE_SHARE:
        coarse = round_to_step(coarse, float(rng.choice(COARSE_STEPS)))
    return coarse, truth


def quantise(rng: np.random.Generator, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantises a crop after a random change of contrast and level, so that it never repeats.

    Args:
        rng: All chance comes from here.
        truth: (height, width) float32, model units.

    Returns:
        The quantised crop and the changed truth, both float32.
    """
    gain, offset = np.exp(rng.uniform(np.log(0.5), np.log(1.25))), rng.uniform(-0.5, 0.5)
    centre = truth.mean()
    changed = (centre + (truth - centre) * gain + offset).astype(np.float32)
    return requantise(rng, changed, random_step(rng))
