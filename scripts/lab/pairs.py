"""Training pairs (degraded, truth), made while training by one background process.

What a step trains on is a fixed function of seed and step, whatever the machine's speed: pair `i` is
made from the generator `[seed, 0, i]`; at step `s` the pool holds the newest `capacity` of the first
`initial + s // every` pairs, and the step's crops are drawn from the generator `[seed, 1, s]`. A
trainer that outruns the background process waits for it.
"""

import multiprocessing
import os
import queue
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np

from .degrade import CODECS, Planes, code, random_coding, round_to_codes
from .filters import blur, resize
from .pictures import Picture, is_posterised, list_pictures, load_picture
from .scenes import clip_to_range, gradient, scene, textured

__all__ = [
    "KINDS",
    "Batch",
    "Pair",
    "PairPool",
    "fine_texture_pair",
    "load_pictures",
    "make_pair",
    "quantise",
]

KINDS = ("quantised", *CODECS)
SIZE = 384
COLOUR_SIZE = 512  # so that its chroma planes are still 256 a side
MARGIN = 16  # what a pan of at most 4 px a frame can uncover
PICTURES_SHARE = 0.3
CODED_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One plane before and after degradation, at least 256 px a side."""

    kind: str
    """One of `KINDS`."""
    truth: np.ndarray
    """(height, width) float32, model units."""
    degraded: np.ndarray | None
    """(height, width) uint8, or None where `quantise` makes it, anew for each crop."""
    smooth_is_true: bool
    """False where gradients of `truth` are no better than the input: learn detail only."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Crops for one step."""

    degraded: np.ndarray
    """(N, 1, crop, crop) float32, model units."""
    truth: np.ndarray
    """(N, 1, crop, crop) float32, model units."""
    smooth_is_true: np.ndarray
    """(N,) bool."""


def load_pictures(folder: Path | None) -> list[Picture]:
    """All pictures of `folder` that aren't held out; none without a folder."""
    if folder is None:
        return []
    return [load_picture(path, smooth) for path, smooth in list_pictures(folder, held_out=False)]


def _picture_crop(rng: np.random.Generator, picture: Picture, size: int) -> np.ndarray:
    """A random square of all three planes at a random scale, (3, size, size), sometimes darkened."""
    _, height, width = picture.planes.shape
    largest = min(height, width)
    side = int(rng.integers(min(int(0.6 * size), largest), largest + 1))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    crop = picture.planes[:, top : top + side, left : left + side]
    crop = np.stack([resize(plane, size, size) for plane in crop])
    if rng.random() < 0.5:
        crop = crop[:, :, ::-1]
    neutral = np.array([16, 128, 128], np.float32)[:, None, None]
    gain = np.float32(rng.uniform(0.15, 1) if rng.random() < 0.3 else 1)
    return np.clip(neutral + (crop - neutral) * gain, 16, 240).astype(np.float32)


def _single_plane(
    rng: np.random.Generator, pictures: Sequence[Picture], size: int
) -> tuple[np.ndarray, bool]:
    """A plane to be trained on as it is, (size, size), and whether its gradients are true."""
    if not pictures or rng.random() >= PICTURES_SHARE:
        return scene(rng, size), True
    picture = pictures[int(rng.integers(len(pictures)))]
    plane = _picture_crop(rng, picture, size)[rng.choice(3, p=(0.66, 0.17, 0.17))]
    return plane, picture.smooth_is_true and not is_posterised(plane)


def _colour_planes(
    rng: np.random.Generator, pictures: Sequence[Picture], size: int
) -> tuple[list[np.ndarray], bool]:
    """Y (size, size), U and V (half of it) of a real or a drawn colour picture."""
    if pictures and rng.random() < 0.6:
        picture = pictures[int(rng.integers(len(pictures)))]
        luma, *chroma = _picture_crop(rng, picture, size)
        halves = [c.reshape(size // 2, 2, size // 2, 2).mean((1, 3)) for c in chroma]
        return [luma, *halves], picture.smooth_is_true
    chroma = []
    for _ in range(2):
        plane = gradient(rng, size // 2) if rng.random() < 0.6 else scene(rng, size // 2)
        chroma.append((128 + rng.uniform(0.2, 0.8) * (plane - plane.mean())).astype(np.float32))
    return [scene(rng, size), *chroma], True


def _windows(rng: np.random.Generator, planes: Sequence[np.ndarray], count: int) -> list[list[np.ndarray]]:
    """`count` frames cut from `planes` (which have `MARGIN` to spare): still or panning, maybe grainy."""
    pan = 2 * rng.integers(-2, 3, 2) if rng.random() < 0.5 else np.zeros(2, int)
    grain = np.exp(rng.uniform(np.log(0.3), np.log(3))) if rng.random() < 0.2 else 0.0
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


def _coded_pair(rng: np.random.Generator, pictures: Sequence[Picture], kind: str | None) -> Pair:
    coding = random_coding(rng, kind)
    colour = rng.random() < 0.25
    if colour:
        planes, smooth_is_true = _colour_planes(rng, pictures, COLOUR_SIZE + MARGIN)
    else:
        plane, smooth_is_true = _single_plane(rng, pictures, SIZE + MARGIN)
        grey = np.full((plane.shape[0] // 2, plane.shape[1] // 2), 128, np.float32)
        planes = [plane, grey, grey]
    frames = _windows(rng, planes, 3)
    eight_bit: list[Planes] = [
        (round_to_codes(y), round_to_codes(u), round_to_codes(v)) for y, u, v in frames
    ]
    number = int(rng.integers(3))
    index = int(rng.integers(3)) if colour else 0
    decoded = code(eight_bit, coding)[number][index]
    truth = np.ascontiguousarray(frames[number][index], np.float32)
    return Pair(kind=coding.codec, truth=truth, degraded=decoded, smooth_is_true=smooth_is_true)


def make_pair(rng: np.random.Generator, pictures: Sequence[Picture], kind: str | None = None) -> Pair:
    """Makes one pair: a scene or a picture, quantised (40 %) or coded (15 % each codec).

    Args:
        rng: All chance comes from here.
        pictures: To take crops of; may be empty.
        kind: One of `KINDS` instead of a random one.
    """
    coded = rng.random() < CODED_SHARE if kind is None else kind != "quantised"
    if coded:
        return _coded_pair(rng, pictures, kind)
    plane, smooth_is_true = _single_plane(rng, pictures, SIZE)
    truth = np.ascontiguousarray(plane, np.float32)
    return Pair(kind="quantised", truth=truth, degraded=None, smooth_is_true=smooth_is_true)


def fine_texture_pair(rng: np.random.Generator) -> Pair:
    """A quantised pair of nothing but texture: what a debander must leave alone."""
    return Pair(
        kind="quantised", truth=clip_to_range(textured(rng, SIZE)), degraded=None, smooth_is_true=True
    )


def quantise(rng: np.random.Generator, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a crop to codes after a random change of contrast and level, so that it never repeats.

    One crop in 16 is rounded to quarter codes, as a 10-bit source is: it has no bands at this step.

    Args:
        rng: All chance comes from here.
        truth: (height, width) float32, model units.

    Returns:
        The rounded crop and the changed truth, both float32.
    """
    gain, offset = np.exp(rng.uniform(np.log(0.5), np.log(1.25))), rng.uniform(-0.5, 0.5)
    centre = truth.mean()
    changed = (centre + (truth - centre) * gain + offset).astype(np.float32)
    step = np.float32(0.25 if rng.random() < 1 / 16 else 1)
    return np.rint(changed / step) * step, changed


def _produce(seed: int, folder: Path | None, first: int, pairs: "Queue[Pair]") -> None:
    """The background process: pairs `first`, `first + 1`, ... for as long as the trainer lives."""
    pairs.cancel_join_thread()  # what nobody will read must not keep this process alive
    trainer = multiprocessing.parent_process()
    pictures = load_pictures(folder)
    index = first
    while trainer is not None and trainer.is_alive():
        pair = make_pair(np.random.default_rng([seed, 0, index]), pictures)
        while trainer.is_alive():
            try:
                pairs.put(pair, timeout=5)
                break
            except queue.Full:
                continue
        index += 1


class PairPool:
    """A rolling pool of pairs, filled by one background process while used in a `with` statement.

    Args:
        seed: Fixes every pair and every crop.
        folder: Pictures with their INDEX.tsv, or None.
        start_step: First step that will be asked for (later than 0 after a resume).
        initial: Pairs in the pool at step 0.
        every: Steps from one new pair to the next.
        capacity: Pairs kept; the oldest go first.
    """

    def __init__(
        self, seed: int, folder: Path | None, *, start_step: int = 0, initial: int, every: int, capacity: int
    ) -> None:
        self._seed, self._initial, self._every = seed, initial, every
        self._made = max(0, initial + start_step // every - capacity)
        self._pool: deque[Pair] = deque(maxlen=capacity)
        context = multiprocessing.get_context("spawn")
        self._queue: Queue[Pair] = context.Queue(maxsize=8)
        self._process = context.Process(
            target=_produce, args=(seed, folder, self._made, self._queue), daemon=True
        )

    def __enter__(self) -> "PairPool":
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        kept = {name: os.environ.get(name) for name in variables}
        os.environ.update(dict.fromkeys(variables, "1"))  # numpy's threads are fixed when it is imported
        try:
            self._process.start()
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Pair:
        while True:
            try:
                return self._queue.get(timeout=1)
            except queue.Empty:
                if not self._process.is_alive():
                    raise RuntimeError(
                        f"the process that makes pairs ended ({self._process.exitcode})"
                    ) from None

    def batch(self, step: int, size: int, crop: int) -> Batch:
        """The batch of `step`: `size` random crops of `crop` px a side, flipped and transposed.

        Steps must be asked for in rising order.
        """
        while self._made < self._initial + step // self._every:
            self._pool.append(self._receive())
            self._made += 1
        rng = np.random.default_rng([self._seed, 1, step])
        crops = [_random_crop(rng, self._pool[int(rng.integers(len(self._pool)))], crop) for _ in range(size)]
        degraded, truth, smooth_is_true = zip(*crops, strict=True)
        return Batch(
            degraded=np.stack(degraded)[:, None],
            truth=np.stack(truth)[:, None],
            smooth_is_true=np.array(smooth_is_true),
        )


def _random_crop(rng: np.random.Generator, pair: Pair, crop: int) -> tuple[np.ndarray, np.ndarray, bool]:
    height, width = pair.truth.shape
    top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
    window = np.s_[top : top + crop, left : left + crop]
    truth = pair.truth[window]
    if pair.degraded is None:
        degraded, truth = quantise(rng, truth)
    else:
        degraded = pair.degraded[window].astype(np.float32)
    if rng.random() < 0.5:
        degraded, truth = degraded.T, truth.T
    flip_y, flip_x = rng.choice((-1, 1), 2)
    return degraded[::flip_y, ::flip_x], truth[::flip_y, ::flip_x], pair.smooth_is_true
