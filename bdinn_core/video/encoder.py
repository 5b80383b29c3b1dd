"""Encoding one video stream of the result, and saying of it what its source said."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ..errors import OutputError
from .codecs import Encoding, keeps_aspect, keeps_captions, keeps_colours, keeps_location, order_few
from .containers import COLOURS, Container, find_container
from .formats import Tags
from .frames import FrameMaker, encode, open_encoder, set_tags
from .probe import VideoInfo
from .side_data import read_side_data
from .track import Picture

__all__ = ["Encoder"]

_FULL = 2
"""Full range, as FFmpeg numbers it."""
_LEFT = 1
"""The chroma location that players take for granted."""
_TOLERATED_FRAMES = Fraction(1, 2)
"""How far a picture may be moved in a container that has a constant rate: times may be rounded."""


class Encoder:
    """A video stream of the result, in whose container it's made.

    Args:
        container: where the stream is written, not yet begun.
        info: what the pictures are.
        encoding: how to encode them.
        warn: is told, in a line each, what of the source isn't in the result.
        holds: what the result's container holds; `None`: it's this one.

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
        holds: Container | None = None,
    ) -> None:
        here = find_container(container.format.name)
        self._holds = holds or here
        self._source_tick = info.time_base
        self._info = info = info if self._holds.times else replace(info, time_base=1 / info.rate)
        self._encoding = encoding
        self._warn = warn
        self._make_frame = FrameMaker(info, encoding, warn)
        self._durations: dict[int, int] = {}
        self._encoded = 0
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
        if _partly_known(info.tags):
            container.options.update(here.lone_tags)
        tag = here.codec_tags.get(context.codec.canonical_name)
        if tag is not None:
            context.codec_tag = tag
        if info.display_matrix is not None:
            stream.set_display_matrix(memoryview(info.display_matrix).cast("i").tolist())
        self._refuse_lost_range()
        self._warn_of_lost_tags()

    def open(self) -> None:
        """Opens the encoder; nothing is changed about the stream any more.

        Raises:
            OptionError: if it rejects its options.
        """
        open_encoder(self.stream.codec_context, self._encoding)

    def encode(self, picture: Picture) -> list[Packet]:
        """Encodes a picture; the packets that are ready by then.

        Raises:
            OutputError: if the encoder fails, the picture can't be shown then, or it says of its fields what
                the first didn't.
        """
        if picture.content.interlaced and not self._info.interlaced:
            raise OutputError(
                f"at {float(picture.time):.3f} s the picture becomes interlaced; cut the file there "
                "(--end, --start) and do the parts one by one, or deinterlace it first, with "
                "`ffmpeg -vf bwdif` or in VapourSynth"
            )
        if not self._holds.times:
            picture = self._at_constant_rate(picture)
        self._durations[picture.pts] = picture.duration
        self._encoded += 1
        if not self._keeps_captions and read_side_data(picture.carrier).get("A53_CC") is not None:
            self._keeps_captions = True  # or as good as: it's said once
            self._warn(f"closed captions are lost: {self._encoding.codec} doesn't hold them; libx264 does")
        return self._encode(self._make_frame(picture))

    @property
    def has_global_header(self) -> bool:
        """Whether what decoders have to know beforehand is in the container's header."""
        return bool(self.stream.codec_context.flags & Flags.global_header)

    @property
    def header(self) -> bytes:
        """What decoders have to know beforehand, once it's open; empty where the packets say it."""
        return bytes(self.stream.codec_context.extradata or b"")

    def finish(self) -> list[Packet]:
        """The packets that the encoder still holds; none if it was given nothing.

        Raises:
            OutputError: if it fails.
        """
        packets = self._encode(None) if self._encoded else []
        order_few(packets, self._encoded)
        return packets

    def _at_constant_rate(self, picture: Picture) -> Picture:
        """The picture, when a container that only counts pictures will show it."""
        name, shown = self._holds.name, picture.pts * self._source_tick
        if abs(shown * self._info.rate - picture.number) <= _TOLERATED_FRAMES:
            return replace(picture, pts=picture.number, duration=1)
        if picture.number == 0:
            raise OutputError(
                f"the first picture is shown at {float(shown):.3f} s, but in {name} at 0; "
                "give --start 0, or choose .mkv, which holds times"
            )
        rate = float(self._info.rate)
        raise OutputError(
            f"at {float(picture.time):.3f} s a picture isn't where {rate:.5g} a second have it, "
            f"and {name} holds no times; choose .mkv, which does, or cut the file there (--end, --start)"
        )

    def _refuse_lost_range(self) -> None:
        """Full range that reads back as limited would be shown with the wrong contrast."""
        codec, container = self._encoding.codec, self._holds
        # What prores_ks makes says that the range is limited.
        says = codec != "prores_ks" and "range" in container.colours | keeps_colours(codec)
        if self._info.tags.range == _FULL and self._info.pixel.family != "rgb" and not says:
            raise OutputError(
                f"{codec} in {container.name} can't say that the picture has full range; "
                "choose another --codec, or ffv1 in .mkv"
            )

    def _warn_of_lost_tags(self) -> None:
        tags, codec, holds = self._info.tags, self._encoding.codec, self._holds
        aspect, location = tags.sample_aspect_ratio, tags.chroma_location
        if aspect not in (None, 1) and not (holds.aspect or keeps_aspect(codec)):
            self._warn(f"sample aspect ratio {aspect} is lost: {codec} has no place for it here")
        sited = location not in (0, _LEFT) and self._info.pixel.subsampling != (0, 0)
        if self._info.display_matrix is not None and not holds.rotation:
            self._warn(f"rotation is lost: {holds.name} has no place for it here")
        if sited and not (holds.location or keeps_location(codec, location)):
            self._warn(f"chroma location {location} is lost: {codec} has no place for it here")
        granted = {"range", "matrix"} if self._info.pixel.family == "rgb" else {"range"}
        unsaid = {
            name: getattr(tags, name) for name in COLOURS - granted - holds.colours - keeps_colours(codec)
        }
        lost = [f"{name} {value}" for name, value in sorted(unsaid.items()) if value != getattr(Tags, name)]
        if lost:
            self._warn(f"tags of colour are lost: {codec} has no place here for {', '.join(lost)}")

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
