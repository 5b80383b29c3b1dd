"""Planes between numpy and a device. Only codes cross the bus, in their own width, while the CPU goes on."""

from dataclasses import dataclass

import numpy as np
import torch

from .planes import Frame, FrameFormat

__all__ = ["AnyFrame", "DeviceFrame", "Plane", "download", "fetch", "finish_downloads", "upload"]

WORDS = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.uint16): torch.int16,
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
}
"""What values travel as. int16 carries the bits of uint16, with which torch hardly computes."""


@dataclass(frozen=True, eq=False)
class DeviceFrame:
    """A `Frame` that a decoder left on a device: the engine takes it as it is."""

    planes: tuple[torch.Tensor, ...]
    """One (height, width) tensor a plane, of the type that `WORDS` has for `format.dtype`; nobody writes
    to them any more."""
    format: FrameFormat
    interlaced: bool = False
    """As `Frame.interlaced`."""

    @property
    def width(self) -> int:
        """Width of the first plane in pixels."""
        return self.planes[0].shape[1]

    @property
    def height(self) -> int:
        """Height of the first plane in pixels."""
        return self.planes[0].shape[0]


AnyFrame = Frame | DeviceFrame
Plane = np.ndarray | torch.Tensor
"""A plane of either."""


def upload(plane: Plane, device: torch.device) -> torch.Tensor:
    """float32 (H, W) of a plane's own values, on the device."""
    if isinstance(plane, torch.Tensor):
        return _as_float(plane.to(device))
    if device.type == "cpu" or plane.dtype not in WORDS:
        return torch.from_numpy(plane.astype(np.float32)).to(device)
    # Pinned memory, which the GPU reads by itself; torch keeps it until that's done, and uses it again.
    words = torch.empty(plane.shape, dtype=WORDS[plane.dtype], pin_memory=True)
    words.numpy().view(plane.dtype)[...] = plane
    return _as_float(words.to(device, non_blocking=True))


def _as_float(words: torch.Tensor) -> torch.Tensor:
    """float32 of what `words` carry."""
    return words.int().bitwise_and(0xFFFF).float() if words.dtype == torch.int16 else words.float()


def fetch(plane: Plane, dtype: np.dtype) -> np.ndarray:
    """A plane, or part of one, as an array of its own type; from a GPU, awaited."""
    return plane.cpu().numpy().view(dtype) if isinstance(plane, torch.Tensor) else plane


def download(values: torch.Tensor, dtype: np.dtype) -> np.ndarray:
    """float32 values (H, W) that `dtype` can hold, in an array of that type.

    From a GPU the array is being filled when this returns: call `finish_downloads` before reading it.
    """
    if values.device.type == "cpu":
        return values.numpy().astype(dtype, copy=False)
    # By way of int32, of which int16 keeps the lower bits.
    words = (values.int() if dtype.kind == "u" else values).to(WORDS[dtype])
    held = torch.empty(words.shape, dtype=words.dtype, pin_memory=True)
    held.copy_(words, non_blocking=True)
    return held.numpy().view(dtype)


def finish_downloads(device: torch.device) -> None:
    """Wait until arrays downloaded on the current stream are filled."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
