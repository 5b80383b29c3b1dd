"""Frames with bands in every format, for tests of the engine and of its fronts."""

import numpy as np

from bdinn_core import Frame, FrameFormat

FORMATS = [
    FrameFormat(family="gray"),
    FrameFormat(family="gray", bit_depth=32, is_float=True),
    FrameFormat(family="yuv", subsampling=(1, 1)),
    FrameFormat(family="yuv", subsampling=(2, 0), bit_depth=9),
    FrameFormat(family="yuv", subsampling=(1, 0), bit_depth=10, range="full"),
    FrameFormat(family="yuv", subsampling=(0, 1), bit_depth=12),
    FrameFormat(family="yuv", bit_depth=16),
    FrameFormat(family="yuv", bit_depth=16, is_float=True, subsampling=(1, 1)),
    FrameFormat(family="rgb"),
    FrameFormat(family="rgb", bit_depth=16),
    FrameFormat(family="rgb", bit_depth=32, is_float=True),
]


def name_of(fmt: FrameFormat) -> str:
    kind = "f" if fmt.is_float else "i"
    return f"{fmt.family}{fmt.subsampling[0]}{fmt.subsampling[1]}-{kind}{fmt.bit_depth}-{fmt.range}"


def banded_frame(fmt: FrameFormat, width: int = 97, height: int = 75, offset: float = 0.0) -> Frame:
    """A slow ramp in 8-bit steps, and a corner of noise, in every plane."""
    planes = []
    for p in range(fmt.num_planes):
        h, w = fmt.plane_size(width, height, p)
        y, x = np.mgrid[0:h, 0:w]
        codes = np.rint(90 + offset + p + 0.05 * x + 0.03 * y)
        codes[: h // 3, : w // 3] += np.random.default_rng(p).integers(-20, 20, (h // 3, w // 3))
        if fmt.is_float:
            scale = fmt.with_depth(8).scale(p)
            planes.append(((codes - scale.zero) / scale.span).astype(fmt.dtype))
        else:
            planes.append((codes * 2 ** (fmt.bit_depth - 8)).astype(fmt.dtype))
    return Frame(tuple(planes), fmt)


def equal(a: Frame, b: Frame) -> bool:
    return a.format == b.format and all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))
