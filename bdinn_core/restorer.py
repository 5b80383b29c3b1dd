"""The network on planes of any size: whole or in tiles, in smaller ones where memory doesn't suffice."""

from collections.abc import Callable, Iterable, Iterator
from itertools import batched
from threading import Lock

import torch

from .errors import DeviceMemoryError
from .network import Coarse, Pyramid
from .options import TILE_GRID, DebandOptions
from .tiling import TilePlan, plan_tiles

__all__ = ["Restorer"]

AUTO_WHOLE_PIXELS = 2**22
"""Planes up to this size go through the network whole: 4:2:0 up to 2560x1440 in about 1 GiB."""
AUTO_TILE, AUTO_OVERLAP = 1536, 384
SMALLEST_TILE = 768


class Restorer:
    """Restores planes, in batches of one shape.

    Args:
        network: The network, on the device.
        device: Where it runs.
        half: Whether its convolutions run in half precision.
        options: `tile_size`, `overlap` and `batch`.
        warn: Is told, in a line, when tiles have to become smaller.
    """

    def __init__(
        self,
        network: Pyramid,
        device: torch.device,
        half: bool,
        options: DebandOptions,
        warn: Callable[[str], None],
    ) -> None:
        self._network = network
        self._device = device
        self._half = half
        overlap = AUTO_OVERLAP if options.overlap is None else options.overlap
        self._tiles = options.tile_size, overlap  # together: threads that share this may change them
        self._warn = warn
        self._lock = Lock()
        self.batch_size = options.batch or (1 if device.type == "cpu" else 4)
        """Frames that are best handed over at once: planes or tiles a network call."""
        self.most_planes = max(self.batch_size, 2) if network.any_batch else self.batch_size
        """Planes that are best handed over at once: a frame's two of chroma, where that changes nothing."""

    def __call__(self, planes: list[torch.Tensor]) -> list[torch.Tensor]:
        """What the network makes of planes (1, 1, H, W) of one shape, in units of their step.

        Raises:
            DeviceMemoryError: the device's memory doesn't suffice for the smallest tiles.
        """
        height, width = planes[0].shape[2:]
        plan = self._plan(height, width)
        while True:
            try:
                with self._precision():
                    if plan.count == 1:
                        return list(self._in_batches(self._network.forward, self.most_planes, planes))
                    return [self._restore_tiled(plane, plan)[..., :height, :width] for plane in planes]
            except torch.OutOfMemoryError:
                pass  # and leave the handler: what filled the memory hangs on the exception
            self._use_smaller_tiles(plan)
            plan = self._plan(height, width)

    def _restore_tiled(self, plane: torch.Tensor, plan: TilePlan) -> torch.Tensor:
        """Restore a large plane (1, 1, H, W): fine scales tile by tile, coarse scales at once.

        A band can be wider than a tile. The scales that follow it see the whole plane, so that tiles
        agree with each other and with the plane restored whole.
        """
        reduction = 2**self._network.fine_scales
        reduced = plan.reduced(reduction)
        size = self.batch_size
        encoded = reduced.blend(self._in_batches(self._network.encode_fine, size, plan.cut(plane)))
        coarse = self._network.restore_coarse(encoded)
        low = reduced.cut(coarse.low)
        features = plan.reduced(2 * reduction).cut(coarse.features)
        return plan.blend(self._in_batches(self._restore_fine, size, plan.cut(plane), low, features))

    def _restore_fine(self, tiles: torch.Tensor, low: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self._network.restore_fine(tiles, Coarse(low, features))

    def _in_batches(
        self, network: Callable[..., torch.Tensor], size: int, *inputs: Iterable[torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """Results of `network` on `inputs`, planes or tiles (1, C, H, W), one by one.

        The network sees `size` of one shape, a last batch filled by repetition: its convolutions
        round differently at other shapes, and a frame's result may not depend on its neighbours.
        """
        for batch in batched(zip(*inputs, strict=True), size):
            missing = 0 if self._network.any_batch else size - len(batch)
            filled = [*batch, *batch[:1] * missing]
            results = network(*(torch.cat(parts) for parts in zip(*filled, strict=True)))
            yield from results[: len(batch)].float().split(1)

    def _precision(self) -> torch.autocast:
        """Half precision inside convolutions alone: the lifting needs float32 to stay lossless."""
        plain = self._half and self._device.type == "cuda"  # a CPU's version has bfloat16 built in
        return torch.autocast(self._device.type, torch.float16, enabled=plain)

    def _plan(self, height: int, width: int) -> TilePlan:
        size, overlap = self._tiles
        if size is None and height * width > AUTO_WHOLE_PIXELS:
            size = max(AUTO_TILE, 2 * overlap)
        return plan_tiles(height, width, size or max(height, width) + TILE_GRID, overlap)

    def _use_smaller_tiles(self, plan: TilePlan) -> None:
        """Halves the tiles of a plan, from now on; unless another thread did so meanwhile."""
        largest = max(plan.height, plan.width)
        if largest <= SMALLEST_TILE:
            raise DeviceMemoryError(
                f"the memory of {self._device} doesn't suffice for {self.batch_size} planes of "
                f"{plan.width}x{plan.height} at once: give a smaller batch, or another device"
            )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # in pieces of the old size
        size = max(SMALLEST_TILE, largest // 2 // TILE_GRID * TILE_GRID)
        with self._lock:
            before, overlap = self._tiles
            if before is not None and before <= size:
                return
            self._tiles = size, min(overlap, size // 2 // TILE_GRID * TILE_GRID)
        self._warn(f"out of memory: from here on, planes are cut into tiles of {size} px")
