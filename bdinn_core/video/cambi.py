"""CAMBI, libvmaf's measure of visible banding, by the filter inside PyAV.

Source: Tandon et al., "CAMBI: Contrast-aware multiscale banding index", Picture Coding Symposium 2021.
"""

import gc
import json
import re
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import av.filter
import numpy as np
from av.filter.context import FilterContext

from ..planes import Frame, FrameFormat
from .formats import write_planes

__all__ = ["Cambi"]

LEAST_PX, MOST_PX = 216, 3840 + 2160
"""Of the longer side at least, and of both together at most: libvmaf scores no other sizes."""
MOST_LONG = 4
"""The longer side by the shorter: of strips, libvmaf writes where it mustn't, and the process ends."""
_TIME_BASE = Fraction(1, 25)


class Cambi:
    """Scores the luma of pictures of one size: 0 is no banding, about 5 slightly annoying, 24 the worst seen.

    To be closed, by `closing` for example.

    Planes should be dithered: CAMBI takes a correct but undithered gradient for a banded one.

    Args:
        width: of the pictures, for which `takes` is true.
        height: likewise.
        max_log_contrast: logarithm of the largest step that counts, in codes of 10 bits; CAMBI's own is 2:
            steps of one 8-bit level. At 5 the steps of coarse sources count too.
    """

    def __init__(self, width: int, height: int, max_log_contrast: int | None = None) -> None:
        self._folder = TemporaryDirectory()
        self._log = Path(self._folder.name) / "cambi.json"
        contrast = "" if max_log_contrast is None else f"\\:max_log_contrast={max_log_contrast}"
        graph = av.filter.Graph()
        form = {"width": width, "height": height, "format": "yuv420p10le", "time_base": _TIME_BASE}
        self._inputs = [graph.add_buffer(**form, name=name) for name in ("distorted", "reference")]
        log = re.sub(r"([\\':])", r"\\\1", str(self._log))  # FFmpeg's separators
        vmaf = graph.add("libvmaf", f"feature=name=cambi{contrast}:log_path={log}:log_fmt=json:model=")
        sink = graph.add("buffersink")
        for pad, source in enumerate(self._inputs):
            source.link_to(vmaf, 0, pad)
        vmaf.link_to(sink)
        graph.configure()
        self._sink: FilterContext | None = sink
        self._count = 0

    @staticmethod
    def takes(width: int, height: int) -> bool:
        """Whether pictures of that size are scored."""
        short, long = sorted((width, height))
        return long >= LEAST_PX and width + height <= MOST_PX and long <= MOST_LONG * short

    def push(self, plane: np.ndarray) -> None:
        """Takes the next plane: (height, width) uint16 codes of 10 bits."""
        # FFmpeg's filter takes no grey: it would be made YUV of another range.
        form = FrameFormat(family="yuv", subsampling=(1, 1), bit_depth=10)
        grey = np.full(form.plane_size(plane.shape[1], plane.shape[0], 1), 512, np.uint16)
        frame = av.VideoFrame(plane.shape[1], plane.shape[0], "yuv420p10le")
        write_planes(frame, Frame((plane, grey, grey), form), None)
        for source in self._inputs:
            frame.pts, frame.time_base = self._count, _TIME_BASE
            source.push(frame)
        assert self._sink is not None
        self._sink.pull()  # the filter runs only when its output is asked for
        self._count += 1

    def finish(self) -> list[float]:
        """The scores of all planes, in order; no more can be pushed."""
        if not self._count:
            return []
        self._free()
        frames = json.loads(self._log.read_text())["frames"]
        # The metric's name has the options in it.
        return [v for frame in frames for name, v in frame["metrics"].items() if "cambi" in name]

    def close(self) -> None:
        """Lets go of it all."""
        self._free()
        self._folder.cleanup()

    def _free(self) -> None:
        """Frees FFmpeg's graph, which writes its log then."""
        self._inputs, self._sink = [], None
        gc.collect()  # graph and filters form a cycle
