"""The layer: banded deformable convolution with the grid predicted from its own input."""

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import ModelError, OptionError
from .banded_deform_conv import banded_deform_conv2d
from .banded_deform_conv.geometry import Geometry, pair

__all__ = ["BandedDeformConv2d"]

RESCALE_START = 0.01
"""Start of the rescale branch before its ReLU. At 0, with zero weights, the ReLU would pass no
gradient and the branch would never learn, as in the authors' layer."""

FAR = 2.0**13
"""A rescale by which taps are outside of any feature map; half precision holds it."""


class BandedDeformConv2d(nn.Module):
    """Convolution whose kernel turns and stretches at every output pixel, as the bands there run.

    One fused 3x3 convolution of the input predicts, per output pixel, the angle (sin and cos, brought
    to unit length), the stretch along the kernel's row axis and a rescale >= 1 of the whole grid. It
    starts as an ordinary convolution turned by `init_angle`.

    Source: Quan et al., Neural Networks 187:107270, 2025, and the authors' public layer, with its
    flaws mended: `bias` is used; stride and dilation work, since the grid is predicted at output
    resolution; the rescale branch receives a gradient from the start; even kernels are centred.

    Shapes:
        (N, in_channels, H, W) -> (N, out_channels, Hout, Wout), sizes as of `torch.nn.Conv2d`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Taps, one number or (vertical, horizontal).
        stride: Step between outputs.
        padding: Zeros around the input; `None` is `dilation * (kernel - 1) // 2`.
        dilation: Distance between taps.
        groups: Divides both channel counts.
        bias: Whether a bias is added to the output.
        min_stretch: Least stretch.
        max_stretch: Greatest stretch. Both `None`: any stretch >= 0.
        rescale: Whether the whole grid may grow.
        max_rescale: Where it would grow by more, all taps but the centre read zero, as outside the input:
            what a kernel finds afar would depend on the input's size.
        init_angle: Angle at the start, in degrees.

    Raises:
        OptionError: for contradictory bounds; the message shows them.
        FormatError: for a kernel, stride, padding or dilation that isn't one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | None = None,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        min_stretch: float | None = 0.5,
        max_stretch: float | None = 3.0,
        rescale: bool = True,
        max_rescale: float = math.inf,
        init_angle: float = 0.0,
    ) -> None:
        super().__init__()
        _check_stretch(min_stretch, max_stretch)
        kernel, strides = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
        dilations = pair("dilation", dilation, 1)
        same = dilations[0] * (kernel[0] - 1) // 2, dilations[1] * (kernel[1] - 1) // 2
        self.geometry = Geometry(
            kernel=kernel,
            stride=strides,
            padding=same if padding is None else pair("padding", padding, 0),
            dilation=dilations,
        )
        self.min_stretch, self.max_stretch = min_stretch, max_stretch
        self.rescale, self.max_rescale = rescale, max_rescale
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, groups=groups, bias=bias)
        self.grid = nn.Conv2d(in_channels, 4 if rescale else 3, 3, strides)
        self._start_as_convolution(math.radians(init_angle))

    def _start_as_convolution(self, angle: float) -> None:
        start = [
            math.sin(angle),
            math.cos(angle),
            _stretch_start(self.min_stretch, self.max_stretch),
            RESCALE_START,
        ]
        assert self.grid.bias is not None  # for the type checker: Conv2d has one by default
        with torch.no_grad():
            self.grid.weight.zero_()
            self.grid.bias.copy_(torch.tensor(start[: self.grid.out_channels]))

    def predict_grid(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Rotation (N, 2, Hout, Wout), stretch and rescale (N, 1, Hout, Wout) for `input`."""
        maps = self.grid(F.pad(input, self._grid_padding())).to(input.dtype)
        rotation = maps[:, :2]
        rotation = rotation * torch.rsqrt(rotation.square().sum(1, keepdim=True) + 1e-6)
        stretch = maps[:, 2:3]
        if self.min_stretch is None or self.max_stretch is None:
            stretch = F.relu(stretch)
        else:
            stretch = self.min_stretch + (torch.tanh(stretch) + 1) * (
                (self.max_stretch - self.min_stretch) / 2
            )
        if not self.rescale:
            return rotation, stretch, None
        rescale = 1 + F.relu(maps[:, 3:])
        return rotation, stretch, torch.where(rescale > self.max_rescale, FAR, rescale)

    def _grid_padding(self) -> tuple[int, int, int, int]:
        """(left, right, top, bottom) that centres the 3x3 windows on the outputs; negative crops."""
        sides: list[int] = []
        for axis in (1, 0):
            reach = self.geometry.dilation[axis] * (self.geometry.kernel[axis] - 1)
            before = 1 - reach // 2 + self.geometry.padding[axis]
            sides += [before, 2 + 2 * self.geometry.padding[axis] - reach - before]
        return sides[0], sides[1], sides[2], sides[3]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve `input` (N, in_channels, H, W)."""
        rotation, stretch, rescale = self.predict_grid(input)
        bias = self.conv.bias
        return banded_deform_conv2d(
            input,
            rotation,
            stretch,
            rescale,
            self.conv.weight.to(input.dtype),  # under autocast the input may be in half precision
            None if bias is None else bias.to(input.dtype),
            stride=self.geometry.stride,
            padding=self.geometry.padding,
            dilation=self.geometry.dilation,
            groups=self.conv.groups,
        )

    @classmethod
    def from_reference_state(cls, state_dict: Mapping[str, torch.Tensor], **kwargs: Any) -> Self:
        """A layer with the weights of the authors' one.

        Args:
            state_dict: Its state: `conv.weight`, `conv_rotation.*`, `conv_stretch.*` and, where it
                rescales, `conv_whole.*`. The dtype is kept.
            **kwargs: This class's own arguments, as the other layer was made with. The authors'
                layer takes a bias and ignores it, so it has none to load: pass `bias=False`.

        Raises:
            ModelError: a tensor is missing or of another shape; the message names it.
        """
        layer = cls(**kwargs)
        branches = ["conv_rotation", "conv_stretch"] + (["conv_whole"] if layer.rescale else [])
        if layer.conv.bias is not None and "conv.bias" not in state_dict:
            raise ModelError("the reference layer's state has no bias: pass bias=False")
        if layer.rescale != ("conv_whole.weight" in state_dict):
            raise ModelError(f"the reference layer's state is of rescale={not layer.rescale}: pass that")
        try:
            state = {"conv.weight": state_dict["conv.weight"]}
            if layer.conv.bias is not None:
                state["conv.bias"] = state_dict["conv.bias"]
            for part in ("weight", "bias"):
                state[f"grid.{part}"] = torch.cat([state_dict[f"{branch}.{part}"] for branch in branches])
            layer.to(state["conv.weight"].dtype).load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"the reference layer's state doesn't fit: {' '.join(str(error).split())}"
            ) from error
        return layer


def _check_stretch(low: float | None, high: float | None) -> None:
    if (low is None) != (high is None) or (low is not None and high is not None and not 0 <= low < high):
        raise OptionError(
            f"stretch bounds must be None, or 0 <= min_stretch < max_stretch, not {low!r} and {high!r}"
        )


def _stretch_start(low: float | None, high: float | None) -> float:
    """Value before the bounding function at which the stretch is 1, or as near as the bounds allow."""
    if low is None or high is None:
        return 1.0
    share = min(max((1 - low) / (high - low), 0.01), 0.99)  # not at a bound: tanh is flat there
    return math.atanh(2 * share - 1)
