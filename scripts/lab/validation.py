"""A small set of pairs, fixed by the pictures, that training scores itself on as it goes.

Made by the same generators as the training pairs, from seeds of its own; the claims about a model
are `evaluate.py`'s, on scenes made otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .metrics import region_psnr, smooth_mask
from .pairs import KINDS, fine_texture_pair, make_pair
from .pictures import Picture
from .quantise import requantise

__all__ = ["Score", "make_validation_set", "score"]

SEED = 20_260_101
PAIRS_PER_KIND = 16
CROP = 256


@dataclass(frozen=True, kw_only=True)
class Score:
    """Decibels, mean over one group's pairs: input and result, smooth and detail regions."""

    smooth_input: float
    smooth: float
    detail_input: float
    detail: float


Group = list[tuple[torch.Tensor, torch.Tensor]]
"""Pairs (degraded, truth), each (1, 1, CROP, CROP)."""


def make_validation_set(pictures: Sequence[Picture]) -> dict[str, Group]:
    """Pairs by group: each kind of degradation; `coarse`, 6 bits; `texture`, fine, rounded to 8 bits."""
    groups: dict[str, Group] = {}
    for number, name in enumerate([*KINDS, "coarse", "texture"]):
        groups[name] = []
        for index in range(PAIRS_PER_KIND):
            rng = np.random.default_rng([SEED, number, index])
            if name == "texture":
                pair = fine_texture_pair(rng)
            else:
                pair = make_pair(rng, pictures, "quantised" if name == "coarse" else name)
            truth = pair.truth[:CROP, :CROP]
            if pair.degraded is None:
                degraded, truth = requantise(rng, truth, 4.0 if name == "coarse" else 1.0)
            else:
                degraded = pair.degraded[:CROP, :CROP].astype(np.float32)
            groups[name].append((torch.tensor(degraded)[None, None], torch.tensor(truth)[None, None]))
    return groups


def score(
    restore: Callable[[torch.Tensor], torch.Tensor],
    groups: dict[str, Group],
    device: torch.device | str = "cpu",
) -> dict[str, Score]:
    """Scores `restore` (a model in eval mode) on every group; pairs without a region don't count in it."""
    return {name: _score_group(restore, group, device) for name, group in groups.items()}


@torch.no_grad()
def _score_group(
    restore: Callable[[torch.Tensor], torch.Tensor], group: Group, device: torch.device | str
) -> Score:
    found: dict[str, list[float]] = {"smooth_input": [], "smooth": [], "detail_input": [], "detail": []}
    for degraded, truth in group:
        smooth = smooth_mask(truth)[0, 0].numpy()
        restored = restore(degraded.to(device)).cpu()
        for region, mask in (("smooth", smooth), ("detail", ~smooth)):
            for name, result in ((f"{region}_input", degraded), (region, restored)):
                decibels = region_psnr((result - truth)[0, 0].numpy(), mask)
                if decibels is not None:
                    found[name].append(decibels)
    return Score(
        **{name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}
    )
