"""Sharing against separate models on logs whose truth is known: who loses where tastes conflict, who keeps the gain where they agree.

Logs are simulated (`umbel.data.simulate`), every recipe is trained three times on each. *Conflicting*: two dense tasks that want
unrelated things of the same users and items. *Agreeing*: two tasks that want the same, one of them sparse. What is counted is what the
study's own verdicts say (over users and training seeds, Holm's rule over all recipes, tasks and groups of a split), on the samples of
users of whom neither task has more than its share. Settings were chosen on the validation part of logs of other seeds. *Thin*: agreeing
tasks on few rows a user, once each, with STEM whose ids have the shared table alone: what is lost to the tasks' own tables of ids.

`--work` keeps what is finished, log by log: several processes may share the seeds (`--first`), and one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from umbel.data.simulate import AGREEING, CONFLICTING, Planted
from umbel.data.table import Table
from umbel.run.section import OptionSection
from umbel.run.watch import Silence
from umbel.study.claims import MARGIN, Gap
from umbel.study.demo import SCENES
from umbel.study.entrants import Entrant
from umbel.study.scene import SHARED, STEM, Scene, gap, mean_auc, play
from umbel.study.transfer.advice import Action, Choice, advise
from umbel.study.transfer.comparable import COMPARABLE, leaning
from umbel.study.transfer.groups import Cell, by_group

HERE = Path(__file__).parent
TRAININGS = 3
ONE_TABLE = Entrant("stem, own tables of device alone", "stem_fields", options=OptionSection(own=("device",)))
DAYS = 4  # two to train on, one to validate, one to test: test rows cost next to nothing, and say more


def sized(scene: Scene, planted: Planted, *, rows: int, l2: float) -> Scene:
    """The demonstration's scene on a smaller and denser log."""
    small = replace(planted, users=50, items=40, rows=rows, days=DAYS)
    return replace(scene, planted=small, seeds=TRAININGS, fit=scene.fit.model_copy(update={"l2": l2}))


CONFLICT = sized(SCENES[0], CONFLICTING, rows=40_000, l2=1e-4)
AGREE = sized(SCENES[1], AGREEING, rows=32_000, l2=3e-4)
THIN = replace(  # the demonstration's users and items on two fifths of its rows: what the tasks' own tables of ids cost there
    SCENES[1], planted=replace(AGREEING, rows=40_000), seeds=1, entrants=(*SCENES[1].entrants, ONE_TABLE),
)  # fmt: skip
SCENES_BY_KIND = {"conflicting": CONFLICT, "agreeing": AGREE, "thin": THIN}
CHOICES = {
    "alone": Choice(Action.SEPARATE), "mmoe": Choice(Action.SHARE), "shared_bottom": Choice(Action.SHARE), "stem": Choice(Action.OWN_VIEWS),
}  # fmt: skip


def studied(scene: Scene, seed: int, folder: Path) -> dict[str, object]:
    """One log of a scene, played and judged."""
    began = time.process_time()
    played = play(replace(scene, planted=replace(scene.planted, seed=seed)), folder, jobs=0, watch=Silence())
    table = Table.open(folder / "table")
    cells = by_group(table, played.found.lines, leaning(table), resamples=200, margin=MARGIN)
    by = {one.name: one for one in played.found.recipes}
    others = {name: gap(one, by["alone"]) for name, one in by.items() if name != "alone"}
    shared = gap(by[STEM.name], by[SHARED.name]) if SHARED.name in by else None
    known = [one for one in cells if one.group == COMPARABLE and one.recipe != "alone"]
    return {
        "seed": seed,
        "auc": {name: mean_auc(one) for name, one in by.items()},
        "validation": {name: one.cost.score for name, one in by.items()},
        "best_possible": statistics.mean(one.observed for name, one in played.best.items() if name in scene.tasks),
        "against_alone": {name: _gap(one) for name, one in others.items()},
        "stem_against_shared": None if shared is None else _gap(shared),
        "comparable": [_cell(one) for one in known],
        "says": advise(played.found, CHOICES, cells=cells).says,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def _gap(one: Gap) -> dict[str, object]:
    return {"mean": one.mean.value, "low": one.mean.low, "high": one.mean.high, "seeds": one.seeds}


def _cell(one: Cell) -> dict[str, object]:
    gain = one.gain.mean if one.gain else None
    bounds = {"gain": gain.value, "low": gain.low, "high": gain.high} if gain else {"gain": None, "reason": str(one.auc)}
    return {"recipe": one.recipe, "task": one.task, "rows": one.rows, "positives": one.positives, **bounds, "verdict": one.verdict.value}


def sides(found: dict[str, object], recipe: str) -> set[str]:
    """The verdicts of a recipe on comparable samples, over tasks."""
    cells = found["comparable"]
    assert isinstance(cells, list)
    return {str(one["verdict"]) for one in cells if one["recipe"] == recipe}


def loses(found: dict[str, object], recipe: str) -> bool:
    """Significantly below separate models on a task, and above them on none."""
    return "lower" in sides(found, recipe) and "higher" not in sides(found, recipe)


def conflict_holds(found: dict[str, object]) -> dict[str, bool]:
    """What the paper claims of conflicting tastes, one claim a recipe."""
    shared = {f"{name} loses": loses(found, name) for name in ("mmoe", "mmoe x3", "ple x3")}
    held = {**shared, "stem does not lose": "lower" not in sides(found, "stem")}
    return {**held, "all": all(held.values())}


def agreement_holds(found: dict[str, object]) -> dict[str, bool]:
    """What is claimed of tastes that agree: sharing wins, and STEM is inside the margin of it."""
    won, kept = (found[key] for key in ("against_alone", "stem_against_shared"))
    assert isinstance(won, dict)
    assert isinstance(kept, dict)
    held = {
        "sharing wins": won["shared_bottom"]["low"] > 0 and min(won["shared_bottom"]["seeds"]) > 0,
        "stem is inside the margin": kept["low"] > -MARGIN and kept["high"] < MARGIN,
        "stem is not below the margin": kept["low"] > -MARGIN,
    }
    return {**held, "all": held["sharing wins"] and held["stem is inside the margin"]}


def summary(kind: str, found: list[dict[str, object]]) -> dict[str, object]:
    """How often each claim held, and the spread over logs of every difference."""
    rule = conflict_holds if kind == "conflicting" else agreement_holds
    held = [rule(one) for one in found]
    return {"logs": len(found), "held": {claim: sum(one[claim] for one in held) for claim in held[0]}, "differences": _differences(found)}


def _differences(found: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    pairs = {f"{name} less alone": [one["against_alone"][name]["mean"] for one in found] for name in found[0]["against_alone"]}  # type: ignore[index, attr-defined]
    pairs |= {f"{right} less {left}": [one["auc"][right] - one["auc"][left] for one in found]  # type: ignore[index]
              for left, right in ((SHARED.name, STEM.name), (ONE_TABLE.name, STEM.name), (SHARED.name, ONE_TABLE.name))
              if left in found[0]["auc"] and right in found[0]["auc"]}  # type: ignore[operator]
    return {name: {"mean": round(statistics.mean(each), 5), "deviation": round(statistics.pstdev(each), 5), "worst": round(min(each), 5),
                   "best": round(max(each), 5)} for name, each in pairs.items()}  # fmt: skip


def kept(kind: str, scene: Scene, seed: int, work: Path) -> dict[str, object]:
    """The study of one log, done or found done."""
    file = work / f"{kind}-{seed}.json"
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            file.write_text(json.dumps(studied(scene, seed, Path(folder))))
        print(f"{kind}, log {seed}: {json.loads(file.read_text())['says'][1:4]}", flush=True)
    found: dict[str, object] = json.loads(file.read_text())
    return found


def main() -> None:
    """Study every log, print how often each claim held, and leave results/transfer_truth.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--kind", choices=SCENES_BY_KIND, action="append", help="all by default")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("-o", type=Path, default=HERE / "results" / "transfer_truth.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    logs = range(given.first, given.first + given.seeds)
    asked = {kind: scene for kind, scene in SCENES_BY_KIND.items() if kind in (given.kind or SCENES_BY_KIND)}
    found = {kind: [kept(kind, scene, seed, work) for seed in logs] for kind, scene in asked.items()}
    report = {
        "command": " ".join(["python", "benchmarks/transfer_truth.py", *sys.argv[1:]]),
        "cores": os.cpu_count(), "torch": torch.__version__,
        "sizes": {kind: {**asdict(SCENES_BY_KIND[kind].planted), "seed": None, "l2": SCENES_BY_KIND[kind].fit.l2} for kind in found},
        "trainings": TRAININGS, "margin": MARGIN,
        "summary": {kind: summary(kind, each) for kind, each in found.items()},
        "logs": found,
    }  # fmt: skip
    given.o.write_text(json.dumps(report, indent=1) + "\n")
    for kind, each in found.items():
        print(kind, json.dumps(summary(kind, each), indent=1))


if __name__ == "__main__":
    main()
