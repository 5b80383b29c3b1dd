"""VapourSynth's frames as the engine's, and back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import vapoursynth as vs

from bdinn_core import BdinnError, FormatError, Frame, FrameFormat, OptionError
from bdinn_core.errors import unexpected
from bdinn_core.planes import ColorFamily

__all__ = ["failures_of", "format_of", "mask_weights", "masks_for", "read", "video_format", "write"]

_FAMILIES: dict[vs.ColorFamily, ColorFamily] = {vs.GRAY: "gray", vs.YUV: "yuv", vs.RGB: "rgb"}


@contextmanager
def failures_of(number: int) -> Iterator[None]:
    """Says of failures which frame they are about."""
    try:
        yield
    except Exception as error:
        what = str(error) if isinstance(error, BdinnError) else unexpected(error)
        raise vs.Error(f"Deband: frame {number}: {what}") from None


def format_of(clip: vs.VideoNode) -> FrameFormat:
    """Format of a clip's frames, of the range that they have where they don't say.

    Raises:
        FormatError: it changes midway, or the engine can't work on it.
    """
    if not isinstance(clip, vs.VideoNode):
        raise FormatError(f"clip must be a VideoNode, not {clip!r}")
    fmt = clip.format
    if fmt.color_family == vs.UNDEFINED or not (clip.width and clip.height):
        what = "format" if fmt.color_family == vs.UNDEFINED else "size"
        raise FormatError(f"clip changes its {what} midway: deband its parts one by one")
    is_float = fmt.sample_type == vs.FLOAT
    if not is_float and fmt.bits_per_sample > 16:
        raise FormatError(f"clip is {fmt.name}: integers must have 8..16 bits; convert it with resize first")
    return FrameFormat(
        family=_FAMILIES[fmt.color_family],
        bit_depth=fmt.bits_per_sample,
        is_float=is_float,
        subsampling=(fmt.subsampling_w, fmt.subsampling_h),
    )


def video_format(fmt: FrameFormat) -> vs.VideoFormat:
    """VapourSynth's name for a format."""
    families = {name: family for family, name in _FAMILIES.items()}
    sample_type = vs.FLOAT if fmt.is_float else vs.INTEGER
    return vs.core.query_video_format(families[fmt.family], sample_type, fmt.bit_depth, *fmt.subsampling)


def read(frame: vs.VideoFrame, fmt: FrameFormat) -> Frame:
    """A frame as planes, not copied, of the range and with the fields that its properties tell.

    Args:
        frame: The frame.
        fmt: Its clip's format, whose range holds where `_Range` is absent.

    Raises:
        FormatError: `_Range` or `_FieldBased` has a value that means nothing.
    """
    full = _property(frame, "_Range", {0: "limited", 1: "full"})
    fields = _property(frame, "_FieldBased", {0: "none", 1: "bottom field first", 2: "top field first"})
    if full is not None:
        fmt = replace(fmt, range="full" if full else "limited")
    planes = tuple(np.asarray(frame[p]) for p in range(fmt.num_planes))
    return Frame(planes, fmt, interlaced=bool(fields))


def _property(frame: vs.VideoFrame, name: str, meanings: dict[int, str]) -> int | None:
    """A frame property that is one of a few numbers; `None` where it's absent."""
    value = frame.props.get(name)
    if value is None or (isinstance(value, int) and value in meanings):
        return value
    known = " or ".join(f"{number} ({meaning})" for number, meaning in meanings.items())
    raise FormatError(f"{name} must be {known}, not {value!r}; set it right with std.SetFrameProps")


def mask_weights(frame: vs.VideoFrame) -> np.ndarray:
    """A grey frame as weights 0..1, (height, width) float32: integers over their full range."""
    plane = np.asarray(frame[0]).astype(np.float32)
    if frame.format.sample_type == vs.INTEGER:
        plane /= 2**frame.format.bits_per_sample - 1
    return np.nan_to_num(plane).clip(0, 1)


def masks_for(clip: vs.VideoNode, mask: vs.VideoNode) -> vs.VideoNode:
    """`mask` with a frame for each frame of `clip`.

    Raises:
        OptionError: it isn't grey, or of another size or length.
    """
    if not isinstance(mask, vs.VideoNode):
        raise OptionError(f"mask must be a Gray clip, not {mask!r}")
    if mask.format.color_family != vs.GRAY:
        variable = mask.format.color_family == vs.UNDEFINED
        what = "one that changes its format" if variable else mask.format.name
        raise OptionError(f"mask must be a Gray clip, not {what}")
    if (mask.width, mask.height) != (clip.width, clip.height):
        size = f"{clip.width}x{clip.height}"
        raise OptionError(f"mask must be of the clip's size {size}, not {mask.width}x{mask.height}")
    if mask.num_frames not in (1, clip.num_frames):
        raise OptionError(f"mask must have 1 frame or the clip's {clip.num_frames}, not {mask.num_frames}")
    return mask if mask.num_frames == clip.num_frames else mask * clip.num_frames


def write(frames: Sequence[Frame]) -> vs.VideoFrame:
    """Frames of one size and format, one below the other, as a new frame without properties."""
    first = frames[0]
    result = vs.core.create_video_frame(video_format(first.format), first.width, first.height * len(frames))
    for p in range(len(first.planes)):
        np.concatenate([frame.planes[p] for frame in frames], out=np.asarray(result[p]))
    return result
