"""The engine: the one place that orders the stages, from a frame's codes to the result's codes."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import batched
from threading import Lock
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch.nn import functional as F

from .checkpoint import load_model
from .errors import FormatError, OptionError
from .grain import gaussian_grain
from .network import Pyramid, fastest, has_half_precision
from .options import TILE_GRID, DebandOptions, PerPlane, check_mask
from .parallel import start_workers
from .planes import Frame, FrameFormat
from .quantize import change_depth, quantize
from .restorer import Restorer
from .reuse import Changes, Part, Reuse, parts_of
from .transfer import AnyFrame, Plane, fetch, finish_downloads, upload
from .views import see

__all__ = ["Debander"]

LARGEST = 2.0**16
"""Steps beyond which the network isn't shown how far a value is out: in float32, one such pixel would
take its neighbours' precision away."""


def _warn(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=2)


class Debander:
    """Debands frames. A frame's result depends on its pixels, its number and the options alone.

    Planes that equal those of the last frames bit for bit reuse what the network made of them.

    Args:
        options: What to do; `None` is all defaults.
        warn: Is told, in a line, when tiles become smaller because a GPU is out of memory.

    Raises:
        OptionError: the device isn't there, or can't do what the options ask.
        ModelError: the model can't be loaded.
    """

    def __init__(self, options: DebandOptions | None = None, warn: Callable[[str], None] = _warn) -> None:
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
        self._restorer = Restorer(self._network, self.device, self._half, self.options, warn)
        self._reuse = Reuse()

    @property
    def batch_size(self) -> int:
        """Planes or tiles a network call."""
        return self._restorer.batch_size

    @property
    def backend(self) -> str:
        """What computes the network, and how precisely its convolutions, such as "numba, bfloat16"."""
        half = "bfloat16" if self.device.type == "cpu" else "float16"
        return f"{self._network.backend}, {half if self._half else 'float32'}"

    def strength_of(self, frame: AnyFrame, plane: int) -> float:
        """The strength at which a plane of a frame is debanded; 0 where it isn't chosen.

        Raises:
            FormatError: `strength` has a value for each of another number of planes.
        """
        strength = self._per_plane("strength", self.options.strength, frame, plane)
        return strength if self._chosen(plane) else 0.0

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
        self, frames: Sequence[AnyFrame], first_number: int, masks: Sequence[np.ndarray | None] | None = None
    ) -> list[Frame]:
        """Deband consecutive frames, sharing network calls; equal to one `__call__` a frame.

        Frames may be `DeviceFrame`s too, which needn't be uploaded.
        """
        restored = self._restored(frames, first_number, masks)
        results = [self._quantize(frame, planes) for frame, planes in zip(frames, restored, strict=True)]
        finish_downloads(self.device)
        return results

    def restore(
        self, frames: Sequence[AnyFrame], first_number: int, masks: Sequence[np.ndarray | None] | None = None
    ) -> list[list[torch.Tensor | None]]:
        """All stages but the last: planes before change of depth and rounding.

        Returns:
            For every frame and plane the float32 result (H, W), in the frame's own values, or `None`
            where the options leave the plane untouched.
        """
        return [list(planes) for planes in self._restored(frames, first_number, masks)]

    def _restored(
        self, frames: Sequence[AnyFrame], first_number: int, masks: Sequence[np.ndarray | None] | None
    ) -> list[Iterator[torch.Tensor | None]]:
        """What `restore` returns, each plane made when it's asked for: large ones take much memory."""
        weights = [None] * len(frames) if masks is None else masks
        if len(weights) != len(frames):
            raise FormatError(f"there must be a mask for each of {len(frames)} frames, not {len(weights)}")
        changes = self._network_changes(frames)
        return [
            self._restore_frame(frame, first_number + i, changes[i], weights[i])
            for i, frame in enumerate(frames)
        ]

    def _restore_frame(
        self, frame: AnyFrame, number: int, changes: dict[int, torch.Tensor], mask: np.ndarray | None
    ) -> Iterator[torch.Tensor | None]:
        for p in range(len(frame.planes)):
            yield self._restore_plane(frame, p, number, changes.get(p), mask)

    def _restore_plane(
        self, frame: AnyFrame, plane: int, number: int, change: torch.Tensor | None, mask: np.ndarray | None
    ) -> torch.Tensor | None:
        """One plane: input + strength * mask * limited change + grain."""
        grain = self._per_plane("grain", self.options.grain, frame, plane) if self._chosen(plane) else 0.0
        if change is None and not grain:
            return None
        values = self._upload(frame.planes[plane])
        steps = frame.format.steps_per_value(plane)
        mask = self.options.mask if mask is None else mask
        if change is not None:
            change = change * self.strength_of(frame, plane)
            if mask is not None:
                change = change * self._mask_weights(mask, frame, plane)
            values = values + change / steps
        if grain:
            moving = number if self.options.dynamic_grain else 0
            height, width = values.shape
            noise = gaussian_grain(height, width, moving, plane, self.options.seed, self.device)
            values = values + noise * (grain / steps)
        return values

    def _quantize(self, frame: AnyFrame, restored: Iterable[torch.Tensor | None]) -> Frame:
        """Change of depth, dither and rounding of a whole frame."""
        source, target = frame.format, self.output_format(frame.format)
        planes = []
        for i, (original, values) in enumerate(zip(frame.planes, restored, strict=True)):
            if values is None and source == target:
                planes.append(fetch(original, source.dtype))
                continue
            values = self._upload(original) if values is None else values
            values = change_depth(values, source, target, i)
            planes.append(quantize(values, target, self.options.dither, i, self.options.seed))
        return Frame(tuple(planes), target, frame.interlaced)

    def _network_changes(self, frames: Sequence[AnyFrame]) -> list[dict[int, torch.Tensor]]:
        """What the network would change, in 8-bit steps: for every frame, by plane, where it may."""
        wanted = [[p for p in range(len(f.planes)) if self._may_change(f, p)] for f in frames]
        parts = [parts_of(f, w) for f, w in zip(frames, wanted, strict=True)]
        changes = iter(self._reuse.changes([part for p in parts for part in p], self._compute_changes))
        return [
            {p: change for part in of_frame for p, change in zip(part.wanted, next(changes), strict=True)}
            for of_frame in parts
        ]

    def _compute_changes(self, parts: Sequence[Part]) -> list[Changes]:
        """What the network would change in parts, those of one size together."""
        shapes = dict.fromkeys(part.planes[0].shape for part in parts)
        alike = [[i for i, part in enumerate(parts) if part.planes[0].shape == shape] for shape in shapes]
        changes: dict[int, Changes] = {}
        for group in alike:
            for some in batched(group, self._restorer.most_planes):
                results = self._compute_together([parts[i] for i in some])
                changes |= zip(some, results, strict=True)
        return [changes[i] for i in range(len(parts))]

    def _compute_together(self, parts: Sequence[Part]) -> list[Changes]:
        """What the network would change in parts of one size, as few as share a network call."""
        views = [see(part.frame, part.wanted, self.options.step, self.device) for part in parts]
        signals = {(i, s): signal for i, view in enumerate(views) for s, signal in view.signals.items()}
        fields: dict[tuple[int, int, int], torch.Tensor] = {}  # (1, 1, H, W), in units of their step
        for (i, s), signal in signals.items():
            values = signal.values.div_(signal.step).clamp_(-LARGEST, LARGEST)
            for f, lines in enumerate(_fields(values, parts[i].frame)):
                fields[i, s, f] = lines[None, None]
        changes = {key: torch.empty_like(signal.values) for key, signal in signals.items()}
        for shape in dict.fromkeys(field.shape for field in fields.values()):
            same = {key: field for key, field in fields.items() if field.shape == shape}
            for (i, s, f), result in zip(same, self._restorer([*same.values()]), strict=True):
                change = _fields(changes[i, s], parts[i].frame)[f]
                torch.sub(result[0, 0], same[i, s, f][0, 0], out=change)
        for key, change in changes.items():
            most = min(self.options.limit, signals[key].limit)
            change.clamp_(-most, most).mul_(signals[key].step)
        for i, view in enumerate(views):
            if view.to_rgb is not None:
                mixed = torch.tensordot(view.to_rgb, torch.stack([changes[i, s] for s in range(3)]), 1)
                changes |= {(i, p): mixed[p] for p in range(3)}
        return [tuple(changes[i, p] for p in part.wanted) for i, part in enumerate(parts)]

    def _may_change(self, frame: AnyFrame, plane: int) -> bool:
        """Whether the options let the network change a plane."""
        return bool(self.strength_of(frame, plane) and self.options.limit)

    def _chosen(self, plane: int) -> bool:
        return self.options.planes is None or plane in self.options.planes

    def _upload(self, plane: Plane) -> torch.Tensor:
        return upload(plane, self.device)

    def _mask_weights(self, mask: np.ndarray, frame: AnyFrame, plane: int) -> torch.Tensor:
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
    def _per_plane(name: str, value: PerPlane | Sequence[float], frame: AnyFrame, plane: int) -> float:
        if isinstance(value, (int, float)):
            return value
        if len(value) != len(frame.planes):
            raise FormatError(
                f"{name} {tuple(value)} has {len(value)} values; a {frame.format.family} frame has 1 plane"
            )
        return value[plane]


def _fields(plane: torch.Tensor, frame: AnyFrame) -> list[torch.Tensor]:
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
