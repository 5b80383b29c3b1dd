"""What shapes a model's weights, in numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from .loss import LossWeights

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that shapes the weights; kept in their record."""

    config: str
    """Name of the network's configuration."""
    steps: int
    """Optimizer steps."""
    seed: int
    """Of data and initial weights."""
    threads: int
    """PyTorch's threads: sums are ordered by them."""
    device: str = "cpu"
    """`cpu` or `cuda`; there, convolutions compute in half precision."""
    batch: int = 4
    """Crops a step."""
    crop: int = 256
    """Side of a training crop in pixels."""
    learning_rate: float = 1.5e-3
    """Rises linearly over `warmup` steps, stays, and falls linearly to 0 over the last `decay` of them: a
    run can be made longer until it falls."""
    warmup: int = 200
    """Steps."""
    decay: float = 0.6
    """Share of the steps."""
    weight_decay: float = 0.1
    """Share of the hidden convolutions' weights that a step of rate 1 would take away."""
    gradient_clip: float = 1.0
    """Largest norm of all gradients together."""
    average: float = 0.999
    """Decay per step of the averaged weights, approached from below in the first steps."""
    initial_pairs: int = 256
    """Pairs made before the first step."""
    pairs_per_step: float = 0.5
    """New pairs made, on average."""
    pool: int = 1024
    """Pairs kept."""
    loss: LossWeights = field(default_factory=LossWeights)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = (step + 1) / self.warmup
        fall = (self.steps - step) / max(self.decay * self.steps, 1)
        return self.learning_rate * min(rise, 1.0, fall)

    def update_averages(
        self, averages: Iterable[torch.Tensor], values: Iterable[torch.Tensor], count: torch.Tensor | int
    ) -> None:
        """Takes one more value, the `count`-th, into each running average, in place."""
        number = int(count)
        decay = min(self.average, (1 + number) / (10 + number))
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, 1 - decay)
