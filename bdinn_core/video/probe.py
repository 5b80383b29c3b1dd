"""What a media file's picture is, from the container and the first decoded frame."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import av
from av.container import InputContainer
from av.rational import AVRational
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from ..errors import FormatError, InputError, OptionError
from ..planes import FrameFormat
from .formats import PixelFormat, Tags
from .hdr import HDR, read_hdr
from .opening import Y4M_MAGIC, holds_stills
from .side_data import read_side_data

__all__ = [
    "VideoInfo",
    "describe",
    "find_videos",
    "fraction",
    "has_fields",
    "stated_tags",
    "stored_format",
]

_COVER_ART = Disposition.attached_pic | Disposition.timed_thumbnails
MOST_PIXELS = 2**27
"""16384 x 8192. A few bytes can claim any size, and decoders take memory for what they're told."""
_STORED_IN_PASSES = {"png", "apng", "gif"}
"""Codecs that call it interlaced if lines are stored in another order than shown."""


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
    """Whether the lines of the first picture belong by turns to two fields, of two moments."""
    display_matrix: bytes | None
    """Rotation or flip a player applies: 9 little-endian 32-bit integers, as FFmpeg stores it."""
    hdr: HDR = field(default_factory=HDR)
    """What the first frame says of high dynamic range beyond its tags."""


def find_videos(container: InputContainer, name: str, which: int | Literal["all"]) -> list[VideoStream]:
    """The video stream of that number, counted from 0 without cover art, or all of them.

    Raises:
        OptionError: if there are fewer.
        InputError: if there are none, FFmpeg has no decoder for one, or it claims to be too large.
    """
    streams = [s for s in container.streams.video if not s.disposition & _COVER_ART]
    if not streams:
        found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise InputError(f"{name} has no video stream (found: {found})")
    if which != "all":
        if which >= len(streams):
            raise OptionError(f"video_stream {which} isn't there: {name} has {len(streams)}, counted from 0")
        streams = [streams[which]]
    for stream in streams:
        _check_claims(stream, name)
    return streams


def _check_claims(stream: VideoStream, name: str) -> None:
    context = stream.codec_context
    if context is None:
        raise InputError(f"{name}: FFmpeg has no decoder for its video")
    if context.width * context.height > MOST_PIXELS:
        raise InputError(f"{name} claims to be {context.width}x{context.height}: that's no video")
    context.options = {"max_pixels": f"{MOST_PIXELS}"}  # for sizes that turn up later


def fraction(value: AVRational) -> Fraction:
    """FFmpeg's rational as Python's."""
    return Fraction(value.numerator, value.denominator)


def _known(value: AVRational | None) -> Fraction | None:
    """The same; `None` for 0/1 and 0/0, by which FFmpeg means that it doesn't know."""
    return fraction(value) if value else None


def _rate(stream: VideoStream) -> Fraction:
    """Average frames a second, for progress and for encoders' rate control."""
    rates = [rate for rate in (_known(stream.average_rate), _known(stream.guessed_rate)) if rate]
    # A container's clock is no frame rate, and a header can claim any.
    likely = [rate for rate in rates if rate <= 300] or [rate for rate in rates if rate <= 1000]
    return likely[0] if likely else Fraction(25)


def _chroma_location(stream: VideoStream, frame: av.VideoFrame, start: bytes) -> int:
    # FFmpeg takes a bare C420 for 420jpeg, though vspipe and others write it of any location.
    if start.startswith(Y4M_MAGIC) and not re.search(rb" C420(jpeg|mpeg2|paldv)\b", start):
        return 0
    return frame.chroma_location or stream.codec_context.chroma_sample_location


def stored_format(frame: av.VideoFrame) -> str:
    """FFmpeg's name of the format that a frame's values are stored in, be it in a GPU's memory."""
    return (frame.sw_format or frame.format).name


def stated_tags(item: av.VideoFrame | VideoCodecContext) -> dict[str, int]:
    """The tags of colour that a frame or a stream states, by their names in `Tags`."""
    pix_fmt = stored_format(item) if isinstance(item, av.VideoFrame) else ""
    found = {
        "range": 2 if pix_fmt.startswith("yuvj") else item.color_range,
        "matrix": item.colorspace,
        "primaries": item.color_primaries,
        "transfer": item.color_trc,
    }
    return {name: value for name, value in found.items() if value != getattr(Tags, name)}


def has_fields(stream: VideoStream, frame: av.VideoFrame) -> bool:
    """Whether the lines of a frame belong by turns to two fields, of two moments."""
    return frame.interlaced_frame and stream.codec_context.name not in _STORED_IN_PASSES


def _unsaid_range(stream: VideoStream, frame: av.VideoFrame) -> int:
    """The range of a picture that doesn't say it, as FFmpeg numbers it: full in RGB, and in grey stills."""
    assert isinstance(stream.container, InputContainer)
    stored = frame.sw_format or frame.format
    grey = len([part for part in stored.components if not part.is_alpha]) == 1
    full = stored.is_rgb or stored.has_palette or (grey and holds_stills(stream.container))
    return 2 if full else 0  # said, since MP4 always says one


def describe(stream: VideoStream, frame: av.VideoFrame, name: str, start: bytes = b"") -> VideoInfo:
    """What the pictures of `stream` are, given its first frame and the first bytes of its file.

    The frame knows best; what it leaves unsaid comes from the stream.

    Raises:
        InputError: if its pixel format can't be worked on.
    """
    context = stream.codec_context
    pix_fmt = stored_format(frame)
    tags = Tags(
        **{"range": _unsaid_range(stream, frame), **stated_tags(context), **stated_tags(frame)},
        chroma_location=_chroma_location(stream, frame, start),
        sample_aspect_ratio=_known(stream.sample_aspect_ratio),
    )
    try:
        pixel = PixelFormat.from_name(pix_fmt)
        frame_format = pixel.frame_format(tags.range)
    except FormatError as error:
        raise InputError(f"{name}: {error}") from error
    matrix = read_side_data(frame).get("DISPLAYMATRIX")
    return VideoInfo(
        width=frame.width,
        height=frame.height,
        pix_fmt=pix_fmt,
        pixel=pixel,
        format=frame_format,
        tags=tags,
        time_base=fraction(stream.time_base),
        rate=_rate(stream),
        interlaced=has_fields(stream, frame),
        display_matrix=None if matrix is None else bytes(matrix),
        hdr=read_hdr(frame),
    )
