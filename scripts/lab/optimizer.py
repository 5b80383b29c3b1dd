"""Muon: steps along orthogonalised gradients, for convolutions; Adam for everything else.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scaling
that lets it share Adam's learning rate: J. Liu et al., arXiv 2502.16982. PyTorch's own takes matrices
alone, and no convolutions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["Muon", "make_optimizers"]

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration: five steps bring singular values near 1."""
ITERATIONS = 5
RMS_OF_ADAM = 0.2
FEW_OUTPUTS = 6
"""Convolutions with no more end in the picture, or in a sampling grid, and are left to Adam."""


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix with the singular vectors of `matrix` and singular values of about 1, or 0."""
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(ITERATIONS):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is orthogonalised, a convolution taken as a matrix of its outputs.

    Args:
        parameters: Of two dimensions or more.
        lr: Learning rate, on Adam's scale.
        momentum: Decay of the running mean of gradients; Nesterov's.
        weight_decay: Share of the weights that a step of rate 1 would take away.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along every parameter's gradient; `closure` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "mean" not in state:
                    state["mean"] = torch.zeros_like(parameter)
                mean, momentum = state["mean"], group["momentum"]
                mean.lerp_(parameter.grad, 1 - momentum)
                direction = orthogonalized(parameter.grad.lerp(mean, momentum).flatten(1))
                size = RMS_OF_ADAM * max(direction.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * size)


def make_optimizers(model: nn.Module, rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden convolutions; Adam, without decay, for biases and few outputs."""
    hidden, other = [], []
    for parameter in model.parameters():
        (hidden if parameter.ndim == 4 and len(parameter) > FEW_OUTPUTS else other).append(parameter)
    return [
        Muon(hidden, lr=rate, weight_decay=weight_decay),
        torch.optim.Adam(other, lr=rate),
    ]
