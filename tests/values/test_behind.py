"""Work beside the making of the next thing: order, how far it lags, and whose error is told."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, current_thread

import pytest

from umbel.data.behind import behind

LONG = 20.0  # seconds after which a wait has failed


def test_every_item_is_worked_on_once_and_in_order() -> None:
    done: list[int] = []
    behind(iter(range(50)), done.append)
    assert done == list(range(50))
    behind((), done.append)
    assert len(done) == 50


def test_the_next_item_is_made_while_the_one_before_is_worked_on_and_no_further() -> None:
    made: list[int] = []
    second = Event()

    def items() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    seen: list[list[int]] = []

    def work(item: int) -> None:
        assert current_thread().name != "MainThread"
        assert item or second.wait(LONG), "the second item is not made while the first is worked on"
        seen.append(list(made))

    behind(items(), work)
    assert seen[0] == [0, 1]
    assert all(len(one) <= item + 2 for item, one in enumerate(seen))


def test_what_the_work_raises_is_told_and_ends_it() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise ValueError("two")
        done.append(item)

    with pytest.raises(ValueError, match="two"):
        behind(range(9), work)
    assert done == [0, 1]


@pytest.mark.parametrize("fails", [True, False])
def test_an_error_of_the_work_comes_before_one_of_a_later_item(fails: bool) -> None:
    done: list[int] = []

    def items() -> Iterator[int]:
        yield 0
        raise LookupError("the next")

    def work(item: int) -> None:
        done.append(item)
        if fails:
            raise ValueError("the first")

    with pytest.raises(ValueError if fails else LookupError):
        behind(items(), work)
    assert done == [0], "what was made is worked on"
