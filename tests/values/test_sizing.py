"""How much memory a model asks for is known before any is taken, for every recipe, and too much is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from tests import everykind
from tests.toys import Batches, toy
from torch import nn

from umbel import machine
from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn import checkpoint
from umbel.learn.fit import fit
from umbel.learn.keep import Keep, Mean, Pareto, Primary
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.shards import Shards
from umbel.recipes import RECIPES
from umbel.run import resolve, sizing
from umbel.run.fitting import trained
from umbel.run.settings import Settings, parse
from umbel.run.sizing import check_size, held, memory, spare, within_memory
from umbel.run.watch import Silence

CPU = torch.device("cpu")


class Plain(nn.Module):
    """A table of 3,000 rows and one matrix."""

    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(3_000, dim))
        self.layer = nn.Parameter(torch.empty(dim, wide))


def sized(dim: int, wide: int = 1, *, rows: dict[str, int] | None = None, plan: Plan | None = None) -> None:
    every = {"user": 1_000, "item": 2_000} if rows is None else rows
    check_size(lambda dim: Plain(dim, wide), plan or Plan(), dim=dim, rows=every, kept=1)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_measured_without_its_memory(name: str) -> None:
    schema, sizes = everykind.schema(), everykind.sizes()
    real = RECIPES[name](schema, sizes)
    with torch.device("meta"):
        measured = RECIPES[name](schema, sizes)
    assert {key: one.shape for key, one in measured.named_parameters()} == {key: one.shape for key, one in real.named_parameters()}
    assert {one.device.type for one in measured.parameters()} == {"meta"}


def test_measuring_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    sized(4)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_machine_has_some_memory() -> None:
    assert 2**28 < memory(CPU) < 2**48


def test_a_model_is_held_against_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "memory.max").write_text("100000\n")
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    sized(2)
    assert "and cpu has 100.0 kB; lower model.dim = 3 to 2, or" in said(lambda: sized(3))


GPU = torch.device("cuda")


def test_a_gpu_spares_what_is_free_and_what_this_process_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 bytes others hold 30, and this process 20, of which its tensors take 15."""
    for name, answer in (("mem_get_info", (30, 80)), ("memory_reserved", 20), ("memory_allocated", 15)):
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer if device == GPU else None)
    assert spare(GPU) == 35


def test_a_cpu_spares_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 77 if device == CPU else 0)
    assert spare(CPU) == 77


@pytest.mark.parametrize(("dim", "wide", "fits"), [(8, 1, True), (9, 1, False), (1, 16_800, True), (1, 16_810, False)])
def test_what_training_holds_must_fit(monkeypatch: pytest.MonkeyPatch, *, dim: int, wide: int, fits: bool) -> None:
    """4 bytes x (4 x 3,000 dim + 5 x dim x wide) and a counter, against 384,164 bytes: a matrix has a gradient, a table none so large."""
    monkeypatch.setattr(sizing, "memory", lambda device: 4 * (4 * 3_000 * 8 + 5 * 8) + 4)
    if fits:
        sized(dim, wide)
    else:
        with pytest.raises(UserError):
            sized(dim, wide)


TABLE, LAYER = 4 * 3_000 * 8, 4 * 8
SIZES = {
    "adam": (Plan(), 1, 4 * TABLE + 4 + 5 * LAYER),
    "adam, nothing kept": (Plan(), 0, 3 * TABLE + 4 + 4 * LAYER),
    "adam, three epochs kept": (Plan(), 3, 6 * TABLE + 4 + 7 * LAYER),
    "adagrad": (Plan(rows=RowAdagrad), 1, 2 * TABLE + TABLE // 8 + 5 * LAYER),
    "adagrad by element": (Plan(rows=partial(RowAdagrad, elementwise=True)), 1, 3 * TABLE + 5 * LAYER),
    "exact": (Plan(exact=True), 1, 5 * TABLE + 5 * LAYER),
    "exact knows no row optimiser": (Plan(exact=True, rows=RowAdagrad), 1, 5 * TABLE + 5 * LAYER),
}


@pytest.mark.parametrize("name", SIZES)
def test_each_optimiser_and_rule_takes_its_own(name: str) -> None:
    plan, kept, size = SIZES[name]
    with torch.device("meta"):
        assert held(Plain(8, 1), plan, kept=kept) == size


def test_rules_hold_the_best_of_each_task_they_name() -> None:
    rules: list[tuple[Keep, int]] = [
        (Mean(), 1), (Primary("click"), 1), (Primary("click", {"like": 0.1, "click": 0.2}), 2), (Pareto(), 3),
    ]
    assert [rule.holds(3) for rule, _ in rules] == [sets for _, sets in rules]
    assert Pareto().holds(0) == 1


RISING = [{"click": 0.5, "like": 0.9}, {"click": 0.6, "like": 0.8}, {"click": 0.7, "like": 0.7}]


@pytest.mark.parametrize("rule", [Mean(), Pareto()])
@pytest.mark.parametrize("how", [{}, {"rows": RowAdagrad}, {"exact": True}])
def test_it_is_what_a_training_holds(rule: Keep, how: dict[str, object]) -> None:
    """Every tensor of a state once, and the gradients; but for counters of steps, of one number each."""
    plan, scores = Plan(epochs=3, patience=9, keep=rule, **how), iter(RISING)  # type: ignore[arg-type]
    model = toy(3_000, 8)
    epochs = list(fit(model, Batches(steps=2), plan=plan, judge=lambda _: next(scores)))
    state = epochs[-1].state
    tensors = [one for part in (state.weights, state.kept, state.dense, state.table) for one in part.values() if one.ndim]
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert (model.table.grad is not None) is plan.exact
    sets = len({name.partition("/")[0] for name in state.kept})
    assert sets == (3 if isinstance(rule, Pareto) else 1)
    found = sum(one.untyped_storage().nbytes() for one in [*tensors, *gradients])
    assert held(model, plan, kept=sets) - found in (0, 4)


def said(make: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        make()
    return str(caught.value)


def test_wide_tables_are_told_with_their_rows_and_the_longest_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 16 * 10**9)
    assert said(lambda: sized(10**9)) == (
        "model: 12.0 TB of weights, 12.0 TB of them in tables of 3,000 rows; training takes 48.0 TB and cpu has 16.0 GB; "
        "lower model.dim = 1000000000 to 333194, or raise fields.item.min_count, which has 2,000, "
        'or share the rows out to machines (torchrun --nnodes, fit.tables = "shards")'
    )


@pytest.mark.parametrize("step", [1, 4, 9])
@pytest.mark.parametrize("have", [47_000, 48_024, 48_025, 10**5, 10**6, 3 * 10**6])
def test_the_width_that_is_told_is_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch, *, have: int, step: int) -> None:
    """A width takes 48,020 bytes, and a counter 4."""
    monkeypatch.setattr(sizing, "memory", lambda device: have)

    def fits(dim: int) -> str:
        try:
            check_size(lambda dim: Plain(dim, 1), Plan(), dim=dim, step=step, rows={"user": 1}, kept=1)
        except UserError as error:
            return str(error)
        return ""

    told = re.search(r"lower model.dim = 360(?: to (\d+))?$", fits(360))
    assert told is not None
    largest = int(told[1] or 0)
    assert largest % step == 0
    assert fits(largest + step)
    assert not largest or not fits(largest)


@pytest.mark.parametrize(("holders", "beside", "fits"), [(3, 1, True), (2, 1, False), (3, 3, False), (12, 3, True)])
def test_rows_that_are_shared_out_must_fit_each_machine(monkeypatch: pytest.MonkeyPatch, *, holders: int, beside: int, fits: bool) -> None:
    """A third of 96 kB four times, and 32 bytes beside it five times; or as often as there are processes on the machine."""
    monkeypatch.setattr(sizing, "memory", lambda device: 4 * 32_000 + 5 * 32 + 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    shards = Shards(None)
    shards.world = holders
    make = partial(sized, 8, rows={"user": 3_000}, plan=Plan(shards=shards))
    if fits:
        make()
    else:
        assert "; training takes " in said(make)


@pytest.mark.parametrize(("have", "offered"), [(4.2, None), (3.9, True), (2.2, True), (2.0, False)])
def test_adagrad_is_offered_where_it_would_fit(monkeypatch: pytest.MonkeyPatch, *, have: float, offered: bool | None) -> None:
    """Tables that the machine could hold: four are Adam's, two and an eighth Adagrad's."""
    monkeypatch.setattr(sizing, "memory", lambda device: int(have * TABLE))
    if offered is None:
        sized(8)
    else:
        assert ('set fit.rows = "adagrad"' in said(lambda: sized(8))) is offered


@pytest.mark.parametrize("plan", [Plan(rows=RowAdagrad), Plan(exact=True)])
def test_adagrad_is_not_offered_where_it_is_or_cannot_be(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 2 * TABLE)
    assert "adagrad" not in said(lambda: sized(8, plan=plan))


def test_short_tables_are_not_told_to_be_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 10**6)
    assert said(lambda: sized(10**6, rows={"user": 999, "item": 3})).endswith("lower model.dim = 1000000 to 20")


def test_wide_layers_are_told_apart_from_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory", lambda device: 10**6)
    told = said(lambda: sized(4, 10**6))
    assert "16.0 MB of weights, 48.0 kB of them in tables" in told
    assert told.endswith("lower model.dim = 4, model.expert or model.tower")


USER: Mapping[str, object] = {"user": {"kind": "id"}}


def settings(*, fields: Mapping[str, object] = USER, **model: object) -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet"}, "fields": dict(fields), "tasks": {"click": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1}, "model": {"recipe": "stem", **model},
    }  # fmt: skip
    return parse(tree, where="here")


@pytest.mark.parametrize(("model", "told"), [
    ({"dim": 10**9}, "lower model.dim = 1000000000"),
    ({"dim": 10**9, "recipe": "alone"}, "lower model.dim = 1000000000"),
    ({"expert": [10**6, 10**6]}, "lower model.dim = 8, model.expert or model.tower"),
])  # fmt: skip
def test_a_run_file_that_asks_for_more_than_there_is(model: dict[str, object], told: str) -> None:
    error = said(lambda: resolve.check(settings(**model)))  # type: ignore[arg-type]
    assert told in error
    assert re.match(r"model: [\d.,]+ [GTP]B of weights, ", error)


def test_a_table_that_turned_out_long_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings()
    resolve.check(asked)
    plan = resolve.plan(asked.fit)
    error = said(lambda: resolve.check_memory(asked, resolve.schema(asked), rows={"user": 10**11}, plan=plan))
    assert "in tables of 100,000,000,000 rows" in error
    assert "fields.user.min_count, which has 100,000,000,000" in error


def test_the_width_that_is_told_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """All heads divide it: four alone would let 28 pass, six alone 30."""
    monkeypatch.setattr(sizing, "memory", lambda device: 1_100_000)
    own = {"interact": "autoint", "interact_sizes": {"heads": 4}, "sequence": "sasrec", "sequence_sizes": {"heads": 6}}
    asked = settings(fields={"user": {"kind": "id"}, "seen": {"kind": "sequence", "length": 2}}, dim=1_200, **own)
    told = re.search(r"lower model.dim = 1200 to (\d+)", said(lambda: resolve.check(asked)))
    assert told is not None
    width = int(told[1])
    assert width % 12 == 0
    for dim, fits in ((width, True), (width + 12, False)):
        other = asked.model_copy(update={"model": asked.model.model_copy(update={"dim": dim})})
        if fits:
            resolve.check(other)
        else:
            said(lambda other=other: resolve.check(other))  # type: ignore[misc]


@pytest.mark.parametrize(("fit", "sets"), [
    ({}, 1), ({"keep": "pareto"}, 3), ({"keep": "pareto", "epochs": 2}, 2), ({"keep": {"name": "primary", "task": "buy"}}, 1),
])  # fmt: skip
def test_kept_epochs_are_counted_by_the_tasks_judged(monkeypatch: pytest.MonkeyPatch, *, fit: dict[str, object], sets: int) -> None:
    """At most one an epoch; an auxiliary task is not judged."""
    tree = settings().model_dump()
    tasks = {"click": {}, "like": {}, "buy": {}, "aside": {"auxiliary": True}}
    asked = parse({**tree, "tasks": tasks, "fit": {**tree["fit"], **fit}}, where="here")
    told: list[int] = []
    monkeypatch.setattr(resolve, "check_size", lambda build, plan, *, dim, step, rows, kept: told.append(kept))
    resolve.check_memory(asked, resolve.schema(asked), rows={"user": 5}, plan=resolve.plan(asked.fit, keep=resolve.keep(asked)))
    assert told == [sets]


OUT = [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried"),
    RuntimeError("std::bad_alloc"), RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail at CPUAllocator.cpp:64] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
]  # fmt: skip


@pytest.mark.parametrize("error", OUT, ids=range(len(OUT)))
def test_memory_that_runs_out_is_told_with_the_settings_that_ask_for_it(error: Exception) -> None:
    @within_memory()
    def work() -> None:
        raise error

    told = said(work)
    assert told.startswith("training: memory ran out; the last checkpoint stays; lower fit.batch")
    assert "\n" not in told


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("not enough memory"), UserError("x", mend="y")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, within_memory():
        raise error
    assert caught.value is error


def test_an_allocation_that_cannot_be_is_recognised() -> None:
    """Torch's own words, whatever they are in this version: an exbibyte is nowhere."""
    assert "memory ran out" in said(within_memory()(lambda: torch.empty(2**58, dtype=torch.float32)))


@pytest.mark.parametrize("error", OUT[:1])
def test_training_is_within_it(error: Exception, tmp_path: Path) -> None:
    def batches(epoch: int, start: int) -> Iterator[Batch]:
        yield from Batches()(0)
        raise error

    message = said(lambda: trained(toy(), batches, tmp_path, plan=Plan(pause=0.0), judge=lambda _: 0.5, watch=Silence()))
    assert "memory ran out" in message
    assert checkpoint.load(tmp_path / "checkpoint") is not None
