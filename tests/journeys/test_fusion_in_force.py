"""Which policy ranks after a restart, and that it is said where a bundle's own does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journeys.conftest import say
from tests.small import POLICIES, Small, bundles, named, policy_file, small
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import AdditiveMonotone, Linear
from umbel.serve.store.store import Store
from umbel.serve.wanted import saved, swapped

RESET = "reset=true"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles(tmp_path_factory.mktemp("fusions"))


def put(service: Small, policy: Fusion) -> None:
    assert service.client.put("/v1/fusion", json=policy.to_json()).status_code == 200


def ranks_by(root: Path, folder: Path, *words: str, name: str = "a") -> str:
    """The policy of a start."""
    with small(root, folder, *words, name=name) as service:
        ranked = str(service.post("/v1/rank", {"items": ["a", "b"]}).json()["fusion"])
        assert service.labels["stable"]["fusion"] == ranked
    return ranked


def test_what_was_put_in_force_stays_though_a_file_was_given(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = f"fusion={policy_file(tmp_path, 'b')}"
    with small(root, tmp_path, given) as service:
        put(service, POLICIES["c"])
    assert "put in force since" not in caplog.text
    assert ranks_by(root, tmp_path, given) == named(POLICIES["c"])
    told = f"ranks by {named(POLICIES['c'])}, which was put in force since the last start; --set reset=true ranks by the one of the file"
    assert told in caplog.text
    assert ranks_by(root, tmp_path, given) == named(POLICIES["c"]), "at every later start, too"
    assert ranks_by(root, tmp_path, given, RESET) == named(POLICIES["b"])
    assert ranks_by(root, tmp_path, given) == named(POLICIES["b"])


def test_a_file_that_is_given_no_more_ranks_no_more(root: Path, tmp_path: Path) -> None:
    assert ranks_by(root, tmp_path, f"fusion={policy_file(tmp_path, 'b')}") == named(POLICIES["b"])
    assert ranks_by(root, tmp_path) == named(POLICIES["a"]), "the bundle's own"


def test_another_file_ranks_whatever_was_put_in_force(root: Path, tmp_path: Path) -> None:
    with small(root, tmp_path) as service:
        put(service, POLICIES["c"])
    assert ranks_by(root, tmp_path, f"fusion={policy_file(tmp_path, 'b')}") == named(POLICIES["b"])
    with small(root, tmp_path, f"fusion={tmp_path / 'b.json'}") as service:
        put(service, POLICIES["c"])
    assert ranks_by(root, tmp_path) == named(POLICIES["a"]), "none is another than before"


def test_without_a_file_what_was_put_in_force_stays_until_it_is_taken_back(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small(root, tmp_path) as service:
        put(service, POLICIES["c"])
    with small(root, tmp_path) as service:
        assert service.policies == {"stable": "money"}
        assert "--set reset=true ranks by the bundle's own" in caplog.text
        assert service.client.delete("/v1/fusion").status_code == 200
    caplog.clear()
    assert ranks_by(root, tmp_path) == named(POLICIES["a"])
    assert "put in force" not in caplog.text


def test_what_was_taken_back_does_not_return_with_the_same_file(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = f"fusion={policy_file(tmp_path, 'b')}"
    with small(root, tmp_path, given) as service:
        assert service.client.delete("/v1/fusion").status_code == 200
    assert ranks_by(root, tmp_path, given) == named(POLICIES["a"])
    assert "--set reset=true ranks by the one of the file" in caplog.text


def test_a_policy_of_many_numbers_is_the_same_after_a_restart(root: Path, tmp_path: Path) -> None:
    line = AdditiveMonotone(knots=(0.0, 0.1, 1.0), increments=(0.1, 0.2))
    (tmp_path / "lines.json").write_text(json.dumps(Fusion((Term("click", line),), "lines").to_json()))
    with small(root, tmp_path, f"fusion={tmp_path / 'lines.json'}") as service:
        put(service, POLICIES["c"])
    assert ranks_by(root, tmp_path, f"fusion={tmp_path / 'lines.json'}") == named(POLICIES["c"]), "the file is the one of before"


def test_another_bundle_is_ranked_by_it_and_that_is_said(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = {name: named(policy) for name, policy in POLICIES.items()}
    with small(root, tmp_path) as service:
        assert service.labels["stable"]["own"] is None
        put(service, POLICIES["c"])
        assert service.labels["stable"] | {"fusion": own["c"], "own": own["a"]} == service.labels["stable"]
        assert service.audit(1) == [("activate fusion", {"fusion": own["c"], "overrides": [f"stable: {own['a']}"]})]
        told = service.serve("stable", "b").json()["labels"]["stable"]
        assert (told["fusion"], told["own"]) == (own["c"], own["b"])
        assert service.audit(1)[0][1]["overrides"] == [f"stable: {own['b']}"]
        assert service.serve("canary", "c", share=0.5).json()["labels"]["canary"]["own"] is None, "it is its own"
        assert service.serve("shadow", "bare").json()["labels"]["shadow"]["own"] is None, "it has none"
        assert service.audit(1)[0][1]["overrides"] == [f"stable: {own['b']}"]
        assert service.client.delete("/v1/bundles/shadow").status_code == 200
        assert service.client.delete("/v1/fusion").json()["labels"]["stable"]["own"] is None
        assert service.audit(1) == [("deactivate fusion", {})]
        put(service, POLICIES["c"])
    assert ranks_by(root, tmp_path, name="b") == own["c"]
    assert f"ranks by {own['c']}, which was put in force since the last start; --set reset=true ranks by the bundle's own" in caplog.text


def test_a_bundle_without_a_policy_goes_on_with_the_one_in_force(root: Path, tmp_path: Path) -> None:
    with small(root, tmp_path) as service:
        put(service, POLICIES["c"])
        assert service.serve("stable", "bare").status_code == 200
    with small(root, tmp_path) as service:
        assert (service.labels["stable"]["folder"], service.policies) == (str(root / "bare" / "bundle"), {"stable": "money"})


@pytest.mark.parametrize("words", [(), ("reset=true",)])
def test_a_policy_that_the_bundle_cannot_rank_by_is_one_line(root: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """It was put in force for a bundle of other tasks."""
    with small(root, tmp_path), Store(tmp_path / "umbel.db") as store:
        state = saved(store)
        assert state is not None
        foreign: Mapping[str, object] = Fusion((Term("clack", Linear(1.0)),), "foreign").to_json()
        assert swapped(store, state.number, replace(state, fusion=foreign, number=state.number + 1))
    if words:
        assert ranks_by(root, tmp_path, *words) == named(POLICIES["a"])
    else:
        said = say("serve", root / "a" / "bundle", "--port", "0", "--store", tmp_path / "umbel.db")
        wrong = "fusion 'foreign': no prediction 'clack', put in force since the last start"
        assert (said.code, said.line) == (2, f"umbel: {wrong}; --set reset=true ranks by what is named here")
