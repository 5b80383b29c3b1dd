"""Writing a media file: the encoded picture, and everything else of the source as it was."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from ..errors import OptionError, OutputError
from .codecs import Encoding
from .containers import find_container
from .cover_art import as_attachment, is_cover_art, read_pictures
from .encoder import Encoder
from .ffmpeg_log import listen
from .job import VideoJob
from .opening import reason
from .part_files import PartFile
from .reader import Source
from .subtitles import Converter, is_text
from .track import Picture, Track

__all__ = ["MediaWriter"]

_FORMAT_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""Container metadata that describes the source's file, not its content."""
_STREAM_KEYS = re.compile(
    r"(encoder|vendor_id|duration|bps|number_of_\w+|_statistics_\w+)(-\w+)?$", re.IGNORECASE
)
"""Stream metadata that counts the source's packets; the muxer writes its own."""
_UNMISSED = {"alpha_mode", "handler_name", "mimetype"}
"""Stream metadata that says no more than the stream itself does."""
_AVIF_TITLES = {("title", "Alpha"), ("title", "Color")}
"""What FFmpeg takes for titles of an AVIF's streams."""
_UNNAMED = {1: "mono", 2: "stereo"}
"""Where channels without a name belong, by their number; of more, nobody can know."""


class MediaWriter:
    """Encodes pictures and muxes them with the source's other streams.

    Args:
        job: names the output, which is created under a temporary name beside it.
        source: whose streams, chapters and metadata are copied.
        encodings: how to encode each track of it, by its index.
        warn: is told, in a line each, what of the source isn't in the result.

    Raises:
        OptionError: if the extension is unknown, or the encoder rejects its options.
        OutputError: if container and streams don't fit, or the file can't be written.
    """

    def __init__(
        self, job: VideoJob, source: Source, encodings: Mapping[int, Encoding], warn: Callable[[str], None]
    ) -> None:
        self._name = job.output
        self._drop_incompatible = job.drop_incompatible
        self._chapters = source.timeline.chapters(source.container)
        self._skips = bool(source.skipped)
        self._warn = warn
        self._encoders: dict[int, Encoder] = {}
        self._copies: dict[int, Stream] = {}
        self._converters: dict[int, Converter] = {}
        self._finished = False
        self._part = PartFile(job.output, job.overwrite)
        self._container = _open_output(self._part, job.output)
        self._holds = find_container(self._container.format.name)
        try:
            self._pictures = self._read_pictures(job, source)
            self._add_streams(source, encodings)
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
        self._mux(self._encoders[picture.stream].encode(picture))

    @property
    def container_name(self) -> str:
        """FFmpeg's name of the container."""
        return self._container.format.name

    @property
    def encoders(self) -> Mapping[int, Encoder]:
        """The encoder of each of the source's tracks, by its index."""
        return self._encoders

    def encoded(self, packet: Packet, track: int) -> None:
        """Muxes a picture that an encoder like that of the track has encoded before.

        Raises:
            OutputError: if the file fails.
        """
        packet.stream = self._encoders[track].stream
        self._mux([packet])

    def packet(self, packet: Packet) -> None:
        """Muxes a packet of another stream of the source.

        Raises:
            OutputError: if the file fails.
        """
        converter = self._converters.get(packet.stream_index)
        if converter is not None:
            self._mux(converter(packet))
        else:
            if not packet.duration and isinstance(packet.stream, VideoStream) and packet.stream.guessed_rate:
                # Else MP4's readers take the last picture for one that isn't shown.
                packet.duration = round(1 / (packet.stream.guessed_rate * packet.time_base))
            packet.stream = self._copies[packet.stream_index]
            self._mux([packet])

    def finish(self) -> None:
        """Drains the encoder, completes the file and gives it its name.

        Raises:
            OutputError: if the encoder or the file fails.
        """
        self.complete()
        self.commit()

    def complete(self) -> Path:
        """Drains the encoder and completes the file, which still has a temporary name: that is returned.

        Raises:
            OutputError: if the encoder or the file fails.
        """
        for encoder in self._encoders.values():
            self._mux(encoder.finish())
        try:
            self._container.close()
        except FFmpegError as error:
            raise OutputError(f"{self._name} can't be completed ({reason(error)})") from error
        return self._part.path

    def commit(self) -> None:
        """Gives the complete file its name.

        Raises:
            OutputError: if the system won't have it.
        """
        self._part.commit()
        self._finished = True

    def _read_pictures(self, job: VideoJob, source: Source) -> dict[int, bytes]:
        """Cover art that the file's header has to hold, by the index of its stream."""
        if self._holds.cover_art != "attachment":
            return {}
        streams = [stream.index for stream in source.container.streams if is_cover_art(stream)]
        return read_pictures(job.source, job.allow_url, streams)

    def _add_streams(self, source: Source, encodings: Mapping[int, Encoding]) -> None:
        """One stream of the output for each of the source that the container takes, in its order."""
        tracks = {track.index: track for track in source.tracks}
        for stream in source.container.streams:
            if stream.index in tracks:
                self._add_video(tracks[stream.index], encodings[stream.index])
            else:
                self._add_other(stream)

    def _add_video(self, track: Track, encoding: Encoding) -> None:
        try:
            self._check_held(Codec(encoding.codec, "w").canonical_name)
            encoder = Encoder(self._container, track.info, encoding, self._warn)
        except ValueError as error:
            elsewhere = "" if self._holds.holds_most else ", or .mkv, which holds nearly all"
            raise OutputError(
                f"{self._name}: {self._holds.name} can't hold {encoding.codec}; "
                f"choose another --codec{elsewhere}"
            ) from error
        self._refuse_unread_alpha(track)
        self._encoders[track.index] = encoder
        self._describe(track.stream, encoder.stream)
        encoder.stream.metadata.pop("alpha_mode", None)  # muxers know by the format of the pictures

    def _refuse_unread_alpha(self, track: Track) -> None:
        """Alpha that WebM has beside the picture, where FFmpeg's own decoders don't look."""
        if track.stream.metadata.get("alpha_mode") == "1" and not track.info.pixel.alpha:
            why = f"{track.stream.codec_context.name} doesn't decode it"
            if not self._drop_incompatible:
                raise OutputError(
                    f"the alpha of video stream {track.index} can't be kept: {why}; "
                    "leave it out by --drop-incompatible"
                )
            self._warn(f"the alpha of video stream {track.index} is lost: {why}")

    def _add_other(self, source: Stream) -> None:
        """Adds a stream to be copied, or converted where the container wants another form."""
        codec = source.codec_context.name if source.codec_context else getattr(source, "name", None)
        what = f"{_kind(source)} stream {source.index} ({codec or 'unknown'})"
        if codec is None and source.type != "data":
            self._warn(f"{what} is left out: FFmpeg doesn't know what it holds")
        elif source.type == "data":
            # Muxers make the tracks of timecode and chapters anew, from metadata.
            if "timecode" not in source.metadata and not (codec == "bin_data" and self._chapters):
                self._warn(f"{what} is left out")
        elif is_cover_art(source):
            if not self._add_cover_art(source):
                self._leave_out(what)
        elif self._add_copy(source):
            if source.type == "video":
                self._warn(f"{what} is copied as it is, not debanded")
        elif isinstance(source, SubtitleStream) and is_text(source) and self._holds.text is not None:
            self._add_converter(source, self._holds.text)
            self._warn(f"{what} is converted to {self._holds.text} for {self._holds.name}")
        else:
            self._leave_out(what)

    def _add_cover_art(self, source: Stream) -> bool:
        """Adds a picture that belongs to the file; false where the container has none."""
        if self._holds.cover_art == "attachment":
            attached, data = as_attachment(source), self._pictures.get(source.index)
            if attached is None or data is None:
                return False
            self._describe(source, self._container.add_attachment(*attached, data))
            return True
        return self._holds.cover_art == "stream" and self._add_copy(source)

    def _add_copy(self, source: Stream) -> bool:
        """Adds a stream for the packets of `source`; false where the container has no place for them."""
        if source.type == "attachment" and not self._holds.attachments:
            return False
        if isinstance(source, VideoStream) and self._holds.one_picture and source.pix_fmt != "gray":
            return False
        if source.disposition & Disposition.timed_thumbnails:
            return False
        try:
            copy = self._copies[source.index] = self._copy(source)
        except ValueError:
            return False
        self._describe(source, copy)
        return True

    def _copy(self, source: Stream) -> Stream:
        """A stream for the packets of `source`; `ValueError` where the container has no place for them."""
        codec = source.codec_context.codec.canonical_name if source.codec_context else ""
        self._check_held(codec)
        if self._holds.named_channels and isinstance(source, AudioStream):
            layout = source.codec_context.layout
            if codec.startswith("pcm_") and layout.name.endswith(" channels"):
                # Without their places the file couldn't be completed.
                if layout.nb_channels not in _UNNAMED:
                    raise ValueError(layout.name)
                copy = self._container.add_stream_from_template(source, opaque=False)
                copy.codec_context.layout = _UNNAMED[layout.nb_channels]
                return copy
        return self._container.add_stream_from_template(source, opaque=True)

    def _check_held(self, codec: str) -> None:
        """Raises `ValueError` for what FFmpeg would only refuse later, or when it reads."""
        known = self._holds.codecs
        if codec in self._holds.refuses or (known is not None and codec not in known):
            raise ValueError(codec)

    def _add_converter(self, source: SubtitleStream, codec: str) -> None:
        target = self._container.add_stream(codec, time_base=source.time_base)
        assert isinstance(target, SubtitleStream)
        self._converters[source.index] = Converter(source, target)
        self._describe(source, target)

    def _describe(self, source: Stream, target: Stream) -> None:
        """Copies language, title and the like, and what a stream is for."""
        kind = _kind(source)
        # What FFmpeg's muxers know as title, its reader of MP4 calls name.
        metadata = {"title" if k == "name" else k: v for k, v in self._valid(source.metadata).items()}
        metadata = {
            key: value
            for key, value in metadata.items()
            if not _STREAM_KEYS.match(key) and (key, value) not in _AVIF_TITLES
        }
        target.metadata.update(metadata)
        target.disposition = source.disposition
        whole = source.container.metadata
        missed = {k: v for k, v in metadata.items() if k not in _UNMISSED and whole.get(k) != v}
        if lost := self._holds.lost_stream_keys(kind, missed):
            self._tell_lost(f"metadata of {kind} stream {source.index}", lost)
        for mark in self._holds.lost_marks(source.disposition):
            self._warn(f"{kind} stream {source.index} is no longer marked {mark}: {self._holds.name} can't")

    def _valid(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """`metadata` without what isn't true of a result that begins later."""
        return {k: v for k, v in metadata.items() if not (self._skips and k.lower() == "timecode")}

    def _leave_out(self, what: str) -> None:
        """Refuses to lose a stream that somebody may miss, or says so where that's wanted."""
        if not self._drop_incompatible:
            elsewhere = "" if self._holds.holds_most else "choose .mkv, which holds nearly all, or "
            raise OutputError(
                f"{self._name}: {self._holds.name} can't hold {what}; "
                f"{elsewhere}leave it out by --drop-incompatible"
            )
        self._warn(f"{what} is left out: {self._holds.name} can't hold it")

    def _tell_lost(self, what: str, keys: Sequence[str]) -> None:
        """Says which metadata is lost."""
        elsewhere = "" if self._holds.holds_most else ", .mkv has"
        self._warn(f"{what} lost: {', '.join(keys)}; {self._holds.name} has no place for it{elsewhere}")

    def _start(self, source: Source) -> None:
        """Opens the encoders and writes the file's header."""
        for encoder in self._encoders.values():
            encoder.open()
        every = [source.container.metadata, *(stream.metadata for stream in source.container.streams)]
        if any(self._valid(metadata) != metadata for metadata in every):
            self._warn("timecode is left out: it's that of the source's first picture, which --start skips")
        metadata = self._valid(source.container.metadata)
        metadata = {k: v for k, v in metadata.items() if k.lower() not in _FORMAT_KEYS}
        self._container.metadata.update(metadata)
        if lost := self._holds.lost_keys(metadata):
            self._tell_lost("metadata", lost)
        if self._holds.chapters:
            self._container.set_chapters(self._chapters)
        elif self._chapters:
            self._warn(f"chapters are lost: {self._holds.name} has no place for them, .mkv has")
        with listen() as lines:
            try:
                self._container.start_encoding()
                return
            except FFmpegError as error:
                failed = error
        raise OutputError(f"{self._name} can't be written: {'; '.join(lines) or reason(failed)}") from failed

    def _mux(self, packets: list[Packet]) -> None:
        try:
            self._container.mux(packets)
        except FFmpegError as error:
            raise OutputError(f"{self._name} can't be written on ({reason(error)})") from error


def _kind(stream: Stream) -> str:
    """A word for what a stream is."""
    return "cover art" if is_cover_art(stream) else stream.type


def _open_output(part: PartFile, name: str) -> OutputContainer:
    try:
        container = av.open(f"file:{part.path}", "w")
    except ValueError as error:
        raise OptionError(f"output {name} has no container's extension; use .mkv, .mp4 or .mov") from error
    why = None
    if container.format.flags & Flags.no_file.value:
        why = "isn't one file but many"
    elif container.format.name == "rawvideo" or container.default_video_codec == "none":
        why = "is no container of video"
    if why is not None:
        container.close()
        part.discard()
        raise OptionError(f"output {name} {why}; use .mkv, .mp4 or .mov, or .png or .tif for pictures")
    return container
