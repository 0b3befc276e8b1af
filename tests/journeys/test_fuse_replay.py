"""From a service's decisions to a promoted fusion: drawn, logged, collected with what was chosen from, replayed; and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from jaxtyping import Float

from tests.journeys.conftest import Job, Said, say
from umbel.bundle import Bundle
from umbel.feedback import Feedback, Rule
from umbel.fuse.choices import CHOICES, read_choices
from umbel.fuse.log import checksum
from umbel.fusion import Fusion, Term, read
from umbel.fusion.shapes import Linear
from umbel.serve.order import Order
from umbel.serve.records import Candidates, Decision, Event, Rung, Shown
from umbel.serve.store import Store

START = 1_704_067_200_000
MINUTE = 60_000
RULES = tuple(Rule(task=task, window=MINUTE, positive_when=f"kind = '{task}'") for task in ("click", "like", "buy"))
FEEDBACK = Feedback(rules=RULES, lateness=0, time="time_ms")
LOGGER = Fusion((Term("click", Linear(1.0, 0.3)), Term("like", Linear(1.0, 0.2)), Term("buy_marginal", Linear(1.0, 0.1))), "equal")


@dataclass(frozen=True)
class World:
    """What a bundle predicts of every user and item, and its name in a service's log."""

    name: str
    outputs: tuple[str, ...]
    predictions: Float[np.ndarray, "users items outputs"]

    @staticmethod
    def of(job: Job, folder: Path) -> World:
        bundle = Bundle.load(job.run / "bundle")
        pairs = pl.DataFrame({"user": np.repeat(np.arange(60), 30), "item": np.tile(np.arange(30), 60)})
        log = folder / "pairs.parquet"
        pairs.with_columns(device=pl.lit("phone"), region=2, time_ms=START).write_parquet(log)
        scores = np.concatenate([one for _, one in bundle.score(replace(bundle.source, log=str(log)))])
        return World(checksum(job.run / "bundle")[:12], bundle.columns, scores.reshape(60, 30, -1))

    def decided(self, number: int, fusion: Fusion = LOGGER) -> Decision:
        """One answer of the service: two of eight items, drawn."""
        items = np.random.default_rng(number).permutation(30)[:8]
        rows = self.predictions[number // 2 % 60, items]
        fused = fusion.score(rows[:, fusion.places(self.outputs)])
        drawn = Order(1.0).draw(fused, 2, seed=number)
        shown = tuple(
            Shown(item=str(items[place]), fused=float(fused[place]), propensity=float(chance), predictions=tuple(rows[place].tolist()))
            for place, chance in zip(drawn.places, drawn.propensities, strict=True)
        )
        candidates = Candidates(items=tuple(map(str, items)), predictions=rows.astype(np.float32), fused=fused.astype(np.float32))
        return Decision(
            request=f"r{number:05d}", user=str(number // 2 % 300), time=START + number, bundle=self.name, fusion="equal", rung=Rung.FULL,
            shown=shown, outputs=self.outputs, candidates=candidates, temperature=1.0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(job: Job, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.of(job, tmp_path_factory.mktemp("world"))


def liked(predicted: float) -> float:
    """How likely a like truly is."""
    return min(0.95, 1.6 * predicted)


@pytest.fixture(scope="module")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log and its choices, of a service whose users like what the model says of likes, and nothing else."""
    folder = tmp_path_factory.mktemp("service")
    draw, sent = np.random.default_rng(0), []
    with Store(folder / "umbel.db") as store:
        store.declare(FEEDBACK)
        for number in range(1600):
            decision = world.decided(number)
            store.log(decision)
            for shown in decision.shown:
                for kind, rate in (("like", liked(shown.predictions[1])), ("click", 0.3)):
                    if draw.random() < rate:
                        name = f"{kind}{number}{shown.item}"
                        sent.append(Event(id=name, kind=kind, item=shown.item, time=decision.time, request=decision.request))
        for number in range(1600, 1650):  # no time was left: answered without chances
            whole = world.decided(number)
            store.log(replace(whole, candidates=None, shown=tuple(replace(one, propensity=None) for one in whole.shown)))
        sent.append(Event(id="last", kind="open", item="none", time=START + 10 * MINUTE, user="0"))
        store.record(sent, received=START + 10 * MINUTE).result()
    said = say("collect", folder / "umbel.db", "-o", folder / "log.parquet", "--choices", folder / "choices.parquet")
    assert said.code == 0, said.err
    assert f"{folder / 'choices.parquet'}: what 1,600 decisions chose from" in said.out
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "equal.json"
    LOGGER.save(path)
    return path


def replayed(job: Job, files: tuple[Path, Path], out: Path, *words: str) -> Said:
    """The verb on the log and choices in a folder, from a start."""
    folder, start = files
    given = ("--replay", str(folder / "choices.parquet"), "--set", f"policy={start}", "--bound", "buy=0%")
    return say("fuse", job.run / "bundle", folder / "log.parquet", "-o", out, *given, *words)


def test_choices_are_those_of_the_service(world: World, service: Path) -> None:
    frame = read_choices(service / "choices.parquet")
    assert frame.schema == CHOICES
    assert frame.height == 1600
    row = frame.row(by_predicate=pl.col("request_id") == "r00007", named=True)
    decision = world.decided(7)
    assert decision.candidates is not None
    assert [decision.candidates.items[place] for place in row["shown"]] == [one.item for one in decision.shown]
    assert row["propensity"] == [one.propensity for one in decision.shown]
    assert row["predictions"] == decision.candidates.predictions.ravel().tolist()
    assert row["fused"] == decision.candidates.fused.tolist()
    assert (row["temperature"], row["bundle"], tuple(row["outputs"])) == (1.0, decision.bundle, decision.outputs)


def test_a_better_fusion_is_learned_and_promoted(job: Job, world: World, service: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "policy.json"
    said = replayed(job, (service, start), out, "--primary", "like", "--bound", "click=50%", "--set", "trials=60")
    assert said.code == 0, said.err + said.out
    assert "promoted: " in said.out
    assert likes(world, read(out)) > 1.03 * likes(world, LOGGER)
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert report["better"]
    assert report["facts"]["left out, no candidates"] == "50"
    assert [one["name"] for one in report["test"]][-1] == "the logging policy"
    assert report["test"][0]["tasks"]["like"]["low"] > report["test"][-1]["tasks"]["like"]["value"]
    assert "than the logging policy in like" in out.with_suffix(".html").read_text()


def likes(world: World, policy: Fusion) -> float:
    """What a policy truly earns a decision, in likes, of requests that were not logged."""
    shown = [one for number in range(5000, 8000) for one in world.decided(number, policy).shown]
    return sum(liked(one.predictions[1]) for one in shown) / 3000


def test_what_is_not_better_is_not_written(job: Job, service: Path, start: Path, tmp_path: Path) -> None:
    """Clicks have nothing to do with predictions: exit code 3, page and report, no policy; one that was there stays."""
    out = tmp_path / "policy.json"
    out.write_text("the old one")
    said = replayed(job, (service, start), out, "--primary", "click", "--bound", "like=50%", "--set", "trials=30")
    assert said.code == 3, said.err + said.out
    assert "not promoted: " in said.out
    assert "is not written" in said.out
    assert out.read_text() == "the old one"
    assert not json.loads(out.with_suffix(".report.json").read_text())["better"]


def test_a_policy_of_ones_own_is_judged_without_a_search(job: Job, world: World, service: Path, tmp_path: Path) -> None:
    """Likes follow their prediction alone: a policy that goes by it more earns what it truly would, within its interval.

    That it is better is sure; that it is better than the logging policy's own figure is not, so that it is not promoted.
    """
    own = replace(LOGGER, name="mine", terms=(Term("like", Linear(3.0, 0.2)), *LOGGER.terms[::2]))
    (tmp_path / "mine.json").write_text(json.dumps(own.to_json()))
    out = tmp_path / "policy.json"
    said = replayed(job, (service, tmp_path / "mine.json"), out, "--set", "trials=1")
    assert said.code == 3, said.err + said.out
    assert "better than the logging policy in like: +0.0" in said.out
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert len(report["tried"]) == 1
    found = report["test"][0]["tasks"]["like"]
    assert found["low"] < likes(world, own) < found["high"]


def spoiled(service: Path, tmp_path: Path, **columns: pl.Expr) -> Path:
    """The service's files with other choices."""
    (tmp_path / "log.parquet").write_bytes((service / "log.parquet").read_bytes())
    read_choices(service / "choices.parquet").with_columns(**columns).cast(CHOICES).write_parquet(tmp_path / "choices.parquet")
    return tmp_path


SPOILS = [
    ("cold", {"temperature": pl.lit(0.0)}, "decisions cannot be replayed (no candidates: 50, nothing was drawn: 1,600)"),
    ("another bundle", {"bundle": pl.lit("0123456789ab")}, "(no candidates: 50, another bundle: 1,600)"),
    ("no chances", {"propensity": pl.lit([None, None], dtype=pl.List(pl.Float64))}, "(no candidates: 50, no propensity: 1,600)"),
    ("other chances", {"propensity": pl.lit([0.5, 0.5])}, "chances that the candidates do not explain: 1,"),
    ("other lists", {"shown": pl.lit([0])}, "(no candidates: 50, not what was shown: 1,600)"),
]


@pytest.mark.parametrize(("columns", "part"), [one[1:] for one in SPOILS], ids=[one[0] for one in SPOILS])
def test_what_cannot_be_replayed_is_counted_and_refused(
    job: Job, service: Path, start: Path, tmp_path: Path, columns: dict[str, pl.Expr], part: str
) -> None:
    said = replayed(job, (spoiled(service, tmp_path, **columns), start), tmp_path / "policy.json")
    assert said.code == 2
    assert part in said.line
    assert "give a log of this bundle, drawn at a temperature above 0" in said.line
    assert not (tmp_path / "policy.json").exists()
    assert not (tmp_path / "policy.html").exists()


def test_labels_that_are_not_settled_are_left_out(job: Job, service: Path, start: Path, tmp_path: Path) -> None:
    (tmp_path / "choices.parquet").write_bytes((service / "choices.parquet").read_bytes())
    late = pl.when(pl.col("request_id") > "r01500").then(None).otherwise(pl.col("like")).alias("like")
    pl.read_parquet(service / "log.parquet").with_columns(late).write_parquet(tmp_path / "log.parquet")
    said = replayed(job, (tmp_path, start), tmp_path / "policy.json", "--primary", "like", "--set", "trials=10")
    assert said.code in (0, 3), said.err
    facts = json.loads((tmp_path / "policy.report.json").read_text())["facts"]
    assert facts["left out, a label is not settled"] == "99"


def test_wrong_files_are_one_line(job: Job, service: Path, start: Path, tmp_path: Path) -> None:
    bundle, log, out = job.run / "bundle", service / "log.parquet", tmp_path / "policy.json"
    mend = "give what `umbel collect --choices` left"
    for path, part in ((tmp_path / "none.parquet", "none.parquet: no such file"), (log, "has other columns"), (start, "equal.json: ")):
        said = say("fuse", bundle, log, "-o", out, "--replay", path, "--set", f"policy={start}")
        assert said.code == 2
        assert part in said.line
        assert mend in said.line
    said = say("fuse", bundle, job.log, "-o", out, "--replay", service / "choices.parquet")
    assert said.code == 2
    assert "no column 'request_id'" in said.line
    assert list(tmp_path.iterdir()) == []
