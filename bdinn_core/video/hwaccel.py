"""Decoding on a GPU, where there is one that can."""

from collections.abc import Callable

from av.codec.hwaccel import HWAccel, HWDevice
from av.error import FFmpegError

from .probe import reason

__all__ = ["find_accelerator"]


def find_accelerator(name: str, warn: Callable[[str], None]) -> HWAccel | None:
    """What decodes a file on a GPU.

    PyAV takes the frames from there to the host's memory; a stream that the GPU's decoder doesn't know,
    FFmpeg decodes on the CPU.

    Args:
        name: As `VideoJob.hwaccel`.
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
    return HWAccel("cuda", index)
