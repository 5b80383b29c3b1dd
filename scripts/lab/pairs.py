"""Training pairs: a plane before and after degradation, each a function of its random generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bdinn_core.ycbcr import MATRICES, YCbCr

from .degrade import CODECS, TEN_BIT_CODECS, code, random_coding, round_to_codes, round_to_step
from .filters import blur, resize
from .pictures import Picture, is_posterised, subsample_420
from .quantise import random_step, requantise
from .scenes import clip_to_range, composed, gradient, log_uniform, scene, textured

__all__ = ["KINDS", "SIZE", "Pair", "fine_texture_pair", "make_pair"]

KINDS = {
    "quantised": 0.30,
    "rgb": 0.02,
    "libx264": 0.10,
    "libx265": 0.08,
    "libvpx-vp9": 0.08,
    "libsvtav1": 0.08,
    "mpeg4": 0.02,
    "heavy": 0.32,
}
"""Each kind of degradation with its share of the pairs; `heavy` is any codec, pressed hard."""

SIZE = 512
MARGIN = 16  # what a pan of at most 4 px a frame can uncover
PICTURES_SHARE = 0.3
COMPOSED_SHARE = 0.3
HEAVY_CODECS_SHARES = (0.5, 0.1, 0.25, 0.1, 0.05)
QUANTISED_BEFORE_CODING_SHARE = 0.12
TEN_BIT_SHARE = 0.3  # of what a codec that can is given
EIGHT_BIT_MASTER_SHARE = 0.4  # of those


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One plane before and after degradation, `SIZE` a side, or half of it for chroma."""

    kind: str
    """One of `KINDS`."""
    truth: np.ndarray
    """(height, width) float32, model units."""
    degraded: np.ndarray | None
    """(height, width) uint8 or float32, model units; None where `quantise` makes it, anew for each crop."""
    smooth_is_true: bool
    """False where gradients of `truth` are no better than the input: learn detail only."""


def _picture_crop(rng: np.random.Generator, picture: Picture, size: int) -> tuple[np.ndarray, bool]:
    """A random square of all three planes at a random scale, (3, size, size), sometimes darkened.

    Returns:
        The crop, and whether its gradients are true.
    """
    _, height, width = picture.planes.shape
    largest = min(height, width)
    side = int(rng.integers(min(int(0.6 * size), largest), largest + 1))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    crop = picture.planes[:, top : top + side, left : left + side]
    crop = np.stack([resize(plane, size, size) for plane in crop])
    if rng.random() < 0.5:
        crop = crop[:, :, ::-1]
    smooth_is_true = picture.smooth_is_true and not any(map(is_posterised, crop))
    neutral = np.array([16, 128, 128], np.float32)[:, None, None]
    gain = np.float32(rng.uniform(0.15, 1) if rng.random() < 0.3 else 1)
    return np.clip(neutral + (crop - neutral) * gain, 16, 240).astype(np.float32), smooth_is_true


def _single_plane(
    rng: np.random.Generator, pictures: Sequence[Picture], size: int
) -> tuple[np.ndarray, bool]:
    """A plane to be trained on as it is, (size, size), and whether its gradients are true."""
    if not pictures or rng.random() >= PICTURES_SHARE:
        return scene(rng, size), True
    picture = pictures[int(rng.integers(len(pictures)))]
    crop, smooth_is_true = _picture_crop(rng, picture, size)
    plane = crop[rng.choice(3, p=(0.66, 0.17, 0.17))]
    if smooth_is_true and rng.random() < COMPOSED_SHARE:
        plane = clip_to_range(composed(rng, plane))
    return plane, smooth_is_true


def _colour_planes(
    rng: np.random.Generator, pictures: Sequence[Picture], size: int
) -> tuple[np.ndarray, bool]:
    """Y, U, V, (3, size, size), of a real or a drawn colour picture."""
    if pictures and rng.random() < 0.6:
        picture = pictures[int(rng.integers(len(pictures)))]
        return _picture_crop(rng, picture, size)
    chroma = []
    for _ in range(2):
        plane = gradient(rng, size) if rng.random() < 0.6 else scene(rng, size)
        chroma.append(128 + rng.uniform(0.1, 0.8) * (plane - plane.mean()))
    return np.stack([scene(rng, size), *chroma]).astype(np.float32), True


def _windows(rng: np.random.Generator, planes: Sequence[np.ndarray], count: int) -> list[list[np.ndarray]]:
    """`count` frames cut from `planes` (which have `MARGIN` to spare): still or panning, maybe grainy."""
    pan = 2 * rng.integers(-2, 3, 2) if rng.random() < 0.5 else np.zeros(2, int)
    grain = log_uniform(rng, 0.3, 3) if rng.random() < 0.2 else 0.0
    frames = []
    for number in range(count):
        frame = []
        for plane in planes:
            ratio = planes[0].shape[0] // plane.shape[0]
            size = plane.shape[0] - MARGIN // ratio
            top, left = (MARGIN // 2 + pan * number) // ratio
            frame.append(plane[top : top + size, left : left + size])
        if grain:
            noise = blur(rng.standard_normal(frame[0].shape).astype(np.float32), 0.6)
            frame[0] = clip_to_range(frame[0] + noise / noise.std() * np.float32(grain))
        frames.append(frame)
    return frames


def _coded_pair(rng: np.random.Generator, pictures: Sequence[Picture], kind: str) -> Pair:
    heavy = kind == "heavy"
    codec = CODECS[rng.choice(len(CODECS), p=HEAVY_CODECS_SHARES)] if heavy else kind
    coding = random_coding(rng, codec, heavy=heavy)
    colour = rng.random() < 0.3
    if colour:
        planes, smooth_is_true = _colour_planes(rng, pictures, SIZE + MARGIN)
        planes = subsample_420(planes)
    else:
        plane, smooth_is_true = _single_plane(rng, pictures, SIZE + MARGIN)
        grey = np.full((plane.shape[0] // 2, plane.shape[1] // 2), 128, np.float32)
        planes = [plane, grey, grey]
    sources = frames = _windows(rng, planes, 3)
    if not heavy and rng.random() < QUANTISED_BEFORE_CODING_SHARE:
        steps = [random_step(rng) for _ in planes]
        state = rng.bit_generator.state  # each frame is treated alike
        sources, truths = [], []
        for frame in frames:
            rng.bit_generator.state = state
            both = [requantise(rng, p, step) for p, step in zip(frame, steps, strict=True)]
            sources.append([coarse for coarse, _ in both])
            truths.append([truth for _, truth in both])
        frames = truths
    bit_depth = 10 if codec in TEN_BIT_CODECS and rng.random() < TEN_BIT_SHARE else 8
    master_depth = 8 if rng.random() < EIGHT_BIT_MASTER_SHARE else bit_depth

    def codes(plane: np.ndarray) -> np.ndarray:
        return round_to_codes(round_to_step(plane, 2.0 ** (8 - master_depth)), bit_depth)

    number = int(rng.integers(3))
    index = int(rng.integers(3)) if colour else 0
    coded = code([(codes(y), codes(u), codes(v)) for y, u, v in sources], coding, bit_depth)
    decoded = coded[number][index]
    if bit_depth > 8:
        decoded = decoded / np.float32(2 ** (bit_depth - 8))
    truth = np.ascontiguousarray(frames[number][index], np.float32)
    return Pair(kind=kind, truth=truth, degraded=decoded, smooth_is_true=smooth_is_true)


def _rgb_pair(rng: np.random.Generator, pictures: Sequence[Picture]) -> Pair:
    """A plane of an 8-bit RGB picture whose bands were made in Y'CbCr: R', G', B', or Y', Cb, Cr again."""
    planes, smooth_is_true = _colour_planes(rng, pictures, SIZE)
    both = [requantise(rng, plane, random_step(rng)) for plane in planes]
    ycbcr = YCbCr(matrix=MATRICES[rng.integers(len(MATRICES))])
    coarse = round_to_codes(ycbcr.decode(np.stack([c for c, _ in both])))
    truth = np.clip(ycbcr.decode(np.stack([t for _, t in both])), 0, 255)
    if rng.random() < 0.5:
        coarse, truth = ycbcr.encode(coarse), ycbcr.encode(truth)
    index = int(rng.integers(3))
    return Pair(kind="rgb", truth=truth[index], degraded=coarse[index], smooth_is_true=smooth_is_true)


def make_pair(rng: np.random.Generator, pictures: Sequence[Picture], kind: str | None = None) -> Pair:
    """Makes one pair: a scene, a picture or both, quantised or coded.

    Args:
        rng: All chance comes from here.
        pictures: To take crops of; may be empty.
        kind: One of `KINDS` instead of a random one.
    """
    kind = kind or list(KINDS)[rng.choice(len(KINDS), p=list(KINDS.values()))]
    if kind == "rgb":
        return _rgb_pair(rng, pictures)
    if kind != "quantised":
        return _coded_pair(rng, pictures, kind)
    plane, smooth_is_true = _single_plane(rng, pictures, SIZE)
    truth = np.ascontiguousarray(plane, np.float32)
    return Pair(kind=kind, truth=truth, degraded=None, smooth_is_true=smooth_is_true)


def fine_texture_pair(rng: np.random.Generator) -> Pair:
    """A quantised pair of nothing but texture: what a debander must leave alone."""
    truth = clip_to_range(textured(rng, SIZE))
    return Pair(kind="quantised", truth=truth, degraded=None, smooth_is_true=True)
