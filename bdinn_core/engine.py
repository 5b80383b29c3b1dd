"""The engine: the one place that orders the stages, from a frame's codes to the result's codes."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import batched
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch.nn import functional as F

from .checkpoint import load_model
from .errors import FormatError, OptionError
from .grain import gaussian_grain
from .network import BDINN
from .options import DebandOptions, PerPlane
from .planes import Frame, FrameFormat
from .quantize import change_depth, quantize
from .tiling import TilePlan, plan_tiles

__all__ = ["Debander"]

AUTO_WHOLE_PIXELS = 2**22
"""Planes up to this size go through the network whole: 4:2:0 up to 2560x1440 in about 1 GiB."""
AUTO_TILE, AUTO_OVERLAP = 1536, 256
"""Larger planes are cut. The network looks far, up to where a wide band ends: tiles that share 256 px
agree with the whole plane to 0.02 of a step, those that share 128 px to 0.06."""


class Debander:
    """Debands frames. A frame's result depends on its pixels, its number and the options alone.

    Args:
        options: What to do; `None` is all defaults.

    Raises:
        OptionError: the device isn't there, or can't do what the options ask.
        ModelError: the model can't be loaded.
    """

    def __init__(self, options: DebandOptions | None = None) -> None:
        self.options = options or DebandOptions()
        self.device = _find_device(self.options.device)
        if self.options.fp16 and self.device.type == "cpu":
            raise OptionError("fp16 needs a GPU: leave it out, or choose a cuda device")
        self._half = self.device.type == "cuda" if self.options.fp16 is None else self.options.fp16
        self._model = _shared_model(self.options.model, self.device)
        if self._model.config.in_channels != 1:
            raise OptionError(
                f"model {self.options.model!r} takes {self._model.config.in_channels} channels; planes need 1"
            )

    @property
    def batch_size(self) -> int:
        """Tiles a network call."""
        return self.options.batch or (1 if self.device.type == "cpu" else 4)

    def output_format(self, source: FrameFormat) -> FrameFormat:
        """Format of the results for frames of format `source`."""
        depth = self.options.output_depth
        return source if depth == -1 else source.with_depth(depth)

    def __call__(self, frame: Frame, frame_number: int, mask: np.ndarray | None = None) -> Frame:
        """Deband one frame.

        Args:
            frame: The frame.
            frame_number: Its number in the clip, >= 0; grain depends on it.
            mask: As `DebandOptions.mask`, for this frame; `None` uses that one.

        Returns:
            A frame of `output_format(frame.format)`. Planes that nothing changes are the input's own
            arrays, not copies.

        Raises:
            FormatError: the mask isn't of the frame's size, or an option has another number of planes.
        """
        return self.process([frame], frame_number, [mask])[0]

    def process(
        self, frames: Sequence[Frame], first_number: int, masks: Sequence[np.ndarray | None] | None = None
    ) -> list[Frame]:
        """Deband consecutive frames, sharing network calls; equal to one `__call__` a frame."""
        restored = self.restore(frames, first_number, masks)
        return [self._quantize(frame, planes) for frame, planes in zip(frames, restored, strict=True)]

    def restore(
        self, frames: Sequence[Frame], first_number: int, masks: Sequence[np.ndarray | None] | None = None
    ) -> list[list[torch.Tensor | None]]:
        """All stages but the last: planes before change of depth and rounding.

        Returns:
            For every frame and plane the float32 result (H, W), in the frame's own values, or `None`
            where the options leave the plane untouched.
        """
        changes = self._network_changes(frames)
        weights = masks or [None] * len(frames)
        return [
            [
                self._restore_plane(frame, p, first_number + i, changes.get((i, p)), weights[i])
                for p in range(len(frame.planes))
            ]
            for i, frame in enumerate(frames)
        ]

    def _restore_plane(
        self, frame: Frame, plane: int, number: int, change: torch.Tensor | None, mask: np.ndarray | None
    ) -> torch.Tensor | None:
        """One plane: input + strength * mask * limited change + grain."""
        grain = self._per_plane("grain", self.options.grain, frame, plane) if self._chosen(plane) else 0.0
        if change is None and not grain:
            return None
        values = self._upload(frame.planes[plane])
        steps = frame.format.steps_per_value(plane)
        mask = self.options.mask if mask is None else mask
        if change is not None:
            limit = self.options.limit * self._step
            change = change.clamp(-limit, limit) * self._per_plane(
                "strength", self.options.strength, frame, plane
            )
            if mask is not None:
                change = change * self._mask_weights(mask, frame, plane)
            values = values + change / steps
        if grain:
            moving = number if self.options.dynamic_grain else 0
            height, width = values.shape
            noise = gaussian_grain(height, width, moving, plane, self.options.seed, self.device)
            values = values + noise * (grain / steps)
        return values

    def _quantize(self, frame: Frame, restored: Sequence[torch.Tensor | None]) -> Frame:
        """Change of depth, dither and rounding of a whole frame."""
        source, target = frame.format, self.output_format(frame.format)
        planes = []
        for i, (original, values) in enumerate(zip(frame.planes, restored, strict=True)):
            if values is None and source == target:
                planes.append(original)
                continue
            values = self._upload(original) if values is None else values
            values = change_depth(values, source, target, i)
            planes.append(quantize(values, target, self.options.dither, i, self.options.seed))
        return Frame(tuple(planes), target)

    def _network_changes(self, frames: Sequence[Frame]) -> dict[tuple[int, int], torch.Tensor]:
        """What the network would change, in 8-bit steps, by (frame, plane), where anything may change."""
        jobs: list[_PlaneJob] = []
        for i, frame in enumerate(frames):
            for p, plane in enumerate(frame.planes):
                strength = self._per_plane("strength", self.options.strength, frame, p)
                if self._chosen(p) and strength and self.options.limit:
                    values = torch.nan_to_num(self._upload(plane), posinf=0.0, neginf=0.0)
                    steps = values * (frame.format.steps_per_value(p) / self._step)
                    jobs.append(_PlaneJob((i, p), steps, self._tile_plan(*steps.shape)))
        tiles = iter(self._run_network(jobs))
        return {
            job.key: job.plan.blend([next(tiles) for _ in range(job.plan.count)], *job.steps.shape)
            * self._step
            for job in jobs
        }

    def _run_network(self, jobs: Sequence["_PlaneJob"]) -> list[torch.Tensor]:
        """Changes of all tiles of all jobs, in order.

        The network always sees `batch_size` tiles of one shape, a last batch filled by repetition: its
        convolutions round differently at other shapes, and a frame's result may not depend on its
        neighbours.
        """
        tiles = [tile for job in jobs for tile in job.plan.cut(job.steps)]
        results: list[torch.Tensor] = [torch.empty(0)] * len(tiles)
        for shape in dict.fromkeys(tile.shape for tile in tiles):
            same = [i for i, tile in enumerate(tiles) if tile.shape == shape]
            for indices in batched(same, self.batch_size):
                filled = [*indices, *indices[-1:] * (self.batch_size - len(indices))]
                x = torch.stack([tiles[i] for i in filled])
                with self._precision():
                    change = self._model(x).float() - x
                for i, one in zip(indices, change, strict=False):
                    results[i] = one[0]
        return results

    def _precision(self) -> torch.autocast | nullcontext[None]:
        """Half precision inside convolutions alone: the lifting needs float32 to stay lossless."""
        return torch.autocast(self.device.type, torch.float16) if self._half else nullcontext()

    def _tile_plan(self, height: int, width: int) -> TilePlan:
        size = self.options.tile_size
        if size is None:
            size = max(height, width) if height * width <= AUTO_WHOLE_PIXELS else AUTO_TILE
        overlap = self.options.overlap
        return plan_tiles(
            height, width, size, min(AUTO_OVERLAP, size // 128 * 64) if overlap is None else overlap
        )

    @property
    def _step(self) -> float:
        return 1.0 if self.options.step == "auto" else float(self.options.step)

    def _chosen(self, plane: int) -> bool:
        return self.options.planes is None or plane in self.options.planes

    def _upload(self, plane: np.ndarray) -> torch.Tensor:
        """float32 (H, W) of a plane's own values, on the device."""
        return torch.from_numpy(plane.astype(np.float32)).to(self.device)

    def _mask_weights(self, mask: np.ndarray, frame: Frame, plane: int) -> torch.Tensor:
        """The mask as float32 0..1 at the plane's size."""
        if mask.shape != (frame.height, frame.width):
            raise FormatError(
                f"the mask must be of the frame's size {frame.height, frame.width}, not {mask.shape}"
            )
        weights = self._upload(mask) / (np.iinfo(mask.dtype).max if mask.dtype.kind == "u" else 1)
        if frame.format.is_chroma(plane) and any(frame.format.subsampling):
            w, h = frame.format.subsampling
            weights = F.avg_pool2d(weights[None, None], (1 << h, 1 << w), ceil_mode=True)[0, 0]
        return weights

    @staticmethod
    def _per_plane(name: str, value: PerPlane | Sequence[float], frame: Frame, plane: int) -> float:
        if isinstance(value, (int, float)):
            return value
        if len(value) != len(frame.planes):
            raise FormatError(
                f"{name} {tuple(value)} has {len(value)} values; a {frame.format.family} frame has 1 plane"
            )
        return value[plane]


class _PlaneJob(NamedTuple):
    """A plane that goes through the network."""

    key: tuple[int, int]
    steps: torch.Tensor  # (H, W), in units of `step`
    plan: TilePlan


_models: WeakValueDictionary[tuple[str, torch.device], BDINN] = WeakValueDictionary()
_models_lock = Lock()


def _shared_model(name: str, device: torch.device) -> BDINN:
    """One model a name and device, shared by all Debanders and gone with the last of them."""
    with _models_lock:
        model = _models.get((name, device))
        if model is None:
            model = _models[name, device] = load_model(name, device).requires_grad_(False)
        return model


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise OptionError(f"device {name} isn't there: {count or 'no'} CUDA device(s) found; use auto or cpu")
    return device
