"""Decoding on a GPU, where there is one that can, and frames that stay there."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import av
from av.codec.hwaccel import HWAccel, HWDevice
from av.error import FFmpegError

from ..planes import FrameFormat
from .formats import Repacker
from .opening import reason
from .probe import stored_format
from .side_data import read_side_data

if TYPE_CHECKING:  # importing torch takes seconds
    from ..transfer import DeviceFrame

__all__ = ["find_accelerator", "without_pixels", "wrap_planes"]

HANDED_OVER = {"nv12", "p010le", "p016le"}
"""Formats that PyAV hands over from a GPU: luma, and U and V by turns. Codes fill words from the top."""


def find_accelerator(name: str, device: str, warn: Callable[[str], None]) -> HWAccel | None:
    """What decodes a file on a GPU.

    A stream that the GPU's decoder doesn't know, FFmpeg decodes on the CPU.

    Args:
        name: As `VideoJob.hwaccel`.
        device: As `DebandOptions.device`. If the network runs on a GPU, frames stay there.
        warn: Is told, in a line, if there's no such GPU.

    Returns:
        For `av.open`; `None` where the CPU is to decode.
    """
    if name == "none":
        return None
    index = name.partition(":")[2] or "0"
    try:
        HWDevice("cuda", index)
    except FFmpegError as error:
        warn(f"hwaccel {name} finds no such GPU ({reason(error)}): the CPU decodes")
        return None
    return HWAccel("cuda", index, is_hw_owned=_stays(device))


def _stays(device: str) -> bool:
    import torch

    return device != "cpu" and torch.cuda.is_available()


def wrap_planes(video: av.VideoFrame, fmt: FrameFormat) -> "DeviceFrame | None":
    """The planes of a decoded frame, without a detour through the host's memory.

    They are copied, since a decoder has few frames and wants them back. FFmpeg decodes on the GPU's default
    stream, and that's where torch copies: after the decoder, before the frame is used again.

    Args:
        video: A frame as decoded, on a GPU or not.
        fmt: What its planes hold.

    Returns:
        `None` for a frame that PyAV can't hand over, by its format or, for its chroma, odd size.
    """
    if stored_format(video) not in HANDED_OVER or video.width % 2 or video.height % 2:
        return None
    import torch

    from ..transfer import DeviceFrame

    def codes(words: torch.Tensor) -> torch.Tensor:
        if fmt.bit_depth == 8:
            return words.clone()
        return ((words.view(torch.int16).int() & 0xFFFF) >> (16 - fmt.bit_depth)).to(torch.int16)

    # As capsules: given the planes, torch would name a stream to wait for, of which PyAV knows none.
    luma, chroma = (torch.from_dlpack(plane.__dlpack__()) for plane in video.planes)
    planes = (luma, chroma[..., 0], chroma[..., 1])
    return DeviceFrame(tuple(codes(plane) for plane in planes), fmt, video.interlaced_frame)


def without_pixels(video: av.VideoFrame, name: str) -> av.VideoFrame:
    """A frame in the host's memory with the properties of one on a GPU, whose pixels aren't needed there.

    Closed captions and the order of fields can't be moved without them: then all comes along.

    Args:
        video: A frame on a GPU.
        name: The format that it's to have.
    """
    if video.interlaced_frame or read_side_data(video).get("A53_CC") is not None:
        return Repacker()(video, name)
    carrier = av.VideoFrame(video.width, video.height, name)
    carrier.pts, carrier.duration, carrier.time_base = video.pts, video.duration, video.time_base
    return carrier
