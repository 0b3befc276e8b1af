"""Gate shares by source, silent experts and collapsed tables, where the answer is planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests import everykind

from umbel.data.batch import Batch
from umbel.nn.mixture import Mixture
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES, alone, mmoe, ple, stem
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.study.transfer.listening import Expert, abundances, listen, listen_by

TASKS = 3


def batches(count: int = 2) -> list[Batch]:
    found = []
    for seed in range(count):
        labels = torch.zeros(24, TASKS)
        found.append(Batch(everykind.fields(seed=seed), labels, labels == 0, torch.arange(24)))
    return found


def built(recipe: str, *, specific: int = 1, layers: int = 1) -> Recommender:
    torch.manual_seed(0)
    sizes = everykind.sizes(specific=specific, layers=layers)
    return everykind.awake(RECIPES[recipe](everykind.schema(TASKS), sizes)).eval()


def mixture(model: Recommender) -> Mixture:
    last = model.layers[-1]
    assert isinstance(last, Mixture)
    return last


@pytest.mark.parametrize("recipe", ["alone", "shared_bottom", "mmoe", "ple", "stem"])
@pytest.mark.parametrize("layers", [1, 2])
def test_shares_add_up(recipe: str, layers: int) -> None:
    gates, experts = listen(built(recipe, layers=layers), batches())
    assert [one.task for one in gates] == list(everykind.NAMES[:TASKS])
    for one in gates:
        assert one.own + one.shared + one.others == pytest.approx(1.0, abs=1e-6)
        assert one.entropy is None or 0 <= one.entropy <= 1 + 1e-9
    assert {one.layer for one in experts} == set(range(layers))


@pytest.mark.parametrize(("recipe", "sources"), [
    (alone, {"own"}), (mmoe, {"shared"}), (ple, {"own", "shared"}), (stem, {"own", "shared", "others"}),
])
def test_where_a_task_can_listen(recipe: object, sources: set[str]) -> None:
    name = next(name for name, made in RECIPES.items() if made is recipe)
    for one in listen(built(name), batches())[0]:
        assert {source for source in ("own", "shared", "others") if getattr(one, source) > 1e-9} == sources


def test_even_gates_and_a_gate_that_hears_one() -> None:
    model = built("stem")
    gates = mixture(model).gates
    assert gates is not None
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.zero_()
    even = listen(model, batches())[0]
    assert all(one.entropy == pytest.approx(1.0) for one in even)
    assert all((one.own, one.shared, one.others) == pytest.approx((0.25, 0.25, 0.5)) for one in even)
    with torch.no_grad():
        for name, parameter in gates.named_parameters():
            if "bias" in name:
                parameter.copy_(torch.tensor([60.0, 0.0, 0.0, 0.0]).repeat(parameter.numel() // 4).view_as(parameter))
    first, second, third = listen(model, batches())[0]
    assert first.own == pytest.approx(1.0)
    assert first.entropy == pytest.approx(0.0, abs=1e-6)
    assert second.others == third.others == pytest.approx(1.0)


def test_a_task_with_one_expert_has_no_gate() -> None:
    assert [one.entropy for one in listen(built("alone"), batches())[0]] == [None] * TASKS
    assert all(one.entropy is not None for one in listen(built("alone", specific=2), batches())[0])


def test_an_expert_silenced_is_dead_and_the_right_one() -> None:
    model = built("stem")
    parts = mixture(model).expert_parts(2)
    named: dict[str, torch.Tensor] = dict(mixture(model).named_parameters())
    with torch.no_grad():
        for part in parts:
            part.of(named).fill_(-1.0 if "biases" in part.name else 0.0)
    _, experts = listen(model, batches())
    assert [one.expert for one in experts if one.dead] == [2]
    assert experts[2].zeros == 1.0


@pytest.mark.parametrize(("zeros", "dead"), [(0.9, False), (0.91, True)])
def test_dead_is_above_nine_tenths(zeros: float, dead: bool) -> None:
    assert Expert(0, 0, zeros).dead is dead


def test_the_model_has_no_ears_afterwards() -> None:
    model = built("stem")
    listen(model, batches())
    assert not any(layer._forward_pre_hooks for layer in model.layers)


def test_an_architecture_without_mixtures_has_no_gates() -> None:
    assert listen(built("cross_stitch"), batches()) == ((), ())


SCHEMA = Schema((Field("user", FieldKind.ID), Field("item", FieldKind.ID)), (Task("click"), Task("like")))


def tables(*views: torch.Tensor, sizes: dict[str, int]) -> dict[tuple[str, int], float]:
    model = alone(SCHEMA, Sizes(sizes, dim=3, expert=(4,), tower=()))
    with torch.no_grad():
        model.table.copy_(torch.cat(views, 1))
    return {(one.table, one.view): one.value for one in abundances(model, sizes)}


def test_directions_in_use_by_hand() -> None:
    sizes = {"user": 4, "item": 5}
    full, line = torch.zeros(9, 3), torch.zeros(9, 3)
    full[0, 0] = full[1, 1] = full[2, 2] = 2.0     # the users' rows: three equal directions
    full[4, 0], full[5, 1], full[6, 2] = 4.0, 2.0, 1.0
    line[:4] = torch.tensor([1.0, 2.0, 3.0])       # all users on one line
    found = tables(full, line, sizes=sizes)
    assert found["user", 0] == pytest.approx(3.0)
    assert found["item", 0] == pytest.approx(7 / 4)
    assert found["user", 1] == pytest.approx(1.0, abs=1e-6)
    assert found["item", 1] == 0.0                 # nothing in it at all


def test_directions_in_use_against_the_singular_values() -> None:
    sizes = {"user": 30, "item": 50}
    torch.manual_seed(2)
    views = [torch.randn(80, 3), torch.randn(80, 3) * torch.tensor([3.0, 1.0, 0.1])]
    found = tables(*views, sizes=sizes)
    for (name, view), value in found.items():
        rows = slice(0, 30) if name == "user" else slice(30, 80)
        sigma = torch.linalg.svdvals(views[view][rows].double())
        assert value == pytest.approx(float(sigma.sum() / sigma.max()), rel=1e-9)
        assert 1 <= value <= 3


def test_a_table_with_fewer_rows_than_numbers_is_left_out() -> None:
    found = tables(torch.randn(7, 3), torch.randn(7, 3), sizes={"user": 2, "item": 5})
    assert {name for name, _ in found} == {"item"}
    assert not any(math.isnan(value) for value in found.values())


def weights(model: Recommender, rows: list[Batch]) -> torch.Tensor:
    """Gate shares of every row at the last layer, from the mixture itself."""
    kept: list[torch.Tensor] = []
    hook = mixture(model).register_forward_pre_hook(lambda layer, given: kept.append(mixture(model).shares(given[0])))
    with torch.no_grad():
        for batch in rows:
            model(batch.fields)
    hook.remove()
    return torch.cat(kept)


@pytest.mark.parametrize("recipe", ["mmoe", "ple", "stem", "grouped"])
def test_ears_are_means_over_the_rows_of_a_group(recipe: str) -> None:
    model, rows = built(recipe), batches(3)
    labels = np.array(["few", "many", "many", "some"] * 18)
    found = {ear.group: ear for ear in listen_by(model, rows, {"users": labels})}
    assert {name: ear.rows for name, ear in found.items()} == {"few": 18, "many": 36, "some": 18}
    shares = weights(model, rows).numpy()
    reach = [model.reach[f"layer 0 expert {expert}"] for expert in range(shares.shape[2])]
    for group, ear in found.items():
        means = shares[labels == group].mean(0)
        for task, one in enumerate(ear.gates):
            assert one.own == pytest.approx(sum(means[task][at] for at, tasks in enumerate(reach) if tasks == (task,)), abs=1e-6)
            assert one.own + one.shared + one.others == pytest.approx(1.0, abs=1e-6)


def test_ears_of_all_rows_are_the_gates() -> None:
    model, rows = built("stem"), batches(2)
    (ear,) = listen_by(model, rows, {"all": np.full(48, "everybody")})
    plain, _ = listen(model, rows)
    for one, other in zip(ear.gates, plain, strict=True):
        assert (one.own, one.shared, one.others) == pytest.approx((other.own, other.shared, other.others), abs=1e-6)


def test_several_splits_at_once() -> None:
    labels = {"a": np.array(["x", "y"] * 24), "b": np.full(48, "z")}
    found = listen_by(built("mmoe"), batches(2), labels)
    assert {(ear.split, ear.group) for ear in found} == {("a", "x"), ("a", "y"), ("b", "z")}


def test_what_is_no_mixture_has_no_ears_and_no_split_none() -> None:
    assert listen_by(built("cross_stitch"), batches(), {"all": np.full(48, "everybody")}) == ()
    assert listen_by(built("stem"), batches(), {}) == ()


def test_listening_by_group_leaves_no_hook_behind() -> None:
    model = built("stem")
    listen_by(model, batches(), {"all": np.full(48, "everybody")})
    assert not mixture(model)._forward_pre_hooks
