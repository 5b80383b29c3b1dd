"""`deband` for VapourSynth's clips: arguments to options, and the engine on batches of frames."""

import os
from collections.abc import Sequence
from typing import Any

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import torch
import vapoursynth as vs

from bdinn_core import BdinnError, Debander, DebandOptions, FrameFormat, OptionError
from bdinn_core.options import check_integer

from .batches import filter_in_batches
from .frames import failures_of, format_of, mask_weights, masks_for, read, video_format, write
from .props import add_measures

__all__ = ["deband"]

AUTO_STREAMS, MAX_STREAMS = 2, 32
"""Two, so that one converts frames while the other's network runs."""


def deband(
    clip: vs.VideoNode,
    strength: float | Sequence[float] = 1.0,
    step: float | str | bytes = "auto",
    limit: float = 2.0,
    planes: int | Sequence[int] | None = None,
    mask: vs.VideoNode | None = None,
    grain: float | Sequence[float] = 0.0,
    dynamic_grain: bool = True,
    seed: int = 0,
    output_depth: int = -1,
    dither: str | bytes = "blue_noise",
    model: str | bytes | os.PathLike[str] = "fast",
    device_id: int | None = None,
    fp16: bool | None = None,
    tile_size: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    num_streams: int | None = None,
    props: bool = False,
) -> vs.VideoNode:
    """Remove banding from a clip: `core.bdinn.Deband`, with types.

    Frames marked interlaced (`_FieldBased` 1 or 2) are debanded field by field. Integers and floats
    are of the range that `_Range` tells; where it's absent RGB is full, YUV and Gray limited.

    Args:
        clip: Gray, YUV of any subsampling, or RGB; integers of 8..16 bits, half or single floats.
        strength: Scales the change, 0..2; one value or one per plane. 0 hands the input on bit for bit.
        step: Height of the bands looked for, in 8-bit steps, 1/256..16, or "auto".
        limit: Largest change at `strength` 1, >= 0, in units of `step`; half a step at most where "auto"
            found coarse levels.
        planes: Indices of the planes to work on; the others pass untouched. `None` is all.
        mask: Gray clip of the clip's size that scales `strength` per pixel, from 0 to the format's
            full width (floats 0..1) as in `std.MaskedMerge`; one frame for all, or one for each.
        grain: Standard deviation, in 8-bit steps, of grain added afterwards, 0..64; one value or one
            per plane.
        dynamic_grain: New grain every frame.
        seed: Selects the grain and shifts the dither, 0..2**31 - 1.
        output_depth: Bits of the result: -1 as the input, 8..16, or 32 for single floats.
        dither: `blue_noise`, `error_diffusion` or `none`.
        model: `fast`, `quality`, or the path of a .safetensors file.
        device_id: Index of the CUDA device, or -1 for the CPU; `None` is a GPU if there is one.
        fp16: Half precision in the network: float16 on a GPU, bfloat16 on a CPU that computes in it;
            `None` is automatic: wherever it's faster.
        tile_size: Largest side of the tiles that large planes are cut into, a multiple of 64, >= 768.
        overlap: Pixels that neighbouring tiles share, a multiple of 64, at most half of `tile_size`.
        batch: Frames a network call, 1..256; `None` is automatic: 1 on a CPU, 4 on a GPU. One frame
            asked for costs a batch.
        num_streams: Batches in work at the same time, 1..32; `None` is 2.
        props: Adds two frame properties, each a list of floats, one per plane. `BdinnBanding`: the share
            of the source's pixels that are beside an edge of a band, 0..1; the bands looked for are those
            of `step`. `BdinnChange`: the mean absolute difference between result and source in 8-bit
            steps, which has grain and rounding in it.

    Returns:
        A clip of the same size, length, rate and frame properties, at `output_depth`.

    Raises:
        vs.Error: the text begins with "Deband: " and names the argument and the value.
    """
    try:
        source = format_of(clip)
        options = DebandOptions(
            strength=strength,
            step=_step(step),
            limit=limit,
            planes=[planes] if isinstance(planes, int) else planes,
            grain=grain,
            dynamic_grain=_flag("dynamic_grain", dynamic_grain),
            seed=seed,
            output_depth=output_depth,
            dither=_text(dither),
            model=_text(model),
            device=_device(device_id),
            fp16=None if fp16 is None else _flag("fp16", fp16),
            tile_size=tile_size,
            overlap=overlap,
            batch=batch,
        )
        options.check_source(source.num_planes)
        masks = [] if mask is None else [masks_for(clip, mask)]
        streams = _num_streams(num_streams)
        measured = _flag("props", props)
        debander = Debander(options, _warn)
        result = filter_in_batches(
            [clip, *masks],
            video_format(debander.output_format(source)),
            [_Stream(debander, source, clip.num_frames) for _ in range(streams)],
            debander.batch_size,
        )
        return add_measures(result, clip, options.step) if measured else result
    except (BdinnError, vs.Error) as error:
        raise vs.Error(f"Deband: {error}") from error


class _Stream:
    """Debands batches one after the other.

    Holds no clip and no core: VapourSynth keeps it as long as the clip it makes, and neither would
    ever be freed.
    """

    def __init__(self, debander: Debander, source: FrameFormat, num_frames: int) -> None:
        self._debander = debander
        self._source = source
        self._num_frames = num_frames
        cuda = debander.device.type == "cuda"
        self._queue = torch.cuda.Stream(debander.device) if cuda else None

    def __call__(self, first: int, frames: Sequence[vs.VideoFrame]) -> vs.VideoFrame:
        """Debands a batch: its frames, then their masks if there are any."""
        batch = self._debander.batch_size
        count = min(batch, self._num_frames - first)
        sources = []
        for number, frame in enumerate(frames[:count], first):
            with failures_of(number):
                sources.append(read(frame, self._source))
        with failures_of(first), torch.cuda.stream(self._queue):
            masks = [mask_weights(frame) for frame in frames[batch : batch + count]] or None
            results = self._debander.process(sources, first, masks)
            return write([*results, *results[-1:] * (batch - count)])


def _warn(line: str) -> None:
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, f"Deband: {line}")


def _text(value: str | bytes | os.PathLike[str]) -> Any:
    """Text, which another program may hand over as bytes; `DebandOptions` checks what it says."""
    return os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else value


def _step(value: float | str | bytes) -> Any:
    """A number, where it's one."""
    if isinstance(value, (int, float)):
        return value
    try:
        return float(_text(value))
    except ValueError:
        return _text(value)


def _flag(name: str, value: int) -> bool:
    """VapourSynth's truth values are whole numbers."""
    if value not in (0, 1):
        raise OptionError(f"{name} must be 0 or 1, not {value!r}")
    return bool(value)


def _device(device_id: int | None) -> str:
    if device_id is None:
        return "auto"
    what = "-1 (CPU) or the index of a CUDA device"
    if check_integer("device_id", device_id, -1, 2**31 - 1, what) == -1:
        return "cpu"
    count = torch.cuda.device_count()
    if device_id >= count:
        found = f"0..{count - 1} are there" if count else "there's no such device"
        raise OptionError(f"device_id must be {what}, not {device_id}: {found}")
    return f"cuda:{device_id}"


def _num_streams(value: int | None) -> int:
    if value is None:
        return AUTO_STREAMS
    return check_integer("num_streams", value, 1, MAX_STREAMS, f"a whole number 1..{MAX_STREAMS}")
