"""transfer.html from findings made by hand: the answer on top, nothing lost, nothing unescaped, nothing loaded."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from umbel.evaluate.intervals import Interval, Sampled
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import Paired, Verdict
from umbel.study.transfer.advice import Action, Advice, Confidence
from umbel.study.transfer.gradients import Affinity, Conflict
from umbel.study.transfer.groups import Cell
from umbel.study.transfer.labels import Labels, Overlap, Supply
from umbel.study.transfer.listening import Abundance, Ear, Expert, Listening
from umbel.study.transfer.page import transfer_page
from umbel.study.transfer.probed import Grouping, Probed
from umbel.study.transfer.result import Transfer
from umbel.study.transfer.witness import Probe, Witnessed
from umbel.study.trial import Trial
from umbel.study.verdict import Comparison, Difference, Standing

VOID = {"meta"}


class Strict(HTMLParser):
    """Every tag that opens closes, in order; collects text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def read(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    return parser


def gained(value: float, low: float | None, high: float | None, *seeds: float) -> Paired:
    return Paired(Interval(value, low, high, "" if low is not None else "9 users are too few to resample"), seeds, Undefined("few"), 0.5)


def standing(name: str, auc: float) -> Standing:
    tasks: dict[str, Mapping[str, Interval | Undefined]] = {"click": {"auc": Interval(auc, auc - 0.01, auc + 0.01)}}
    return Standing(name, {}, tasks, {"click": {"auc": (auc,)}}, Trial(auc, 10, 1.0, 1.0, 1), {"click": (Sampled(auc, np.zeros(2), 99),)})


def difference(recipe: str, value: float, verdict: Verdict) -> Difference:
    return Difference("click", recipe, "alone", "auc", gained(value, value - 0.01, value + 0.01, value), verdict)


def cell(group: str, gain: Paired | None, *, reason: str = "", verdict: Verdict = Verdict.OPEN) -> Cell:
    auc = Undefined(reason) if reason else Interval(0.7, 0.6, 0.8)
    return Cell("click against like", group, "click", "stem", 1234, 56, auc, auc, gain, verdict)


CELLS = (
    cell("sure", gained(0.015, 0.01, 0.02, 0.01, 0.02), verdict=Verdict.HIGHER),
    cell("lost", gained(-0.03, -0.04, -0.02, -0.02, -0.04), verdict=Verdict.LOWER),
    cell("noise", gained(0.015, -0.01, 0.04, 0.01, 0.02)),
    cell("torn", gained(0.015, 0.01, 0.02, -0.01, 0.04)),
    cell("few", gained(0.015, None, None, 0.01, 0.02)),
    cell("tiny", None, reason="50 rows: fewer than 100"),
)
PROBES = tuple(
    Probe(
        epoch,
        (Conflict("view", ("click", "like"), 0.5 - 0.3 * epoch, 0.25 * epoch), Conflict("table user", ("click", "like"), -0.111, 0.9)),
        (Affinity("click", "like", 0.42), Affinity("like", "click", -0.13)),
        (Listening("click", 0.5, 0.3, 0.2, 0.9), Listening("like", 1.0, 0.0, 0.0, None)),
        (Expert(0, 0, 0.2), Expert(0, 1, 0.95)),
    )
    for epoch in (1, 2, 3)
)
STUDY = Transfer(
    Comparison({}, (standing("alone", 0.70), standing("stem", 0.72)), (difference("stem", 0.02, Verdict.HIGHER),)),
    CELLS,
    {"stem": Witnessed(PROBES, (Abundance("user", 0, 2.44, 8), Abundance("user", 1, 7.0, 8), Abundance("item", 1, 1.0, 8)))},
    Labels(
        (Supply("click", 9_000, 0.75, 4_321, 0.48, 777.7), Supply("like", 9_000, 1.0, 12, 0.0013, 3.0)),
        (Overlap("click", "like", 0.123, 0.045, 0.678, 0.009), Overlap("click", "tap", 0.999, 0.987, 1.0, 1.0)),
    ),
    Advice("stem", Action.OWN_VIEWS, Confidence.CONFIRMED, ("Give them views (stem).", "click: it helps.", "a < b & c")),
    Probed(
        ("click", "like"), ((0.9, 0.42), (-0.13, 1.1)),
        (Grouping((("click", "like"),), 0.145, "stem"), Grouping((("click",), ("like",)), 0.0, "apart")),
        {"device": 0.1, "user": 0.62}, ("user",),
    ),
)  # fmt: skip


def words(study: Transfer = STUDY) -> str:
    return " ".join(" ".join(read(transfer_page(study)).text).split())


def row(page: str, name: str) -> str:
    """The table row whose title holds that name."""
    (found,) = (one for one in re.findall(r"<tr.*?</tr>", page, flags=re.DOTALL) if re.search(rf'<th scope="row">{re.escape(name)}\b', one))
    return str(found)


def test_it_is_well_formed_and_loads_nothing() -> None:
    attributes = dict.fromkeys(name for name, _ in read(transfer_page(STUDY)).attributes)
    assert "src" not in attributes
    links = {value for name, value in read(transfer_page(STUDY)).attributes if name == "href"}
    assert links == {"compare/compare.html"}


def test_the_answer_comes_first() -> None:
    text = words()
    assert text.startswith("Does sharing help? Give them views (stem). confirmed click: it helps.")


@pytest.mark.parametrize(("confidence", "tone"), [
    (Confidence.CONFIRMED, "good"), (Confidence.CONTRADICTED, "warn"), (Confidence.OPEN, "mute"), (Confidence.EQUAL, "mute"),
])
def test_the_badge_has_its_tone(confidence: Confidence, tone: str) -> None:
    page = transfer_page(replace(STUDY, advice=replace(STUDY.advice, confidence=confidence)))
    assert f'<span class="badge {tone}">{confidence}</span></p>' in page


def test_names_are_escaped() -> None:
    evil = "<script>x</script>"
    advice = replace(STUDY.advice, says=(evil, evil))
    labels = Labels((replace(STUDY.labels.supplies[0], task=evil),), (replace(STUDY.labels.overlaps[0], first=evil),))
    cells = tuple(replace(one, group=evil + one.group, split=evil, task=evil) for one in CELLS)
    seen = Witnessed(tuple(replace(one, conflicts=(Conflict("view", (evil, "like"), 0.1, 0.0),)) for one in PROBES), ())
    page = transfer_page(Transfer(STUDY.found, cells, {evil: seen}, labels, advice))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9
    read(page)


def test_gains_have_their_verdict_and_mean() -> None:
    line = row(transfer_page(STUDY), "stem")
    assert "+0.0200" in line
    assert ">higher</span>" in line
    assert "+2.86 %" in line  # .02 of .70
    assert 'class="whisker"' in line


def test_a_recipe_without_a_figure_on_a_task_has_an_empty_cell() -> None:
    other = replace(difference("mmoe", -0.01, Verdict.OPEN), task="like")
    found = replace(STUDY.found, recipes=(*STUDY.found.recipes, standing("mmoe", 0.69)), paired=(*STUDY.found.paired, other))
    line = row(transfer_page(replace(STUDY, found=found)), "mmoe")
    assert line.count("<td></td>") == 1
    assert "−0.0100" in line


@pytest.mark.parametrize(("group", "bold"), [("sure", True), ("lost", True), ("noise", False), ("torn", False), ("few", False)])
def test_only_what_is_more_than_noise_is_bold(group: str, bold: bool) -> None:
    assert ("<b>" in row(transfer_page(STUDY), f"click, {group}")) is bold


@pytest.mark.parametrize(("group", "colour", "share"), [("sure", "--good", 30), ("lost", "--warn", 40), ("noise", "--good", 30)])
def test_colours_say_the_side_and_the_size(group: str, colour: str, share: int) -> None:
    assert f"var({colour}) {share}%" in row(transfer_page(STUDY), f"click, {group}")


def test_groups_say_how_large_they_are_and_why_they_are_not_judged() -> None:
    page = transfer_page(STUDY)
    assert "1,234 rows, 56 positives" in row(page, "click, sure")
    assert "50 rows: fewer than 100" in row(page, "click, tiny")
    assert "9 users are too few to resample" in row(page, "click, few")
    assert "+0.0100 to +0.0200" in row(page, "click, sure")


def test_the_curve_has_every_epoch() -> None:
    page = transfer_page(STUDY)
    for epoch, cosine in ((1, 0.2), (2, -0.1), (3, -0.4)):
        assert f"epoch {epoch}: {cosine:.5f}" in page
    assert "cosine, click and like" in page


def test_the_last_epoch_is_shown_layer_by_layer() -> None:
    page = transfer_page(STUDY)
    assert "−" not in row(page, "view").replace("-0.400", "")
    assert "-0.400" in row(page, "view")
    assert "75% of batches in conflict" in row(page, "view")
    assert "-0.111" in row(page, "table user")


def test_help_is_a_square_of_tasks() -> None:
    page = transfer_page(STUDY)
    head = page[page.index("Help between tasks"):]
    assert head.index("helps click") < head.index("helps like")
    table = head[: head.index("</table>")]
    assert "+0.42 %" in row(table, "a step for click")
    assert "-0.13 %" not in row(table, "a step for click")
    assert "var(--warn) 10%" in row(table, "a step for like")
    assert row(table, "a step for like").count("<td></td>") == 1  # itself


def test_groupings_stand_with_their_promise_and_what_training_said() -> None:
    page = transfer_page(STUDY)
    page = page[page.index("<h3>Groupings"):]
    assert "+0.145 %" in row(page, "click + like")
    assert "0.7200" in row(page, "click + like")
    assert "not trained" in row(page, "click · like")


def test_fields_say_how_often_tasks_pull_them_apart() -> None:
    page = transfer_page(STUDY)
    page = page[page.index("<h3>Fields"):page.index("<h2>Why")]
    assert "62%" in row(page, "user")
    assert "of the tasks' own" in html.unescape(row(page, "user"))
    assert "shared" in row(page, "device")
    assert page.index(">user<") < page.index(">device<")


def test_width_controls_have_a_plot_of_their_own() -> None:
    pair = replace(difference("stem", 0.004, Verdict.OPEN), against="ple x3")
    found = replace(STUDY.found, paired=(*STUDY.found.paired, pair))
    page = transfer_page(replace(STUDY, found=found))
    part = page[page.index("against ple x3"):]
    assert "+0.0040" in row(part[: part.index("</table>")], "stem")
    assert "against ple" not in transfer_page(STUDY)


def test_curves_over_epochs_of_help_and_gates() -> None:
    page = transfer_page(STUDY)
    assert "click helps like, percent" in page
    assert "epoch 2: 0.42000" in page
    assert "gate entropy, click" in page
    assert "gate entropy, like" not in page  # it has no gate


def test_many_plots_are_folded() -> None:
    tasks = [f"t{number}" for number in range(4)]
    helps = tuple(Affinity(one, other, 0.1) for one in tasks for other in tasks if one != other)
    many = Witnessed(tuple(replace(one, affinities=helps) for one in PROBES), ())
    assert "help over epochs, 12 plots" in words(replace(STUDY, why={"stem": many}))


def test_ears_by_group() -> None:
    ears = (Ear("click against like", "comparable", 4_321, (Listening("click", 0.61, 0.27, 0.12, 0.9),)),)
    page = transfer_page(replace(STUDY, why={"stem": Witnessed(PROBES, (), ears)}))
    line = row(page, "click against like: comparable")
    assert all(part in line for part in ("4,321 rows", "0.61", "0.27", "0.12"))


def test_a_broken_funnel_is_marked() -> None:
    chained = (Overlap("click", "buy", 0.3, 0.2, 0.98, 0.1, later="buy"), Overlap("click", "order", 0.3, 0.2, 1.0, 0.1, later="order"))
    page = transfer_page(replace(STUDY, labels=Labels(STUDY.labels.supplies, chained)))
    assert "funnel broken</span>" in row(page, "click and buy")
    assert "funnel broken" not in row(page, "click and order")


def test_gates_and_dead_experts() -> None:
    text = words()
    assert "Dead experts: layer 0 expert 1." in text
    table = transfer_page(STUDY)
    table = table[table.index("task listens to"):]
    line = row(table[: table.index("</table>")], "like")
    assert line.count("0.00") == 2
    assert "<td></td>" in line  # no gate, no entropy


def test_no_dead_expert_is_said_too() -> None:
    alive = tuple(replace(one, experts=(Expert(0, 0, 0.2), Expert(0, 1, 0.3))) for one in PROBES)
    assert "None of the 2 experts is dead." in words(replace(STUDY, why={"stem": Witnessed(alive, ())}))


def test_directions_of_each_table_and_view() -> None:
    page = transfer_page(STUDY)
    page = page[page.index("Directions in use"):]
    table = page[: page.index("</table>")]
    assert "2.4" in row(table, "user")
    assert "of 8" in row(table, "user")
    assert row(table, "item").count("<td></td>") == 1  # not in view 0


def test_separate_views_have_nothing_to_disagree_about() -> None:
    apart = tuple(replace(one, conflicts=(), affinities=(), gates=(), experts=()) for one in PROBES)
    text = words(replace(STUDY, why={"alone": Witnessed(apart, ())}))
    assert "No view is shared: nothing to disagree about there." in text
    assert "cosine at the last epoch" not in text
    assert "task listens to" not in text


def test_a_training_whose_probes_are_lost_says_so() -> None:
    assert "is lost; remove its folder" in words(replace(STUDY, why={"stem": Witnessed((), ())}))


def test_labels_are_told_with_their_warnings() -> None:
    page = transfer_page(STUDY)
    page = page[page.index("<h2>Labels"):]
    supplies = page[: page.index("</table>")]
    assert all(part in row(supplies, "click") for part in ("4,321", "48.00%", "778", "75%"))
    assert "sparse</span>" in row(supplies, "like")
    assert "sparse</span>" not in row(supplies, "click")
    assert "duplicate</span>" in row(page, "click and tap")
    assert "duplicate" not in row(page, "click and like")
    assert all(part in row(page, "click and like") for part in ("0.123", "0.045", "0.678", "0.009"))


def test_one_binary_task_has_no_pairs() -> None:
    lone = Labels(STUDY.labels.supplies[:1], ())
    assert "shared information" not in words(replace(STUDY, labels=lone))
    read(transfer_page(replace(STUDY, labels=lone, cells=(), why={})))


def test_plain_values_of_the_whole_study() -> None:
    plain = STUDY.to_json()
    assert list(plain) == ["advice", "compare", "delta_m", "groups", "why", "probes", "labels"]
    advice = plain["advice"]
    assert isinstance(advice, dict)
    assert (advice["recipe"], advice["action"], advice["confidence"]) == ("stem", "give tasks views of their own", "confirmed")
    groups = plain["groups"]
    assert isinstance(groups, list)
    assert [one["group"] for one in groups] == ["sure", "lost", "noise", "torn", "few", "tiny"]
    why = plain["why"]
    assert isinstance(why, dict)
    assert [one["epoch"] for one in why["stem"]["epochs"]] == [1, 2, 3]


def test_a_mean_gain_that_cannot_be_had_is_none() -> None:
    """Separate models no better than a constant: nothing is relative to that, on the page and in numbers that JSON has."""
    behind = tuple(replace(one, tasks={"click": {"d2": Interval(value, None, None)}}, seeds={"click": {"d2": (value,)}})
                   for one, value in zip(STUDY.found.recipes, (-0.05, 0.02), strict=True))  # fmt: skip
    study = replace(STUDY, found=replace(STUDY.found, recipes=behind))
    assert study.to_json()["delta_m"] == {"alone": None, "stem": None}
    assert ">none<" in row(transfer_page(study), "stem")
    assert ">+2.86 %<" in row(transfer_page(STUDY), "stem")


def test_help_that_is_told_in_nats_is_said_to_be() -> None:
    assert "of a nat" not in words()
    assert STUDY.probes is not None
    text = words(replace(STUDY, probes=replace(STUDY.probes, nats=("watch", "paid & more"))))
    assert "Of watch, paid & more percent are of a nat for each row above 0: the loss is minus the logarithm of a density" in text
