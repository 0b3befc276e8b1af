"""A bundle that is trained again into its own folder: it answers once it is put into service, and not before, from every worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.server import problem
from tests.small import Small, bundles, small
from umbel.serve.bundles import Bundles, Ordering
from umbel.serve.order import Order
from umbel.serve.store.store import Store
from umbel.serve.wanted import State, saved


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles(tmp_path_factory.mktemp("made"))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """Bundles for one test to change."""
    for name in ("a", "b", "c"):
        shutil.copytree(made / name, tmp_path / "root" / name)
    return tmp_path / "root"


@pytest.fixture
def service(root: Path, tmp_path: Path) -> Iterator[Small]:
    with small(root, tmp_path) as service:
        yield service


def trained_again(root: Path, name: str, *, like: str) -> None:
    """The bundle of one name becomes another's."""
    shutil.rmtree(root / name / "bundle")
    shutil.copytree(root / like / "bundle", root / name / "bundle")


def unheard(error: Exception) -> None:
    """Nothing goes wrong."""
    raise error


def test_a_bundle_that_was_replaced_in_its_folder_answers_once_it_is_put_into_service(service: Small) -> None:
    before = service.labels["stable"]["bundle"]
    trained_again(service.root, "a", like="b")
    assert service.labels["stable"]["bundle"] == before
    told = service.serve("stable", "a")
    assert (told.status_code, service.policies) == (200, {"stable": "both"})
    assert told.json()["labels"]["stable"]["bundle"] != before
    assert told.json()["previous"] is None, "what lay there before is gone, and the same folder is nothing to go back to"
    assert service.post("/v1/rank", {"items": ["a", "b"]}).json()["bundle"] == told.json()["labels"]["stable"]["bundle"]
    assert "no bundle to go back to" in problem(service.post("/v1/bundles:rollback", {}), 409)


def test_what_there_was_to_go_back_to_stays(service: Small) -> None:
    assert service.serve("stable", "b").status_code == 200
    trained_again(service.root, "b", like="c")
    told = service.serve("stable", "b").json()
    assert (service.policies, told["previous"]) == ({"stable": "money"}, str(service.root / "a" / "bundle"))
    assert service.post("/v1/bundles:rollback", {}).status_code == 200
    assert service.policies == {"stable": "clicks"}


def test_other_changes_leave_what_answers_though_its_folder_has_another_by_now(service: Small) -> None:
    """Above all whoever goes back gets what answered before, at once."""
    assert service.serve("stable", "b").status_code == 200
    for name in ("a", "b"):
        trained_again(service.root, name, like="c")
    assert service.serve("canary", "c").status_code == 200
    assert service.policies == {"stable": "both", "canary": "money"}
    shutil.rmtree(service.root / "a")
    assert service.post("/v1/bundles:rollback", {}).status_code == 200
    assert service.policies == {"stable": "clicks"}


def test_a_canary_replaced_in_its_folder_is_another_canary(service: Small) -> None:
    assert service.serve("canary", "b", share=0.5).status_code == 200
    with Store(service.store) as store:
        first = saved(store)
        trained_again(service.root, "b", like="c")
        assert service.serve("canary", "b", share=0.5).status_code == 200
        second = saved(store)
        assert service.policies == {"stable": "clicks", "canary": "money"}
        assert service.serve("canary", "b", share=0.5).status_code == 200
        third = saved(store)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.since < second.since == third.since, "its comparison begins anew, unless it is the same"


@pytest.mark.parametrize("label", ["canary", "shadow"])
def test_two_contents_of_one_folder_do_not_answer_beside_each_other(service: Small, label: str) -> None:
    trained_again(service.root, "a", like="b")
    said = problem(service.serve(label, "a"), 409)
    folder = service.root / "a" / "bundle"
    assert said == f"{folder}: what lay there before answers under another label; put the new bundle into a folder of its own"
    assert service.policies == {"stable": "clicks"}
    assert service.serve(label, "b").status_code == 200


def test_other_workers_read_the_folder_again_and_a_new_one_takes_what_is_there(root: Path, tmp_path: Path) -> None:
    folder = str(root / "a" / "bundle")
    with Store(tmp_path / "two.db") as store:
        one, other = (Bundles(store, State(stable=folder), Ordering(order=Order()), failed=unheard) for _ in range(2))
        old = one.stable.served.name
        trained_again(root, "a", like="b")
        change = partial(one.change, actor="x", action="y", detail={})
        change(lambda state: state)
        other.refresh(other.ahead())
        assert {one.stable.served.name, other.stable.served.name} == {old}, "nobody put it into service"
        change(lambda state: state, ready=[one.load(folder)])
        ready = other.ahead()
        assert [each.name for each in ready] == [one.stable.served.name] != [old]
        other.refresh(ready)
        assert other.stable.served is ready[0]
        trained_again(root, "a", like="c")
        new = Bundles(store, State(stable=folder), Ordering(order=Order()), failed=unheard)
        third = new.stable.served
        assert third.name not in (old, one.stable.served.name)
        new.change(lambda state: state, actor="x", action="y", detail={})
        assert new.stable.served is third, "what lies there is at hand"
