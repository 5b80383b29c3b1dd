"""Text subtitles in the form a container takes: mov_text, subrip, ass and webvtt into one another."""

import re

from av.codec import Codec
from av.packet import Packet
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

__all__ = ["Converter", "is_text"]


def is_text(stream: SubtitleStream) -> bool:
    """Whether a stream of subtitles can be converted: not if it's pictures, or FFmpeg can't read it."""
    return stream.codec_context is not None and Codec(stream.codec_context.name, "r").text_sub


class Converter:
    """Re-encodes the packets of a text subtitle stream for another one."""

    def __init__(self, source: SubtitleStream, target: SubtitleStream) -> None:
        self._decoder = source.codec_context
        self._target = target
        self._decoder.open(strict=False)
        # FFmpeg's text decoders and encoders speak ASS among themselves; the header has the styles.
        header = self._decoder.subtitle_header
        target.codec_context.subtitle_header = header
        self._styles = re.findall(rb"^Style: *([^,\r\n]*[^, \r\n])", header or b"", re.MULTILINE)
        self._default = b"Default" if b"Default" in self._styles else b"".join(self._styles[:1])

    def __call__(self, packet: Packet) -> list[Packet]:
        """The packets that say the same; none where `packet` only clears the screen."""
        shown = self._decoder.decode2(packet)
        converted = []
        for event in shown or ():
            if not isinstance(event, AssSubtitle) or not event.ass:
                continue
            milliseconds = round((packet.duration or 0) * packet.time_base * 1000)
            text = SubtitleSet.create(self._with_style(event.ass), 0, milliseconds, pts=packet.pts or 0)
            result = self._target.codec_context.encode_subtitle(text)
            result.pts = result.dts = packet.pts
            result.duration = packet.duration
            result.time_base = packet.time_base
            result.stream = self._target
            converted.append(result)
        return converted

    def _with_style(self, event: bytes) -> bytes:
        """`event`, in the default style if the header hasn't its own: MP4 would have it transparent."""

        def known(found: re.Match[bytes]) -> bytes:
            style = found[2].strip()
            return found[1] + (style if style in self._styles else self._default)

        return re.sub(rb"^([^,]*,[^,]*,)([^,]*)", known, event, count=1)
