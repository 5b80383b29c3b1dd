"""The choice of the version of the network that runs: the only place that makes it."""

import torch

from ..jit import has_triton
from .bdinn import BDINN
from .cpu import CpuPyramid
from .pyramid import Pyramid

__all__ = ["fastest", "has_half_precision"]


def has_half_precision(device: torch.device) -> bool:
    """Whether a device computes in half precision: a GPU in float16, some CPUs in bfloat16."""
    if device.type == "cuda":
        return True
    able = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 has none and can't tell
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def fastest(model: BDINN, device: torch.device, half: bool) -> Pyramid:
    """The fastest version of a model on a device, for inference.

    Args:
        model: The network, on the device; its weights mustn't change any more.
        device: Where it runs.
        half: Whether its convolutions may run in half precision.
    """
    if device.type == "cpu" and model.config.in_channels == 1:
        return CpuPyramid(model, torch.bfloat16 if half else torch.float32)
    if device.type == "cuda" and model.config.in_channels == 1 and has_triton(device):
        from .cuda import CudaPyramid  # needs Triton, which not every platform has
        from .graphs import GraphedPyramid

        return GraphedPyramid(CudaPyramid(model, half), device)
    return model
