"""CUDA graphs: a pyramid's hundred kernels, recorded once a shape and then started as one."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch

from .pyramid import Coarse, Pyramid

__all__ = ["GraphedPyramid"]

MOST_SHAPES = 8
"""Recordings kept: whole planes, or tiles in three parts, of luma and of chroma, and a few to spare."""

Run = Callable[..., tuple[torch.Tensor, ...]]

_lock = Lock()
"""Only one recording may be under way in a process; and where threads share one, they take turns."""


class GraphedPyramid(Pyramid):
    """A pyramid whose work is recorded at the first call of each shape and replayed from then on.

    For inference on a GPU, from any thread and stream. A shape's first call takes a run, the recording
    and their memory, which all recordings share.

    Args:
        pyramid: What is recorded. Its kernels mustn't depend on values, and its weights must stay.
        device: The GPU.
    """

    def __init__(self, pyramid: Pyramid, device: torch.device) -> None:
        self.config, self.levels, self.top = pyramid.config, pyramid.levels, pyramid.top
        self.backend = pyramid.backend
        self._runs: dict[str, Run] = {
            "whole": lambda x: (pyramid.forward(x),),
            "encode fine": lambda x: (pyramid.encode_fine(x),),
            "restore coarse": lambda encoded: pyramid.restore_coarse(encoded),
            "restore fine": lambda x, *coarse: (pyramid.restore_fine(x, Coarse(*coarse)),),
        }
        self._recordings: OrderedDict[tuple, _Recording] = OrderedDict()
        self._device = device
        with torch.cuda.device(device):
            self._pool, self._side, self._done = (
                torch.cuda.graph_pool_handle(),
                torch.cuda.Stream(),
                torch.cuda.Event(),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `Pyramid.forward`."""
        return self._replay("whole", x)[0]

    def encode_fine(self, x: torch.Tensor) -> torch.Tensor:
        """As `Pyramid.encode_fine`."""
        return self._replay("encode fine", x)[0]

    def restore_coarse(self, encoded: torch.Tensor) -> Coarse:
        """As `Pyramid.restore_coarse`."""
        return Coarse(*self._replay("restore coarse", encoded))

    def restore_fine(self, x: torch.Tensor, coarse: Coarse) -> torch.Tensor:
        """As `Pyramid.restore_fine`."""
        return self._replay("restore fine", x, *coarse)[0]

    def _replay(self, part: str, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """Results of one part on `inputs`, on the current stream, from the recording for their shapes."""
        with _lock, torch.cuda.device(self._device):
            # Recordings share their memory, and the last one may be at work on another stream.
            torch.cuda.current_stream().wait_event(self._done)
            key = part, *((x.shape, x.dtype) for x in inputs)
            recording = self._recordings.pop(key, None) or self._record(part, inputs)
            self._recordings[key] = recording  # the last one: the first is the one unused for longest
            results = recording.replay(inputs)
            self._done.record()
            return results

    def _record(self, part: str, inputs: tuple[torch.Tensor, ...]) -> "_Recording":
        while len(self._recordings) >= MOST_SHAPES:
            self._forget()
        while True:
            try:
                return _Recording(self._runs[part], inputs, self._pool, self._side)
            except torch.OutOfMemoryError:
                if not self._recordings:
                    raise
                self._forget()

    def _forget(self) -> None:
        """Free the recording unused for longest."""
        self._done.synchronize()  # it may be at work
        self._recordings.popitem(last=False)


class _Recording:
    """The kernels of one call, with the memory that they read and write."""

    def __init__(
        self, run: Run, inputs: tuple[torch.Tensor, ...], pool: Any, side: torch.cuda.Stream
    ) -> None:
        with torch.inference_mode(False):  # or only calls in that mode could write to them
            self._inputs = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        for held, x in zip(self._inputs, inputs, strict=True):
            held.copy_(x)
        self._graph = torch.cuda.CUDAGraph()
        # Convolutions as exact as their type, and the same ones every time.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with exact, torch.autocast("cuda", enabled=False), torch.no_grad():
            # A recording allows neither compiling kernels nor looking for convolutions: that's done before.
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                run(*self._inputs)
            # Other threads may go on allocating and copying meanwhile: only this one must not.
            with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                self._outputs = run(*self._inputs)

    def replay(self, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Results of other inputs of the same shapes."""
        for held, x in zip(self._inputs, inputs, strict=True):
            held.copy_(x)
        self._graph.replay()
        return [held.clone() for held in self._outputs]
