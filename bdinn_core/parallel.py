"""Work shared among threads, each with torch's operators single-threaded.

A plane's lines are cut into strips that don't depend on the number of threads, and every strip is one
thread's own: results are then the same whatever the number of threads, a strip's data stay in its core's
cache from one operator to the next, and no operator waits for the threads of another. Tried instead:
numba's parallel loops may not be entered by two threads at once (two video streams would), and numba's
workers alternating with torch's own make the two pools wait for each other.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from math import prod
from threading import Barrier, Lock, local

import torch

__all__ = ["in_parallel", "on_workers", "scratch", "start_workers", "strips", "worker_count"]


def strips(count: int, size: int) -> list[slice]:
    """0..count - 1 cut into slices of `size`, the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def on_workers[R](work: Callable[[], R]) -> R:
    """The result of `work`, done by a worker thread, whom others help where it calls `in_parallel`.

    As many as torch may use here. Handing over takes a twentieth of a millisecond, so whoever has many
    small parts hands over the whole. Inference mode is taken over; gradients aren't recorded.
    """
    if _here.threads:
        return work()
    with _pool_lock:
        threads, workers = torch.get_num_threads(), _workers(os.getpid())
    inference = torch.is_inference_mode_enabled()  # a property of threads; tensors of one can't mix

    def lead() -> R:
        _here.threads = threads
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(False):
                return work()
        finally:
            _here.threads = 0

    return workers.submit(lead).result()


def in_parallel[T, R](work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Results of `work` on every item, in order, by as many threads as torch may use.

    Modes are as of `on_workers`. A failure is raised once all threads have stopped.
    """
    if not _here.threads:
        return on_workers(lambda: in_parallel(work, items))
    items = list(items)
    results: list[R] = [None] * len(items)  # pyright: ignore[reportAssignmentType] - all are replaced
    todo = iter(range(len(items)))  # shared: whoever is ready takes the next item
    inference = torch.is_inference_mode_enabled()

    def take() -> None:
        before, _here.threads = _here.threads, _here.threads or 1  # nested work is a helper's own
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(False):
                for i in todo:
                    results[i] = work(items[i])
        finally:
            _here.threads = before
            for _ in todo:  # after a failure nothing more is begun
                pass

    helpers = [_workers(os.getpid()).submit(take) for _ in range(min(_here.threads, len(items)) - 1)]
    try:
        take()
    finally:
        # Who hasn't begun isn't needed any more. Waiting for them could take forever: they wait for workers,
        # all of whom may be waiting here.
        running = [helper for helper in helpers if not helper.cancel()]
        wait(running)  # for all: what they write to may be gone after this
        for helper in running:
            helper.result()
    return results


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Uninitialised memory of this thread, for as long as nobody here asks for that name again.

    Fresh memory for every strip would cost more than what is done in it: the system hands it out page by
    page, zeroed.
    """
    size = prod(shape)
    key = f"{name} {dtype}"
    buffer: torch.Tensor | None = getattr(_here, key, None)
    if buffer is None or buffer.numel() < size:
        with torch.inference_mode(False):  # or only a thread in that mode could write to it
            buffer = torch.empty(size, dtype=dtype)
        setattr(_here, key, buffer)
    return buffer[:size].view(shape)


class _Thread(local):
    """What belongs to a thread, beside its scratch memory."""

    threads = 0
    """How many may work on what this worker leads; 1 if it helps another, 0 if it's no worker at work."""


_here = _Thread()


def worker_count() -> int:
    """Number of worker threads: of the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_workers() -> None:
    """Starts the worker threads now.

    A thread whose first use of torch falls into their start keeps one thread for its convolutions,
    which then round a little differently. So whoever works from several threads starts these first.
    """
    with _pool_lock:
        _workers(os.getpid())


_pool_lock = Lock()
"""While the pool starts, new threads would take over its setting of one thread."""


@cache
def _workers(process_id: int) -> ThreadPoolExecutor:
    """One thread a core, whose own operators stay single-threaded; made anew after a fork."""
    count = worker_count()
    everyone = Barrier(count)

    def start(_: int) -> None:
        torch.set_num_threads(1)  # of this thread, but also the default of threads to come
        torch.get_num_threads()  # or the thread would take over the default at its first product
        everyone.wait()  # so that each thread starts once

    threads = torch.get_num_threads()
    workers = ThreadPoolExecutor(count, thread_name_prefix="bdinn")
    list(workers.map(start, range(count)))
    torch.set_num_threads(threads)  # the default again
    return workers
