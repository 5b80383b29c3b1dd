import threading
import time

import pytest
import torch

from bdinn_core.parallel import in_parallel, on_workers, scratch, strips


@pytest.fixture
def threads():
    """Lets torch, and so the workers, use two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_are_in_order(count, threads):
    assert in_parallel(lambda i: i * i, range(count)) == [i * i for i in range(count)]


def test_a_failure_is_raised_once_all_have_stopped(threads):
    running = []

    def work(i: int) -> None:
        running.append(i)
        if i == 1:
            raise ValueError("the second item")
        time.sleep(0.1)
        running.remove(i)

    with pytest.raises(ValueError, match="second"):
        in_parallel(work, range(50))
    assert running == [1]
    assert in_parallel(lambda i: i, range(3)) == [0, 1, 2]


def test_nested_work_is_done_by_whoever_asks(threads):
    def work(i: int) -> list[int]:
        return in_parallel(lambda j: 10 * i + j, range(3))

    assert in_parallel(work, range(4)) == [[10 * i + j for j in range(3)] for i in range(4)]
    assert on_workers(lambda: on_workers(lambda: in_parallel(work, [0]))) == [[0, 1, 2]]


def test_more_callers_than_workers(threads):
    results = {}

    def call(caller: int) -> None:
        results[caller] = [in_parallel(lambda i: caller + i, range(5)) for _ in range(20)]

    callers = [threading.Thread(target=call, args=(100 * n,)) for n in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert results == {100 * n: [[100 * n + i for i in range(5)]] * 20 for n in range(16)}


def test_modes_of_torch(threads):
    with torch.inference_mode():
        assert in_parallel(lambda _: torch.is_inference_mode_enabled(), range(4)) == [True] * 4
    assert in_parallel(lambda _: torch.is_inference_mode_enabled(), range(4)) == [False] * 4
    assert in_parallel(lambda _: torch.is_grad_enabled(), range(4)) == [False] * 4


def test_scratch_memory_is_a_threads_own(threads):
    barrier = threading.Barrier(2)

    def address(_: int) -> int:
        barrier.wait(10)  # so that both threads take part
        return scratch("test", (3, 4), torch.float32).data_ptr()

    first, second = in_parallel(address, range(2))
    assert first != second
    assert scratch("test", (2, 2), torch.float32).shape == (2, 2)


def test_strips_cover_all():
    assert strips(10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert strips(0, 4) == []
