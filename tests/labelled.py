"""The label table as a plain loop over dictionaries: what every store must give, whatever came when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from umbel.feedback import Amount, Attribution, Feedback, Rule
from umbel.serve.records import Decision, Event

Place = tuple[str, str]  # request and item
Told = tuple[float | None, bool]  # the label, and whether it was corrected late
Test = Callable[[Event], bool]


def table(
    decisions: Mapping[str, Decision], events: Mapping[str, tuple[Event, int]], feedback: Feedback, *, tests: Mapping[str, Test],
    early: bool = False,
) -> dict[tuple[str, str, str], Told]:
    """(request, item, task) → what is told of it; `tests` say what each rule's expression says.

    `early`, also before a window has closed, where an event came that no later one undoes.
    """
    clock = max((event.time for event, _ in events.values()), default=-1)
    belongs = {name: attributed(event, decisions) for name, (event, _) in events.items()}
    found: dict[tuple[str, str, str], Told] = {}
    for decision in decisions.values():
        for shown in decision.shown:
            place = (decision.request, shown.item)
            own = sorted((events[name] for name, where in belongs.items() if where == place), key=lambda one: (one[0].time, one[0].id))
            for rule in feedback.rules:
                closed = decision.time + rule.window + feedback.lateness
                told = label(own, decision, rule, feedback, test=tests[rule.task])
                came = early and rule.value in (Amount.ANY, Amount.LAST) and told is not None
                settled = (rule.nothing, False) if told is None else told
                found[(*place, rule.task)] = settled if closed <= clock else ((settled[0], False) if came else (None, False))
    return found


def attributed(event: Event, decisions: Mapping[str, Decision]) -> Place | None:
    """The place an event belongs to."""
    if event.request is not None:
        known = decisions.get(event.request)
        return (event.request, event.item) if known and any(one.item == event.item for one in known.shown) else None
    before = [
        (decision.time, decision.request)
        for decision in decisions.values()
        if decision.user is not None and decision.user == event.user and decision.time <= event.time
        and any(one.item == event.item for one in decision.shown)
    ]  # fmt: skip
    return (max(before)[1], event.item) if before else None


def label(own: Sequence[tuple[Event, int]], decision: Decision, rule: Rule, feedback: Feedback, *, test: Test) -> Told | None:
    """The label of one place from its events, in the order of their times; None where none counts."""
    counted = [
        (event, received)
        for event, received in own
        if -feedback.skew <= event.time - decision.time < rule.window and test(event)
        and (rule.attribution is Attribution.LAST or event.request is not None)
        and (rule.range is None or (event.value is not None and rule.range[0] <= event.value <= rule.range[1]))
    ]  # fmt: skip
    values = [event.value or 0.0 for event, _ in counted]
    late = any(received >= decision.time + rule.window + feedback.lateness for _, received in counted)
    if not values:
        return None
    return {Amount.ANY: 1.0, Amount.SUM: sum(values), Amount.MAX: max(values), Amount.LAST: values[-1]}[rule.value], late
