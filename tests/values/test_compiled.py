"""A model through torch.compile: how long that took is told apart, it changes no number, and where it cannot be, one line says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, cast

import numpy as np

# In processes of their own, since shapes that are checked while tests run cannot be compiled. The clock goes on in the compiler alone.
SHOW = """
import json, torch
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from tests.toys import Batches, toy
from umbel.errors import UserError
from umbel.learn import checkpoint, fit as loop
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.run.fitting import trained
from umbel.run.watch import Silence

clock = [0.0]
loop.time.monotonic = lambda: clock[0]
calls = []

def backend(graph, inputs):
    calls.append(graph)
    clock[0] += 1000.0 if len(calls) == 1 else 0.0
    return graph.forward

compiler, plain = torch.compile, partial(Plan, epochs=2, patience=9, rate=0.1)
torch.compile = partial(compiler, backend=backend)
"""
SAME = SHOW + """
found = []
for plan in (plain(), plain(compiled=True), plain(exact=True), plain(exact=True, compiled=True)):
    calls.clear()
    model = toy(dropout=0.4)
    epochs = list(fit(model, Batches(), plan=plan, judge=lambda _: 0.5))
    bytes_ = b"".join(one.detach().numpy().tobytes() for one in model.parameters()).hex()
    found.append([bytes_, [one.compiling for one in epochs], [one.seconds for one in epochs], [one.losses for one in epochs]])
print(json.dumps(found))
"""
BALANCED = SHOW + """
from tests import everykind
from umbel.data.batch import Batch
from umbel.balance.named import balancer
from umbel.learn.weigh import Balance
from umbel.learn.taps import At

class Rows:
    def __call__(self, epoch, step):
        for number in range(step, 4):
            rows, seed = 8 + number, 10 * epoch + number
            made = everykind.labels(rows, 2, seed=seed)
            yield Batch(everykind.fields(rows, seed=seed), made.labels, made.seen, torch.arange(rows))

found = []
cases = ("mmoe", "imtl_g", At.EXPERTS), ("stem", "gradnorm", At.EXPERTS), ("ple", "cagrad", At.VIEWS), ("aitm", "mgda", At.EXPERTS)
for recipe, name, at in cases:
    ends = []
    for compiled in (False, True):
        torch._dynamo.reset()
        calls.clear()
        torch.manual_seed(0)
        model = everykind.build(recipe, None, everykind.sizes(gate=(4,)))
        balance = Balance(lambda tasks: balancer(name, tasks), at)
        counts = []
        epochs = []
        for one in fit(model, Rows(), plan=plain(compiled=compiled, balance=balance), judge=lambda _: 0.5):
            epochs.append(one)
            counts.append(len(calls))
        numbers = torch.cat([one.detach().flatten() for one in model.parameters()]).tolist()
        ends.append([numbers, [one.losses for one in epochs], [one.weights for one in epochs], counts])
    found.append(ends)
print(json.dumps(found))
"""
RESUMED = SHOW + """
folder, plan, stopped = Path(mkdtemp()), plain(compiled=True, pause=0.0), []
running = fit(toy(), Batches(), plan=plan, judge=lambda _: 0.5)
for _ in range(2):
    checkpoint.save(next(running).state, folder / "checkpoint")
calls.clear()
torch._dynamo.reset()  # as in another process
history = trained(toy(), Batches(), folder, plan=plan, judge=lambda _: 0.5, watch=Silence())
print(json.dumps([list(history), [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]]))
"""
BROKEN = SHOW + """
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

def broken(error, graph, inputs):
    raise error

said = []
for error in (InvalidCxxCompiler(), CppCompileError(["g++", "x"], "no such\\nheader"), PermissionError(13, "Permission denied: ''")):
    torch._dynamo.reset()
    torch.compile = partial(compiler, backend=partial(broken, error))
    model = toy()
    before = model.table.detach().clone()
    try:
        next(fit(model, Batches(), plan=plain(compiled=True), judge=lambda _: 0.5))
    except UserError as told:
        said.append(str(told))
    assert torch.equal(model.table, before)
torch.compile = partial(compiler, backend=backend)
torch._dynamo.reset()

def wrong(rows, fields):
    raise ZeroDivisionError("of the model itself")

model = toy()
model.score = wrong
try:
    next(fit(model, Batches(), plan=plain(compiled=True), judge=lambda _: 0.5))
except ZeroDivisionError as told:
    said.append(str(told))
print(json.dumps(said))
"""


def shown(script: str) -> list[list[object]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_compiling_is_told_apart_and_changes_no_number() -> None:
    """To the same bytes as without, dropout included; its seconds are in the first epoch, and in no epoch's own."""
    plain, compiled, exact, both = shown(SAME)
    for one, other in ((plain, compiled), (exact, both)):
        assert one[0] == other[0]
        assert one[3] == other[3]
        assert one[1] == [0.0, 0.0]
        assert other[1] == [1000.0, 0.0]
        assert one[2] == other[2] == [0.0, 0.0]
    assert plain[0] != exact[0]


def test_a_compiled_step_is_balanced_as_a_plain_one() -> None:
    """To rounding: the balancer hears what the programs hand over, and compiling is no step of its own to it."""
    for plain, compiled in cast("list[tuple[list[Any], list[Any]]]", shown(BALANCED)):
        for one, other in zip(plain[:3], compiled[:3], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert any(weight != 1 for epoch in compiled[2] for weight in epoch)
        assert compiled[3][0] == compiled[3][1] > 1
        assert plain[3] == [0, 0]


def test_every_process_that_goes_on_compiles_again_and_the_log_has_the_sum() -> None:
    history, lines = shown(RESUMED)
    assert history == lines
    assert isinstance(lines[0], dict)
    assert [line.get("compile_seconds") for line in lines] == [2000.0, None]  # type: ignore[attr-defined]


def test_a_model_that_cannot_be_compiled_is_one_line() -> None:
    said = [str(one) for one in shown(BROKEN)]
    assert len(said) == 4
    for line, cause in zip(said, ("compiler", "C++ compile error", "Permission denied"), strict=False):
        assert line.startswith("fit.compiled: torch cannot compile this model here (")
        assert "raised:" not in line
        assert cause.lower() in line.lower()
        assert line.endswith("; install a C++ compiler (g++, or the one that CXX names), or leave fit.compiled out")
        assert "\n" not in line
    assert said[3] == "of the model itself"
