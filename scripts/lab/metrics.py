"""How close a result is to the truth, in smooth and in detailed regions apart; and CAMBI."""

import gc
import json
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import torch
import torch.nn.functional as F

__all__ = [
    "CAMBI_MIN_PX",
    "CONTOUR_PX",
    "LEAST_SHARE",
    "cambi",
    "contour_error",
    "psnr",
    "region_psnr",
    "smooth_mask",
]

CONTOUR_PX = 4
"""Pixels over which the contour error looks for a change."""
CAMBI_MIN_PX = 216
"""The least side of a picture that CAMBI scores."""
LEAST_SHARE = 0.02
"""A region smaller than this share of a plane isn't scored."""
PEAK = 255.0
SMOOTH_LIMIT = 0.6
"""Codes by which a smooth region's pixels stay within their 9x9 mean."""


def smooth_mask(truth: torch.Tensor) -> torch.Tensor:
    """Where the truth is smooth: no pixel within 4 px departs from its 9x9 mean by 0.6 code.

    Args:
        truth: (N, 1, H, W) in model units, H and W >= 5.

    Returns:
        (N, 1, H, W) bool; everything else is detail.
    """
    mean = F.avg_pool2d(F.pad(truth, (4, 4, 4, 4), mode="reflect"), 9, 1)
    rows = F.max_pool2d((truth - mean).abs(), (1, 9), 1, (0, 4))  # one axis after the other: 4 times as fast
    return F.max_pool2d(rows, (9, 1), 1, (4, 0)) < SMOOTH_LIMIT


def psnr(mean_squared_error: float) -> float:
    """Decibels against a peak of 255 8-bit steps; 120 at most, so that a perfect result stays finite."""
    return float(10 * np.log10(PEAK**2 / max(mean_squared_error, PEAK**2 * 1e-12)))


def region_psnr(error: np.ndarray, region: np.ndarray) -> float | None:
    """PSNR of an error within a region, both (height, width); None where it's too small to be scored."""
    return psnr(float(np.square(error)[region].mean())) if region.mean() >= LEAST_SHARE else None


def contour_error(error: np.ndarray, smooth: np.ndarray) -> float:
    """RMS over smooth regions of the error's change over `CONTOUR_PX`, both axes: what is left of edges.

    Args:
        error: (height, width), result minus truth.
        smooth: (height, width) bool; both ends of a change must lie in it.
    """
    squares, count = 0.0, 0
    for e, s in ((error, smooth), (error.T, smooth.T)):
        both = s[CONTOUR_PX:] & s[:-CONTOUR_PX]
        squares += float(np.square(e[CONTOUR_PX:] - e[:-CONTOUR_PX], dtype=np.float64)[both].sum())
        count += int(both.sum())
    return float(np.sqrt(squares / max(count, 1)))


def cambi(planes: Sequence[np.ndarray], max_log_contrast: int | None = None) -> float:
    """Mean CAMBI (libvmaf) of luma planes: 0 is no banding, about 5 slightly annoying, 24 the worst seen.

    Args:
        planes: (height, width) uint16 codes of 10 bits. Dither first: CAMBI takes a correct but
            undithered gradient for a banded one. At least `CAMBI_MIN_PX` a side.
        max_log_contrast: Logarithm of the largest step that counts, in codes; CAMBI's own is 2: steps of
            one 8-bit level. At 5 the steps of coarse sources count too.
    """
    height, width = planes[0].shape
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "cambi.json"
        contrast = "" if max_log_contrast is None else f"\\:max_log_contrast={max_log_contrast}"
        _run_libvmaf(planes, width, height, log, f"name=cambi{contrast}")
        gc.collect()  # the log is written when the graph is freed, and graph and filters form a cycle
        frames = json.loads(log.read_text())["frames"]
    # Its name has the options in it.
    return float(np.mean([v for frame in frames for k, v in frame["metrics"].items() if "cambi" in k]))


def _run_libvmaf(planes: Sequence[np.ndarray], width: int, height: int, log: Path, feature: str) -> None:
    """Pushes the planes through libvmaf, which writes its log when the graph is freed."""
    graph = av.filter.Graph()
    inputs = [
        graph.add_buffer(width=width, height=height, format="gray10le", time_base=Fraction(1, 25), name=name)
        for name in ("distorted", "reference")
    ]
    vmaf = graph.add("libvmaf", f"feature={feature}:log_path={log}:log_fmt=json:model=")
    sink = graph.add("buffersink")
    for pad, source in enumerate(inputs):
        source.link_to(vmaf, 0, pad)
    vmaf.link_to(sink)
    graph.configure()
    for number, plane in enumerate(planes):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray10le")
        for source in inputs:
            frame.pts, frame.time_base = number, Fraction(1, 25)
            source.push(frame)
        sink.pull()  # the filter runs only when its output is asked for
