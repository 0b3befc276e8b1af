"""CCML part by part on a log of one's own: every switch as an entrant, all else equal, on the same users.

`python benchmarks/ccml_ablation.py examples/movielens.toml --table TABLE -o OUT.json` trains every variant of `VARIANTS` (or those named by
`--only`) once a seed by the run file's settings, its `[episodes]` method replaced, and tells each scenario's figures and the paired
difference to plain MAML (`melu`) over users, with 95 % intervals. The bias model, which trains nothing, always stands among them. The epoch
is chosen on validation users, nothing else is. `--set` changes the run file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from umbel.coldstart.answers import Answers
from umbel.coldstart.figures import per_user
from umbel.data.table import Table
from umbel.evaluate.intervals import Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.learn.fit import fit
from umbel.learn.joint import Joint
from umbel.run import resolve
from umbel.run.coldstart import Newcomers
from umbel.run.settings import Settings, read

HERE = Path(__file__).parent
RESAMPLES = 1000
SHOWN = ("mae", "rmse", "rmse_pooled", "ndcg@5")
PLAIN: dict[str, object] = {"graph": False, "filter": "none"}  # similar collaborators and nothing else


def ccml(**switches: object) -> dict[str, object]:
    """CCML with these switches as a run file writes it."""
    return {"name": "ccml", **switches}


VARIANTS: dict[str, dict[str, object]] = {
    "bias": {"name": "bias"},
    "base": {"name": "base"},
    "maml": {"name": "melu"},
    "maml, second order": {"name": "melu", "second": True},
    "random": ccml(**PLAIN, similar="random"),
    "random, published weights": ccml(**PLAIN, similar="random", normalise=False),
    "similar": ccml(**PLAIN),
    "similar, not gated": ccml(**PLAIN, gate=False),
    "similar, last layer's gradients": ccml(**PLAIN, grad_scope="last"),
    "similar to the query": ccml(**PLAIN, grad_target="query"),
    "similar, softmax": ccml(**PLAIN, temperature=0.2),
    "similar, published weights": ccml(**PLAIN, normalise=False),
    "similar, no warm-up": ccml(**PLAIN, warmup=0),
    "similar, exact profiles": ccml(**PLAIN, profile_exact=True),
    "similar, all users": ccml(**PLAIN, pool=0),
    "and beneficial": ccml(graph=False),
    "and beneficial, second order": ccml(graph=False, second=True),
    "and beneficial, omega as published": ccml(graph=False, filter="omega_published"),
    "and beneficial, omega negated": ccml(graph=False, filter="omega_negated"),
    "and beneficial, drawn": ccml(graph=False, filter="random"),
    "and graph": ccml(),
    "and graph, published form": ccml(residual=False),
    "and graph, with genres": ccml(graph_items=["content_rating", "genres"]),
    "and their queries": ccml(graph=False, eta=0.1),
    "and contrast": ccml(graph=False, gamma=0.01),
    "and at test": ccml(graph=False, test_collab=True),
    "attention-vae": ccml(predictor="avae", share=0.0, graph=False),
    "attention-vae, collaborating": ccml(predictor="avae", graph=False),
    "centred maml": {"name": "melu", "centred": True},
    "centred": ccml(graph=False, centred=True),
    "centred, at test": ccml(graph=False, centred=True, test_collab=True),
    **{f"share {share:g}": ccml(graph=False, share=share) for share in (0.01, 0.05, 0.5, 1.0)},
    **{f"kept {kept}": ccml(graph=False, kept=kept) for kept in (1, 5, 20)},
    "published": ccml(steps=3, rate=5e-4, profile_exact=True, pool=0, filter="omega_published", gate=False, warmup=0, refresh=1,
                      normalise=False, residual=False, predictor="avae", kl=0.0, transductive=True, noisy=True),
}


@dataclass(frozen=True, slots=True)
class Played:
    """One variant, trained once: what it says of test users in every scenario."""

    told: dict[str, Answers]
    seconds: float
    epoch: int
    kept: float | None = None
    lost: int = 0
    validation: list[float] = field(default_factory=list)


def play(settings: Settings, table: Table) -> Played:
    """Train and ask."""
    began = time.process_time()
    torch.manual_seed(settings.fit.seed)
    found = Newcomers.of(settings, table)
    learner, epoch, scores = found.prepared.learner, 0, []
    if found.prepared.batches is not None:
        plan = resolve.plan(settings.fit, None, resolve.keep(settings))
        for one in fit(learner, found.prepared.batches, plan=plan, judge=found.judge):
            if one.finished:
                best, epoch = dict(one.state.best), one.kept or 0
                scores.append(float(one.score or 0.0))
        learner.load_state_dict(best)
        found.finish()
    else:
        scores.append(float(np.mean([one for one in found.judge(learner).values() if one is not None])))
    kept = learner.adapter.kept if isinstance(learner.adapter, Joint) else None
    told = {scenario: one for scenario, one in found.told().items() if isinstance(one, Answers)}
    return Played(told, time.process_time() - began, epoch, kept, found.lost(), scores)


def changed(settings: Settings, method: dict[str, object], *, seed: int) -> Settings:
    """The run file's settings with another method and seed."""
    assert settings.episodes is not None
    episodes = type(settings.episodes).model_validate({**settings.episodes.model_dump(), "method": method})
    return settings.model_copy(update={"episodes": episodes, "fit": settings.fit.model_copy(update={"seed": seed})})


def figures(played: Played, base: Played | None, *, relevant: float) -> dict[str, object]:
    """Each scenario's metrics, and by how much they differ from the base's on the same users."""
    found: dict[str, object] = {}
    for scenario, told in played.told.items():
        by = resample(told.users, resamples=RESAMPLES)
        for task, metrics in per_user(told, relevant=relevant).items():
            others = None if base is None else per_user(base.told[scenario], relevant=relevant)[task]
            line = {}
            for name in SHOWN:
                own = metrics[name].sampled(by) if name in metrics else None
                if own is None or isinstance(own, Undefined):
                    continue
                line[name] = told_of(own)
                other = None if others is None else others[name].sampled(by)
                if other is not None and not isinstance(other, Undefined):
                    line[f"{name} less maml"] = told_of(Sampled(own.value - other.value, own.draws - other.draws, own.users))
            found[f"{task}, {scenario}"] = {"users": len(told.users), **line}
    return found


def in_turn(only: Sequence[str]) -> list[str]:
    """Those asked for and the bias model, plain MAML first where it is one of them: the others are held against it."""
    return sorted(dict.fromkeys(("bias", *only)), key=lambda name: name != "maml")


def told_of(figure: Sampled) -> list[float | None]:
    """A figure and its 95 % interval."""
    found = figure.interval()
    return [None if one is None else round(one, 4) for one in (found.value, found.low, found.high)]


def main() -> None:
    """Train the variants that are not done, and write what is known after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], dest="changes")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "ccml_ablation.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings, table = read(given.run, given.changes), Table.open(given.table)
    assert settings.episodes is not None
    done: dict[str, object] = {}
    for seed in range(1, given.seeds + 1):
        base: Played | None = None
        for name in in_turn(given.only):
            played = play(changed(settings, VARIANTS[name], seed=seed), table)
            base = played if name == "maml" else base
            against = None if name == "maml" else base
            done[f"{name}, seed {seed}"] = {
                "method": VARIANTS[name], "cpu_seconds": round(played.seconds, 1), "epoch": played.epoch, "collaborators": played.kept,
                "steps_not_taken": played.lost, "validation": [round(one, 4) for one in played.validation],
                "test": figures(played, against, relevant=settings.episodes.relevant),
            }
            print(name, json.dumps(done[f"{name}, seed {seed}"]["test"]), flush=True)  # type: ignore[index]
            given.out.write_text(json.dumps({"changes": given.changes, "variants": done}, indent=1) + "\n")


if __name__ == "__main__":
    main()
