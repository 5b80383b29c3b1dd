"""Chunks of a video, each debanded and encoded into a file of its own, and reading them again.

NUT holds what encoders give byte for byte, and any time exactly, but not the times of decoding; these follow
from the others. Of what it doesn't know, MOV does. (Tried with the muxers inside PyAV 19.)
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import av
from av.codec.context import Flags
from av.error import FFmpegError
from av.packet import Packet

from ..errors import OutputError
from ..options import DebandOptions
from ..video.banding import BandingLooks
from ..video.codecs import Encoding
from ..video.containers import find_container
from ..video.damage import Damage
from ..video.encoder import Encoder
from ..video.job import VideoJob
from ..video.opening import reason
from ..video.part_files import PartFile, sync
from ..video.pipeline import deband, open_source
from ..video.probe import VideoInfo, fraction
from ..video.progress import Progress, Work
from ..video.track import Picture
from .chunks import Chunk

__all__ = ["Segment", "Task", "file_digest", "make_segment", "read_segment", "segment_suffix", "write_header"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that a worker has to know to make a segment."""

    job: VideoJob
    options: DebandOptions
    encoding: Encoding
    container: str
    """FFmpeg's name of the result's."""
    global_header: bool
    """Whether that has a place for what decoders have to know beforehand; else the packets say it."""
    chunk: Chunk


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A chunk that's done."""

    number: int
    """The chunk's."""
    file: str
    """Name of its file."""
    digest: str
    """SHA-256 of that."""
    times: Sequence[int]
    """When its pictures are shown in the result, in ticks of the source's stream; at last, until when."""
    delay: int
    """How many packets the encoder's order of decoding lags behind the order in which pictures are shown."""
    seconds: float
    """How long it took."""
    warnings: Sequence[str]
    damages: Sequence[Damage]
    failure: str | None
    """Why it has no more pictures, where that's to be lived with."""

    @property
    def pictures(self) -> int:
        """How many it has."""
        return max(0, len(self.times) - 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**vars(self), "damages": [damage.to_dict() for damage in self.damages]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` made."""
        return cls(**{**values, "damages": [Damage.from_dict(damage) for damage in values["damages"]]})


class _Listener(Progress):
    """Keeps warnings, which belong to the segment, and passes on how far it is."""

    def __init__(self, progress: Progress) -> None:
        self.warnings: list[str] = []
        self._progress = progress

    def advance(self, frames: int) -> None:
        self._progress.advance(frames)

    def work(self, work: Work) -> None:
        self._progress.work(work)

    def warn(self, line: str) -> None:
        self.warnings.append(line)


class _SegmentWriter:
    """Encodes a chunk's pictures into a file."""

    streams: set[int] = set()  # noqa: RUF012 - a Writer's property
    """None of the source's are copied."""

    def __init__(self, path: Path, info: VideoInfo, task: Task, progress: Progress) -> None:
        self._finished = False
        self._part = PartFile(str(path), overwrite=True)
        # Else all would be moved, where the times of decoding begin before 0.
        container = av.open(f"file:{self._part.path}", "w", options={"avoid_negative_ts": "disabled"})
        self._container = container
        try:
            holds = find_container(task.container)
            self._encoder = Encoder(container, info, task.encoding, progress.warn, holds)
            context = self._encoder.stream.codec_context
            flags = context.flags & ~Flags.global_header
            context.flags = flags | (Flags.global_header if task.global_header else 0)
            self._encoder.open()
            self.header = self._encoder.header
            container.start_encoding()  # else there would be no file where no picture comes
        except BaseException:
            self.close()
            raise
        self.times: list[int] = []
        self._behind = 0
        self._packets = 0
        self._delay: int | None = None

    @property
    def delay(self) -> int:
        return self._delay or 0

    def close(self) -> None:
        """Discards the file unless it's finished."""
        if not self._finished:
            try:
                self._container.close()
            except (FFmpegError, RuntimeError):
                pass  # it has failed already
            finally:
                self._part.discard()

    def picture(self, picture: Picture) -> None:
        self.times.append(picture.pts)
        self._behind = picture.pts + picture.duration
        self._mux(self._encoder.encode(picture))

    def packet(self, packet: Packet) -> None:
        """Never called: no stream is wanted."""

    def finish(self) -> None:
        """Completes the file, so that it's there after a loss of power too."""
        self._mux(self._encoder.finish())
        if self.times:
            self.times.append(self._behind)
        try:
            self._container.close()
            sync(self._part.path)
        except (FFmpegError, OSError) as error:
            raise OutputError(f"{self._part.path} can't be completed ({error.strerror})") from error
        self._part.commit()
        self._finished = True

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            if self._delay is None and packet.dts is not None and packet.dts >= self.times[0]:
                self._delay = self._packets
            self._packets += 1
        try:
            self._container.mux(packets)
        except FFmpegError as error:
            raise OutputError(f"{self._part.path} can't be written on ({reason(error)})") from error


@lru_cache(maxsize=1)
def _keep_network(model: str, device: str, fp16: bool | None) -> object:
    """Keeps a network, which loads slowly, from one chunk to the next."""
    from ..engine import Debander

    return Debander(DebandOptions(model=model, device=device, fp16=fp16))


@lru_cache(maxsize=1)
def _keep_looks(_output: str) -> BandingLooks:
    """Keeps what knows when a job's banding was last looked at, from one of its chunks to the next."""
    return BandingLooks()


def segment_suffix(encoding: Encoding) -> str:
    """The extension of files with such pictures."""
    return ".mov" if encoding.codec == "prores_ks" else ".nut"


def make_segment(task: Task, path: Path, progress: Progress) -> Segment:
    """Debands and encodes a chunk.

    Args:
        task: what it is.
        path: of the file, which is there only once it's complete.
        progress: is told about pictures and work, not about warnings, which the segment has.

    Raises:
        BdinnError: if anything is wrong; then there's no file.
    """
    began = time.monotonic()
    listener = _Listener(progress)
    job, chunk = task.job, task.chunk
    _keep_network(str(task.options.model), task.options.device, task.options.fp16)
    with ExitStack() as opened:
        source = opened.enter_context(closing(open_source(job, task.options, listener.warn)))
        track = source.tracks[0]
        source.narrow(chunk.begin, chunk.end, chunk.first_picture, chunk.at_key)
        writer = opened.enter_context(closing(_SegmentWriter(path, track.info, task, listener)))
        encodings = {track.index: task.encoding}
        report = deband(job, task.options, source, encodings, writer, listener, _keep_looks(job.output))
        writer.finish()
    return Segment(
        number=chunk.number,
        file=path.name,
        digest=file_digest(path),
        times=tuple(writer.times),
        delay=writer.delay,
        seconds=round(time.monotonic() - began, 3),
        warnings=tuple(listener.warnings),
        damages=tuple(report.damages),
        failure=report.failure,
    )


def write_header(task: Task, path: Path, info: VideoInfo) -> bytes:
    """What decoders have to know beforehand of a segment; its file isn't made.

    Raises:
        OptionError: if the encoder rejects its options.
    """
    with closing(_SegmentWriter(path, info, task, Progress())) as writer:
        return writer.header


def read_segment(segment: Segment, folder: Path, tick: Fraction, header: bytes | None) -> Iterator[Packet]:
    """The packets of a segment, each with the time in the result when it's shown, and for how long.

    Args:
        segment: which one.
        folder: where its file is.
        tick: seconds a tick of its times.
        header: what decoders have to know of the result; `None`: the packets say it.

    Raises:
        OutputError: if the file isn't what was written.
    """
    if not segment.times:
        return
    path = folder / segment.file
    durations = {pts: following - pts for pts, following in pairwise(segment.times)}
    try:
        with av.open(f"file:{path}", "r") as container:
            stream = container.streams.video[0]
            if header is not None and bytes(stream.codec_context.extradata or b"") != header:
                raise OutputError(f"{path} has another header than the result; --restart makes it anew")
            for packet in container.demux(stream):
                if packet.size:
                    packet.pts = int((packet.pts or 0) * fraction(packet.time_base) / tick)
                    packet.time_base = tick
                    packet.duration = durations.pop(packet.pts)
                    yield packet
    except (FFmpegError, KeyError) as error:
        raise OutputError(f"{path} isn't what was written; --restart makes it anew") from error
    if durations:
        raise OutputError(f"{path} lacks {len(durations)} pictures; --restart makes it anew")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
