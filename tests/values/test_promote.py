"""The gate by hand: what a candidate loses in each kind of metric, what cannot be told, and what the line says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from tests.logs import SCHEMA, SPLIT, source

from umbel.bundle import Built, Bundle
from umbel.data.batch import Batch
from umbel.data.ingest import ingest
from umbel.data.raw import encoded
from umbel.data.table import Table
from umbel.data.vocab import Encoder
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Identity, Platt
from umbel.evaluate.intervals import resample
from umbel.evaluate.judge import Predictions, TaskReport, evaluate
from umbel.kinds import MultiClass, Quantile
from umbel.nn.recommender import Sizes
from umbel.run import promote
from umbel.run.promote import Bounds, Check, Decision, bounds_of, decide
from umbel.run.report import Report
from umbel.schema import Schema, Task

USERS = 40
EASY = Bounds(calibration=(0.0, 1e9), milliseconds=1e6)
CALIBRATORS: dict[str, Calibrator] = {"click": Platt(), "buy": Platt(), "spent": Identity()}
Judged = Callable[[Sequence[TaskReport], Sequence[TaskReport]], None]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("promote")
    return ingest(source(folder), SCHEMA, SPLIT, folder=folder / "table")


def bundled(table: Table, folder: Path, *, tasks: tuple[Task, ...] = SCHEMA.tasks, resamples: int = 5) -> Path:
    """A bundle of an untrained model of those tasks, whose run asked for so many resamples."""
    own = Schema(SCHEMA.fields, tasks)
    rows = {name: one.size for name, one in table.encoder.vocabularies.items()}
    built = Built("shared_bottom", Sizes(rows, dim=2, expert=(4,), tower=(3,)))
    report = Report("shared_bottom", 1, {"train": 6}, (), 1, 1.0, 1.0, 1, settings={"evaluate": {"resamples": resamples}}).to_json()
    encoder = Encoder(own, table.encoder.vocabularies, table.encoder.scales)
    calibrators = {task.name: CALIBRATORS.get(task.name, Identity()) for task in tasks}
    torch.manual_seed(1)
    Bundle(table.source, encoder, built, built(own).eval(), calibrators, report).save(folder, golden=table.golden())
    return folder


@pytest.fixture(scope="module")
def bundle(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle, candidate and stable at once: what each is judged to be is said by a test."""
    return bundled(table, tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """Say how the candidate and the stable bundle are judged."""

    def say(new: Sequence[TaskReport], old: Sequence[TaskReport]) -> None:
        told = iter([tuple(new), tuple(old)])
        monkeypatch.setattr(promote, "judge_rows", lambda *_, **__: next(told))
        monkeypatch.setattr(promote, "ROUNDS", 1)

    return say


def report(task: Task, logits: Float[np.ndarray, "rows outputs"], labels: Float[np.ndarray, "rows"], *, users: int = USERS) -> TaskReport:
    """A task's report of a model that gave these logits; a probability is their sigmoid, a prediction they themselves."""
    groups = np.arange(len(labels)) % users
    seen = np.ones((len(labels), 1), dtype=bool)
    found = Predictions(Schema(SCHEMA.fields, (task,)), logits, labels[:, None], seen, groups)
    answers = 1 / (1 + np.exp(-logits)) if task.kind.name == "binary" else logits
    (one,) = evaluate(found, answers, by=resample(groups, resamples=50))
    return one


CLICK, SPENT = Task("click"), SCHEMA.task("spent")
DRAW = np.random.default_rng(4)
HAPPENED = (DRAW.random(400) < 0.4).astype(float)
SIGNAL, NOISE = HAPPENED - 0.5, DRAW.normal(size=400)
GOOD, BAD = (1.5 * SIGNAL + 0.5 * NOISE)[:, None], (0.1 * SIGNAL + NOISE)[:, None]
AMOUNT = DRAW.normal(size=400) + 3
ERROR = DRAW.normal(size=400)


def spent(times: float) -> TaskReport:
    """A regression whose errors are so many times those of the plain one."""
    return report(SPENT, (AMOUNT + times * ERROR)[:, None], AMOUNT)


def click(logits: Float[np.ndarray, "rows 1"], *, users: int = USERS) -> TaskReport:
    return report(CLICK, logits, HAPPENED, users=users)


def gate(bundle: Path, bounds: Bounds = EASY, out: Path | None = None) -> Decision:
    return decide(bundle, bundle, "not read", bounds=bounds, out=out)


def only(found: Decision, name: str) -> Check:
    (check,) = (one for one in found.checks if one.name == name)
    return check


def test_a_regression_loses_a_share_of_its_error(bundle: Path, judged: Judged) -> None:
    """Errors a tenth larger in every row are a tenth more RMSE in every draw: the figure is a share, and worse is below 0."""
    judged([spent(1.1)], [spent(1.0)])
    found = only(gate(bundle), "spent rmse")
    assert found.value == pytest.approx(-0.1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.1 < found.high < 0
    assert not found.holds
    assert found.says.startswith("spent: rmse worse by 0.1000 (-0.1")
    assert found.says.endswith("0.002 may be lost")


@pytest.mark.parametrize(("worse", "holds"), [(0.05, False), (0.1, True), (0.2, True)])
def test_what_may_be_lost_of_an_error_is_a_share(bundle: Path, judged: Judged, worse: float, holds: bool) -> None:
    judged([spent(1.1)], [spent(1.0)])
    assert only(gate(bundle, replace(EASY, worse=worse)), "spent rmse").holds is holds


def test_a_smaller_error_is_a_gain(bundle: Path, judged: Judged) -> None:
    judged([spent(0.8)], [spent(1.0)])
    found = only(gate(bundle, replace(EASY, strict=True)), "spent rmse")
    assert found.value == pytest.approx(0.2)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 0.2 < found.high
    assert found.holds
    assert "better by 0.2000" in found.says


def test_beside_a_model_without_error_any_is_counted_as_it_is(bundle: Path, judged: Judged) -> None:
    """There is no share of nothing."""
    judged([spent(0.5)], [spent(0.0)])
    found = only(gate(bundle), "spent rmse")
    assert found.value == pytest.approx(-0.5 * float(np.sqrt(np.mean(np.square(ERROR)))))
    assert not found.holds


def test_an_event_loses_auc(bundle: Path, judged: Judged) -> None:
    judged([click(BAD)], [click(GOOD)])
    lost = only(gate(bundle), "click auc")
    judged([click(GOOD)], [click(BAD)])
    gained = only(gate(bundle), "click auc")
    assert lost.value is not None
    assert gained.value is not None
    assert lost.value == pytest.approx(-gained.value)
    assert (lost.low, lost.high) == pytest.approx((-float(gained.high or 0), -float(gained.low or 0)))
    assert lost.value < -0.1
    assert (lost.holds, gained.holds) == (False, True)
    assert lost.says == f"click: auc worse by {-lost.value:.4f} ({lost.low:+.4f} to {lost.high:+.4f}), 0.002 may be lost"


def test_a_loss_counts_when_it_is_shown_and_with_strict_when_it_is_possible(bundle: Path, judged: Judged) -> None:
    other = GOOD + 0.3 * DRAW.normal(size=GOOD.shape)
    judged([click(other)], [click(GOOD)])
    plain = only(gate(bundle), "click auc")
    assert plain.low is not None
    assert plain.high is not None
    assert plain.low < plain.high
    for bound, strict in ((-plain.high, False), (-plain.low, True)):
        for more, holds in ((1e-4, True), (-1e-4, False)):
            judged([click(other)], [click(GOOD)])
            assert only(gate(bundle, replace(EASY, worse=bound + more, strict=strict)), "click auc").holds is holds


def test_the_same_model_loses_nothing_even_when_proof_is_asked(bundle: Path, judged: Judged) -> None:
    judged([click(GOOD), spent(1.0)], [click(GOOD), spent(1.0)])
    found = gate(bundle, replace(EASY, strict=True, worse=0.0))
    assert found.promote
    assert [(check.value, check.low, check.high) for check in found.checks if check.name in ("click auc", "spent rmse")] == [(0, 0, 0)] * 2


def test_a_metric_that_cannot_be_had_stands_against_it(bundle: Path, judged: Judged) -> None:
    nothing = report(CLICK, GOOD, np.zeros(400))
    for new, old in ((nothing, click(GOOD)), (click(GOOD), nothing), (nothing, nothing)):
        judged([new], [old])
        found = only(gate(bundle), "click auc")
        assert not found.holds
        assert found.says == "click: auc cannot be had (no positive row)"
        assert (found.value, found.low, found.high) == (None, None, None)


def test_a_metric_without_an_interval_stands_against_it_and_is_told(bundle: Path, judged: Judged) -> None:
    judged([click(GOOD, users=5)], [click(BAD, users=5)])
    found = only(gate(bundle), "click auc")
    assert not found.holds
    assert found.value is not None
    assert found.value > 0.1
    assert found.says == "click: auc has no interval (5 users are too few to resample)"


@pytest.mark.parametrize("logits", [BAD, GOOD])
def test_a_waived_task_may_lose_but_must_stay_calibrated(bundle: Path, judged: Judged, logits: Float[np.ndarray, "rows 1"]) -> None:
    judged([click(logits)], [click(GOOD)])
    found = gate(bundle, replace(EASY, waived=("click",), calibration=(5.0, 6.0)))
    assert only(found, "click auc") == Check("click auc", True, "click: waived")
    assert not only(found, "click calibration").holds
    judged([report(CLICK, GOOD, np.zeros(400))], [click(GOOD)])
    assert only(gate(bundle, replace(EASY, waived=("click",))), "click auc").holds


def test_calibration_is_the_candidates_and_its_bounds_belong_to_it(bundle: Path, judged: Judged) -> None:
    ratio = click(GOOD).figures.metrics["calibration_ratio"].value  # type: ignore[union-attr]
    for low, high, holds in ((ratio, 9.0, True), (0.0, ratio, True), (ratio + 1e-9, 9.0, False), (0.0, ratio - 1e-9, False)):
        judged([click(GOOD)], [click(BAD + 3)])
        found = only(gate(bundle, replace(EASY, calibration=(low, high))), "click calibration")
        assert found.holds is holds
        assert found.value == ratio
        assert found.says == f"click: predicted over observed {ratio:.3f}, {'inside' if holds else 'outside'} {low:g} to {high:g}"


def test_where_there_is_no_ratio_none_is_asked_for(bundle: Path, judged: Judged) -> None:
    judged([report(CLICK, GOOD, np.zeros(400)), spent(1.0)], [click(GOOD), spent(1.0)])
    assert "click calibration" not in [check.name for check in gate(bundle).checks]


def test_every_check_in_order_and_the_latency_last(bundle: Path, judged: Judged) -> None:
    judged([click(GOOD), spent(1.0)], [click(GOOD), spent(1.0)])
    names = [check.name for check in gate(bundle).checks]
    assert names[:2] == ["click auc", "click calibration"]
    assert names[2] == "spent rmse"
    assert names[-1] == "latency"


def test_what_the_line_says(bundle: Path, judged: Judged, tmp_path: Path) -> None:
    judged([click(BAD), spent(1.5)], [click(GOOD), spent(1.0)])
    found = gate(bundle, EASY, tmp_path / "gate.json")
    assert not found.promote
    against = [check.says for check in found.checks if not check.holds]
    assert len(against) == 2
    assert found.says == f"keep {bundle}: {against[0]}; {against[1]}"
    saved = json.loads((tmp_path / "gate.json").read_text())
    assert saved == json.loads(json.dumps(asdict(found)))
    judged([click(GOOD)], [click(GOOD)])
    assert gate(bundle).says == f"promote {bundle}"


def test_one_check_is_enough_to_keep(bundle: Path, judged: Judged) -> None:
    judged([click(GOOD), spent(1.5)], [click(GOOD), spent(1.0)])
    found = gate(bundle)
    assert [check.name for check in found.checks if not check.holds] == ["spent rmse"]
    assert not found.promote


# time


@pytest.mark.parametrize("size", [200, 13, 4])
def test_as_many_rows_are_timed_as_a_request_may_bring(
    bundle: Path, judged: Judged, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The golden rows again and again, encoded each time."""
    seen: list[pl.DataFrame] = []

    def counted(rows: pl.DataFrame, encoder: Encoder) -> Batch:
        seen.append(rows)
        return encoded(rows, encoder)

    judged([click(GOOD)], [click(GOOD)])
    monkeypatch.setattr(promote, "encoded", counted)
    monkeypatch.setattr(promote, "ROUNDS", 3)
    monkeypatch.setattr(promote, "ROWS", size)
    gate(bundle)
    golden = pl.read_parquet(bundle / "golden.parquet")
    assert [rows.height for rows in seen] == [size] * 3
    assert seen[0].equals(pl.concat([golden] * 200).head(size))


def test_the_middle_of_the_times_is_what_counts(bundle: Path, judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.001, 1.0, 1.004, 2.0, 2.9])
    judged([click(GOOD)], [click(GOOD)])
    monkeypatch.setattr(promote, "ROUNDS", 3)
    monkeypatch.setattr("umbel.run.promote.time.perf_counter", lambda: next(clock))
    found = only(gate(bundle, replace(EASY, milliseconds=4.5)), "latency")
    assert found.holds
    assert found.value == pytest.approx(4.0)
    assert found.says == "200 rows in 4.0 ms, inside 4.5"
    clock = iter([0.0, 0.005] * 3)
    judged([click(GOOD)], [click(GOOD)])
    monkeypatch.setattr(promote, "ROUNDS", 3)
    slow = only(gate(bundle, replace(EASY, milliseconds=4.5)), "latency")
    assert not slow.holds
    assert slow.says == "200 rows in 5.0 ms, beyond 4.5"


# what is compared


@pytest.mark.parametrize(
    "tasks",
    [
        SCHEMA.tasks[:2],
        (SCHEMA.tasks[1], SCHEMA.tasks[0], SCHEMA.tasks[2]),
        (Task("click"), Task("buy"), SCHEMA.tasks[2]),  # without `given` it is judged on other rows
        (Task("click"), Task("buy", given="click"), Task("spent", MultiClass(5))),
        (Task("click"), Task("buy", given="click"), Task("paid", SCHEMA.tasks[2].kind, label="spent")),
        (Task("click"), Task("buy", given="click"), replace(SCHEMA.tasks[2], auxiliary=True)),
    ],
    ids=["fewer", "other order", "no given", "other kind", "other name", "auxiliary"],
)
def test_bundles_of_other_tasks_are_refused(table: Table, bundle: Path, tmp_path: Path, tasks: tuple[Task, ...]) -> None:
    other = bundled(table, tmp_path / "other", tasks=tasks)
    for one, two in ((other, bundle), (bundle, other)):
        with pytest.raises(UserError, match="compare bundles of the same tasks"):
            decide(one, two, table.source.log, bounds=EASY)


def test_an_auxiliary_task_may_come_and_go(table: Table, bundle: Path, tmp_path: Path, judged: Judged) -> None:
    """It is not judged."""
    other = bundled(table, tmp_path / "other", tasks=(*SCHEMA.tasks, Task("more", label="click", auxiliary=True)))
    judged([click(GOOD)], [click(GOOD)])
    assert decide(other, bundle, "not read", bounds=EASY).promote


@pytest.mark.parametrize(("asked", "mend"), [(5, 5), (200, 5), (0, 40)])
def test_runs_that_asked_for_other_resamples_are_compared(table: Table, tmp_path: Path, asked: int, mend: int) -> None:
    """What a run's own report drew has no say here: differences are taken draw by draw."""
    one, two = bundled(table, tmp_path / "one", resamples=asked), bundled(table, tmp_path / "two", resamples=mend)
    found = decide(one, two, table.source.log, bounds=EASY)
    assert [check.value for check in found.checks if check.name in ("click auc", "spent rmse")] == [0.0, 0.0]
    assert not found.promote, "a log of five users proves nothing"


@pytest.mark.parametrize(("waived", "says"), [("clik", "did you mean 'click'"), ("", "no such task"), ("spend", "did you mean 'spent'")])
def test_a_waived_task_is_one(bundle: Path, waived: str, says: str) -> None:
    with pytest.raises(UserError, match=f"^--bound waived={waived}: .*{says}"):
        gate(bundle, Bounds(waived=("click", waived)))


def test_what_two_bundles_answer_is_told_in_words(table: Table, bundle: Path, tmp_path: Path) -> None:
    other = bundled(table, tmp_path / "other", tasks=(Task("click"), Task("spent", Quantile((0.5, 0.9)), label="spent")))
    with pytest.raises(UserError) as caught:
        decide(other, bundle, table.source.log, bounds=EASY)
    assert str(caught.value) == (
        "promote: the candidate answers click, spent (quantile levels=[0.5, 0.9]); the other click, buy given click, spent (regression); "
        "compare bundles of the same tasks"
    )


# bounds in words

SHARES = st.floats(0, 10, allow_nan=False)
NAMES = st.lists(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), max_size=3)


@given(worse=SHARES, low=SHARES, high=SHARES, milliseconds=SHARES, strict=st.booleans(), waived=NAMES)
def test_bounds_are_read_as_they_are_written(
    worse: float, low: float, high: float, *, milliseconds: float, strict: bool, waived: list[str]
) -> None:
    words = [f"worse={worse!r}", f"calibration={low!r},{high!r}", f"milliseconds={milliseconds!r}", f"strict={str(strict).lower()}"]
    expected = Bounds(worse, (low, high), milliseconds, strict, tuple(waived))
    assert bounds_of([*words, f"waived={','.join(waived)}"] if waived else words) == expected
    assert bounds_of(words[::-1]) == replace(expected, waived=())


def test_without_words_bounds_are_the_usual_ones() -> None:
    assert bounds_of([]) == Bounds()
    assert bounds_of(["worse=0.1", "worse=0.3"]).worse == 0.3


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("", "--bound : no such bound"),
        ("worse", "--bound worse: no such bound; did you mean 'worse'?"),
        ("wrose=1", "did you mean 'worse'?"),
        ("worse=", "--bound worse: "),
        ("strict=maybe", "--bound strict: "),
        ("calibration=0.9", "--bound calibration: "),
        ("calibration=0.9,1,1.1", "--bound calibration: "),
        ("calibration=0.9;1.1", "--bound calibration: "),
        ("milliseconds=fast", "--bound milliseconds: "),
    ],
)
def test_what_is_no_bound_is_one_line(word: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        bounds_of(["strict=true", word])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
