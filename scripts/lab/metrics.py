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

__all__ = ["cambi", "psnr", "smooth_mask"]

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
    return F.max_pool2d((truth - mean).abs(), 9, 1, 4) < SMOOTH_LIMIT


def psnr(mean_squared_error: float) -> float:
    """Decibels against a peak of 255 8-bit steps; 120 at most, so that a perfect result stays finite."""
    return float(10 * np.log10(PEAK**2 / max(mean_squared_error, PEAK**2 * 1e-12)))


def cambi(planes: Sequence[np.ndarray]) -> float:
    """Mean CAMBI (libvmaf) of luma planes: 0 is no banding, about 5 slightly annoying, 24 the worst seen.

    Args:
        planes: (height, width) uint16 codes of 10 bits. Dither first: CAMBI takes a correct but
            undithered gradient for a banded one.
    """
    height, width = planes[0].shape
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "cambi.json"
        _run_libvmaf(planes, width, height, log)
        gc.collect()  # the log is written when the graph is freed, and graph and filters form a cycle
        frames = json.loads(log.read_text())["frames"]
    return float(np.mean([frame["metrics"]["cambi"] for frame in frames]))


def _run_libvmaf(planes: Sequence[np.ndarray], width: int, height: int, log: Path) -> None:
    """Pushes the planes through libvmaf, which writes its log when the graph is freed."""
    graph = av.filter.Graph()
    inputs = [
        graph.add_buffer(width=width, height=height, format="gray10le", time_base=Fraction(1, 25), name=name)
        for name in ("distorted", "reference")
    ]
    vmaf = graph.add("libvmaf", f"feature=name=cambi:log_path={log}:log_fmt=json:model=")
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
