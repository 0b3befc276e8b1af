"""The part of a report that tells of retrieval: how often each source brings what users then liked."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from umbel.evaluate.intervals import Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.recall import gained
from umbel.run import markup as html
from umbel.run.record import measured_from_json, measured_to_json

TITLES = {"two_tower": "nearest by two towers", "popular": "popular items", "similar": "item to item", "union": "all of them together"}
BEFORE = ("popular", "similar")  # what the towers are compared with
NOTE = (
    "Recall@k: the share of test positives whose item is among the first k that a source brings, of items that the user had not met in "
    "training. Together, the sources bring up to k items each. Intervals are over users (95 %)."
)


def to_json(about: Mapping[str, object], drawn: Mapping[int, Mapping[str, Sampled | Undefined]]) -> dict[str, object]:
    """What `report.json` holds under `retrieval`."""
    recalls = {
        f"recall@{k}": {name: measured_to_json(one if isinstance(one, Undefined) else one.interval()) for name, one in own.items()}
        for k, own in drawn.items()
    }
    gains = {
        f"recall@{k}": {name: measured_to_json(gained(own["two_tower"], own[name])) for name in BEFORE} for k, own in drawn.items()
    }
    return {**about, "recall": recalls, "gained": gains}


def section(saved: Mapping[str, Any]) -> str:
    """The section of the page; nothing where the run retrieves nothing."""
    if not saved:
        return ""
    sources, recalls = list(TITLES), saved["recall"]
    rows = [[html.title_cell(TITLES[name]), *(html.cell(measured_from_json(own[name])) for own in recalls.values())] for name in sources]
    gains = [
        [html.title_cell(f"towers less {TITLES[name]}"), *(html.cell(measured_from_json(own[name])) for own in saved["gained"].values())]
        for name in BEFORE
    ]
    lost = "; ".join(f"{count:,} positives ask for nothing: {reason}" for reason, count in saved["lost"].items() if count)
    counts = html.facts({
        "items": f"{saved['items']:,}", "training positives": f"{saved['positives']:,}", "test positives": f"{saved['rows']:,}",
        "users": f"{saved['users']:,}",
    })  # fmt: skip
    note = f"<p class='mute'>{NOTE}{f' {escape(lost)}.' if lost else ''}</p>"
    return html.section("Retrieval", html.card(counts, html.table(["source", *recalls], [*rows, *gains]), note))
