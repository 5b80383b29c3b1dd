"""PNG through PyAV."""

import av
import numpy as np

__all__ = ["encode_png"]


def encode_png(picture: np.ndarray) -> bytes:
    """A PNG of grey (height, width) uint8, or of RGB (height, width, 3) uint8 or uint16."""
    if picture.ndim == 2:
        given = stored = "gray"
    elif picture.dtype == np.uint8:
        given = stored = "rgb24"
    else:
        given, stored = "rgb48le", "rgb48be"
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = stored
    encoder.options = {"pred": "mixed", "compression_level": "6"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=given).reformat(format=stored)
    return b"".join(bytes(packet) for f in (frame, None) for packet in encoder.encode(f))
