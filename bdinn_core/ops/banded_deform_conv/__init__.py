"""Banded deformable convolution (BDC): the operator and the choice of backend.

Source: Quan et al., "Image debanding using cross-scale invertible networks with banded deformable
convolutions", Neural Networks 187:107270, 2025. Per output pixel, 4 numbers (sin, cos, stretch,
rescale) turn and stretch the kernel's whole grid, where a general deformable convolution takes two
offsets a tap.
"""

from functools import partial
from typing import Literal

import torch

from ...errors import FormatError, OptionError
from ...jit import has_triton
from . import naive
from .geometry import Geometry, pair

__all__ = ["BACKENDS", "Backend", "banded_deform_conv2d"]

Backend = Literal["auto", "naive", "torchvision", "cpu", "triton"]
BACKENDS: tuple[Backend, ...] = ("naive", "torchvision", "cpu", "triton")
"""Every backend that can be asked for by name; `auto` picks one by device and dtype."""

HALVES = (torch.float16, torch.bfloat16)


def banded_deform_conv2d(
    input: torch.Tensor,
    rotation: torch.Tensor,
    stretch: torch.Tensor,
    rescale: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Convolve with a kernel whose grid is turned and stretched at every output pixel.

    A tap with base point (dy, dx) about the kernel's centre reads, bilinearly and as zero outside the
    input, at `rescale * [[cos, sin], [-sin, cos]] @ (stretch * dy, dx)` from its output pixel. Pairs
    are (vertical, horizontal), as in `torch.nn.functional.conv2d`, which this equals at sin 0, cos 1,
    stretch 1, rescale 1.

    Args:
        input: (N, Cin, H, W), floating point.
        rotation: (N, 2, Hout, Wout): sin and cos of the angle, of unit length.
        stretch: (N, 1, Hout, Wout): factor along the kernel's row axis.
        rescale: (N, 1, Hout, Wout): factor of the whole grid; `None` is 1.
        weight: (Cout, Cin / groups, kh, kw).
        bias: (Cout,) or `None`.
        stride: Step between outputs, >= 1.
        padding: Zeros around the input, >= 0.
        dilation: Distance between taps, >= 1.
        groups: Divides Cin and Cout; all groups share the grid.
        backend: `naive` (plain PyTorch, the ground truth), `torchvision`, `cpu` (numba and torch;
            float32 and float64, first derivatives only), `triton` (NVIDIA's GPUs where Triton is; one
            group, float32 and half precisions, first derivatives only) or `auto`: the fastest for the
            input's device and type. Half precisions are computed in float32, by `triton` as products
            of halves; positions are float32 always.

    Returns:
        (N, Cout, Hout, Wout), in the input's dtype.

    Raises:
        FormatError: a shape, dtype or device doesn't fit; the message shows it.
        OptionError: a backend unknown, or not for this device or dtype.
    """
    geometry = Geometry(
        kernel=(weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (0, 0),
        stride=pair("stride", stride, 1),
        padding=pair("padding", padding, 0),
        dilation=pair("dilation", dilation, 1),
    )
    _check_shapes(input, rotation, stretch, rescale, weight, bias, geometry, groups)
    if backend == "auto":
        backend = _pick_backend(input, groups)
    if backend != "triton" and input.dtype in HALVES:  # too few bits for positions in a picture
        floats = [None if t is None else t.float() for t in (input, rotation, stretch, rescale, weight, bias)]
        run = partial(banded_deform_conv2d, *floats, stride=stride, padding=padding, dilation=dilation)
        return run(groups=groups, backend=backend).to(input.dtype)
    if backend == "naive":
        run = naive.banded_deform_conv2d
    elif backend == "torchvision":
        from .torchvision import banded_deform_conv2d as run
    elif backend == "cpu":
        if input.device.type != "cpu" or input.dtype not in (torch.float32, torch.float64):
            raise OptionError(
                f"backend cpu takes float32 and float64 on a CPU, not {input.dtype} on {input.device}"
            )
        from .cpu import banded_deform_conv2d as run
    elif backend == "triton":
        if not _fits_triton(input, groups):
            raise OptionError(
                f"backend triton takes one group of float32 or half precision on a GPU that Triton runs on, "
                f"not {groups} of {input.dtype} on {input.device}"
            )
        from .triton import banded_deform_conv2d as run
    else:
        raise OptionError(f"backend must be auto, {', '.join(BACKENDS)}, not {backend!r}")
    with torch.autocast(input.device.type, enabled=False):  # half precision would misplace the taps
        return run(input, rotation, stretch, rescale, weight, bias, geometry, groups)


def _pick_backend(input: torch.Tensor, groups: int) -> Backend:
    """The only place that chooses: a kernel for another device is added here and in `BACKENDS`."""
    if input.device.type == "cpu" and input.dtype in (torch.float32, torch.float64, *HALVES):
        return "cpu"
    if input.device.type == "cuda":
        return "triton" if _fits_triton(input, groups) else "torchvision"
    return "naive"


def _fits_triton(input: torch.Tensor, groups: int) -> bool:
    return groups == 1 and input.dtype in (torch.float32, *HALVES) and has_triton(input.device)


def _check_shapes(
    input: torch.Tensor,
    rotation: torch.Tensor,
    stretch: torch.Tensor,
    rescale: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
    groups: int,
) -> None:
    if input.ndim != 4 or not input.is_floating_point():
        raise FormatError(
            f"input must be floating point (N, Cin, H, W), not {input.dtype} {tuple(input.shape)}"
        )
    if (
        weight.ndim != 4
        or groups < 1
        or weight.shape[0] % groups
        or weight.shape[1] * groups != input.shape[1]
    ):
        raise FormatError(
            f"weight must be (Cout, Cin / groups, kh, kw) for Cin = {input.shape[1]} and groups = {groups}, "
            f"not {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise FormatError(f"bias must be ({weight.shape[0]},), not {tuple(bias.shape)}")
    height, width = geometry.output_size(*input.shape[2:])
    if height < 1 or width < 1:
        raise FormatError(f"a {geometry.kernel} kernel doesn't fit into an input of {tuple(input.shape[2:])}")
    for name, maps, channels in (("rotation", rotation, 2), ("stretch", stretch, 1), ("rescale", rescale, 1)):
        expected = (input.shape[0], channels, height, width)
        if maps is not None and tuple(maps.shape) != expected:
            raise FormatError(f"{name} must be {expected}, not {tuple(maps.shape)}")
    others = [t for t in (rotation, stretch, rescale, weight, bias) if t is not None]
    for other in others:
        if other.dtype != input.dtype or other.device != input.device:
            raise FormatError(
                f"all tensors must share the input's type and device ({input.dtype} on {input.device}), "
                f"not {other.dtype} on {other.device}"
            )
