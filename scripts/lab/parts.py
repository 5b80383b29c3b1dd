"""All that a media file holds, part by part, as plain FFmpeg reads it: to be compared with another one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from bdinn_core.video.formats import PixelFormat, Repacker
from bdinn_core.video.hdr import read_hdr, x265_params

from .media import planes, seconds

__all__ = ["StreamPart", "read_parts"]

_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
"""Metadata that describes the file, not what it holds."""
_ELSEWHERE = {
    "A53_CC", "AMBIENT_VIEWING_ENVIRONMENT", "CONTENT_LIGHT_LEVEL", "DISPLAYMATRIX", "DOVI_METADATA",
    "DOVI_RPU_BUFFER", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID", "MASTERING_DISPLAY_METADATA",
    "SEI_UNREGISTERED",
}  # fmt: skip
"""Side data with a part of its own, and encoders' notes of their settings."""


@dataclass(frozen=True)
class StreamPart:
    """What a stream is."""

    type: str
    codec: str
    """FFmpeg's name; empty for the video that is encoded anew."""
    disposition: Disposition
    language: str
    title: str


def read_parts(path: Path, *, from_zero: bool = False, with_planes: bool = True) -> dict[str, Any]:
    """All parts of a file by their names; of streams and attachments, by their index.

    Args:
        path: of the file.
        from_zero: takes off all times what the first picture is shown before 0: no result begins there.
        with_planes: whether to look at the values of the pictures.
    """
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        frames = container.decode(video)
        first = next(frames)
        parts = _read_first(first, video)
        shift = min(seconds(first.pts, first.time_base), Fraction(0)) if from_zero else Fraction(0)
        parts |= _read_pictures(first, frames, shift, with_planes)
    with av.open(str(path)) as container:
        return parts | _read_packets(container, shift) | _read_container(container, shift)


def _read_first(first: av.VideoFrame, video: Any) -> dict[str, Any]:
    """What the first picture says of all of them."""
    matrix = first.side_data.get("DISPLAYMATRIX")
    hdr = read_hdr(first)
    rgb = first.format.is_rgb or first.format.has_palette
    return {
        "tags": {
            "range": first.color_range or (2 if rgb else 1),  # unsaid means that
            "matrix": first.colorspace,
            "primaries": first.color_primaries,
            "transfer": first.color_trc,
        },
        "aspect": seconds(1, video.sample_aspect_ratio) if video.sample_aspect_ratio else Fraction(1),
        "location": first.chroma_location or 1,
        "rotation": () if matrix is None else np.frombuffer(bytes(matrix), "<i4")[[0, 1, 3, 4]].tolist(),
        "HDR": f"{hdr} {x265_params(hdr)}".strip(),
        "side data": sorted({kind.name for kind in first.side_data.keys()} - _ELSEWHERE),  # noqa: SIM118
    }


def _read_pictures(
    first: av.VideoFrame, rest: Iterator[av.VideoFrame], shift: Fraction, with_planes: bool
) -> dict[str, Any]:
    repack = Repacker()

    def values(frame: av.VideoFrame) -> list[np.ndarray]:
        """Its planes; those of a packed or palette format as its planar one has them."""
        planar = frame.format.name.startswith("yuvj")
        return planes(frame if planar else repack(frame, PixelFormat.from_name(frame.format.name).name))

    times: list[Fraction | None] = []
    digests: list[list[bytes]] = []
    captions: list[bytes] = []
    interlaced = 0
    frame: av.VideoFrame | None = first
    while frame is not None:
        times.append(None if frame.pts is None else seconds(frame.pts, frame.time_base) - shift)
        interlaced += frame.interlaced_frame
        caption = frame.side_data.get("A53_CC")
        captions += [] if caption is None else [bytes(caption)]
        if with_planes:
            digests.append([_digest(plane.tobytes()) for plane in values(frame)])
        frame = next(rest, None)
    return {
        "frames": len(times),
        "times": None if None in times else times,
        "planes": digests,
        "fields": interlaced,
        "captions": captions,
    }


def _read_packets(container: InputContainer, shift: Fraction) -> dict[str, Any]:
    """What is copied: sound as it's stored, subtitles as they read."""
    sound, texts = (
        [s.index for s in found] for found in (container.streams.audio, container.streams.subtitles)
    )
    held: dict[int, list[Any]] = {index: [] for index in (*sound, *texts)}
    times: dict[int, list[Fraction]] = {index: [] for index in held}
    for packet in container.demux():
        index = packet.stream.index
        if not packet.size or index not in held:
            continue
        found = [_digest(bytes(packet))] if index in sound else _read_text(packet)
        held[index] += found
        times[index] += [seconds(packet.pts, packet.time_base) - shift] * len(found)
    return {
        "sound": {index: held[index] for index in sound},
        "sound at": {index: times[index] for index in sound},
        "texts": {index: held[index] for index in texts},
        "texts at": {index: times[index] for index in texts},
    }


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
        key.lower(): re.sub(r"(\d)[T ](\d\d:\d\d:\d\d).*", r"\1 \2", value)  # a time, however written
        for key, value in container.metadata.items()
        if key.lower() not in _TECHNICAL
        and re.sub("-[a-z]{3}$", "", key) not in {*container.metadata} - {key}
    }
    video = container.streams.video[0]
    timecode = metadata.pop("timecode", "")
    return {
        "timecode": _lower(video.metadata).get("timecode", timecode),
        "chapters": chapters,
        "attached": {s.index: (s.name, _digest(s.data)) for s in container.streams.attachments},
        "streams": {
            s.index: _describe(s, encoded=s is video)
            for s in container.streams
            # The tracks of timecode and chapters are those parts in another form.
            if not (s.type == "data" and ("timecode" in s.metadata or (chapters and s.name == "bin_data")))
        },
        "metadata": metadata,
    }


def _describe(stream: Stream, encoded: bool) -> StreamPart:
    metadata = _lower(stream.metadata)
    context = stream.codec_context
    return StreamPart(
        type=stream.type,
        codec="" if encoded or context is None else context.codec.canonical_name,
        disposition=Disposition(stream.disposition),
        language=metadata.get("language", "und"),
        title=metadata.get("title", metadata.get("name", "")),
    )


def _lower(metadata: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in metadata.items()}


def _digest(data: bytes | None) -> bytes:
    return blake2b(data or b"", digest_size=8).digest()
