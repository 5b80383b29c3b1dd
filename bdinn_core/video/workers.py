"""Threads that hand items on to one another, and fail together."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Thread, local
from types import TracebackType
from typing import Self

__all__ = ["Pipe", "Stopped", "Stopwatch", "Workers"]

JOIN_SECONDS = 3
"""How long a failed job waits for a thread that doesn't come back, such as a read from a silent pipe."""
WAIT_SECONDS = 0.5
"""Waits come in slices: on Windows Ctrl-C doesn't interrupt one without a timeout."""


class Stopped(Exception):
    """Another stage has failed; this one has nothing more to do."""


class Pipe[T]:
    """Hands items from one thread to another, in order; `put` waits while `size` are on their way."""

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._finished = False
        self._stopped = False
        self._changed = Condition()

    def put(self, item: T) -> None:
        """Appends an item, or raises `Stopped`."""
        with self._changed:
            self._wait(lambda: len(self._items) < self._size)
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """Says that no more items come."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Makes both ends raise `Stopped`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items, until `finish`, for one thread; none is held on to once it's handed out."""
        while self._has_more():
            yield self._take()

    def _has_more(self) -> bool:
        with self._changed:
            self._wait(lambda: self._items or self._finished)
            return bool(self._items)

    def _take(self) -> T:
        with self._changed:
            self._changed.notify_all()
            return self._items.popleft()

    def _wait(self, ready: Callable[[], object]) -> None:
        while not self._stopped and not ready():
            began = time.monotonic()
            self._changed.wait(WAIT_SECONDS)
            _here.seconds_waited += time.monotonic() - began
        if self._stopped:
            raise Stopped


class _Thread(local):
    """What belongs to a thread."""

    seconds_waited = 0.0
    """At pipes."""


_here = _Thread()


class Stopwatch:
    """Times the work of the thread that makes it; while that waits at a pipe, it stands still."""

    def __init__(self) -> None:
        self._last = _work_clock()

    def lap(self) -> float:
        """Seconds at work since the last lap, or since it was made."""
        last, self._last = self._last, _work_clock()
        return self._last - last


def _work_clock() -> float:
    return time.monotonic() - _here.seconds_waited


class Workers:
    """A context of threads: when one fails, all stop, and the first failure is raised in this thread."""

    def __init__(self, *pipes: Pipe) -> None:
        self._pipes = pipes
        self._threads: list[Thread] = []
        self._failures: list[BaseException] = []

    def start(self, work: Callable[[], None]) -> None:
        """Runs `work` in a thread; a daemon, since a read that never returns must not keep us from ending."""
        thread = Thread(target=self._guarded, args=(work,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Waits until all have done their work or one has failed."""
        for thread in self._threads:
            while thread.is_alive() and not self._failures:
                thread.join(WAIT_SECONDS)

    def __enter__(self) -> Self:
        """Starts nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all threads; raises the first failure, unless this thread has one of its own."""
        for pipe in self._pipes:
            pipe.stop()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        if self._failures and (error is None or isinstance(error, Stopped)):
            raise self._failures[0]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:
            self._failures.append(error)
            for pipe in self._pipes:
                pipe.stop()
