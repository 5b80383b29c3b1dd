"""Opening a media file, and what its picture is, from the container and the first decoded frame."""

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.rational import AVRational
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import FormatError, InputError
from ..planes import FrameFormat
from .formats import PixelFormat, Tags

__all__ = ["STDIO", "VideoInfo", "describe", "find_video", "fraction", "open_input", "reason"]

STDIO = "-"
"""As a file name: y4m on standard input or output."""
Y4M_MAGIC = b"YUV4MPEG2 "
_Y4M_HEADER_MAX = 256
_HDR = {
    "MASTERING_DISPLAY_METADATA": "mastering display",
    "CONTENT_LIGHT_LEVEL": "content light level",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
}
"""FFmpeg's names of side data."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video stream's pictures are."""

    width: int
    height: int
    pix_fmt: str
    """FFmpeg's name of the decoder's format, packed or planar."""
    pixel: PixelFormat
    """The planar format with the same values."""
    format: FrameFormat
    """What the numbers in its planes mean."""
    tags: Tags
    time_base: Fraction
    """Seconds a tick of the timestamps."""
    rate: Fraction
    """Average frames a second; 25 where the file doesn't say."""
    interlaced: bool
    display_matrix: bytes | None
    """Rotation or flip a player applies: 9 little-endian 32-bit integers, as FFmpeg stores it."""
    hdr: tuple[str, ...] = ()
    """What the first frame says of high dynamic range beyond its tags, in words."""


class _PipeInput:
    """A pipe for FFmpeg to read, its first line read before: Ctrl-C works while it's awaited."""

    def __init__(self, file: int | str) -> None:
        # Unbuffered: a thread stuck in a buffered read would block the interpreter's exit.
        self._raw = open(file, "rb", buffering=0, closefd=file != 0)  # noqa: SIM115 - closed with the process
        self.start = _first_line(self._raw)
        self._held = self.start

    def read(self, size: int) -> bytes:
        held, self._held = self._held, b""
        return held or self._raw.read(size)


def _first_line(file: FileIO) -> bytes:
    """The header if `file` is y4m, and no more bytes of anything else than tell that it isn't."""
    line = b""
    while Y4M_MAGIC.startswith(line[: len(Y4M_MAGIC)]) and len(line) < _Y4M_HEADER_MAX:
        byte = file.read(1)
        if not byte or byte == b"\n":
            return line + (byte or b"")
        line += byte
    return line


def reason(error: FFmpegError) -> str:
    """FFmpeg's own words for `error`, without its call."""
    return (error.strerror or str(error)).lower()


def open_input(name: str, accelerator: HWAccel | None = None) -> tuple[InputContainer, bytes]:
    """Opens a media file, whose video `accelerator` decodes if it can, or y4m on standard input for `-`.

    Returns:
        The container, and its first bytes: the whole header where it's y4m.

    Raises:
        InputError: if it's missing, empty, a directory or not media; the message names it.
    """
    shown = "standard input" if name == STDIO else name
    try:
        if name == STDIO:
            if os.isatty(0):
                raise InputError("standard input is a terminal; pipe y4m into it")
            pipe = _PipeInput(0)
            if not pipe.start.startswith(Y4M_MAGIC):
                raise InputError(
                    "standard input isn't y4m; `vspipe -c y4m` and `ffmpeg -f yuv4mpegpipe` write it"
                )
            return av.open(pipe, "r", format="yuv4mpegpipe", buffer_size=1 << 20), pipe.start
        path = Path(name)
        if not path.exists():
            raise InputError(f"{name}: no such file")
        if path.is_dir():
            raise InputError(f"{name} is a directory, not a file")
        if path.is_fifo():
            pipe = _PipeInput(name)
            return av.open(pipe, "r", buffer_size=1 << 20, hwaccel=accelerator), pipe.start
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{name} is empty")
        with open(name, "rb", buffering=0) as file:
            start = _first_line(file)
        return av.open(f"file:{name}", "r", hwaccel=accelerator), start
    except FFmpegError as error:
        raise InputError(f"{shown} isn't media FFmpeg can read ({reason(error)})") from error
    except OSError as error:
        raise InputError(f"{shown} can't be read ({error.strerror})") from error


def find_video(container: InputContainer, name: str) -> VideoStream:
    """The first video stream that isn't cover art.

    Raises:
        InputError: if there's none, or FFmpeg has no decoder for it.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & covers]
    if not streams:
        found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(f"{name} has no video stream (found: {found})")
    if streams[0].codec_context is None:
        raise InputError(f"{name}: FFmpeg has no decoder for its video")
    return streams[0]


def fraction(value: AVRational) -> Fraction:
    """FFmpeg's rational as Python's."""
    return Fraction(value.numerator, value.denominator)


def _known(value: AVRational | None) -> Fraction | None:
    """The same; `None` for 0/1 and 0/0, by which FFmpeg means that it doesn't know."""
    return fraction(value) if value else None


def _rate(stream: VideoStream) -> Fraction:
    """Average frames a second, for progress and for encoders' rate control."""
    average = _known(stream.average_rate)
    if average is None or average > 300:  # a container's clock, not a frame rate
        average = _known(stream.guessed_rate) or average
    return average or Fraction(25)


def _chroma_location(stream: VideoStream, frame: av.VideoFrame, start: bytes) -> int:
    # FFmpeg takes a bare C420 for 420jpeg, though vspipe and others write it of any location.
    if start.startswith(Y4M_MAGIC) and not re.search(rb" C420(jpeg|mpeg2|paldv)\b", start):
        return 0
    return frame.chroma_location or stream.codec_context.chroma_sample_location


def stored_format(frame: av.VideoFrame) -> str:
    """FFmpeg's name of the format that a frame's values are stored in, be it in a GPU's memory."""
    return (frame.sw_format or frame.format).name


def describe(stream: VideoStream, frame: av.VideoFrame, name: str, start: bytes = b"") -> VideoInfo:
    """What the pictures of `stream` are, given its first frame and the first bytes of its file.

    The frame knows best; what it leaves unsaid comes from the stream.

    Raises:
        InputError: if its pixel format can't be worked on.
    """
    context = stream.codec_context
    pix_fmt = stored_format(frame)
    full = 2 if pix_fmt.startswith("yuvj") else 0
    tags = Tags(
        range=full or frame.color_range or context.color_range,
        matrix=frame.colorspace if frame.colorspace != 2 else context.colorspace,
        primaries=frame.color_primaries if frame.color_primaries != 2 else context.color_primaries,
        transfer=frame.color_trc if frame.color_trc != 2 else context.color_trc,
        chroma_location=_chroma_location(stream, frame, start),
        sample_aspect_ratio=_known(stream.sample_aspect_ratio),
    )
    try:
        pixel = PixelFormat.from_name(pix_fmt)
        frame_format = pixel.frame_format(tags.range)
    except FormatError as error:
        raise InputError(f"{name}: {error}") from error
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return VideoInfo(
        width=frame.width,
        height=frame.height,
        pix_fmt=pix_fmt,
        pixel=pixel,
        format=frame_format,
        tags=tags,
        time_base=fraction(stream.time_base),
        rate=_rate(stream),
        interlaced=frame.interlaced_frame,
        display_matrix=None if matrix is None else bytes(matrix),
        hdr=tuple(dict.fromkeys(what for kind, what in _HDR.items() if frame.side_data.get(kind))),
    )
