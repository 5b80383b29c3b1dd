"""Shape arithmetic that the backends share: where a kernel's taps and its outputs lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import torch

from ...errors import FormatError

__all__ = ["Geometry", "pair"]


def pair(name: str, value: int | Sequence[int], low: int) -> tuple[int, int]:
    """`value` as (vertical, horizontal).

    Raises:
        FormatError: it isn't a whole number >= `low`, or two of them.
    """
    try:
        values = [index(v) for v in value] if isinstance(value, Sequence) else [index(value)] * 2
    except TypeError:
        values = []
    if len(values) != 2 or min(values) < low:
        raise FormatError(f"{name} must be a whole number or a pair of them, >= {low}, not {value!r}")
    return values[0], values[1]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The regular grid of one convolution, each pair as (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(Hout, Wout) of an input of `height` x `width`, as of `torch.nn.functional.conv2d`."""
        pairs = zip((height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True)
        h, w = ((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in pairs)
        return h, w

    @property
    def origin(self) -> tuple[float, float]:
        """Input coordinates of the kernel's centre at output (0, 0); half a pixel for even kernels."""
        y, x = (d * (k - 1) / 2 - p for k, p, d in zip(self.kernel, self.padding, self.dilation, strict=True))
        return y, x

    def taps(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Base points dy and dx of the K taps about the kernel's centre, each (K,), row by row."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        dy = (torch.arange(kh, dtype=like.dtype, device=like.device) - (kh - 1) / 2) * dh
        dx = (torch.arange(kw, dtype=like.dtype, device=like.device) - (kw - 1) / 2) * dw
        return dy.repeat_interleave(kw), dx.repeat(kh)
