"""PNG through PyAV: 16-bit RGB in and out, 8-bit grey out."""

from pathlib import Path

import av
import numpy as np

__all__ = ["encode_png", "read_png"]


def read_png(path: Path) -> np.ndarray:
    """A picture as RGB, (height, width, 3) uint16."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb48le")


def encode_png(picture: np.ndarray) -> bytes:
    """A PNG of grey (height, width) uint8, or of RGB (height, width, 3) uint16."""
    given, stored = ("gray", "gray") if picture.ndim == 2 else ("rgb48le", "rgb48be")
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = stored
    encoder.options = {"pred": "mixed", "compression_level": "6"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=given).reformat(format=stored)
    return b"".join(bytes(packet) for f in (frame, None) for packet in encoder.encode(f))
