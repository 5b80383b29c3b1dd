"""The pyramid for NVIDIA's GPUs: convolutions by cuDNN, all that lies between them in Triton's kernels.

Features are channels-last, in the convolutions' precision. Each kernel writes what the next convolution
reads, with its margin of one repeated pixel: nothing is padded or concatenated by itself. Averages and
details are float32 throughout, for the lifting must stay lossless.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import nn
from torch.nn import functional as F

from ..ops import BandedDeformConv2d
from ..ops.banded_deform_conv.triton import convolve, weight_matrix
from ..ops.layers import FAR
from . import triton_kernels as kernels
from .bdinn import BDINN
from .blocks import LatentEdit, LiftingStep, TopEdit
from .pyramid import Pyramid
from .subnet import LEAK

__all__ = ["CudaPyramid"]

MOST_PIXELS, MOST_VALUES = 128, 2048
"""What a program takes at most: it holds its features in registers."""


class CudaPyramid(Pyramid):
    """A BDINN of one channel, for inference: it gives no gradients.

    Args:
        model: The network; its weights are copied.
        half: Whether features and convolutions are float16 instead of float32.
    """

    backend = "triton"

    def __init__(self, model: BDINN, half: bool) -> None:
        self.config = model.config
        dtype = torch.float16 if half else torch.float32
        finer = 0, *self.config.widths[:-1]
        self.levels = [
            _Level(step, edit, below, dtype)
            for step, edit, below in zip(model.steps, model.edits, finer, strict=True)
        ]
        assert isinstance(model.top, TopEdit)  # for the type checker: to it, any `Top` would do
        self.top = _Top(model.top, dtype)


class _Level:
    """One scale, as `pyramid.Level`; descriptions and features are in the convolutions' precision."""

    def __init__(self, step: LiftingStep, edit: LatentEdit, finer: int, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._predict = step.predict.weight.detach().float().contiguous()
        self._describe = _Convolution(edit.describe, dtype, turned=finer)
        self._context = edit.context.weight.detach().flatten(1).to(dtype), _bias(edit.context).to(dtype)
        self._edit = _Edit(edit, dtype)

    def describe(
        self, x: torch.Tensor, finer: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = x.contiguous()
        n, height, width = len(x), x.shape[2] // 2, x.shape[3] // 2
        low, high = x.new_empty(n, 1, height, width), x.new_empty(n, 3, height, width)
        below = x if finer is None else _channels_last(finer)
        channels = 0 if finer is None else below.shape[3]
        seen = _with_margin(low, 6 + channels, self._dtype)
        with torch.cuda.device_of(x):
            kernels.average[_programs(low)](x, low, height, width, BLOCK=MOST_PIXELS)
            kernels.describe_input[_programs(high, margin=1)](
                *(x, low, below, self._predict, high, seen, height, width),
                FINER=channels,
                SEEN=seen.shape[3],
                **_blocks(seen),
            )
        description = seen.new_empty(n, height, width, self._describe.channels)
        _activate(self._describe, seen, description, limited=True)
        return low, high, description.permute(0, 3, 1, 2)

    def restore(
        self, low: torch.Tensor, high: torch.Tensor, description: torch.Tensor, coarser: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = low.contiguous(), high.contiguous()
        context = F.linear(_channels_last(coarser).to(self._dtype), *self._context)
        edits, features = self._edit(low, description, context)
        x = low.new_empty(len(low), 1, 2 * low.shape[2], 2 * low.shape[3])
        with torch.cuda.device_of(x):
            kernels.merge[_programs(low)](
                *(low, high, edits, self._edit.bias, self._predict, x, low.shape[2], low.shape[3]),
                CONV=edits.shape[3],
                BLOCK=MOST_PIXELS,
            )
        return x, features


class _Top:
    """The edit of the coarsest averages, as `pyramid.Top`."""

    def __init__(self, edit: TopEdit, dtype: torch.dtype) -> None:
        self._edit = _Edit(edit, dtype)

    def __call__(self, low: torch.Tensor, description: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        low = low.contiguous()
        shift, features = self._edit(low, description)
        edited = torch.empty_like(low)
        with torch.cuda.device_of(low):
            kernels.edit_top[_programs(low)](
                *(low, shift, self._edit.bias, edited, low.shape[2], low.shape[3]),
                CONV=shift.shape[3],
                BLOCK=MOST_PIXELS,
            )
        return edited, features


class _Edit:
    """The layers of an edit; the kernel that reads the last one's result adds its bias."""

    def __init__(self, edit: LatentEdit | TopEdit, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._first = _Convolution(edit.first, dtype)
        self._hidden = [_layer(layer, dtype) for layer in edit.hidden]
        self._last = _Convolution(edit.last, dtype)
        self.bias = self._last.bias

    def __call__(
        self, low: torch.Tensor, description: torch.Tensor, context: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last layer gives, (N, H, W, channels), and the features (N, width, H, W) behind it."""
        features = _with_margin(low, self._first.channels, self._dtype)
        seen = _edit_input(low, description, self._dtype)
        _activate(self._first, seen, features, leak=LEAK, context=context, limited=not self._hidden)
        for layer in self._hidden:
            result = torch.empty_like(features)
            _activate(layer, features, result, residual=features, limited=layer is self._hidden[-1])
            features = result
        return self._last(features), features[:, 1:-1, 1:-1, : self._first.channels].permute(0, 3, 1, 2)


class _Convolution:
    """An ordinary 3x3 convolution. The kernel that reads its result adds the bias, float32 (channels,).

    Its channels are filled up with zeros to multiples of 8, as tensor cores want them.
    """

    def __init__(self, conv: nn.Module, dtype: torch.dtype, turned: int = 0) -> None:
        """`turned`: how many of the inputs that are last in the model come first here."""
        assert isinstance(conv, nn.Conv2d)  # for the type checker: all but the hidden ones are, always
        weight = conv.weight.detach().roll(turned, 1)
        missing_out, missing_in = -weight.shape[0] % 8, -weight.shape[1] % 8
        filled = F.pad(weight, (0, 0, 0, 0, 0, missing_in, 0, missing_out)).to(dtype)
        self._weight = filled.contiguous(memory_format=torch.channels_last)
        self.bias, self.channels = _bias(conv), conv.out_channels

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """(N, H, W, channels, up to a multiple of 8) of features (N, H + 2, W + 2, C)."""
        return _channels_last(F.conv2d(features.permute(0, 3, 1, 2), self._weight))


class _Banded:
    """A banded deformable one, and the ordinary one that predicts its grid."""

    def __init__(self, layer: BandedDeformConv2d, dtype: torch.dtype) -> None:
        self._grid, self._geometry = _Convolution(layer.grid, dtype), layer.geometry
        self._bounds = layer.min_stretch, layer.max_stretch, layer.max_rescale, FAR
        weight = layer.conv.weight.detach()
        filled = F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % 8)).to(dtype)
        self._matrix = weight_matrix(filled).contiguous()
        self.bias, self.channels = _bias(layer.conv), layer.conv.out_channels

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """(N, H, W, channels) of features (N, H + 2, W + 2, C)."""
        conv = self._grid(features)
        n, height, width, channels = conv.shape
        grid = conv.new_empty(n, 4, height, width, dtype=torch.float32)
        with torch.cuda.device_of(conv):
            kernels.activate_grid[_programs(grid)](
                *(conv, self._grid.bias, grid, height, width, *self._bounds),
                CONV=channels,
                BLOCK=MOST_PIXELS,
            )
        return convolve(features, grid, self._matrix, None, self._geometry)


def _layer(layer: nn.Module, dtype: torch.dtype) -> _Convolution | _Banded:
    return _Banded(layer, dtype) if isinstance(layer, BandedDeformConv2d) else _Convolution(layer, dtype)


def _activate(
    layer: _Convolution | _Banded,
    features: torch.Tensor,
    out: torch.Tensor,
    *,
    leak: float = 0.0,
    context: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    limited: bool = False,
) -> None:
    """Convolve features and fill `out` with what follows; the rest is as `triton_kernels.activate` has it."""
    conv = layer(features)
    _, height, width, channels = conv.shape
    near = conv if context is None else context
    with torch.cuda.device_of(conv):
        kernels.activate[_programs(conv.permute(0, 3, 1, 2), margin=(out.shape[1] - height) // 2)](
            *(conv, layer.bias, near, conv if residual is None else residual, out),
            *(height, width, near.shape[1], near.shape[2]),
            CONV=channels,
            CHANNELS=layer.channels,
            OUT=out.shape[3],
            MARGIN=(out.shape[1] - height) // 2,
            LEAK=leak,
            CONTEXT=0 if context is None else height // context.shape[1],
            RESIDUAL=residual is not None,
            LIMITED=limited,
            **_blocks(out),
        )


def _edit_input(low: torch.Tensor, description: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What an edit's first convolution reads: the description, then differences of the averages."""
    below = _channels_last(description)
    seen = _with_margin(low, 3 + below.shape[3], dtype)
    with torch.cuda.device_of(low):
        kernels.edit_input[_programs(low, margin=1)](
            *(low, below, seen, low.shape[2], low.shape[3]),
            DESCRIPTION=below.shape[3],
            SEEN=seen.shape[3],
            **_blocks(seen),
        )
    return seen


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None  # for the type checker: all of them have one
    return conv.bias.detach().float().clone()


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) of (N, C, H, W); no copy where it lies in memory like that."""
    return x.permute(0, 2, 3, 1).contiguous()


def _with_margin(like: torch.Tensor, channels: int, dtype: torch.dtype) -> torch.Tensor:
    """Room for features of (N, C, H, W) with a margin of a pixel, channels up to a multiple of 8."""
    n, _, height, width = like.shape
    return like.new_empty(n, height + 2, width + 2, channels + -channels % 8, dtype=dtype)


def _programs(like: torch.Tensor, margin: int = 0) -> Callable[[dict[str, Any]], tuple[int, int]]:
    """Blocks of the pixels of (N, C, H, W) with a margin, by N pictures."""
    pixels = (like.shape[2] + 2 * margin) * (like.shape[3] + 2 * margin)
    return lambda constants: (triton.cdiv(pixels, constants["BLOCK"]), len(like))


def _blocks(features: torch.Tensor) -> dict[str, int]:
    channels = triton.next_power_of_2(features.shape[3])
    return {"BLOCK": max(min(MOST_PIXELS, MOST_VALUES // channels), 1), "BLOCK_CHANNELS": channels}
