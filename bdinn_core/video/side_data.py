"""What decoders attach to a frame beside its pixels, read past a fault of PyAV.

PyAV frees twice what a piece of side data has of metadata of its own, and the process dies of it. Only the
ICC profile of a PNG has any, its name: it's taken off before PyAV looks, and handed to encoders unseen.
"""

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from threading import get_ident
from typing import Any

import av
import av.filter

__all__ = ["has_profile", "read_side_data", "without_fields", "without_hdr"]

_PROFILE = "ICC_PROFILE"
_STATIC_HDR = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")


@lru_cache(maxsize=32)
def _graph(
    thread: int, filters: tuple[tuple[str, str], ...], width: int, height: int, pix_fmt: str
) -> av.filter.Graph:
    """FFmpeg's filters with such arguments, kept for a thread: making it takes longer than its use."""
    graph = av.filter.Graph()
    graph.threads = 1  # else it keeps one for every core
    source = graph.add_buffer(width=width, height=height, format=pix_fmt, time_base=Fraction(1, 25))
    steps = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    return graph


def _filtered(frame: av.VideoFrame, *filters: tuple[str, str]) -> av.VideoFrame | None:
    """Another reference to `frame`, with less beside it; `None` where it isn't selected."""
    graph = _graph(get_ident(), filters, frame.width, frame.height, frame.format.name)
    graph.push(frame)
    try:
        result = graph.pull()
    except BlockingIOError:
        return None
    assert isinstance(result, av.VideoFrame)
    return result


def _without(frame: av.VideoFrame, *kinds: str) -> av.VideoFrame:
    result = _filtered(frame, *(("sidedata", f"mode=delete:type={kind}") for kind in kinds))
    assert result is not None
    return result


def read_side_data(frame: av.VideoFrame) -> Mapping[Any, Any]:
    """All but the ICC profile, by FFmpeg's names."""
    on_gpu = frame.sw_format is not None  # where nothing decodes PNG
    return frame.side_data if on_gpu else _without(frame, _PROFILE).side_data


def has_profile(frame: av.VideoFrame) -> bool:
    """Whether a frame in the host's memory has an ICC profile."""
    return _filtered(frame, ("sidedata", f"mode=select:type={_PROFILE}")) is not None


def without_hdr(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame in the host's memory without mastering display and content light level."""
    return _without(frame, *_STATIC_HDR)


def without_fields(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame in the host's memory that isn't said to be interlaced."""
    result = _filtered(frame, ("setfield", "prog"))
    assert result is not None
    return result
