"""What the network made of the last planes, for planes that come again: animation on twos, stills, black.

A plane that equals an earlier one bit for bit needs no second look: what the network would change in it
is what it changed in that one. Strength, mask, grain and dither come later and have no part in this.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch

from .transfer import AnyFrame, Plane

__all__ = ["Changes", "Part", "Reuse", "parts_of"]

KEPT_PLANES = 6
"""Two frames: where two streams take turns, as in VapourSynth, frames may come in swapped pairs."""
KEPT_PIXELS = 2**24
"""Of planes too large to keep so many, one frame's: their results take 4 bytes a pixel, codes 1 to 4."""
ROWS_AT_ONCE = 64

Changes = tuple[torch.Tensor, ...]
"""What the network would change in each of a part's wanted planes: float32 (H, W), 8-bit steps."""


@dataclass(frozen=True, eq=False)
class Part:
    """What the network sees of a frame at once: a plane, or all of an RGB frame.

    The planes of an RGB frame are looked at together, since their bands may be those of its Y'CbCr.
    """

    frame: AnyFrame
    wanted: tuple[int, ...]
    """Indices of the planes that may change."""

    @property
    def planes(self) -> Sequence[Plane]:
        """The planes that the changes depend on, all of one shape."""
        frame = self.frame
        return frame.planes if frame.format.family == "rgb" else tuple(frame.planes[p] for p in self.wanted)

    @property
    def meaning(self) -> tuple[object, ...]:
        """What the changes depend on beside the planes' codes."""
        form = self.frame.format
        return form, self.frame.interlaced, [form.steps_per_value(p) for p in self.wanted]


def parts_of(frame: AnyFrame, wanted: Sequence[int]) -> list[Part]:
    """The parts of a frame whose planes `wanted` may change."""
    if frame.format.family == "rgb":
        return [Part(frame, tuple(wanted))] if wanted else []
    return [Part(frame, (p,)) for p in wanted]


class _Result:
    """The changes of a part, once they are there, and what it takes to know that part again."""

    def __init__(self, part: Part) -> None:
        self.planes = part.planes
        self._meaning = part.meaning
        self._changes: Future[tuple[Changes, torch.Event | None]] = Future()

    def is_of(self, part: Part) -> bool:
        """Whether the network would make the same of `part`, under the same options."""
        return self._meaning == part.meaning and all(map(_same_bits, self.planes, part.planes))

    def fill(self, changes: Changes) -> None:
        """Receives the changes, from the current CUDA stream if they are on a GPU."""
        cuda = changes[0].is_cuda
        ready = torch.cuda.current_stream(changes[0].device).record_event() if cuda else None
        self._changes.set_result((changes, ready))

    def fail(self, error: BaseException) -> None:
        """Receives the reason why there are no changes, unless there are some."""
        if not self._changes.done():
            self._changes.set_exception(error)

    def take(self) -> Changes:
        """The changes, awaited; for the current CUDA stream, where another made them."""
        changes, ready = self._changes.result()
        if ready is not None:
            stream = torch.cuda.current_stream(changes[0].device)
            stream.wait_event(ready)
            for change in changes:
                change.record_stream(stream)
        return changes

    def detach(self) -> None:
        """Goes on with planes of its own: a caller may fill theirs anew. Tensors are nobody else's."""
        self.planes = [p if isinstance(p, torch.Tensor) else p.copy() for p in self.planes]


def _same_bits(a: Plane, b: Plane) -> bool:
    """Whether two planes of one type are equal; most that aren't, differ within the first rows."""
    if a.shape != b.shape:
        return False
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return (
            isinstance(a, torch.Tensor)
            and isinstance(b, torch.Tensor)
            and a.device == b.device
            and torch.equal(a, b)
        )
    a, b = (plane.view(f"u{plane.itemsize}") for plane in (a, b))  # 0.0 isn't -0.0, and NaN is NaN
    starts = range(0, len(a), ROWS_AT_ONCE)
    return all(np.array_equal(a[i : i + ROWS_AT_ONCE], b[i : i + ROWS_AT_ONCE]) for i in starts)


class Reuse:
    """The changes of parts; those of the last parts that were asked for aren't computed again.

    Threads may share one. A part that another thread has in work is waited for.
    """

    def __init__(self) -> None:
        self._kept: list[_Result] = []  # the last used at the end
        self._lock = Lock()

    def changes(
        self, parts: Sequence[Part], compute: Callable[[Sequence[Part]], Sequence[Changes]]
    ) -> list[Changes]:
        """The changes of every part; `compute` gives them, for each part a pure function of it."""
        new: dict[_Result, Part] = {}
        with self._lock:
            used = [*self._kept]
            for part in parts:
                result = next((r for r in used[-KEPT_PLANES:] if r.is_of(part)), None)
                if result is None:
                    new[result := _Result(part)] = part
                used.append(result)
            self._kept, results = _last(used), used[len(self._kept) :]
        try:
            for result, changes in zip(new, compute([*new.values()]), strict=True):
                result.fill(changes)
            with self._lock:
                for result in self._kept:
                    if result in new:
                        result.detach()
        except BaseException as error:  # nobody may wait for these, or know a plane by a caller's array
            with self._lock:
                self._kept = [result for result in self._kept if result not in new]
            for result in new:
                result.fail(error)
            raise
        return [result.take() for result in results]


def _last(used: Sequence[_Result]) -> list[_Result]:
    """Of results in the order of their use, the last ones that there's room for."""
    kept: list[_Result] = []
    planes = pixels = 0
    for result in dict.fromkeys(reversed(used)):
        planes += len(result.planes)
        pixels += sum(math.prod(plane.shape) for plane in result.planes)
        if planes > KEPT_PLANES or (planes > KEPT_PLANES // 2 and pixels > KEPT_PIXELS):
            break
        kept.insert(0, result)
    return kept
