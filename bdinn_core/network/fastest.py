"""The choice of the version of the network that runs: the only place that makes it."""

import torch

from ..jit import has_triton
from .bdinn import BDINN
from .pyramid import Pyramid

__all__ = ["fastest"]


def fastest(model: BDINN, device: torch.device, half: bool) -> Pyramid:
    """The fastest version of a model on a device, for inference.

    Args:
        model: The network, on the device; its weights mustn't change any more.
        device: Where it runs.
        half: Whether its convolutions may run in half precision.
    """
    if device.type == "cuda" and model.config.in_channels == 1 and has_triton(device):
        from .cuda import CudaPyramid  # needs Triton, which not every platform has
        from .graphs import GraphedPyramid

        return GraphedPyramid(CudaPyramid(model, half), device)
    return model
