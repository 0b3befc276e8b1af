"""The benchmarks of transfer in small: affinity rises with agreement, groups are found, MMoE's rows are as the paper has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from benchmarks import mmoe_correlation as mmoe
from benchmarks import transfer_groups as groups
from benchmarks import transfer_truth as truth

from umbel.study.transfer.partitions import named


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_labels_of_the_mmoe_experiment_correlate_as_asked(rho: float) -> None:
    world = mmoe.World(rho, seed=3)
    first, second = world.weights
    assert float(first @ first) == pytest.approx(1.0, abs=1e-5)
    assert float(second @ second) == pytest.approx(1.0, abs=1e-5)
    assert float(first @ second) == pytest.approx(rho, abs=1e-5)
    rows = world.rows(20_000)
    # The waves keep less of the correlation than the lines do; none, and all, are kept.
    assert abs(float(torch.corrcoef(rows.labels.T)[0, 1]) - rho) < (0.25 if rho == 0.5 else 0.03)


def test_at_correlation_one_the_two_tasks_are_one() -> None:
    rows = mmoe.World(1.0, seed=3).rows(50, noise=0.0)
    torch.testing.assert_close(rows.labels[:, 0], rows.labels[:, 1])


def test_labels_by_hand() -> None:
    world = mmoe.World(0.5, seed=5)
    rows = world.rows(4, noise=0.0)
    for at in range(4):
        line = float(rows.fields["x"][at] @ world.weights[1])
        expected = line + np.sin(line + 0.5) + np.sin(2 * line + 1.5) + np.sin(3 * line + 2.5)
        assert float(rows.labels[at, 1]) == pytest.approx(expected, abs=1e-4)


def test_both_models_are_about_as_large() -> None:
    sizes = [sum(p.numel() for p in mmoe.built(name, 0).parameters() if p.requires_grad) for name in ("mmoe", "shared_bottom")]
    assert sizes[0] == 8 * (100 * 16 + 16) + 2 * (100 * 8 + 8) + 2 * (16 * 8 + 8 + 8 + 1)
    assert sizes[1] == 100 * 113 + 113 + 2 * (113 * 8 + 8 + 8 + 1)
    assert 0.8 < sizes[1] / sizes[0] < 1.25


def test_experts_read_x_itself() -> None:
    model, x = mmoe.built("mmoe", 0), torch.randn(3, mmoe.WIDTH)
    (read,) = model.interact(model.views(model.rows({"x": x}), {"x": x}))
    torch.testing.assert_close(read, x)


def test_training_lowers_the_error() -> None:
    few, many = (mmoe.trained("mmoe", 1.0, 7, steps=steps) for steps in (5, 200))
    assert many < 0.8 * few


def test_the_sum_of_a_sweep() -> None:
    found = mmoe.summed({1.0: [0.1, 0.2], 0.0: [0.3, 0.3]})
    worse = found["worse_than_at_1"]
    assert isinstance(worse, dict)
    assert worse["0"] == {"mean": 0.15, "deviation": 0.07071}
    assert worse["1"] == {"mean": 0.0, "deviation": 0.0}


def small(own: tuple[tuple[int, ...], ...], *, agree: float = 0.9, seed: int = 1) -> groups.Kindred:
    return groups.Kindred(own, agree=agree, users=40, items=20, rows=8_000, seed=seed)


def test_a_log_of_kindred_tasks(tmp_path: Path) -> None:
    planted = small(((0, 2), (1,)), agree=1.0)
    groups.simulate(planted, tmp_path / "log.parquet")
    log = pl.read_parquet(tmp_path / "log.parquet")
    assert log.columns == ["user", "item", "part", "task0", "task2", "task1"]
    labels = log.select("task0", "task1", "task2").to_numpy()
    assert labels.mean(0) == pytest.approx([0.25] * 3, abs=0.12)
    correlation = np.corrcoef(labels.T)
    # Two draws from one chance agree; a draw from another does not.
    assert correlation[0, 2] > 0.15 > 0.1 > abs(correlation[0, 1])


def test_affinity_rises_with_agreement() -> None:
    apart, alike = (groups.affinity(rho, 4, epochs=6) for rho in (0.0, 1.0))
    assert apart < 0.1 < alike


@pytest.mark.parametrize("seed", [2])
def test_six_tasks_part_into_the_two_planted_groups(tmp_path: Path, seed: int) -> None:
    planted = small(groups.truth(seed), seed=seed)
    found, run, table = groups.asked(planted, tmp_path, epochs=7)
    assert found.groupings[0].groups == named(planted.groups, planted.tasks)
    assert run.fit.epochs == 7
    assert len(table.parts["train"]) == pytest.approx(5_600, abs=200)


def test_truths_are_two_groups_of_three_and_differ() -> None:
    found = [groups.truth(seed) for seed in range(20)]
    assert all(sorted(map(len, one)) == [3, 3] for one in found)
    assert all(sorted((*one[0], *one[1])) == list(range(6)) for one in found)
    assert len(set(found)) > 5


def outcome(**verdicts: tuple[str, str]) -> dict[str, object]:
    names = {name.replace("_x3", " x3"): pair for name, pair in verdicts.items()}
    return {"comparable": [{"recipe": name, "task": task, "verdict": verdict}
                           for name, pair in names.items() for task, verdict in zip(("click", "like"), pair, strict=True)]}  # fmt: skip


def test_what_counts_as_losing() -> None:
    found = outcome(mmoe=("lower", "lower"), mmoe_x3=("lower", "open"), ple_x3=("lower", "higher"), stem=("open", "equal"))
    held = truth.conflict_holds(found)
    assert held == {"mmoe loses": True, "mmoe x3 loses": True, "ple x3 loses": False, "stem does not lose": True, "all": False}
    assert not truth.conflict_holds(outcome(mmoe=("open", "open"), stem=("lower", "higher")))["stem does not lose"]


@pytest.mark.parametrize(("low", "high", "inside", "above"), [
    (-0.004, 0.001, True, True), (-0.006, 0.001, False, False), (-0.001, 0.006, False, True), (-0.005, 0.0, False, False),
])  # fmt: skip
def test_the_margin_is_strict_and_two_sided(low: float, high: float, inside: bool, above: bool) -> None:
    won = {"shared_bottom": {"low": 0.001, "seeds": [0.01, 0.02]}}
    held = truth.agreement_holds({"against_alone": won, "stem_against_shared": {"low": low, "high": high}})
    assert (held["stem is inside the margin"], held["stem is not below the margin"], held["all"]) == (inside, above, inside)


@pytest.mark.parametrize(("low", "seeds"), [(-0.001, [0.01, 0.02]), (0.001, [-0.01, 0.02])])
def test_sharing_wins_over_users_and_trainings(low: float, seeds: list[float]) -> None:
    won = {"shared_bottom": {"low": low, "seeds": seeds}}
    assert not truth.agreement_holds({"against_alone": won, "stem_against_shared": {"low": 0.0, "high": 0.0}})["all"]


def test_every_recipe_of_a_scene_has_the_same_budget() -> None:
    for scene in (truth.CONFLICT, truth.AGREE):
        assert scene.seeds == truth.TRAININGS
        assert {"alone", "stem"} <= {one.name for one in scene.entrants}
    assert {one.wider for one in truth.CONFLICT.entrants} == {1, 3}
