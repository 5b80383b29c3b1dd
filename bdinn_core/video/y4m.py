"""y4m: uncompressed pictures on a pipe, as x265, SVT-AV1 and vspipe speak it."""

from collections.abc import Callable
from fractions import Fraction

import av
import av.filter
import numpy as np
from av.packet import Packet

from ..errors import OptionError, OutputError
from .cadence import ConstantRate
from .codecs import Encoding, choose_pixel
from .formats import PixelFormat, Tags
from .job import VideoJob
from .opening import STDIO
from .part_files import PartFile
from .probe import VideoInfo
from .track import Picture

__all__ = ["Y4MWriter", "is_y4m", "plan_y4m"]

_CHROMA = {(1, 1): "420", (1, 0): "422", (0, 0): "444"}
_SITED_420 = {1: "420mpeg2", 2: "420jpeg", 3: "420paldv"}
"""y4m's name of 8-bit 4:2:0 by FFmpeg's number of the chroma location; else it's bare."""
_DEPTHS = (8, 9, 10, 12, 14, 16)


def is_y4m(output: str) -> bool:
    """Whether `output` names standard output or a .y4m file."""
    return output == STDIO or output.lower().endswith(".y4m")


def _layouts() -> dict[PixelFormat, str]:
    """y4m's name of each format it has."""
    layouts = {PixelFormat(family="yuv", subsampling=(0, 0), alpha=True): "444alpha"}
    for depth in _DEPTHS:
        layouts[PixelFormat(family="gray", bit_depth=depth)] = "mono" if depth == 8 else f"mono{depth}"
        for subsampling, name in _CHROMA.items():
            pixel = PixelFormat(family="yuv", bit_depth=depth, subsampling=subsampling)
            layouts[pixel] = name if depth == 8 else f"{name}p{depth}"
    return layouts


_LAYOUTS = _layouts()


def plan_y4m(job: VideoJob, info: VideoInfo, output_depth: int) -> Encoding:
    """Decides the format.

    Raises:
        OptionError: if options for an encoder are given.
        OutputError: if y4m has no such planes.
    """
    named = job.codec != VideoJob.codec
    if named or job.crf is not None or job.preset is not None or job.encoder_options:
        raise OptionError("y4m isn't encoded: leave out codec, crf, preset and encoder options")
    pixel = choose_pixel(job.pix_fmt, output_depth, info.pixel, list(_LAYOUTS)) or info.pixel
    if pixel not in _LAYOUTS:
        raise OutputError(f"y4m has no {pixel.name}; write a file with --codec ffv1 instead")
    return Encoding(codec="y4m", pixel=pixel, pix_fmt=pixel.name, options={})


def _shows_bottom_first(frame: av.VideoFrame) -> bool:
    """Whether the lower field of an interlaced frame is the first: PyAV doesn't tell, but a filter knows."""
    frame.colorspace, frame.color_range = 2, 0  # not all are known to swscale, and here they don't matter
    small = frame.reformat(width=16, height=16, format="gray", threads=1)
    small.make_writable()
    for row in (lines := np.frombuffer(small.planes[0], np.uint8).reshape(16, -1)):
        row[:] = 0
    lines[8:] = 255
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=Fraction(1, 25))
    # It moves the picture by a line if the bottom field is the first one.
    graph.link_nodes(source, graph.add("fieldorder", "tff"), graph.add("buffersink")).configure()
    graph.push(small)
    moved = graph.pull()
    assert isinstance(moved, av.VideoFrame)
    return not np.array_equal(lines, np.frombuffer(moved.planes[0], np.uint8).reshape(16, -1))


def _header(info: VideoInfo, pixel: PixelFormat, first: av.VideoFrame) -> str:
    tags: Tags = info.tags
    layout = _LAYOUTS[pixel]
    if layout == "420":
        layout = _SITED_420.get(tags.chroma_location, layout)
    aspect = tags.sample_aspect_ratio or Fraction(0)
    ratio = f"{aspect.numerator}:{aspect.denominator if aspect else 0}"
    color_range = {1: " XCOLORRANGE=LIMITED", 2: " XCOLORRANGE=FULL"}.get(tags.range, "")
    size = f"W{info.width} H{info.height} F{info.rate.numerator}:{info.rate.denominator}"
    fields = ("b" if _shows_bottom_first(first) else "t") if info.interlaced else "p"
    return f"YUV4MPEG2 {size} I{fields} A{ratio} C{layout}{color_range}\n"


class Y4MWriter:
    """Writes pictures, and nothing else, to standard output or a .y4m file.

    y4m has no timestamps: a variable frame rate becomes constant, which `warn` is told once.
    """

    def __init__(
        self, job: VideoJob, info: VideoInfo, encoding: Encoding, warn: Callable[[str], None]
    ) -> None:
        self._info = info
        self._pixel = encoding.pixel
        self._watch_rate = ConstantRate("y4m", info, warn)
        self._finished = False
        self._part = None if job.output == STDIO else PartFile(job.output, job.overwrite)
        # Not sys.stdout: its buffer would be flushed again at exit, into a pipe that may be closed.
        where = 1 if self._part is None else self._part.path
        try:
            self._file = open(where, "wb", closefd=self._part is not None)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise OutputError(f"{job.output} can't be written ({error.strerror})") from error

    @property
    def streams(self) -> set[int]:
        """None: y4m holds nothing but pictures."""
        return set()

    def close(self) -> None:
        """Discards the file unless it's finished."""
        if not self._finished:
            try:
                self._file.close()
            except OSError:
                pass  # the job has failed already
            finally:
                if self._part is not None:
                    self._part.discard()

    def picture(self, picture: Picture) -> None:
        """Writes a picture.

        Raises:
            OutputError: if nobody reads, or the disk is full.
        """
        self._watch_rate(picture)
        if picture.number == 0:
            self._write(_header(self._info, self._pixel, picture.carrier).encode())
        planes = [*picture.frame.planes] + ([] if picture.alpha is None else [picture.alpha])
        self._write(b"FRAME\n", *(plane.tobytes() for plane in planes))

    def packet(self, packet: Packet) -> None:
        """Never called: no stream is wanted."""

    def finish(self) -> None:
        """Writes what's buffered and gives a file its name."""
        self._write()
        self._file.close()
        if self._part is not None:
            self._part.commit()
        self._finished = True

    def _write(self, *parts: bytes) -> None:
        try:
            for part in parts:
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            raise OutputError(f"y4m can't be written on ({error.strerror})") from error
