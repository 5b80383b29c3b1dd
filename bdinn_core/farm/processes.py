"""Worker processes on this machine."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from ..errors import WorkerError
from ..video.progress import Progress, Work
from .work import MOST_ATTEMPTS, Order, ProgressOf, Result, attempt

__all__ = ["Processes"]

_SECONDS = 5
"""How long a worker may take to end by itself."""
_CONTEXT = multiprocessing.get_context("spawn")  # neither torch nor CUDA survives a fork


_Message = int | Work | str | Result
"""What a worker sends of its order: how many more pictures are written, what work more has been done, a
warning; at last, what became of it."""


class _Sender(Progress):
    """Sends what a worker has to say, from any of its threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: _Message) -> None:
        with self._lock:
            self._connection.send(message)

    def advance(self, frames: int) -> None:
        self.send(frames)

    def work(self, work: Work) -> None:
        self.send(work)

    def warn(self, line: str) -> None:
        self.send(line)


@dataclass(eq=False)
class _Worker:
    """A process, as seen from here."""

    device: str
    process: SpawnProcess
    connection: Connection
    order: Order | None = None
    frames: int = 0
    """How many pictures of its order it has told of."""


class Processes:
    """So many processes, each with an engine of its own; one that dies is replaced.

    Args:
        count: how many.
        devices: theirs, in turn.
        threads: what they share; 0 is one a core.
    """

    def __init__(self, count: int, devices: Sequence[str], threads: int) -> None:
        self.device = devices[0]
        self.threads = max(1, (threads or _cores()) // count)
        self._devices = [devices[i % len(devices)] for i in range(count)]
        self._workers: list[_Worker] = []

    def carry_out(self, orders: Iterator[Order], progress_of: ProgressOf) -> Iterator[tuple[Order, Result]]:
        """As `Crew`; an order that workers die of again and again is given up."""
        again: deque[Order] = deque()
        deaths: dict[Order, int] = {}
        first = next(orders, None)
        if first is None:
            return
        orders = chain([first], orders)
        self._workers = [_start(device) for device in self._devices]
        while True:
            for worker in self._workers:
                if worker.order is None:
                    _give(worker, again.popleft() if again else next(orders, None))
            busy = {worker.connection: worker for worker in self._workers if worker.order is not None}
            if not busy:
                return
            for ready in wait([*busy], timeout=1):
                worker = busy[ready]  # pyright: ignore[reportArgumentType] - they are connections
                order = worker.order
                assert order is not None
                progress = progress_of(order)
                try:
                    message: _Message = worker.connection.recv()
                except (EOFError, OSError):
                    progress.advance(-worker.frames)
                    deaths[order] = deaths.get(order, 0) + 1
                    code = self._replace(worker)
                    if deaths[order] < MOST_ATTEMPTS:
                        progress.warn(f"a worker died of {order} (exit code {code}): another does it again")
                        again.append(order)
                    else:
                        yield (
                            order,
                            WorkerError(
                                f"{deaths[order]} workers died of {order}, the last with exit code {code}; "
                                "memory may be short: try fewer --workers"
                            ),
                        )
                    continue
                result = _hear(message, worker, progress)
                if result is not None:
                    yield order, result

    def close(self) -> None:
        """Ends them all, at once."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_SECONDS)
            worker.process.kill()
            worker.process.join()
            worker.connection.close()
        self._workers = []

    def _replace(self, dead: _Worker) -> int | None:
        dead.process.join()
        dead.connection.close()
        self._workers[self._workers.index(dead)] = _start(dead.device)
        return dead.process.exitcode


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(device: str) -> _Worker:
    here, there = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(there,), daemon=True)
    with _without_ctrl_c():
        process.start()
    there.close()  # so that its end is noticed
    return _Worker(device, process, here)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What is started here isn't told of Ctrl-C, which goes to all of a terminal: the first of us decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give(worker: _Worker, order: Order | None) -> None:
    """Hands an order to a worker; if that has died, reading from it will tell."""
    worker.order, worker.frames = order, 0
    if order is not None:
        with suppress(OSError):
            worker.connection.send(order.on(worker.device))


def _hear(message: _Message, worker: _Worker, progress: Progress) -> Result | None:
    """Passes on what a worker says; returns what became of its order, if that's it."""
    match message:
        case int():
            worker.frames += message
            progress.advance(message)
        case Work():
            progress.work(message)
        case str():
            progress.warn(message)
        case _:
            worker.order = None
            return message


def _serve(connection: Connection) -> None:
    """Carries out orders, in a process of its own, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it couldn't be kept from us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is open is closed
    threading.Thread(target=_follow_parent, daemon=True).start()
    sender = _Sender(connection)
    with suppress(EOFError, OSError):
        while True:
            order: Order = connection.recv()
            sender.send(attempt(order, sender))


def _follow_parent() -> None:
    """Ends this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
