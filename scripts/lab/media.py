"""Makes small media files for tests, and reads files back for comparison."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

__all__ = [
    "LINES", "Clip", "Media", "assert_same_pictures", "banded", "cover_art", "join", "make", "make_captioned",
    "make_interlaced", "picture", "planes", "read", "seconds", "smooth",
]  # fmt: skip

SOUND_RATE = 48000


def picture(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """A frame of noise over the format's whole range: what isn't kept shows. Padding isn't touched."""
    planar = av.VideoFrame(width, height, pix_fmt)
    rng = np.random.default_rng(number)
    for plane in planar.planes:
        bits = max(c.bits for c in planar.format.components)
        dtype = np.uint8 if bits <= 8 else np.uint16
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        rows[:, : plane.width] = rng.integers(0, 2**bits, (plane.height, plane.width))
    return planar


def smooth(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """A frame of slow gradients that move, which encoders compress well."""
    frame = av.VideoFrame(width, height, pix_fmt)
    for i, plane in enumerate(frame.planes):
        bits = max(c.bits for c in frame.format.components)
        rows = np.frombuffer(plane, np.uint8 if bits <= 8 else np.uint16).reshape(plane.height, -1)
        ramp = np.add.outer(np.arange(plane.height), np.arange(plane.width)) // 4 + 40 + 10 * i + number
        rows[:, : plane.width] = np.minimum(ramp, 200) << (bits - 8)
    return frame


def banded(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """A frame of 8 bits with gradients so slow that rounding makes bands of them, which move."""
    frame = av.VideoFrame(width, height, pix_fmt)
    for i, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        y, x = np.mgrid[0 : plane.height, 0 : plane.width]
        rows[:, : plane.width] = np.rint(50 + 30 * i + 0.04 * (x + number) + 0.03 * y)
    return frame


@dataclass(kw_only=True)
class Clip:
    """A file to be made."""

    pix_fmt: str = "yuv420p"
    width: int = 64
    height: int = 48
    codec: str = "ffv1"
    options: dict[str, str] = field(default_factory=dict)
    times: Sequence[int] = (0, 1, 2, 3, 4, 5)
    """When each picture is shown, in ticks; the last stays one tick."""
    time_base: Fraction = Fraction(1, 25)
    rate: Fraction = Fraction(25)
    draw: Any = picture
    tags: dict[str, Any] = field(default_factory=dict)
    """Attributes of the encoder's context: color_range, sample_aspect_ratio, ..."""
    sound: str | None = None
    """Codec of a stream of sound as long as the picture."""
    layout: str = "stereo"
    """Which channels the sound has."""
    sound_metadata: dict[str, str] = field(default_factory=dict)
    """What the sound says beside its language and title."""
    subtitles: str | None = None
    """Codec of a stream with `LINES`."""
    chapters: Sequence[tuple[int, int, str]] = ()
    """Start and end in milliseconds, and title."""
    fonts: Sequence[tuple[str, bytes]] = ()
    covers: Sequence[tuple[str, str]] = ()
    """Name of the file and codec (mjpeg, png) of each `cover_art`; MP4 has no names."""
    metadata: dict[str, str] = field(default_factory=dict)
    rotation: float = 0
    muxer: dict[str, str] = field(default_factory=dict)
    """Options of the container."""


LINES = ((40, 80, "First line"), (120, 60, "Second, with a comma"))
"""Subtitles: start, duration (milliseconds), text."""
STYLE = "Default"
"""Of the subtitles; `ASS_HEADER` has that one alone."""
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def make(path: Path, clip: Clip | None = None, **changes: Any) -> Path:
    """Writes a file; `changes` are fields of `Clip`."""
    clip = clip or Clip(**changes)
    with av.open(str(path), "w", options=clip.muxer) as output:
        video = output.add_stream(
            clip.codec,
            rate=clip.rate,
            options=clip.options,
            width=clip.width,
            height=clip.height,
            pix_fmt=clip.pix_fmt,
            time_base=clip.time_base,
        )
        assert isinstance(video, VideoStream)
        for name, value in clip.tags.items():
            setattr(video.codec_context, name, value)
        if clip.rotation:
            video.set_display_rotation(clip.rotation)
        sound = output.add_stream(clip.sound, rate=SOUND_RATE, layout=clip.layout) if clip.sound else None
        texts = output.add_stream(clip.subtitles, time_base=Fraction(1, 1000)) if clip.subtitles else None
        for stream, language in ((sound, "jpn"), (texts, "ger")):
            if stream is not None:
                stream.metadata.update(language=language, title=f"In {language}")
        if sound is not None:
            sound.metadata.update(clip.sound_metadata)
        if texts is not None:
            texts.disposition = Disposition.forced
        for name, data in clip.fonts:
            output.add_attachment(name, "application/x-truetype-font", data)
        covers = [_add_cover(output, name, codec) for name, codec in clip.covers]
        tick = Fraction(1, 1000)
        chapters: list[Any] = [
            {"id": i, "start": a, "end": b, "time_base": tick, "metadata": {"title": title}}
            for i, (a, b, title) in enumerate(clip.chapters, 1)
        ]
        output.set_chapters(chapters)
        output.metadata.update(clip.metadata)
        if isinstance(texts, SubtitleStream):
            texts.codec_context.subtitle_header = ASS_HEADER
        output.start_encoding()
        output.mux([packet for packet in covers if packet is not None])
        for number, time in enumerate(clip.times):
            frame = clip.draw(clip.pix_fmt, clip.width, clip.height, number)
            frame.pts, frame.time_base = time, clip.time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound is not None:
            _sound(output, sound, float((clip.times[-1] + 1) * clip.time_base))
        if isinstance(texts, SubtitleStream):
            _subtitles(output, texts)
    return path


def cover_art(codec: str) -> bytes:
    """A picture's file, in JPEG (mjpeg) or PNG."""
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.time_base = 64, 48, Fraction(1, 25)
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
    frame = smooth("gbrp", 64, 48, 0).reformat(format=context.pix_fmt)
    frame.pts = 0
    return b"".join(bytes(packet) for image in (frame, None) for packet in context.encode(image))


def _add_cover(output: Any, name: str, codec: str) -> av.Packet | None:
    """Adds cover art, whose packet comes after the header unless that has it."""
    data = cover_art(codec)
    if output.format.name == "matroska":
        output.add_attachment(name, {"mjpeg": "image/jpeg", "png": "image/png"}[codec], data)
        return None
    packet = av.Packet(data)
    packet.stream = output.add_mux_stream(codec, width=64, height=48)
    packet.stream.disposition = Disposition.attached_pic
    return packet


def _sound(output: Any, stream: Any, seconds: float) -> None:
    context = stream.codec_context
    context.open(strict=False)
    size = context.frame_size or 1024
    for start in range(0, int(seconds * SOUND_RATE), size):
        wave = np.sin(np.arange(start, start + size) * 0.05) * 0.2
        channels = np.stack([wave] * context.layout.nb_channels)
        form = context.format
        samples: Any = (
            channels.astype(np.float32) if "flt" in form.name else (channels * 32767).astype(np.int16)
        )
        samples = np.ascontiguousarray(samples if form.is_planar else samples.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(samples, format=form.name, layout=context.layout)
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def _subtitles(output: Any, stream: SubtitleStream) -> None:
    for number, (start, duration, text) in enumerate(LINES):
        line = f"{number},0,{STYLE},,0,0,0,,{text}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(line, 0, duration, pts=start))
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = duration, Fraction(1, 1000), stream
        output.mux(packet)


def join(path: Path, parts: Sequence[Path]) -> Path:
    """Writes a file of the pictures of several others, in a stream each."""
    with av.open(str(path), "w") as target, ExitStack() as opened:
        sources = [opened.enter_context(av.open(str(part))) for part in parts]
        copies = [target.add_stream_from_template(source.streams.video[0]) for source in sources]
        for source, copy in zip(sources, copies, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    target.mux(packet)
    return path


def make_interlaced(path: Path, order: str, **clip: Any) -> Path:
    """Writes a file of interlaced pictures; the order is tff or bff."""

    def drawn(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
        frame = smooth(pix_fmt, width, height, number)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format=pix_fmt, time_base=Fraction(1, 25))
        graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
        graph.push(frame)
        marked = graph.pull()
        assert isinstance(marked, av.VideoFrame)
        return marked

    size = {"width": 96, "height": 64}
    options = {"flags": "+ildct+ilme", "crf": "10"}
    return make(path, codec="libx264", options=options, draw=drawn, **{**size, **clip})


def make_captioned(folder: Path) -> Path:
    """A file of H.264 with closed captions in every picture."""
    triplet = b"\xfc\x94\x2c"
    body = b"\xb5\x00\x31GA94\x03" + bytes([0x41, 0xFF]) + triplet + b"\xff"
    message = b"\x00\x00\x01\x06\x04" + bytes([len(body)]) + body + b"\x80"
    options = {"bf": "0", "g": "5"}
    plain = make(folder / "plain.h264", codec="libx264", draw=smooth, width=96, height=64, options=options)
    with av.open(str(plain)) as source, (folder / "in.h264").open("wb") as target:
        for packet in source.demux(video=0):
            data = bytes(packet)
            slices = [
                m.start()
                for m in re.finditer(rb"\x00\x00\x01[\x21-\x65]", data)
                if data[m.end() - 1] & 31 in (1, 5)
            ]
            target.write(data[: slices[0]] + message + data[slices[0] :] if slices else data)
    return folder / "in.h264"


@dataclass(kw_only=True)
class Media:
    """A file read back."""

    times: list[Fraction]
    """When each picture is shown, in seconds."""
    frames: list[av.VideoFrame]
    tags: tuple[int, int, int, int]
    """Range, matrix, primaries, transfer of the first picture."""
    aspect: Fraction
    pix_fmt: str
    codec: str
    rotation: int
    packets: dict[int, list[tuple[Fraction, bytes]]]
    """Time and content of the packets of every sound stream, by its index."""
    texts: list[tuple[Fraction, str]]
    """What the subtitle streams show, and when."""
    streams: list[Any]
    """Type, language and disposition of every stream."""
    chapters: list[tuple[Fraction, Fraction, str]]
    metadata: dict[str, str]
    fonts: dict[str, bytes]


def seconds(ticks: int | None, time_base: Any) -> Fraction:
    """A time stamp in seconds."""
    return (ticks or 0) * Fraction(time_base.numerator, time_base.denominator)


def read(path: Path) -> Media:
    """Reads a file."""
    with av.open(str(path)) as source:
        video = source.streams.video[0]
        frames: list[av.VideoFrame] = []
        packets: dict[int, list[tuple[Fraction, bytes]]] = {s.index: [] for s in source.streams.audio}
        texts: list[tuple[Fraction, str]] = []
        for packet in source.demux():
            if packet.stream is video:
                frames += video.decode(packet)
            elif packet.size and packet.stream.index in packets:
                packets[packet.stream.index].append((seconds(packet.pts, packet.time_base), bytes(packet)))
            elif packet.size and isinstance(packet.stream, SubtitleStream):
                for shown in packet.stream.decode(packet):
                    assert isinstance(shown, AssSubtitle)
                    texts.append((seconds(packet.pts, packet.time_base), shown.dialogue.decode()))
        first = frames[0]
        return Media(
            times=[seconds(f.pts, f.time_base) for f in frames],
            frames=frames,
            tags=(first.color_range, first.colorspace, first.color_primaries, first.color_trc),
            aspect=seconds(1, video.sample_aspect_ratio) if video.sample_aspect_ratio else Fraction(1),
            pix_fmt=first.format.name,
            codec=video.codec_context.codec.canonical_name,
            rotation=first.rotation,
            packets=packets,
            texts=texts,
            streams=[(s.type, s.metadata.get("language"), s.disposition) for s in source.streams],
            chapters=[
                (
                    seconds(c["start"], c["time_base"]),
                    seconds(c["end"], c["time_base"]),
                    c["metadata"]["title"],
                )
                for c in source.chapters()
            ],
            metadata=dict(source.metadata),
            fonts={s.name or "": s.data for s in source.streams.attachments},
        )


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The values of a frame's planes (height, width[, components]), without the padding."""
    arrays = []
    for i, plane in enumerate(frame.planes):
        parts = [c for c in frame.format.components if c.plane == i]
        dtype = np.dtype(np.uint8 if max(c.bits for c in parts) <= 8 else np.uint16)
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        arrays.append(rows[:, : plane.width * dtype.itemsize * len(parts)].view(dtype).copy())
    return arrays


def assert_same_pictures(one: Media, other: Media) -> None:
    """Equal values in every plane of every frame."""
    assert len(one.frames) == len(other.frames)
    for a, b in zip(one.frames, other.frames, strict=True):
        for x, y in zip(planes(a), planes(b), strict=True):
            np.testing.assert_array_equal(x, y)
