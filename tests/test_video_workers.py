import threading
import time

import pytest

from bdinn_core.video.workers import Pipe, Stopped, Workers


def test_items_arrive_in_order_and_no_more_than_size_are_on_their_way():
    pipe: Pipe[int] = Pipe(3)
    sent: list[int] = []

    def send() -> None:
        for i in range(50):
            pipe.put(i)
            sent.append(i)
        pipe.finish()

    received = []
    with Workers(pipe) as workers:
        workers.start(send)
        for item in pipe:
            received.append(item)
            if item == 5:
                time.sleep(0.1)
                assert len(sent) <= len(received) + 3
        workers.join()
    assert received == list(range(50))


def test_the_first_failure_of_a_worker_is_raised_and_ends_the_others():
    first: Pipe[int] = Pipe(2)
    second: Pipe[int] = Pipe(2)
    ended = threading.Event()

    def produce() -> None:
        try:
            while True:
                first.put(1)
        finally:
            ended.set()

    def fail() -> None:
        for _ in second:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Workers(first, second) as workers:
        workers.start(produce)
        workers.start(fail)
        for item in first:
            second.put(item)
    assert ended.is_set()


def test_a_failure_of_this_thread_ends_the_workers_and_is_kept():
    pipe: Pipe[int] = Pipe(1)
    stopped = []

    def produce() -> None:
        try:
            while True:
                pipe.put(1)
        except Stopped:
            stopped.append(True)
            raise

    with pytest.raises(KeyboardInterrupt), Workers(pipe) as workers:
        workers.start(produce)
        raise KeyboardInterrupt
    assert stopped == [True]
