"""Planes as a screen shows them: R'G'B' of any frame, and the same with its local contrast raised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..measure import difference
from ..planes import Frame
from ..transfer import upload
from ..video.probe import VideoInfo
from ..ycbcr import Matrix, YCbCr

__all__ = ["RADIUS_PX", "Colours", "changes", "draw", "raise_contrast"]

RADIUS_PX = 24
"""How far the neighbourhood reaches whose mean contrast is raised about; of bands, a part."""
GREY_FACTOR = 8
"""From this factor of contrast on, the mean itself is shown as grey: dark scenes can be seen then."""
_MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
"""By H.273's numbers; others are shown as if they were BT.709."""
_HD = (1280, 720)
"""From this width or height on pictures that don't say are BT.709, as players have it."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """How the nominal levels of planes (0..1, chroma -0.5..0.5) become R'G'B' of 0..255."""

    to_rgb: Sequence[Sequence[float]]
    """Three rows, one column a plane."""
    middle: Sequence[float]
    """Middle grey, and neutral chroma, of each plane."""
    steps: Sequence[float]
    """8-bit steps from 0 to 1, of each plane."""

    @classmethod
    def of(cls, info: VideoInfo) -> "Colours":
        """Those of a source's pictures. PQ and HLG are shown as they are stored, not mapped to a screen's."""
        form = info.format
        planes = range(form.num_planes)
        return cls(
            to_rgb=(255 * _to_rgb(info)).tolist(),
            middle=[0.0 if form.is_chroma(p) else 0.5 for p in planes],
            steps=[form.with_depth(8).scale(p).span for p in planes],
        )


def _to_rgb(info: VideoInfo) -> np.ndarray:
    """Nominal levels as R'G'B' of 0..1."""
    form = info.format
    if form.family != "yuv":
        return np.ones((3, 1)) if form.family == "gray" else np.eye(3)
    unsaid = "bt709" if info.width >= _HD[0] or info.height >= _HD[1] else "bt601"
    matrix = unsaid if info.tags.matrix == 2 else _MATRICES.get(info.tags.matrix, "bt709")
    return YCbCr(matrix=matrix, range="full").to_rgb


def draw(frame: Frame, colours: Colours, contrast: float = 1) -> np.ndarray:
    """A frame as a picture.

    Args:
        frame: of any format.
        colours: its.
        contrast: factor of the contrast about the local mean; 1 shows the frame as it is.

    Returns:
        (height, width, 3) uint8 R'G'B', dithered: rounding would draw bands of its own.
    """
    planes = []
    for p, plane in enumerate(frame.planes):
        scale = frame.format.scale(p)
        values = (upload(plane, torch.device("cpu")) - scale.zero) / scale.span
        values = values.nan_to_num_(0, posinf=1, neginf=0)
        if contrast != 1:
            radius = max(1, RADIUS_PX * values.shape[1] // frame.width)
            values = raise_contrast(values, contrast, colours.middle[p], radius)
        planes.append(_full_size(values, frame))
    matrix = torch.tensor(colours.to_rgb, dtype=torch.float32)
    rgb = torch.einsum("cp,phw->hwc", matrix, torch.stack(planes)).clamp(0, 255)
    noise = np.random.default_rng(0).random(rgb.shape, np.float32)
    return np.minimum(np.floor(rgb.numpy() + noise), 255).astype(np.uint8)


def raise_contrast(values: torch.Tensor, factor: float, middle: float, radius: int) -> torch.Tensor:
    """A plane with its contrast raised about the local mean, which turns to grey with it.

    Args:
        values: (H, W).
        factor: of the contrast, >= 1.
        middle: what is grey.
        radius: of the neighbourhood, in pixels.
    """
    mean, side = values[None, None], 2 * radius + 1
    for _ in range(2):  # a box twice has no visible corners
        for kernel, pad in (((1, side), (0, radius)), ((side, 1), (radius, 0))):
            mean = F.avg_pool2d(mean, kernel, 1, pad, count_include_pad=False)
    mean = mean[0, 0]
    grey = min(1.0, (factor - 1) / (GREY_FACTOR - 1))
    return mean + (middle - mean) * grey + (values - mean) * factor


def changes(before: Frame, after: Frame) -> torch.Tensor:
    """By how much each pixel was changed: the largest change among its planes, (H, W) in 8-bit steps.

    Args:
        before: any frame.
        after: what it became, at any depth.
    """
    largest: torch.Tensor | None = None
    for p in range(len(before.planes)):
        change = _full_size(difference(before, after, p), before)
        largest = change if largest is None else torch.where(change.abs() > largest.abs(), change, largest)
    assert largest is not None
    return largest


def _full_size(values: torch.Tensor, frame: Frame) -> torch.Tensor:
    """A plane at the size of the first."""
    if values.shape == (frame.height, frame.width):
        return values
    size = frame.height, frame.width
    return F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0]
