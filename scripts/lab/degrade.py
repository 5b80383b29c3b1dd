"""What makes bands: rounding to few levels, and real codecs run in memory through PyAV."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from bdinn_core import Frame
from bdinn_core.video.codecs import order_few
from bdinn_core.video.formats import PixelFormat, read_planes, write_planes

__all__ = [
    "CODECS",
    "TEN_BIT_CODECS",
    "Coding",
    "Planes",
    "code",
    "random_coding",
    "round_to_codes",
    "round_to_step",
]

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes to stderr by itself; 1 is errors only

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Y, U, V of one 4:2:0 frame: uint8, or uint16 for more bits."""

CODECS = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4")
TEN_BIT_CODECS = ("libx264", "libx265", "libsvtav1")
RATES = {
    "libx264": (14, 28, 38),
    "libx265": (16, 29, 38),
    "libvpx-vp9": (20, 42, 60),
    "libsvtav1": (20, 45, 60),
    "mpeg4": (2, 6, 16),
}
"""Mildest, medium and heaviest `Coding.rate` of each codec."""
QUIET_SINGLE_THREADED = {
    "libx264": {"x264-params": "log-level=none"},
    "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx-vp9": {"b": "0"},
    "libsvtav1": {"svtav1-params": "lp=1"},
    "mpeg4": {},
}


@dataclass(frozen=True, kw_only=True)
class Coding:
    """A codec and how hard it is pressed."""

    codec: str
    """One of `CODECS`."""
    rate: int
    """Constant rate factor on the codec's own scale; for `mpeg4`, which has none, the quantiser 1..31."""
    options: dict[str, str] = field(default_factory=dict)
    """Further encoder options, by FFmpeg's names."""

    def encoder_options(self) -> dict[str, str]:
        """All options, by FFmpeg's names."""
        rate = str(self.rate)
        rates = {"qmin": rate, "qmax": rate} if self.codec == "mpeg4" else {"crf": rate}
        return {**rates, **QUIET_SINGLE_THREADED[self.codec], **self.options}


def round_to_step(plane: np.ndarray, step: float) -> np.ndarray:
    """Nearest multiples of `step` within the range of 8-bit codes, float32."""
    return np.clip(np.rint(plane / np.float32(step)) * np.float32(step), 0, 255).astype(np.float32)


def round_to_codes(plane: np.ndarray, bit_depth: int = 8) -> np.ndarray:
    """Nearest codes of a plane in model units, limited range: uint8, or uint16 for more bits."""
    scale = 2 ** (bit_depth - 8)
    return (round_to_step(plane, 1 / scale) * scale).astype(np.uint8 if bit_depth == 8 else np.uint16)


def random_coding(rng: np.random.Generator, codec: str | None = None, *, heavy: bool = False) -> Coding:
    """A coding of mild to medium strength, or a heavy one; each codec as often as the others.

    Args:
        rng: All chance comes from here.
        codec: One of `CODECS` instead of a random one.
        heavy: From medium to streaming at its worst: bands of several codes with edges of blocks.
    """
    codec = codec or CODECS[rng.integers(len(CODECS))]
    mild, medium, heaviest = RATES[codec]
    rate = int(rng.integers(medium, heaviest + 1) if heavy else rng.integers(mild, medium + 1))
    options: dict[str, str] = {}
    if codec == "libx264":
        options = {"preset": str(rng.choice(["superfast", "veryfast", "fast", "medium"]))}
        if rng.random() < 0.3:
            options["tune"] = str(rng.choice(["animation", "grain"]))
        if rng.random() < 0.6:  # without adaptive quantisation, smooth regions suffer most
            options["aq-mode"] = str(rng.choice([0, 2, 3], p=(0.7, 0.15, 0.15)))
    elif codec == "libx265":
        options = {"preset": str(rng.choice(["ultrafast", "veryfast", "fast"], p=(0.4, 0.4, 0.2)))}
        if rng.random() < 0.3:
            options["tune"] = str(rng.choice(["animation", "grain"]))
    elif codec == "libvpx-vp9":
        speed = int(rng.choice([4, 6, 7], p=(0.2, 0.4, 0.4)))
        options = {"deadline": "realtime" if speed == 7 else "good", "cpu-used": str(speed)}
    elif codec == "libsvtav1":
        options = {"preset": str(rng.integers(8, 11))}
    return Coding(codec=codec, rate=rate, options=options)


def code(frames: Sequence[Planes], coding: Coding, bit_depth: int = 8) -> list[Planes]:
    """Encodes and decodes frames in memory, on one thread, so that equal input gives equal output.

    Args:
        frames: 4:2:0 frames of one even size.
        coding: Codec and strength.
        bit_depth: Of the frames' codes; 10 with `TEN_BIT_CODECS` alone.

    Returns:
        As many decoded frames, in order.
    """
    pixel = PixelFormat(family="yuv", subsampling=(1, 1), bit_depth=bit_depth)
    form = pixel.frame_format(0)
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as container:
        stream = cast(
            VideoStream, container.add_stream(coding.codec, rate=25, options=coding.encoder_options())
        )
        stream.height, stream.width = frames[0][0].shape
        stream.pix_fmt = pixel.name
        stream.codec_context.thread_count = 1
        for number, planes in enumerate(frames):
            frame = av.VideoFrame(stream.width, stream.height, pixel.name)
            write_planes(frame, Frame(planes, form), None)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        rest = stream.encode(None)
        order_few(rest, len(frames))
        container.mux(rest)
    memory.seek(0)
    with av.open(memory, "r") as coded:
        coded.streams.video[0].codec_context.thread_count = 1
        decoded = [read_planes(frame, pixel, form)[0].planes for frame in coded.decode(video=0)]
    return [(y, u, v) for y, u, v in decoded]
