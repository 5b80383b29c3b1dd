"""One numpy image in, one out."""

from typing import Any

import numpy as np

from .engine import Debander
from .errors import FormatError, OptionError
from .options import DebandOptions
from .planes import Frame, FrameFormat

__all__ = ["deband"]


def deband(
    array: np.ndarray,
    *,
    model: str = "fast",
    bit_depth: int | None = None,
    output_dtype: type[np.float32] | None = None,
    **options: Any,
) -> np.ndarray:
    """Deband one image.

    Args:
        array: (H, W) grey or (H, W, 3) RGB. uint8 and uint16 hold codes of `bit_depth`, full range;
            float32 holds 0..1.
        model: As `DebandOptions.model`.
        bit_depth: 8 for uint8, 9..16 for uint16; `None` is the type's width.
        output_dtype: `None` gives the input's type, or the type that `output_depth` asks for (uint8,
            uint16, or float32 0..1). `np.float32` gives the result before rounding, in the input's own
            code scale.
        **options: Fields of `DebandOptions`.

    Returns:
        An image of the input's shape.

    Raises:
        FormatError: for another shape or type, or codes that don't fit `bit_depth`.
        OptionError: for an option unknown or out of range.
    """
    source = _format_of(array, bit_depth)
    if output_dtype not in (None, np.float32, np.dtype(np.float32), "float32"):
        raise OptionError(f"output_dtype must be None or numpy.float32, not {output_dtype!r}")
    if output_dtype is not None and options.get("output_depth", -1) != -1:
        raise OptionError(f"output_depth ({options['output_depth']!r}) and output_dtype exclude each other")
    try:
        debander = Debander(DebandOptions(model=model, **options))
    except TypeError as error:
        raise OptionError(f"deband takes no such option: {error}") from error
    frame = Frame((array,) if array.ndim == 2 else tuple(array[..., i] for i in range(3)), source)
    if output_dtype is None:
        planes = list(debander(frame, 0).planes)
    else:
        restored = debander.restore([frame], 0)[0]
        planes = [
            plane.astype(np.float32) if values is None else values.cpu().numpy()
            for plane, values in zip(frame.planes, restored, strict=True)
        ]
    return planes[0].copy() if array.ndim == 2 else np.stack(planes, -1)


def _format_of(array: np.ndarray, bit_depth: int | None) -> FrameFormat:
    if not isinstance(array, np.ndarray) or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    ):
        got = getattr(array, "shape", type(array).__name__)
        raise FormatError(f"an image must be a numpy array (H, W) or (H, W, 3), not {got}")
    if 0 in array.shape:
        raise FormatError(f"an image must have at least one pixel, not shape {array.shape}")
    family = "gray" if array.ndim == 2 else "rgb"
    if array.dtype == np.float32:
        if bit_depth is not None:
            raise OptionError(f"bit_depth is for integer images, not float32: leave out {bit_depth!r}")
        return FrameFormat(family=family, bit_depth=32, is_float=True, range="full")
    depths = {np.dtype(np.uint8): range(8, 9), np.dtype(np.uint16): range(9, 17)}.get(array.dtype)
    if depths is None:
        raise FormatError(f"an image must be uint8, uint16 or float32, not {array.dtype}")
    depth = depths[-1] if bit_depth is None else bit_depth
    if depth not in depths:
        raise OptionError(f"bit_depth of {array.dtype} must be {depths[0]}..{depths[-1]}, not {bit_depth!r}")
    source = FrameFormat(family=family, bit_depth=depth, range="full")
    if array.max() > source.peak:
        raise FormatError(f"codes up to {array.max()} don't fit into {depth} bits: give the right bit_depth")
    return source
