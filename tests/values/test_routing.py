"""Routings by hand: who hears whom, which views are read, and what a stack keeps."""

from __future__ import annotations

import pytest

from umbel.nn import routing
from umbel.nn.reach import Reach, reach
from umbel.nn.routing import PARADIGMS, Route, Routing, one_view, own_and_shared, own_views, stack, view_per_expert

HID, STO, OPN = Route.HIDDEN, Route.STOPPED, Route.OPEN


def rows(routing_: Routing) -> list[str]:
    """The table as marks: o open, s stopped, . hidden."""
    return ["".join(".so"[route] for route in row) for row in routing_.table]


def test_routes_are_ordered_by_what_they_grant() -> None:
    assert HID < STO < OPN
    assert not HID


@pytest.mark.parametrize(("made", "table"), [
    (routing.alone(2, 1, own_views), ["o.", ".o", ".."]),
    (routing.alone(2, 2, own_views), ["oo..", "..oo", "...."]),
    (routing.shared_bottom(2, one_view), ["o", "o", "o"]),
    (routing.mmoe(2, 3, one_view), ["ooo", "ooo", "ooo"]),
    (routing.omoe(2, 3, one_view), ["ooo", "ooo", "ooo"]),
    (routing.ple(2, (1, 1), one_view), ["o.o", ".oo", "ooo"]),
    (routing.ple(2, (1, 2), one_view, legacy=True), ["o.oo", ".ooo", "..oo"]),
    (routing.stem(2, (1, 1), own_and_shared), ["oso", "soo", "sso"]),
    (routing.stem(2, (1, 1), own_and_shared, legacy=True), ["oso", "soo", "ooo"]),
    (routing.stem(2, (1, 1), own_and_shared, taught=True), ["ooo", "ooo", "ooo"]),
    (routing.stem(3, (1, 0), own_and_shared), ["oss", "sos", "sso", "sss"]),
])
def test_tables(made: Routing, table: list[str]) -> None:
    assert rows(made) == table


@pytest.mark.parametrize(("paradigm", "views", "homes"), [
    ("shared", (0, 0, 0, 0), ((0,), (0,), (0,))),
    ("own", (0, 1, 0, 1), ((0,), (1,), ())),
    ("own+shared", (0, 1, 2, 2), ((0,), (1,), (2,))),
    ("each", (0, 1, 2, 3), ((0,), (1,), (2, 3))),
])
def test_paradigms(paradigm: str, views: tuple[int, ...], homes: tuple[tuple[int, ...], ...]) -> None:
    outlook = PARADIGMS[paradigm]((0, 1, 2, 2), 2)
    assert outlook.views == views
    assert outlook.homes == homes


def test_shared_experts_are_dealt_round_the_tasks() -> None:
    assert own_views((3, 3, 3, 3, 3), 3).views == (0, 1, 2, 0, 1)


@pytest.mark.parametrize(("made", "gates"), [
    (routing.stem(2, (1, 1), own_and_shared), ((0, 2), (1, 2), (2,))),
    (routing.stem(2, (1, 1), one_view), ((0,), (0,), (0,))),
    (routing.stem(2, (1, 1), own_views), ((0,), (1,), (0, 1))),
    (routing.stem(2, (1, 2), view_per_expert), ((0, 2, 3), (1, 2, 3), (2, 3))),
    (routing.ple(2, (1, 1), own_and_shared), ((0,), (1,), (2,))),
    (routing.ple(2, (2, 1), view_per_expert), ((0, 1), (2, 3), (4,))),
    (routing.mmoe(2, 3, view_per_expert), ((0, 1, 2), (0, 1, 2), (0, 1, 2))),
    (routing.mmoe(2, 3, own_and_shared), ((0,), (1,), (2,))),
    (routing.mmoe(2, 3, own_views), ((0,), (1,), (0, 1))),
    (routing.omoe(2, 3, own_views), ((0, 1),)),
    (routing.omoe(2, 3, own_and_shared), ((2,),)),
])
def test_what_gates_sum(made: Routing, gates: tuple[tuple[int, ...], ...]) -> None:
    assert made.gates == gates


def test_a_shared_gate_serves_all_readers() -> None:
    assert routing.omoe(3, 2, one_view).gate == (0, 0, 0, 0)
    assert routing.mmoe(3, 2, one_view).gate == (0, 1, 2, 3)


def test_heard_and_inputs() -> None:
    made = routing.stem(2, (1, 1), own_and_shared)
    assert made.heard(0) == (0, 1, 2)
    assert routing.ple(2, (1, 1), one_view).heard(1) == (1, 2)
    assert made.inputs == (0, 1, 2)
    assert routing.alone(2, 1, own_and_shared).inputs == (0, 1)
    assert routing.mmoe(2, 2, own_and_shared).inputs == (0, 1, 2)


def test_one_layer_keeps_no_commons() -> None:
    (made,) = stack(lambda lens: routing.stem(2, (1, 1), lens), own_and_shared, layers=1, tasks=2)
    assert rows(made) == ["oso", "soo"]
    assert made.gates == ((0, 2), (1, 2))


def test_the_parity_flag_keeps_it() -> None:
    (made,) = stack(lambda lens: routing.stem(2, (1, 1), lens), own_and_shared, layers=1, tasks=2, commons=True)
    assert rows(made) == ["oso", "soo", "sso"]


def test_two_layers_keep_it_below() -> None:
    below, above = stack(lambda lens: routing.stem(2, (1, 1), lens), own_and_shared, layers=2, tasks=2)
    assert rows(below) == ["oso", "soo", "sso"]
    assert rows(above) == ["oso", "soo"]
    assert above.views == (0, 1, 2)


def test_views_that_nobody_reads_are_not_kept() -> None:
    (made,) = stack(lambda lens: routing.shared_bottom(2, lens), own_and_shared, layers=1, tasks=2)
    assert made.views == (0,)
    (made,) = stack(lambda lens: routing.omoe(2, 2, lens), own_and_shared, layers=1, tasks=2)
    assert made.views == (0, 0)
    assert made.gates == ((0,),)
    (made,) = stack(lambda lens: routing.alone(2, 2, lens), own_and_shared, layers=1, tasks=2)
    assert made.inputs == (0, 1)


def test_a_stack_of_one_bottom_hears_one_bottom() -> None:
    below, above = stack(lambda lens: routing.shared_bottom(3, lens), one_view, layers=2, tasks=3)
    assert rows(below) == ["o"]
    assert above.views == (0,)
    assert rows(above) == ["o", "o", "o"]


def test_upper_layers_read_the_readers_below() -> None:
    below, above = stack(lambda lens: routing.mmoe(2, 2, lens), one_view, layers=2, tasks=2)
    assert below.views == (0, 0)
    assert above.views == (2, 2)
    assert above.gates == ((0,), (1,))
    assert len(below.table) == 3


def test_keep_and_renumber() -> None:
    made = routing.stem(3, (1, 1), own_and_shared).keep((0, 2))
    assert rows(made) == ["osso", "ssoo"]
    assert made.gates == ((0, 3), (2, 3))
    assert made.renumber((0, 1, 2, 3)) == made
    assert Routing((2, 4), ((OPN, OPN),), ((4,),)).renumber((2, 4)) == Routing((0, 1), ((OPN, OPN),), ((1,),))


@pytest.mark.parametrize(("views", "table", "gates", "message"), [
    ((0, 0), ((OPN,),), ((0,),), "2 experts"),
    ((0,), ((OPN,), (OPN,), (OPN,)), ((0,), (0,)), "one a reader"),
    ((0, 0), ((OPN, HID), (OPN, OPN)), ((0,),), "share a gate"),
    ((0, 0), ((STO, HID),), ((0,),), "must teach it"),
])
def test_a_routing_that_cannot_be(
    views: tuple[int, ...], table: tuple[tuple[Route, ...], ...], gates: tuple[tuple[int, ...], ...], message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        Routing(views, table, gates)


def test_the_table_for_people() -> None:
    made = routing.stem(2, (1, 2), own_and_shared)
    assert made.text(["click", "like", "commons"]).splitlines() == [
        "reads     0   1   2   2",
        "click     ●   ○   ●   ●  gate 0+2",
        "like      ○   ●   ●   ●  gate 1+2",
        "commons   ○   ○   ●   ●  gate 2",
    ]


def test_the_table_says_where_there_is_no_gate() -> None:
    assert routing.alone(1, 1, own_views).keep((0,)).text(["buy"]).splitlines() == ["reads   0", "buy     ●  gate none"]


def test_reach_of_one_layer() -> None:
    (made,) = stack(lambda lens: routing.stem(2, (1, 1), lens), own_and_shared, layers=1, tasks=2)
    assert reach(made, ((0,), (1,))) == Reach(experts=((0,), (1,), (0, 1)), gates=((0,), (1,)), inputs=((0,), (1,), (0, 1)))


def test_gates_that_read_all_views_teach_all_views() -> None:
    (made,) = stack(lambda lens: routing.mmoe(2, 2, lens), view_per_expert, layers=1, tasks=2)
    assert reach(made, ((0,), (1,))).inputs == ((0, 1), (0, 1))


def test_reach_stops_at_stopped_experts_and_not_at_gates() -> None:
    made = Routing((0, 1), ((OPN, STO), (HID, OPN)), ((0, 1), (1,)))
    level = reach(made, ((0,), (1,)))
    assert level.experts == ((0,), (1,))
    assert level.gates == ((0,), ())
    assert level.inputs == ((0,), (0, 1))


def test_reach_through_two_layers_is_a_product() -> None:
    build = [routing.stem(2, (1, 1), own_and_shared, legacy=legacy).keep((0, 1, 2)) for legacy in (False, True)]
    top = routing.stem(2, (1, 1), own_and_shared).keep((0, 1))
    above = reach(top, ((0,), (1,))).inputs
    assert reach(build[0], above).experts == ((0,), (1,), (0, 1))
    assert reach(build[1], above).experts == ((0, 1), (0, 1), (0, 1))


def test_reach_asks_whom_the_readers_learn_from() -> None:
    made = routing.alone(2, 1, own_views).keep((0, 1))
    assert reach(made, ((0, 1), (1,))).experts == ((0, 1), (1,))


def test_a_reader_that_nobody_reads_teaches_nobody() -> None:
    made = routing.stem(2, (1, 1), own_and_shared, legacy=True)
    assert reach(made, ((0,), (1,), ())).gates == ((0,), (1,), ())
