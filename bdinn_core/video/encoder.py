"""Encoding one video stream of the result, and saying of it what its source said."""

from collections.abc import Callable

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ..errors import OutputError
from .codecs import Encoding, keeps_aspect, keeps_captions, keeps_location, order_few
from .formats import Tags
from .frames import FrameMaker, encode, open_encoder, set_tags
from .probe import VideoInfo
from .side_data import read_side_data
from .track import Picture

__all__ = ["Encoder"]

_ASPECT_CONTAINERS = {"mp4", "mov", "ipod", "3gp"}
_LOCATION_CONTAINERS = {"matroska", "webm"}
_FULL = 2
"""Full range, as FFmpeg numbers it."""
_LEFT = 1
"""The chroma location that players take for granted."""


class Encoder:
    """A video stream of the result, in whose container it's made.

    Args:
        container: the result's, not yet begun.
        info: what the pictures are.
        encoding: how to encode them.
        warn: is told, in a line each, what of the source isn't in the result.

    Raises:
        ValueError: if the container can't hold the codec.
        OutputError: if they would show the picture wrongly.
    """

    def __init__(
        self,
        container: OutputContainer,
        info: VideoInfo,
        encoding: Encoding,
        warn: Callable[[str], None],
    ) -> None:
        self._info = info
        self._encoding = encoding
        self._warn = warn
        self._make_frame = FrameMaker(info, encoding, warn)
        self._durations: dict[int, int] = {}
        self._encoded = 0
        self._interlaced = info.interlaced
        self._keeps_captions = keeps_captions(encoding.codec)
        stream = container.add_stream(
            encoding.codec,
            rate=info.rate,
            options=dict(encoding.options),
            width=info.width,
            height=info.height,
            pix_fmt=encoding.pix_fmt,
            time_base=info.time_base,
        )
        assert isinstance(stream, VideoStream)
        self.stream = stream
        context = stream.codec_context
        set_tags(context, info.tags)
        if _partly_known(info.tags) and container.format.name in ("mp4", "mov"):
            container.options["movflags"] = "write_colr"  # else they're written all or not at all
        if container.format.name in ("mp4", "mov") and context.codec.canonical_name == "hevc":
            context.codec_tag = "hvc1"  # Apple's players want it; FFmpeg's default is hev1
        if info.display_matrix is not None:
            stream.set_display_matrix(memoryview(info.display_matrix).cast("i").tolist())
        self._refuse_lost_range()
        self._warn_of_lost_tags(container.format.name)

    def open(self) -> None:
        """Opens the encoder; nothing is changed about the stream any more.

        Raises:
            OptionError: if it rejects its options.
        """
        open_encoder(self.stream.codec_context, self._encoding)

    def encode(self, picture: Picture) -> list[Packet]:
        """Encodes a picture; the packets that are ready by then.

        Raises:
            OutputError: if the encoder fails.
        """
        time = float(picture.pts * self._info.time_base)
        self._durations[picture.pts] = picture.duration
        self._encoded += 1
        if picture.carrier.interlaced_frame and not self._interlaced:
            self._interlaced = True
            self._warn(f"at {time:.3f} s the picture becomes interlaced, which the result doesn't say")
        if not self._keeps_captions and read_side_data(picture.carrier).get("A53_CC") is not None:
            self._keeps_captions = True  # or as good as: it's said once
            self._warn(f"closed captions are lost: {self._encoding.codec} doesn't hold them; libx264 does")
        return self._encode(self._make_frame(picture))

    def finish(self) -> list[Packet]:
        """The packets that the encoder still holds.

        Raises:
            OutputError: if it fails.
        """
        packets = self._encode(None)
        order_few(packets, self._encoded)
        return packets

    def _refuse_lost_range(self) -> None:
        """Full range that reads back as limited would be shown with the wrong contrast."""
        if self._info.tags.range == _FULL and self._encoding.codec == "prores_ks":
            raise OutputError(
                "prores_ks can't say that the picture has full range; choose another --codec, or ffv1 in .mkv"
            )

    def _warn_of_lost_tags(self, container: str) -> None:
        tags, codec = self._info.tags, self._encoding.codec
        aspect, location = tags.sample_aspect_ratio, tags.chroma_location
        if aspect not in (None, 1) and not (container in _ASPECT_CONTAINERS or keeps_aspect(codec)):
            self._warn(f"sample aspect ratio {aspect} is lost: {codec} has no place for it here")
        sited = location not in (0, _LEFT) and self._info.pixel.subsampling != (0, 0)
        if self._info.display_matrix is not None and container == "avif":
            self._warn("rotation is lost: avif has no place for it here")
        if sited and not (container in _LOCATION_CONTAINERS or keeps_location(codec, location)):
            self._warn(f"chroma location {location} is lost: {codec} has no place for it here")

    def _encode(self, video: av.VideoFrame | None) -> list[Packet]:
        packets = encode(self.stream.codec_context, video)
        for packet in packets:
            packet.stream = self.stream
            # Some encoders don't pass durations on, and the last one counts.
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
        return packets


def _partly_known(tags: Tags) -> bool:
    """Whether some colour tags are unknown, but not all."""
    known = [tag != 2 for tag in (tags.matrix, tags.primaries, tags.transfer)]
    return not all(known) and (any(known) or tags.range == _FULL)
