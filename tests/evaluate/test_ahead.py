"""Work ahead keeps the order, the errors and its distance."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from eosin.evaluate.exam.ahead import AHEAD, worked_ahead


def test_results_and_errors_come_in_the_order_of_the_items() -> None:
    def work(number: int) -> float:
        time.sleep(0.002 * (number % 3))
        return 12 / (number - 3)

    found = list(worked_ahead(range(9), work, threads=3))
    assert [item for item, _ in found] == list(range(9))
    assert [f.result() for item, f in found if item != 3] == [12 / (n - 3) for n in range(9) if n != 3]
    with pytest.raises(ZeroDivisionError):
        found[3][1].result()


def test_only_some_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    given = worked_ahead(items(), abs, threads=2)
    for done in range(1, 20):
        next(given)
        assert taken - done < AHEAD * 2
    given.close()
    assert taken < 30


def test_work_is_done_by_several_threads_at_once() -> None:
    both = threading.Barrier(2, timeout=20)
    assert [f.result() for _, f in worked_ahead(range(2), lambda _: both.wait() >= 0, threads=2)] == [True, True]
