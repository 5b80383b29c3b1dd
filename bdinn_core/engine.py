"""The engine: the one place that orders the stages, from a frame's codes to the result's codes."""

from collections.abc import Callable, Sequence
from threading import Lock
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch.nn import functional as F

from .checkpoint import load_model
from .errors import FormatError, OptionError
from .grain import gaussian_grain
from .network import Coarse, Pyramid, fastest, has_half_precision
from .options import TILE_GRID, DebandOptions, PerPlane, check_mask
from .parallel import start_workers
from .planes import Frame, FrameFormat
from .quantize import change_depth, quantize
from .tiling import TilePlan, plan_tiles
from .transfer import finish_downloads, upload
from .views import see

__all__ = ["Debander"]

AUTO_WHOLE_PIXELS = 2**22
"""Planes up to this size go through the network whole: 4:2:0 up to 2560x1440 in about 1 GiB."""
AUTO_TILE, AUTO_OVERLAP = 1536, 384

LARGEST = 2.0**16
"""Steps beyond which the network isn't shown how far a value is out: in float32, one such pixel would
take its neighbours' precision away."""


class Debander:
    """Debands frames. A frame's result depends on its pixels, its number and the options alone.

    Args:
        options: What to do; `None` is all defaults.

    Raises:
        OptionError: the device isn't there, or can't do what the options ask.
        ModelError: the model can't be loaded.
    """

    def __init__(self, options: DebandOptions | None = None) -> None:
        if not (options is None or isinstance(options, DebandOptions)):
            raise OptionError(f"options must be a DebandOptions, not {type(options).__name__}")
        self.options = options or DebandOptions()
        self.device = _find_device(self.options.device)
        able = has_half_precision(self.device)
        if self.options.fp16 and not able:
            raise OptionError("fp16 True needs a GPU or a CPU that computes bfloat16: leave it out")
        if self.device.type == "cpu":
            start_workers()
        self._half = able if self.options.fp16 is None else self.options.fp16
        self._network = _shared_network(str(self.options.model), self.device, self._half)
        config = self._network.config
        if 2**config.levels > TILE_GRID:
            raise OptionError(f"model {self.options.model!r} has more than 6 levels: tiles wouldn't fit it")
        if config.in_channels != 1:
            raise OptionError(
                f"model {self.options.model!r} takes {config.in_channels} channels; planes need 1"
            )

    @property
    def batch_size(self) -> int:
        """Planes or tiles a network call."""
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
        results = [self._quantize(frame, planes) for frame, planes in zip(frames, restored, strict=True)]
        finish_downloads(self.device)
        return results

    def restore(
        self, frames: Sequence[Frame], first_number: int, masks: Sequence[np.ndarray | None] | None = None
    ) -> list[list[torch.Tensor | None]]:
        """All stages but the last: planes before change of depth and rounding.

        Returns:
            For every frame and plane the float32 result (H, W), in the frame's own values, or `None`
            where the options leave the plane untouched.
        """
        weights = [None] * len(frames) if masks is None else masks
        if len(weights) != len(frames):
            raise FormatError(f"there must be a mask for each of {len(frames)} frames, not {len(weights)}")
        changes = self._network_changes(frames)
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
            change = change * self._per_plane("strength", self.options.strength, frame, plane)
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
        wanted = [[p for p in range(len(f.planes)) if self._may_change(f, p)] for f in frames]
        views = [see(f, w, self.options.step, self.device) for f, w in zip(frames, wanted, strict=True)]
        signals = {(i, s): signal for i, view in enumerate(views) for s, signal in view.signals.items()}
        fields: dict[tuple[int, int, int], torch.Tensor] = {}  # (1, 1, H, W), in units of their step
        for (i, s), signal in signals.items():
            values = (signal.values / signal.step).clamp(-LARGEST, LARGEST)
            for f, lines in enumerate(_fields(values, frames[i])):
                fields[i, s, f] = lines[None, None]
        changes = {key: torch.empty_like(signal.values) for key, signal in signals.items()}
        shapes = dict.fromkeys(field.shape for field in fields.values())
        with self._precision():
            for shape in shapes:
                same = {key: field for key, field in fields.items() if field.shape == shape}
                restored = self._restore_planes(torch.cat(list(same.values())))
                for (i, s, f), result in zip(same, restored, strict=True):
                    change = _fields(changes[i, s], frames[i])[f]
                    torch.sub(result[0, 0], same[i, s, f][0, 0], out=change)
        for key, change in changes.items():
            most = min(self.options.limit, signals[key].limit)
            change.clamp_(-most, most).mul_(signals[key].step)
        for i, view in enumerate(views):
            if view.to_rgb is not None:
                mixed = torch.tensordot(view.to_rgb, torch.stack([changes[i, s] for s in range(3)]), 1)
                changes |= {(i, p): mixed[p] for p in range(3)}
        return {(i, p): changes[i, p] for i, planes in enumerate(wanted) for p in planes}

    def _may_change(self, frame: Frame, plane: int) -> bool:
        """Whether the options let the network change a plane."""
        strength = self._per_plane("strength", self.options.strength, frame, plane)
        return bool(self._chosen(plane) and strength and self.options.limit)

    def _restore_planes(self, planes: torch.Tensor) -> list[torch.Tensor]:
        """What the network makes of planes (P, 1, H, W), each (1, 1, H, W)."""
        height, width = planes.shape[2:]
        plan = self._tile_plan(height, width)
        if plan.count == 1:
            return list(self._in_batches(self._network.forward, planes).split(1))
        return [self._restore_tiled(plane[None], plan)[..., :height, :width] for plane in planes]

    def _restore_tiled(self, plane: torch.Tensor, plan: TilePlan) -> torch.Tensor:
        """Restore a large plane (1, 1, H, W): fine scales tile by tile, coarse scales at once.

        A band can be wider than a tile. The scales that follow it see the whole plane, so that tiles
        agree with each other and with the plane restored whole.
        """
        reduction = 2**self._network.fine_scales
        tiles = plan.cut(plane)
        encoded = self._in_batches(self._network.encode_fine, tiles)
        reduced = plan.reduced(reduction)
        coarse = self._network.restore_coarse(reduced.blend(encoded))
        low = reduced.cut(coarse.low)
        features = plan.reduced(2 * reduction).cut(coarse.features)
        return plan.blend(self._in_batches(self._restore_fine, tiles, low, features))

    def _restore_fine(self, tiles: torch.Tensor, low: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self._network.restore_fine(tiles, Coarse(low, features))

    def _in_batches(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Results of `network` on `inputs`, whose first dimension counts planes or tiles.

        The network always sees `batch_size` of one shape, a last batch filled by repetition: its
        convolutions round differently at other shapes, and a frame's result may not depend on its
        neighbours.
        """
        results = []
        for batch in zip(*(x.split(self.batch_size) for x in inputs), strict=True):
            count = len(batch[0])
            fill = [0] * (self.batch_size - count)
            filled = [torch.cat([x, x[fill]]) if fill else x for x in batch]
            results.append(network(*filled)[:count].float())
        return torch.cat(results)

    def _precision(self) -> torch.autocast:
        """Half precision inside convolutions alone: the lifting needs float32 to stay lossless."""
        cuda = self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.float16, enabled=self._half and cuda)

    def _tile_plan(self, height: int, width: int) -> TilePlan:
        overlap = AUTO_OVERLAP if self.options.overlap is None else self.options.overlap
        size = self.options.tile_size
        if size is None and height * width > AUTO_WHOLE_PIXELS:
            size = max(AUTO_TILE, 2 * overlap)
        return plan_tiles(height, width, size or max(height, width) + TILE_GRID, overlap)

    def _chosen(self, plane: int) -> bool:
        return self.options.planes is None or plane in self.options.planes

    def _upload(self, plane: np.ndarray) -> torch.Tensor:
        return upload(plane, self.device)

    def _mask_weights(self, mask: np.ndarray, frame: Frame, plane: int) -> torch.Tensor:
        """The mask as float32 0..1 at the plane's size."""
        check_mask(mask)
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


def _fields(plane: torch.Tensor, frame: Frame) -> list[torch.Tensor]:
    """Views of the plane's fields, each to be restored by itself; of the plane if it's progressive.

    The lines of an interlaced plane show two moments by turns. Where anything moves, an edge of a band
    is a comb in the frame, but a plain edge in each field.
    """
    return [plane[0::2], plane[1::2]] if frame.interlaced and len(plane) > 1 else [plane]


_networks: WeakValueDictionary[tuple[str, torch.device, bool], Pyramid] = WeakValueDictionary()
_networks_lock = Lock()


def _shared_network(name: str, device: torch.device, half: bool) -> Pyramid:
    """One network a name, device and precision, shared by all Debanders and gone with the last of them."""
    key = name, device, half
    with _networks_lock:
        network = _networks.get(key)
        if network is None:
            model = load_model(name, device).float().requires_grad_(False)
            network = _networks[key] = fastest(model, device, half)
        return network


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise OptionError(f"device {name} isn't there: {count or 'no'} CUDA device(s) found; use auto or cpu")
    return device
