"""The network on a CPU: torch convolves, compiled loops do what lies between, strip by strip.

A level's stages go through a picture in strips of lines, divided among threads. In a strip, what a
convolution takes is put together, convolved and finished while it's in the core's cache, so every
tensor of a level is read and written once. Features are channels-last, in float32 or bfloat16;
everything between convolutions, and the picture itself, is float32.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..ops import BandedDeformConv2d
from ..ops.banded_deform_conv.cpu import sample_lines
from ..ops.banded_deform_conv.sampling import MARGIN, as_array
from ..parallel import in_parallel, on_workers, scratch, strips
from . import cpu_kernels as kernels
from .bdinn import BDINN
from .blocks import LatentEdit, LiftingStep
from .cpu_kernels import FRAME
from .pyramid import Coarse, Pyramid

__all__ = ["CpuPyramid"]

STRIP_BYTES = 2**20
"""What a convolution takes at once: it, and what is made of it, stay in a core's cache."""
FEWEST_LINES = 16
"""A strip's least height: its neighbours' lines above and below are put together again."""
FEWEST_STRIPS = 8
"""Of pictures high enough: so that as many threads have something to do."""


class CpuPyramid(Pyramid):
    """A BDINN for inference on a CPU; see `Pyramid` for what it does.

    Agrees with the model it was made from to 1e-3 of an 8-bit step in float32; in bfloat16 to 0.1, and
    0.005 in the mean.

    Args:
        model: Of one channel. Its weights are copied.
        dtype: Of the features: float32 or bfloat16.
    """

    backend = "numba"

    def __init__(self, model: BDINN, dtype: torch.dtype) -> None:
        self.config = model.config
        # Else a batch's second picture may lie across vectors, and torch round it differently.
        self.any_batch = all(width % 4 == 0 for width in model.config.widths)
        self.levels = [_Level(step, edit, dtype) for step, edit in zip(model.steps, model.edits, strict=True)]
        self._top = model.top

    def top(self, low: torch.Tensor, description: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Top`. A few thousand pixels, so in plain PyTorch; one by one, as all else is."""
        pictures = zip(low.split(1), description.split(1), strict=True)
        edited = in_parallel(lambda picture: self._top(*picture), pictures)
        return torch.cat([low for low, _ in edited]), torch.cat([features for _, features in edited])

    # A network has some thirty stages, the coarse ones of few pixels: handed over one by one, they would wait
    # longer than work.

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `Pyramid.forward`."""
        return on_workers(partial(super().forward, x))

    def encode_fine(self, x: torch.Tensor) -> torch.Tensor:
        """As `Pyramid.encode_fine`."""
        return on_workers(partial(super().encode_fine, x))

    def restore_coarse(self, encoded: torch.Tensor) -> Coarse:
        """As `Pyramid.restore_coarse`."""
        return on_workers(partial(super().restore_coarse, encoded))

    def restore_fine(self, x: torch.Tensor, coarse: Coarse) -> torch.Tensor:
        """As `Pyramid.restore_fine`."""
        return on_workers(partial(super().restore_fine, x, coarse))


class _Convolution(NamedTuple):
    """A convolution's weights as torch's channels-last one takes them best."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, conv: nn.Conv2d, dtype: torch.dtype) -> "_Convolution":
        weight = conv.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        return cls(weight, None if conv.bias is None else conv.bias.detach().to(dtype))

    def __call__(self, x: torch.Tensor, stride: int = 1) -> np.ndarray:
        """(H, W, C) to (Hout, Wout, Cout)."""
        out = F.conv2d(x.permute(2, 0, 1)[None], self.weight, self.bias, stride)
        return as_array(out[0].permute(1, 2, 0).contiguous())  # small ones may come in another order


class _Level:
    """A scale of the pyramid; the finer scale, or the picture, is twice as large."""

    def __init__(self, step: LiftingStep, edit: LatentEdit, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._predict = step.predict.weight.detach().numpy()
        self._describe = _Convolution.of(cast("nn.Conv2d", edit.describe), dtype)
        self._context = _Convolution.of(edit.context, dtype)
        self._first = _Convolution.of(cast("nn.Conv2d", edit.first), dtype)
        self._hidden = [
            _Banded(conv, dtype) if isinstance(conv, BandedDeformConv2d) else _Plain(conv, dtype)
            for conv in cast("list[nn.Conv2d | BandedDeformConv2d]", list(edit.hidden))
        ]
        self._last = _Convolution.of(edit.last, dtype)

    def describe(
        self, x: torch.Tensor, finer: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n, height, width = len(x), x.shape[2] // 2, x.shape[3] // 2
        low, high = x.new_empty(n, 1, height, width), x.new_empty(n, 3, height, width)
        channels = self._describe.weight.shape[0]
        description = torch.empty(n, height, width, channels, dtype=self._dtype)
        below = self._last_channels(x.new_empty(n, 0, *x.shape[2:]) if finer is None else finer)
        planes, lows, highs = x[:, 0].contiguous().numpy(), low[:, 0].numpy(), high.numpy()
        finers, out = as_array(below), as_array(description)
        seen = 6 + below.shape[3]

        def split(i: int, lines: slice) -> None:
            kernels.split(planes[i], self._predict, lines.start, lines.stop, lows[i], highs[i])

        def describe(i: int, lines: slice) -> None:
            taken = self._scratch(lines, width, seen)
            kernels.describe_input(lows[i], highs[i], finers[i], lines.start, lines.stop, as_array(taken))
            kernels.finish_description(self._describe(taken), out[i, lines])

        self._in_strips(split, n, height, 8 * width)
        self._in_strips(describe, n, height, width * seen)
        return low, high, description.permute(0, 3, 1, 2)

    def restore(
        self, low: torch.Tensor, high: torch.Tensor, description: torch.Tensor, coarser: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n, _, height, width = low.shape
        features = self._features(low, description, coarser)
        for layer in self._hidden:
            features = self._add(layer, features, layer is self._hidden[-1])
        x = low.new_empty(n, 1, 2 * height, 2 * width)
        lows, highs, planes = low[:, 0].numpy(), high.numpy(), x[:, 0].numpy()

        def merge(i: int, lines: slice) -> None:
            edits = self._last(_with_neighbours(features[i], lines))
            kernels.merge(edits, highs[i], lows[i], self._predict, lines.start, planes[i])

        self._in_strips(merge, n, height, width * features.shape[3])
        return x, features[:, FRAME:-FRAME, FRAME:-FRAME].permute(0, 3, 1, 2)

    def _features(self, low: torch.Tensor, description: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
        """The first layer's features, framed."""
        n, _, height, width = low.shape
        channels = description.shape[1]
        features = self._framed(n, height, width, channels)
        descriptions, lows = as_array(self._last_channels(description)), low[:, 0].contiguous().numpy()
        arrays, context = as_array(features), coarser.permute(0, 2, 3, 1)
        scale = height // context.shape[1]

        def first(i: int, lines: slice) -> None:
            taken = self._scratch(lines, width, channels + 3)
            kernels.edit_input(descriptions[i], lows[i], lines.start, lines.stop, as_array(taken))
            from_line, to_line = max(lines.start // scale - 1, 0), -(-lines.stop // scale) + 1
            near = self._context(context[i, from_line:to_line].to(self._dtype).contiguous())
            kernels.finish_first(
                self._first(taken), near, from_line, lines.start, not self._hidden, arrays[i]
            )

        self._in_strips(first, n, height, width * (channels + 3))
        return features

    def _add(self, layer: "_Plain | _Banded", features: torch.Tensor, limit: bool) -> torch.Tensor:
        """Features and what a hidden layer adds to them, framed."""
        n, height, width, channels = features.shape
        added = self._framed(n, height - 2 * FRAME, width - 2 * FRAME, channels)
        before, after = as_array(features), as_array(added)

        def hidden(i: int, lines: slice) -> None:
            convolved = layer(features[i], lines)
            kernels.finish_hidden(convolved, layer.skipped, before[i], lines.start, limit, after[i])

        self._in_strips(hidden, n, height - 2 * FRAME, width * channels * layer.work)
        return added

    def _in_strips(self, work: Callable[[int, slice], None], n: int, height: int, line: int) -> None:
        """`work` on strips of n pictures of `height` lines, which are `line` numbers each."""
        lines = min(STRIP_BYTES // (line * self._dtype.itemsize), -(-height // FEWEST_STRIPS))
        lines = max(lines, FEWEST_LINES)
        jobs = [(i, strip) for i in range(n) for strip in strips(height, lines)]
        in_parallel(lambda job: work(*job), jobs)

    def _scratch(self, lines: slice, width: int, channels: int) -> torch.Tensor:
        """Room for what a 3x3 convolution takes for some lines, (lines + 2, W + 2, channels)."""
        return scratch("taken", (lines.stop - lines.start + 2, width + 2, channels), self._dtype)

    def _framed(self, n: int, height: int, width: int, channels: int) -> torch.Tensor:
        """Room for features in a frame, whose outermost lines are zero."""
        features = torch.empty(n, height + 2 * FRAME, width + 2 * FRAME, channels, dtype=self._dtype)
        features[:, : FRAME - 1] = features[:, 1 - FRAME :] = 0
        return features

    def _last_channels(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) as contiguous (N, H, W, C) of the features' type."""
        return x.permute(0, 2, 3, 1).to(self._dtype).contiguous()


def _with_neighbours(features: torch.Tensor, lines: slice) -> torch.Tensor:
    """Some lines of framed features, with the line above and below: (lines + 2, W + 2 * FRAME, C)."""
    return features[lines.start + FRAME - 1 : lines.stop + FRAME + 1]


class _Plain:
    """An ordinary hidden layer. It convolves the frame's zeros too, and those columns are skipped."""

    skipped, work = MARGIN, 1

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        self._conv = _Convolution.of(conv, dtype)

    def __call__(self, features: torch.Tensor, lines: slice) -> np.ndarray:
        return self._conv(_with_neighbours(features, lines))


class _Banded:
    """A banded deformable hidden layer."""

    skipped, work = 0, 9

    def __init__(self, layer: BandedDeformConv2d, dtype: torch.dtype) -> None:
        self._grid, self._conv = _Convolution.of(layer.grid, dtype), _Convolution.of(layer.conv, dtype)
        self._geometry = layer.geometry
        self._bounds = np.array([layer.min_stretch, layer.max_stretch, layer.max_rescale], np.float32)

    def __call__(self, features: torch.Tensor, lines: slice) -> np.ndarray:
        count, width = lines.stop - lines.start, features.shape[1] - 2 * FRAME
        grid = scratch("grid", (4, count, width), torch.float32)
        predicted = self._grid(_with_neighbours(features, lines))
        kernels.finish_grid(predicted, *self._bounds, grid.numpy())
        samples = sample_lines(features, grid, self._geometry, lines.start)
        return self._conv(samples[0].permute(1, 2, 0), stride=3)
