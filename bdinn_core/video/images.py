"""Pictures in files of their own: one, or a sequence of them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from ..errors import OptionError, OutputError
from .cadence import ConstantRate
from .codecs import IMAGE_CODECS, Encoding
from .formats import RANGES
from .frames import FrameMaker, encode, open_encoder, set_tags
from .job import VideoJob
from .output import output_pattern
from .part_files import PartFile, PartFolder
from .probe import VideoInfo
from .reader import Source
from .track import Picture

__all__ = ["ImageWriter", "is_image"]

_TICK = Fraction(1, 25)
"""Of the encoder's clock, which counts the numbers of files."""
_GRANTED = {"matrix": {0, 2}, "primaries": {1, 2}, "transfer": {2, 4, 13}, "chroma_location": {0}}
"""What needn't be said: the colours of sRGB, the gamma of grey, what isn't known; as FFmpeg numbers them."""


def is_image(output: str) -> bool:
    """Whether `output` is a picture, or a sequence of them, that an `ImageWriter` writes."""
    return Path(output).suffix.lower() in IMAGE_CODECS


class ImageWriter:
    """Encodes each picture by itself into a file of its own, and writes nothing else.

    A sequence takes its numbers from the files of the source if that is one too, else it begins at 1.

    Args:
        job: names the output, a file or a pattern such as out/%05d.png.
        source: what the pictures come from.
        encoding: how they are encoded.
        warn: is told, in a line each, what of the source isn't in the result.

    Raises:
        OptionError: if the source has several pictures for one file, or the encoder rejects its options.
        OutputError: if the format can't say what the numbers mean, or nothing can be written there.
    """

    def __init__(
        self, job: VideoJob, source: Source, encoding: Encoding, warn: Callable[[str], None]
    ) -> None:
        track = source.tracks[0]
        info = track.info
        self._name = job.output
        self._pattern = output_pattern(job.output)
        self._first = 1 if source.first_number is None else source.first_number
        self._numbered = source.first_number is not None
        self._warn = warn
        self._last = self._first
        self._finished = False
        sure = None if source.cut else track.estimate_frames(track.stated_seconds, cut=False)
        if self._pattern is None and (sure or 1) > 1:
            self._refuse_second()
        _refuse_lost_range(info, encoding)
        _warn_of_lost_colours(info, encoding, warn)
        self._watch_rate = ConstantRate(job.output, info, warn)
        self._make_frame = FrameMaker(info, encoding, warn)
        self._context = _open(info, encoding)
        overwrite = job.overwrite
        pattern = self._pattern
        self._part = PartFile(job.output, overwrite) if pattern is None else PartFolder(pattern, overwrite)

    @property
    def streams(self) -> set[int]:
        """None: a picture holds nothing but itself."""
        return set()

    def close(self) -> None:
        """Discards the files unless they're finished."""
        if not self._finished:
            self._part.discard()

    def picture(self, picture: Picture) -> None:
        """Encodes a picture, and writes those that are ready: an encoder works at several.

        Raises:
            OptionError: if it's the second for one file.
            OutputError: if the encoder or the disk fails.
        """
        if self._pattern is None and picture.number:
            self._refuse_second()
        if not self._numbered and self._pattern is not None:
            self._watch_rate(picture)
        frame = self._make_frame(picture)
        frame.pts = self._first + (picture.pts if self._numbered else picture.number)
        frame.time_base = _TICK
        self._write(encode(self._context, frame))

    def packet(self, packet: Packet) -> None:
        """Never called: no stream is wanted."""

    def finish(self) -> None:
        """Writes what the encoder still has, names the files, and tells what is left of others."""
        self._write(encode(self._context, None))
        self._part.commit()
        self._finished = True
        if self._pattern is not None:
            left = [number for number in self._pattern.numbers() if number > self._last]
            if left:
                names = " to ".join(dict.fromkeys(str(self._pattern.path(n)) for n in (left[0], left[-1])))
                self._warn(f"{names}: of an earlier sequence, left as it was")

    def _refuse_second(self) -> None:
        path = Path(self._name)
        pattern = path.with_name(f"{path.stem}-%05d{path.suffix}")
        raise OptionError(f"{self._name} is one picture, the source has more: write a sequence, as {pattern}")

    def _write(self, packets: list[Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            path = self._part.path
            if self._pattern is not None:
                path /= self._pattern.path(packet.pts).name
            try:
                path.write_bytes(bytes(packet))
            except OSError as error:
                raise OutputError(f"{self._name} can't be written on ({error.strerror})") from error
            self._last = packet.pts


def _refuse_lost_range(info: VideoInfo, encoding: Encoding) -> None:
    """A range that reads back as the other would be shown with the wrong contrast."""
    said = RANGES.get(info.tags.range)
    if said not in (None, "limited" if info.pixel.family == "yuv" else "full"):
        raise OutputError(
            f"{encoding.codec} can't say that the picture has {said} range; write .mkv with --codec ffv1"
        )


def _warn_of_lost_colours(info: VideoInfo, encoding: Encoding, warn: Callable[[str], None]) -> None:
    said = {name: getattr(info.tags, name) for name in _GRANTED} if encoding.codec == "tiff" else {}
    lost = [f"{name} {value}" for name, value in said.items() if value not in _GRANTED[name]]
    if lost:
        warn(f"tags of colour are lost: tiff has no place for {', '.join(lost)}")


def _open(info: VideoInfo, encoding: Encoding) -> VideoCodecContext:
    context = av.CodecContext.create(encoding.codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = info.width, info.height, encoding.pix_fmt
    context.time_base = _TICK
    context.options = dict(encoding.options)
    context.thread_type = "FRAME"  # each picture takes long, and none needs another
    context.sample_aspect_ratio = 1
    set_tags(context, info.tags)
    open_encoder(context, encoding)
    return context
