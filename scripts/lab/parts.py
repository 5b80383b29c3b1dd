"""All that a media file holds, part by part, as plain FFmpeg reads it: to be compared with another one."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle
from av.video.stream import VideoStream

from bdinn_core.video.formats import PixelFormat, Repacker
from bdinn_core.video.hdr import read_hdr, x265_params
from bdinn_core.video.side_data import read_side_data

from .media import planes, seconds

__all__ = ["StreamPart", "read_parts"]

_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
"""Metadata that describes the file, not what it holds."""
_OF_STREAMS = re.compile(
    "(encoder|vendor_id|handler_name|duration|bps|number_of_.*|_statistics_.*)(-.*)?"
    "|language|title|name|timecode|filename|mimetype"
)
"""Metadata of streams that describes the file too, or has a part of its own."""
_ELSEWHERE = {
    "A53_CC", "AMBIENT_VIEWING_ENVIRONMENT", "CONTENT_LIGHT_LEVEL", "DISPLAYMATRIX", "DOVI_METADATA",
    "DOVI_RPU_BUFFER", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID", "MASTERING_DISPLAY_METADATA",
    "SEI_UNREGISTERED",
}  # fmt: skip
"""Side data with a part of its own, and encoders' notes of their settings."""

_repack = Repacker()


@dataclass(frozen=True)
class StreamPart:
    """What a stream is."""

    type: str
    codec: str
    """FFmpeg's name; empty for video, which may be encoded anew."""
    disposition: Disposition
    language: str
    title: str


@dataclass
class _Pictures:
    """What is read of a stream of video, picture by picture."""

    times: list[Fraction | None] = field(default_factory=list)
    digests: list[list[bytes]] = field(default_factory=list)
    captions: list[bytes] = field(default_factory=list)
    interlaced: int = 0
    side_data: set[str] = field(default_factory=set)
    tags: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    """Each that differs from the one before, by the number of the picture."""
    hdr: list[tuple[int, str]] = field(default_factory=list)
    """Likewise."""


def read_parts(
    path: Path, *, from_zero: bool = False, begin: Fraction | None = None, with_planes: bool = True
) -> dict[str, Any]:
    """All parts of a file by their names; of streams and attachments, by their index.

    Args:
        path: of the file.
        from_zero: takes off all times what the first picture is shown before 0: no result begins there.
        begin: moves all times so that the first picture is shown then.
        with_planes: whether to look at the values of the pictures.
    """
    with av.open(str(path)) as container:
        indices = [s.index for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    parts: dict[str, Any] = {}
    for index in indices:
        with av.open(str(path)) as container:
            for part, value in _read_video(container.streams[index], with_planes).items():
                parts.setdefault(part, {})[index] = value
    first = next(iter(parts["times"].values()))[0]
    shift = min(first or Fraction(0), Fraction(0)) if from_zero else Fraction(0)
    parts["begin"] = (first or Fraction(0)) - shift
    if begin is not None and first is not None:
        shift = first - begin
    for index, times in parts["times"].items():
        parts["times"][index] = None if None in times else [time - shift for time in times]
    with av.open(str(path)) as container:
        return parts | _read_packets(container, shift) | _read_container(container, shift)


def _read_video(stream: Any, with_planes: bool) -> dict[str, Any]:
    """What a stream of video says and shows."""
    stream.thread_type = "AUTO"
    frames = stream.container.decode(stream)
    first = next(frames)
    found = _Pictures()
    for frame in chain([first], frames):
        _look_at(frame, found, with_planes)
    matrix = read_side_data(first).get("DISPLAYMATRIX")
    return {
        "frames": len(found.times),
        "planes": found.digests,
        "times": found.times,
        "fields": found.interlaced,
        "captions": found.captions,
        "tags": found.tags,
        "aspect": seconds(1, stream.sample_aspect_ratio) if stream.sample_aspect_ratio else Fraction(1),
        "location": first.chroma_location or 1,
        "rotation": () if matrix is None else np.frombuffer(bytes(matrix), "<i4")[[0, 1, 3, 4]].tolist(),
        "HDR": found.hdr,
        "side data": sorted(found.side_data - _ELSEWHERE),
    }


def _look_at(frame: av.VideoFrame, found: _Pictures, with_planes: bool) -> None:
    """Takes note of a picture."""
    number = len(found.times)
    found.times.append(None if frame.pts is None else seconds(frame.pts, frame.time_base))
    found.interlaced += frame.interlaced_frame
    side_data = read_side_data(frame)
    found.side_data |= {kind.name for kind in side_data.keys()}  # noqa: SIM118
    caption = side_data.get("A53_CC")
    found.captions += [] if caption is None else [bytes(caption)]
    rgb = frame.format.is_rgb or frame.format.has_palette
    tags = {
        "range": frame.color_range or (2 if rgb else 1),  # unsaid means that
        "matrix": frame.colorspace,
        "primaries": frame.color_primaries,
        "transfer": frame.color_trc,
    }
    hdr = read_hdr(frame)
    said = f"{hdr} {x265_params(hdr)}".strip()
    if not number or tags != found.tags[-1][1]:
        found.tags.append((number, tags))
    if not number or (said and said != found.hdr[-1][1]):  # some say it with key frames alone
        found.hdr.append((number, said))
    if with_planes:
        found.digests.append([_digest(plane.tobytes()) for plane in _values(frame)])


def _values(frame: av.VideoFrame) -> list[np.ndarray]:
    """Its planes; those of a packed or palette format as its planar one has them."""
    if not frame.format.name.startswith("yuvj"):
        frame = _repack(frame, PixelFormat.from_name(frame.format.name).name)
    return planes(frame)


def _read_packets(container: InputContainer, shift: Fraction) -> dict[str, Any]:
    """What is copied: sound and cover art as they are stored, subtitles as they read."""
    sound, texts = (
        [s.index for s in found] for found in (container.streams.audio, container.streams.subtitles)
    )
    held: dict[int, list[Any]] = {index: [] for index in (*sound, *texts)}
    times: dict[int, list[Fraction]] = {index: [] for index in held}
    art: dict[int, Any] = {}
    for packet in container.demux():
        stream, index = packet.stream, packet.stream_index
        if packet.size and stream.disposition & Disposition.attached_pic:
            art[index] = (*map(stream.metadata.get, ("filename", "mimetype")), _digest(bytes(packet)))
        elif packet.size and index in held:
            found = [_digest(_bare(packet))] if index in sound else _read_text(packet)
            held[index] += found
            times[index] += [seconds(packet.pts, packet.time_base) - shift] * len(found)
    return {
        "sound": {index: held[index] for index in sound},
        "sound at": {index: times[index] for index in sound},
        "texts": {index: held[index] for index in texts},
        "texts at": {index: times[index] for index in texts},
        "cover art": art,
    }


def _bare(packet: Packet) -> bytes:
    """The bytes of a packet of sound, without the header that AAC has in MPEG-TS alone."""
    data = bytes(packet)
    in_adts = packet.stream.name == "aac" and data[:1] == b"\xff" and data[1] & 0xF6 == 0xF0
    return data[7 if data[1] & 1 else 9 :] if in_adts else data


def _read_text(packet: Packet) -> list[str]:
    """What a packet of subtitles says; its bytes, where FFmpeg can't read that kind."""
    assert isinstance(packet.stream, SubtitleStream)
    if packet.stream.codec_context is None:
        return [bytes(packet).hex()]
    shown = packet.stream.decode(packet)
    return [text.dialogue.decode() for text in shown if isinstance(text, AssSubtitle) and text.dialogue]


def _read_container(container: InputContainer, shift: Fraction) -> dict[str, Any]:
    chapters = []
    for chapter in container.chapters():
        start, end = (seconds(chapter[key], chapter["time_base"]) - shift for key in ("start", "end"))
        chapters.append((start, end, chapter["metadata"].get("title", "")))
    metadata = {
        key.lower(): _plain_time(value)
        for key, value in container.metadata.items()
        if key.lower() not in _TECHNICAL
        and re.sub("-[a-z]{3}$", "", key) not in {*container.metadata} - {key}
    }
    timecode = metadata.pop("timecode", "")
    streams = [
        s
        for s in container.streams
        # The tracks of timecode and chapters are those parts in another form.
        if not (s.type == "data" and ("timecode" in s.metadata or (chapters and s.name == "bin_data")))
    ]
    return {
        "timecode": _lower(container.streams.video[0].metadata).get("timecode", timecode),
        "chapters": chapters,
        "attached": {s.index: (s.name, _digest(s.data)) for s in container.streams.attachments},
        "streams": {s.index: _describe(s) for s in streams},
        "of streams": {
            s.index: {
                key: _plain_time(value)
                for key, value in _lower(s.metadata).items()
                if not _OF_STREAMS.fullmatch(key) and metadata.get(key) != _plain_time(value)
            }
            for s in streams
        },
        "metadata": metadata,
    }


def _describe(stream: Stream) -> StreamPart:
    metadata = _lower(stream.metadata)
    context = stream.codec_context
    encoded = isinstance(stream, VideoStream) and not stream.disposition & Disposition.attached_pic
    return StreamPart(
        type=stream.type,
        codec="" if encoded or context is None else context.codec.canonical_name,
        disposition=Disposition(stream.disposition),
        language=metadata.get("language", "und"),
        title=metadata.get("title", metadata.get("name", "")),
    )


def _plain_time(value: str) -> str:
    """A value that may be a time, however that's written."""
    return re.sub(r"(\d)[T ](\d\d:\d\d:\d\d).*", r"\1 \2", value)


def _lower(metadata: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in metadata.items()}


def _digest(data: bytes | None) -> bytes:
    return blake2b(data or b"", digest_size=8).digest()
