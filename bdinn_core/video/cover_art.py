"""Cover art: pictures that belong to a file as a whole, which FFmpeg shows as streams of video."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from av.stream import Disposition, Stream

from .opening import open_input

__all__ = ["Attached", "as_attachment", "is_cover_art", "read_pictures"]

_IMAGES = {
    "bmp": (".bmp", "image/bmp"),
    "gif": (".gif", "image/gif"),
    "mjpeg": (".jpg", "image/jpeg"),
    "png": (".png", "image/png"),
    "tiff": (".tiff", "image/tiff"),
}
"""Extension and type of a picture's file, by FFmpeg's name of its format."""


class Attached(NamedTuple):
    """What Matroska says of a file that's attached."""

    name: str
    mimetype: str


def is_cover_art(stream: Stream) -> bool:
    """Whether `stream` is a single picture that belongs to the file."""
    marks = Disposition(stream.disposition)
    # With timed_thumbnails it's a whole track of them, one for each chapter.
    return Disposition.attached_pic in marks and Disposition.timed_thumbnails not in marks


def as_attachment(stream: Stream) -> Attached | None:
    """What to call cover art as an attachment, as players look for it; `None` for what they don't show."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if codec not in _IMAGES:
        return None
    extension, mimetype = _IMAGES[codec]
    metadata = stream.metadata
    return Attached(metadata.get("filename", f"cover{extension}"), metadata.get("mimetype", mimetype))


def read_pictures(name: str, allow_url: bool, streams: Iterable[int]) -> dict[int, bytes]:
    """The files that cover art is, by the index of their stream, read beforehand: a header has to hold them.

    Args:
        name: of the source; what isn't a file, such as a pipe, can't be read twice, and there are none.
        allow_url: whether addresses may be opened.
        streams: what to look for.
    """
    found: dict[int, bytes] = {}
    wanted, path = set(streams), Path(name)
    if not wanted or (path.exists() and not path.is_file()):
        return found
    with closing(open_input(name, None, allow_url).container) as container:
        for packet in container.demux():  # FFmpeg gives them before all else
            if packet.stream_index not in wanted:
                break
            found[packet.stream_index] = bytes(packet)
    return found
