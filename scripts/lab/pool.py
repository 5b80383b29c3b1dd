"""The rolling pool of pairs that training draws its crops from, filled by background processes.

What a step trains on is a fixed function of seed and step, whatever the machine's speed and number of
processes: pair `i` is made from the generator `[seed, 0, i]`; at step `s` the pool holds the newest
`capacity` of the first `initial + s * pairs_per_step` pairs, and the step's crops are drawn from the
generator `[seed, 1, s]`. A trainer that outruns the background processes waits for them. A pair serves
for several steps, each time in other crops; nothing is kept on disk, as a pair's number makes it again.
"""

import multiprocessing
import os
import queue
from collections import deque
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np

from .pairs import Pair, make_pair
from .pictures import load_pictures
from .quantise import quantise

__all__ = ["Batch", "PairPool"]

WIDE_EVERY = 4
"""Of so many batches, one is of few crops twice as wide, for bands of hundreds of pixels."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Crops for one step."""

    degraded: np.ndarray
    """(N, 1, crop, crop) float32, model units."""
    truth: np.ndarray
    """(N, 1, crop, crop) float32, model units."""
    smooth_is_true: np.ndarray
    """(N,) bool."""


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


def _produce(seed: int, folder: Path | None, first: int, stride: int, made: "Queue[Pair]") -> None:
    """A background process: pairs `first`, `first + stride`, ... for as long as the trainer lives."""
    made.cancel_join_thread()  # what nobody will read must not keep this process alive
    trainer = multiprocessing.parent_process()
    pictures = load_pictures(folder)
    index = first
    while trainer is not None and trainer.is_alive():
        pair = make_pair(np.random.default_rng([seed, 0, index]), pictures)
        while trainer.is_alive():
            try:
                made.put(pair, timeout=5)
                break
            except queue.Full:
                continue
        index += stride


class PairPool:
    """A rolling pool of pairs, filled by background processes while used in a `with` statement.

    Args:
        seed: Fixes every pair and every crop.
        folder: Pictures with their INDEX.tsv, or None.
        start_step: First step that will be asked for (later than 0 after a resume).
        initial: Pairs in the pool at step 0.
        pairs_per_step: New pairs a step, on average.
        capacity: Pairs kept; the oldest go first.
        workers: Background processes.
    """

    def __init__(
        self,
        seed: int,
        folder: Path | None,
        *,
        start_step: int = 0,
        initial: int,
        pairs_per_step: float,
        capacity: int,
        workers: int = 1,
    ) -> None:
        self._seed, self._initial, self._per_step = seed, initial, pairs_per_step
        self._made = max(0, self._wanted(start_step) - capacity)
        self._pool: deque[Pair] = deque(maxlen=capacity)
        context = multiprocessing.get_context("spawn")
        self._queues: list[Queue[Pair]] = [context.Queue(maxsize=8) for _ in range(workers)]
        self._processes = [
            context.Process(
                target=_produce,
                args=(seed, folder, self._made + i, workers, self._queues[(self._made + i) % workers]),
                daemon=True,
            )
            for i in range(workers)
        ]

    def __enter__(self) -> "PairPool":
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        kept = {name: os.environ.get(name) for name in variables}
        os.environ.update(dict.fromkeys(variables, "1"))  # numpy's threads are fixed when it is imported
        try:
            for process in self._processes:
                process.start()
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def _wanted(self, step: int) -> int:
        """Pairs made by the time of a step."""
        return self._initial + int(step * self._per_step)

    def _receive(self) -> Pair:
        while True:
            try:
                return self._queues[self._made % len(self._queues)].get(timeout=1)
            except queue.Empty:
                for process in self._processes:
                    if not process.is_alive():
                        raise RuntimeError(f"a process that makes pairs ended ({process.exitcode})") from None

    def fill(self, step: int) -> int:
        """Waits for the pairs of `step`; returns how many came. Steps must be asked for in rising order."""
        before = self._made
        while self._made < self._wanted(step):
            self._pool.append(self._receive())
            self._made += 1
        return self._made - before

    def batch(self, step: int, size: int, crop: int) -> Batch:
        """The batch of `step`: `size` random crops of `crop` px a side, flipped and transposed.

        One in `WIDE_EVERY` has a quarter as many crops of twice the side.
        """
        self.fill(step)
        rng = np.random.default_rng([self._seed, 1, step])
        pool: list[Pair] = list(self._pool)
        if step % WIDE_EVERY == WIDE_EVERY - 1:
            wide = [pair for pair in pool if min(pair.truth.shape) >= 2 * crop]
            if wide:
                size, crop, pool = max(size // 4, 1), 2 * crop, wide
        chosen = [pool[int(rng.integers(len(pool)))] for _ in range(size)]
        degraded, truth, smooth_is_true = zip(
            *(_random_crop(rng, pair, crop) for pair in chosen), strict=True
        )
        return Batch(
            degraded=np.stack(degraded)[:, None],
            truth=np.stack(truth)[:, None],
            smooth_is_true=np.array(smooth_is_true),
        )
