"""Encoders of pictures: how they're opened and told what the source says, frame by frame too."""

from collections.abc import Callable

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from ..errors import OptionError, OutputError
from .codecs import Encoding, keeps_profile
from .ffmpeg_log import listen, rejections
from .formats import Repacker, Tags, write_planes
from .opening import reason
from .probe import VideoInfo
from .side_data import has_profile, without_hdr
from .track import Picture

__all__ = ["FrameMaker", "encode", "open_encoder", "set_tags"]


def set_tags(context: VideoCodecContext, tags: Tags) -> None:
    """Tells an encoder how its pictures are to be shown."""
    context.color_range = tags.range
    context.colorspace = tags.matrix
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer
    context.chroma_sample_location = tags.chroma_location
    if tags.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = tags.sample_aspect_ratio


def open_encoder(context: VideoCodecContext, encoding: Encoding) -> None:
    """Opens an encoder.

    Raises:
        OptionError: if it rejects its options, which some do in no more than a line of their log.
    """
    with listen() as lines:
        try:
            context.open()
            failed = None
        except FFmpegError as error:
            failed = error
    if failed is not None:
        refused = rejections(lines) or lines or [reason(failed)]
    else:
        refused = rejections(lines) or [f"no option {key}" for key in context.options]
    if refused:
        given = " ".join(f"{key}={value}" for key, value in encoding.options.items())
        why = "; ".join(refused)
        raise OptionError(f"{encoding.codec} refuses {given or 'this picture'}: {why}") from failed


def encode(context: VideoCodecContext, frame: av.VideoFrame | None) -> list[Packet]:
    """What the encoder gives for a frame, or for `None` at the end.

    Raises:
        OutputError: if it fails.
    """
    try:
        return context.encode(frame)
    except FFmpegError as error:
        raise OutputError(f"{context.name} failed ({reason(error)})") from error


class FrameMaker:
    """Makes FFmpeg's frames of pictures, with the side data of those they were decoded from.

    Args:
        info: the source's picture.
        encoding: how it's encoded.
        warn: is told if the encoder loses the first picture's ICC profile.
    """

    def __init__(self, info: VideoInfo, encoding: Encoding, warn: Callable[[str], None]) -> None:
        self._info = info
        self._encoding = encoding
        self._warn = warn
        self._repack = Repacker()

    def __call__(self, picture: Picture) -> av.VideoFrame:
        """The picture for the encoder, which decides what kind of frame it becomes."""
        encoding, tags, carrier = self._encoding, self._info.tags, picture.carrier
        if picture.number == 0 and not keeps_profile(encoding.codec) and has_profile(carrier):
            self._warn(f"the ICC profile is lost: {encoding.codec} doesn't hold it; png does")
        video = self._repack(without_hdr(carrier) if encoding.drops_hdr else carrier, encoding.pixel.name)
        video.make_writable()
        write_planes(video, picture.frame, picture.alpha)
        video = self._repack(video, encoding.pix_fmt)
        video.pts, video.time_base, video.duration = picture.pts, self._info.time_base, picture.duration
        video.pict_type = 0
        video.color_range, video.colorspace = tags.range, tags.matrix
        video.color_primaries, video.color_trc = tags.primaries, tags.transfer
        return video
