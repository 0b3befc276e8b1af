"""Where the outputs of a training begin: numbers at their training labels, all else, and whatever goes on, as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests import logs

from umbel.bundle import Bundle
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.evaluate.calibrate import Calibrator, Identity, Platt
from umbel.evaluate.rescale import Shifted
from umbel.nn.recommender import Recommender
from umbel.run import fitting, resolve
from umbel.run.fitting import fit_model
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence


def amounts(**fit: object) -> Settings:
    """Two numbers beside the click, of which the second is known after a click alone; steps far too small to learn anything."""
    tree: dict[str, object] = {
        "data": {"log": "log.parquet", "user": "user", "time": "time"},
        "fields": {"user": {"kind": "id"}},
        "tasks": {
            "click": {},
            "spent": {"kind": "regression"},
            "tip": {"kind": "regression", "given": "click", "sql": "time + 10"},
            "wait": {"kind": {"name": "quantile", "levels": [0.5, 0.9]}, "sql": "time - 100"},
        },
        "split": {"by": "time", "valid": 6, "test": 8},
        "model": {"recipe": "alone", "dim": 2, "expert": [3], "tower": [2]},
        "fit": {"epochs": 1, "batch": 2, "rate": 1e-9, "seed": 1, **fit},
    }
    return parse(tree, where="here")


def numbers(folder: Path, settings: Settings) -> Table:
    return logs.table(folder, schema=resolve.schema(settings))


def begins(model: Recommender) -> dict[str, list[float]]:
    """The last bias of each task's tower."""
    groups, tensors = model.groups(), dict(model.named_parameters())
    return {task.name: groups[f"tower {task.name}"][-1].of(tensors).flatten().tolist() for task in model.schema.tasks}


def test_numbers_begin_at_the_mean_of_their_training_labels(tmp_path: Path) -> None:
    """Of .5 2 - 1 0 3, of 11 12 14 where there was a click, at the median of -100 .. -95; an event begins at one half."""
    settings = amounts()
    model = fit_model(settings, numbers(tmp_path, settings), tmp_path / "run", watch=Silence()).model
    expected = {"click": [0.0], "spent": [1.3], "tip": [37 / 3], "wait": [-97.5, 0.0]}
    assert {name: pytest.approx(bias, abs=1e-6) for name, bias in begins(model).items()} == expected


def test_a_large_table_s_labels_are_those_of_its_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SCORED", 2)
    monkeypatch.setattr(fitting, "MEANT", 4)
    made = numbers(tmp_path, amounts())
    batches = list(Loader(made, "train", 2, seed=fitting.SEED)(0))[:2]
    labels, seen = (np.concatenate([getattr(batch, name)[:, 3].numpy() for batch in batches]) for name in ("labels", "seen"))
    assert seen.all()
    model = fit_model(amounts(), made, tmp_path / "run", watch=Silence()).model
    assert begins(model)["wait"][0] == pytest.approx(np.median(labels))


def test_a_number_of_whose_labels_none_is_looked_at_begins_at_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SCORED", 1)
    monkeypatch.setattr(fitting, "MEANT", 1)
    made = numbers(tmp_path, amounts())
    row = int(next(iter(Loader(made, "train", 1, seed=fitting.SEED)(0))).index[0])
    blind = made._labels
    blind[row, 1] = np.nan
    model = resolve.built(amounts(), {"user": made.encoder.vocabularies["user"].size})(made.schema)
    fitting.begin(model, made)
    assert begins(model)["spent"] == [0.0]
    assert begins(model)["wait"][0] == blind[row, 3]


def test_a_training_that_goes_on_begins_where_the_bundle_stood(tmp_path: Path) -> None:
    """Not at the mean of the new labels, which may be those of one day."""
    settings = amounts()
    made = numbers(tmp_path, settings)
    how = resolve.built(settings, {"user": made.encoder.vocabularies["user"].size})
    old = how(made.schema).eval()
    old.begin("spent", torch.tensor([5.0]))
    calibrators: dict[str, Calibrator] = {"click": Platt(), "spent": Identity(), "tip": Identity(), "wait": Shifted((0.0, 0.0))}
    Bundle(made.source, made.encoder, how, old, calibrators, {}).save(tmp_path / "bundle", golden=made.golden())
    model = fit_model(amounts(start=str(tmp_path / "bundle")), made, tmp_path / "run", watch=Silence()).model
    assert begins(model) == {name: pytest.approx(bias, abs=1e-6) for name, bias in begins(old).items()}
    assert begins(model)["spent"] == pytest.approx([5.0])


def test_a_training_that_was_stopped_goes_on_from_where_it_stood(tmp_path: Path) -> None:
    settings = amounts(rate=0.1)
    made = numbers(tmp_path, settings)
    first, again = (fit_model(settings, made, tmp_path / "run", watch=Silence()).model for _ in range(2))
    assert begins(first)["spent"] != pytest.approx([1.3], abs=1e-6)
    assert begins(again) == begins(first)
