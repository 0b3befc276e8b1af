"""Users as the units of a test, by hand: each once, by the first session, of the arm that answered first."""

from __future__ import annotations

from umbel.serve.monitor.sessions import Sessions, Visit


def seen(length: int, *visits: Visit, clock: int = 10_000) -> Sessions:
    made = Sessions(length)
    for one in visits:
        made.see(one)
    made.close(clock)
    return made


def found(sessions: Sessions) -> list[tuple[bool, float]]:
    return list(zip(sessions.arm.tolist(), sessions.value.tolist(), strict=True))


def test_a_session_is_one_mean() -> None:
    one = seen(10, Visit("a", 5, True, 1.0, 4), Visit("a", 15, True, 3.0, 4))
    assert found(one) == [(True, 0.5)]


def test_what_comes_after_the_session_does_not_count() -> None:
    one = seen(10, Visit("a", 5, True, 1.0, 4), Visit("a", 16, True, 4.0, 4))
    assert found(one) == [(True, 0.25)]


def test_users_stand_in_the_order_in_which_they_came() -> None:
    one = seen(10, Visit("b", 1, False, 0.0, 1), Visit("a", 2, True, 1.0, 1), Visit("b", 3, False, 1.0, 1), Visit("c", 3, False, 1.0, 1))
    assert found(one) == [(False, 0.5), (True, 1.0), (False, 1.0)]


def test_the_arm_that_answered_first_is_a_user_s_arm() -> None:
    one = seen(10, Visit("a", 1, False, 1.0, 2), Visit("a", 2, True, 0.0, 8), Visit("a", 3, False, 1.0, 2))
    assert found(one) == [(False, 0.5)]


def test_a_session_that_may_go_on_is_not_counted_yet() -> None:
    one = seen(10, Visit("a", 5, True, 1.0, 1), Visit("b", 6, True, 0.0, 1), clock=15)
    assert found(one) == [(True, 1.0)]
    one.see(Visit("b", 16, True, 1.0, 1))
    one.close(14)
    assert found(one) == [(True, 1.0)]
    one.close(16)
    assert found(one) == [(True, 1.0), (True, 0.5)]


def test_a_user_who_comes_again_stays_counted_once() -> None:
    one = seen(0, Visit("a", 5, True, 1.0, 1), clock=9)
    one.see(Visit("a", 10, False, 0.0, 1))
    one.close(100)
    assert found(one) == [(True, 1.0)]


def test_an_answer_that_showed_nothing_begins_no_session() -> None:
    assert found(seen(10, Visit("a", 1, False, 0.0, 0), Visit("a", 12, True, 1.0, 1))) == [(True, 1.0)]


def test_nobody_is_nobody() -> None:
    assert found(seen(10)) == []
    assert seen(10).arm.dtype == bool
