"""What makes bands: rounding to 8 bits, and real codecs run in memory through PyAV."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

__all__ = ["CODECS", "Coding", "Planes", "code", "random_coding", "round_to_codes"]

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes to stderr by itself; 1 is errors only

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Y, U, V of one 4:2:0 frame, uint8."""

CODECS = ("libx264", "libx265", "libvpx-vp9", "libsvtav1")
CRF_LIMITS = {
    "libx264": (14, 28, 33),
    "libx265": (16, 29, 33),
    "libvpx-vp9": (20, 42, 48),
    "libsvtav1": (20, 45, 51),
}
"""Mildest, medium and heaviest constant rate factor of each codec."""
QUIET_SINGLE_THREADED = {
    "libx264": {"x264-params": "log-level=none"},
    "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx-vp9": {"b": "0"},
    "libsvtav1": {"svtav1-params": "lp=1"},
}


@dataclass(frozen=True, kw_only=True)
class Coding:
    """A codec and how hard it is pressed."""

    codec: str
    """One of `CODECS`."""
    crf: int
    """Constant rate factor on the codec's own scale."""
    options: dict[str, str] = field(default_factory=dict)
    """Further encoder options, by FFmpeg's names."""


def round_to_codes(plane: np.ndarray) -> np.ndarray:
    """Nearest 8-bit codes of a plane in model units: uint8."""
    return np.clip(np.rint(plane), 0, 255).astype(np.uint8)


def random_coding(rng: np.random.Generator, codec: str | None = None) -> Coding:
    """A coding of mild to medium strength, one in eight heavy; each codec as often as the others.

    Args:
        rng: All chance comes from here.
        codec: One of `CODECS` instead of a random one.
    """
    codec = codec or CODECS[rng.integers(len(CODECS))]
    mild, medium, heavy = CRF_LIMITS[codec]
    crf = int(rng.integers(medium, heavy + 1) if rng.random() < 0.12 else rng.integers(mild, medium + 1))
    if codec == "libx264":
        options = {"preset": str(rng.choice(["superfast", "veryfast", "fast"]))}
        if rng.random() < 0.25:
            options["tune"] = "animation"
    elif codec == "libx265":
        options = {"preset": str(rng.choice(["ultrafast", "veryfast"]))}
    elif codec == "libvpx-vp9":
        slow = rng.random() < 0.4
        options = {"deadline": "good" if slow else "realtime", "cpu-used": "6" if slow else "7"}
    else:
        options = {"preset": str(rng.integers(8, 11))}
    return Coding(codec=codec, crf=crf, options=options)


def _to_frame(planes: Planes) -> av.VideoFrame:
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, "yuv420p")
    for target, source in zip(frame.planes, planes, strict=True):
        rows = np.zeros((source.shape[0], target.line_size), np.uint8)
        rows[:, : source.shape[1]] = source
        target.update(rows.tobytes())
    return frame


def _from_frame(frame: av.VideoFrame) -> Planes:
    def plane(index: int) -> np.ndarray:
        p = frame.planes[index]
        return np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy()

    return plane(0), plane(1), plane(2)


def code(frames: Sequence[Planes], coding: Coding) -> list[Planes]:
    """Encodes and decodes frames in memory, on one thread, so that equal input gives equal output.

    Args:
        frames: 8-bit 4:2:0 frames of one even size.
        coding: Codec and strength.

    Returns:
        As many decoded frames, in order.
    """
    memory = io.BytesIO()
    options = {"crf": str(coding.crf), **QUIET_SINGLE_THREADED[coding.codec], **coding.options}
    with av.open(memory, "w", format="matroska") as container:
        stream = cast(VideoStream, container.add_stream(coding.codec, rate=25, options=options))
        stream.height, stream.width = frames[0][0].shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, planes in enumerate(frames):
            frame = _to_frame(planes)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory, "r") as coded:
        coded.streams.video[0].codec_context.thread_count = 1
        return [_from_frame(frame) for frame in coded.decode(video=0)]
