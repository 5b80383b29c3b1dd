"""Writing a media file: the encoded picture, and everything else of the source as it was."""

import re
from collections.abc import Callable

import av
from av.codec import Codec
from av.container import OutputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from ..errors import OptionError, OutputError
from .codecs import Encoding, keeps_aspect, keeps_captions, keeps_location, order_few
from .ffmpeg_log import listen, rejections
from .formats import Repacker, Tags, write_planes
from .job import VideoJob
from .metadata import lost_keys
from .opening import reason
from .output import PartFile
from .probe import COVER_ART
from .reader import Picture, Source
from .subtitles import Converter, text_codec

__all__ = ["MediaWriter"]

_FORMAT_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""Container metadata that describes the source's file, not its content."""
_STREAM_KEYS = re.compile(
    r"(encoder|vendor_id|duration|bps|number_of_\w+|_statistics_\w+)(-\w+)?$", re.IGNORECASE
)
"""Stream metadata that counts the source's packets; the muxer writes its own."""
_MPEGTS = {
    "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "vvc",
    "aac", "ac3", "dts", "eac3", "mp2", "mp3", "opus", "pcm_bluray", "s302m", "truehd",
    "dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle",
}  # fmt: skip
"""FFmpeg writes any codec into MPEG-TS, but recognises these alone when it reads."""
_ASPECT_CONTAINERS = {"mp4", "mov", "ipod", "3gp"}
_LOCATION_CONTAINERS = {"matroska", "webm"}
_FULL = 2
"""Full range, as FFmpeg numbers it."""
_LEFT = 1
"""The chroma location that players take for granted."""


class MediaWriter:
    """Encodes pictures and muxes them with the source's other streams.

    Args:
        job: names the output, which is created under a temporary name beside it.
        source: whose streams, chapters and metadata are copied.
        encoding: how to encode the picture.
        warn: is told, in a line each, what of the source isn't in the result.

    Raises:
        OptionError: if the extension is unknown, or the encoder rejects its options.
        OutputError: if container and streams don't fit, or the file can't be written.
    """

    def __init__(
        self, job: VideoJob, source: Source, encoding: Encoding, warn: Callable[[str], None]
    ) -> None:
        self._name = job.output
        self._drop_incompatible = job.drop_incompatible
        self._info = source.info
        self._chapters = source.chapters()
        self._encoding = encoding
        self._warn = warn
        self._repack = Repacker()
        self._durations: dict[int, int] = {}
        self._encoded = 0
        self._copies: dict[int, Stream] = {}
        self._converters: dict[int, Converter] = {}
        self._interlaced = source.info.interlaced
        self._keeps_captions = keeps_captions(encoding.codec)
        self._finished = False
        self._part = PartFile(job.output, job.overwrite)
        self._container = _open_output(self._part, job.output)
        try:
            self._video = self._add_streams(source)
            self._start(source)
        except BaseException:
            self.close()
            raise

    @property
    def streams(self) -> set[int]:
        """Indices of the source's streams that are copied or converted."""
        return {*self._copies, *self._converters}

    def close(self) -> None:
        """Discards the file unless it's finished."""
        if not self._finished:
            try:
                self._container.close()
            except (FFmpegError, RuntimeError):
                pass  # the job has failed already; only the file has to go
            finally:
                self._part.discard()

    def picture(self, picture: Picture) -> None:
        """Encodes a picture of the result and muxes what the encoder gives back.

        Raises:
            OutputError: if the encoder or the file fails.
        """
        self._durations[picture.pts] = picture.duration
        if picture.carrier.interlaced_frame and not self._interlaced:
            self._interlaced = True
            time = float(picture.pts * self._info.time_base)
            self._warn(f"at {time:.3f} s the picture becomes interlaced, which the result doesn't say")
        if not self._keeps_captions and picture.carrier.side_data.get("A53_CC") is not None:
            self._keeps_captions = True  # or as good as: it's said once
            self._warn(f"closed captions are lost: {self._encoding.codec} doesn't hold them; libx264 does")
        self._encoded += 1
        self._mux(self._encode(self._video_frame(picture)))

    def packet(self, packet: Packet) -> None:
        """Muxes a packet of another stream of the source.

        Raises:
            OutputError: if the file fails.
        """
        converter = self._converters.get(packet.stream_index)
        if converter is not None:
            self._mux(converter(packet))
        else:
            packet.stream = self._copies[packet.stream_index]
            self._mux([packet])

    def finish(self) -> None:
        """Drains the encoder, completes the file and gives it its name.

        Raises:
            OutputError: if the encoder or the file fails.
        """
        rest = self._encode(None)
        order_few(rest, self._encoded)
        self._mux(rest)
        try:
            self._container.close()
        except FFmpegError as error:
            raise OutputError(f"{self._name} can't be completed ({reason(error)})") from error
        self._part.commit()
        self._finished = True

    def _add_streams(self, source: Source) -> VideoStream:
        """One stream of the output for each of the source that the container takes, in its order."""
        video: VideoStream | None = None
        for stream in source.container.streams:
            if stream.index == source.video.index:
                video = self._add_video(stream)
            else:
                self._add_copy(stream)
        assert video is not None
        return video

    def _add_video(self, source: Stream) -> VideoStream:
        info, encoding = self._info, self._encoding
        try:
            self._check_recognised(Codec(encoding.codec, "w").canonical_name)
            video = self._container.add_stream(
                encoding.codec,
                rate=info.rate,
                options=dict(encoding.options),
                width=info.width,
                height=info.height,
                pix_fmt=encoding.pix_fmt,
                time_base=info.time_base,
            )
        except ValueError as error:
            raise OutputError(
                f"{self._name}: {self._container.format.name} can't hold {encoding.codec}; "
                "choose another --codec, or .mkv, which holds nearly all"
            ) from error
        assert isinstance(video, VideoStream)
        _set_tags(video, info.tags, self._container.format.name)
        if _partly_known(info.tags) and self._container.format.name in ("mp4", "mov"):
            self._container.options["movflags"] = "write_colr"  # else they're written all or not at all
        if info.display_matrix is not None:
            video.set_display_matrix(memoryview(info.display_matrix).cast("i").tolist())
        self._refuse_lost_range()
        self._warn_of_lost_tags()
        _describe(source, video)
        return video

    def _refuse_lost_range(self) -> None:
        """Full range that reads back as limited would be shown with the wrong contrast."""
        if self._info.tags.range == _FULL and self._encoding.codec == "prores_ks":
            raise OutputError(
                f"{self._name}: prores_ks can't say that the picture has full range; "
                "choose another --codec, or ffv1 in .mkv"
            )

    def _warn_of_lost_tags(self) -> None:
        tags, codec, container = self._info.tags, self._encoding.codec, self._container.format.name
        aspect, location = tags.sample_aspect_ratio, tags.chroma_location
        if aspect not in (None, 1) and not (container in _ASPECT_CONTAINERS or keeps_aspect(codec)):
            self._warn(f"sample aspect ratio {aspect} is lost: {codec} has no place for it here")
        sited = location not in (0, _LEFT) and self._info.pixel.subsampling != (0, 0)
        if sited and not (container in _LOCATION_CONTAINERS or keeps_location(codec, location)):
            self._warn(f"chroma location {location} is lost: {codec} has no place for it here")

    def _add_copy(self, source: Stream) -> None:
        """Adds a stream to be copied, or converted where the container wants another form."""
        container = self._container.format.name
        codec = source.codec_context.name if source.codec_context else getattr(source, "name", None)
        what = f"{source.type} stream {source.index} ({codec or 'unknown'})"
        if codec is None and source.type != "data":
            self._warn(f"{what} is left out: FFmpeg doesn't know what it holds")
            return
        if source.type == "data":
            # Muxers make the tracks of timecode and chapters anew, from metadata.
            if "timecode" not in source.metadata and not (codec == "bin_data" and self._chapters):
                self._warn(f"{what} is left out")
            return
        if source.type == "video" and not source.disposition & COVER_ART:
            self._warn(f"{what} is copied as it is, not debanded")
        if source.type == "attachment" and container != "matroska":
            self._leave_out(what)
            return
        try:
            self._check_recognised(source.codec_context.codec.canonical_name if source.codec_context else "")
            copy = self._container.add_stream_from_template(source, opaque=True)
            self._copies[source.index] = copy
        except ValueError:
            target = text_codec(container, source) if isinstance(source, SubtitleStream) else None
            if target is None or not isinstance(source, SubtitleStream):
                self._leave_out(what)
                return
            copy = self._container.add_stream(target, time_base=source.time_base)
            assert isinstance(copy, SubtitleStream)
            self._converters[source.index] = Converter(source, copy)
            self._warn(f"{what} is converted to {target} for {container}")
        _describe(source, copy)

    def _check_recognised(self, codec: str) -> None:
        if self._container.format.name == "mpegts" and codec not in _MPEGTS:
            raise ValueError(codec)

    def _leave_out(self, what: str) -> None:
        """Refuses to lose a stream that somebody may miss, or says so where that's wanted."""
        container = self._container.format.name
        if not self._drop_incompatible:
            raise OutputError(
                f"{self._name}: {container} can't hold {what}; choose .mkv, which holds nearly all, "
                "or leave it out by --drop-incompatible"
            )
        self._warn(f"{what} is left out: {container} can't hold it")

    def _start(self, source: Source) -> None:
        """Opens the encoder and writes the file's header."""
        encoding, context = self._encoding, self._video.codec_context
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
        metadata = {k: v for k, v in source.container.metadata.items() if k.lower() not in _FORMAT_KEYS}
        self._container.metadata.update(metadata)
        if lost := lost_keys(self._container.format.name, metadata):
            container = self._container.format.name
            self._warn(f"metadata lost: {', '.join(lost)}; {container} has no place for it, .mkv has")
        self._container.set_chapters(self._chapters)
        with listen() as lines:
            try:
                self._container.start_encoding()
                return
            except FFmpegError as error:
                failed = error
        raise OutputError(f"{self._name} can't be written: {'; '.join(lines) or reason(failed)}") from failed

    def _video_frame(self, picture: Picture) -> av.VideoFrame:
        """The picture as FFmpeg's frame, with the side data of the one it was decoded from."""
        encoding, tags = self._encoding, self._info.tags
        video = self._repack(picture.carrier, encoding.pixel.name)
        video.make_writable()
        write_planes(video, picture.frame, picture.alpha)
        video = self._repack(video, encoding.pix_fmt)
        video.pts, video.time_base, video.duration = picture.pts, self._info.time_base, picture.duration
        video.pict_type = 0  # the encoder decides, not the source
        video.color_range, video.colorspace = tags.range, tags.matrix
        video.color_primaries, video.color_trc = tags.primaries, tags.transfer
        return video

    def _encode(self, video: av.VideoFrame | None) -> list[Packet]:
        try:
            packets = self._video.codec_context.encode(video)
        except FFmpegError as error:
            raise OutputError(f"{self._encoding.codec} failed ({reason(error)})") from error
        for packet in packets:
            packet.stream = self._video
            # Some encoders don't pass durations on, and the last one counts.
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
        return packets

    def _mux(self, packets: list[Packet]) -> None:
        try:
            self._container.mux(packets)
        except FFmpegError as error:
            raise OutputError(f"{self._name} can't be written on ({reason(error)})") from error


def _open_output(part: PartFile, name: str) -> OutputContainer:
    try:
        container = av.open(f"file:{part.path}", "w")
    except ValueError as error:
        raise OptionError(f"output {name} has no container's extension; use .mkv, .mp4 or .mov") from error
    if container.format.flags & Flags.no_file.value:
        container.close()
        raise OptionError(f"output {name} isn't one file but many; use .mkv, .mp4 or .mov")
    return container


def _set_tags(video: VideoStream, tags: Tags, container: str) -> None:
    context = video.codec_context
    context.color_range = tags.range
    context.colorspace = tags.matrix
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer
    context.chroma_sample_location = tags.chroma_location
    if tags.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = tags.sample_aspect_ratio
    if container in ("mp4", "mov") and context.codec.canonical_name == "hevc":
        context.codec_tag = "hvc1"  # Apple's players want it; FFmpeg's default is hev1


def _partly_known(tags: Tags) -> bool:
    """Whether some colour tags are unknown, but not all."""
    known = [tag != 2 for tag in (tags.matrix, tags.primaries, tags.transfer)]
    return not all(known) and (any(known) or tags.range == _FULL)


def _describe(source: Stream, target: Stream) -> None:
    """Copies language, title and the like, and what a stream is for."""
    # What FFmpeg's muxers know as title, its reader of MP4 calls name.
    metadata = {"title" if k == "name" else k: v for k, v in source.metadata.items()}
    target.metadata.update({k: v for k, v in metadata.items() if not _STREAM_KEYS.match(k)})
    target.disposition = source.disposition
