"""What a user can get wrong: one line that says what, where and the mend, exit code 2, and earlier outputs untouched."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tests.journeys.conftest import Job, say
from umbel.data.batch import Batch
from umbel.data.table import Table
from umbel.learn.step import Fast

Spoil = Callable[[pl.DataFrame], pl.DataFrame]
VALID = int(datetime(2024, 1, 5, tzinfo=UTC).timestamp() * 1000)
TEST = int(datetime(2024, 1, 6, tzinfo=UTC).timestamp() * 1000)
LATE = pl.col("time_ms") >= TEST


def spoiled(run_file: Path, log: Path, spoil: Spoil, suffix: str = ".parquet") -> Path:
    """The run file over a spoiled copy of the log."""
    copy = run_file.parent / f"spoiled{suffix}"
    frame = spoil(pl.read_parquet(log))
    frame.write_parquet(copy) if suffix == ".parquet" else frame.write_csv(copy)
    run_file.write_text(run_file.read_text().replace(str(log), str(copy)))
    return copy


def unseen(label: str) -> Spoil:
    return lambda frame: frame.with_columns(pl.when(LATE).then(None).otherwise(pl.col(label)).alias(label))


def constant(label: str) -> Spoil:
    return lambda frame: frame.with_columns(pl.when(LATE).then(0).otherwise(pl.col(label)).alias(label))


def priced(where: pl.Expr, value: float) -> Spoil:
    return lambda frame: frame.with_columns(price=pl.when(where).then(value).otherwise(pl.col("price").cast(pl.Float64)))


def add_field(run_file: Path, line: str) -> None:
    run_file.write_text(run_file.read_text().replace("[tasks]", f"{line}\n[tasks]"))


SPOILS: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("unknown column", lambda frame: frame.rename({"device": "devise"}), ("fields.device", "'device'", "did you mean 'devise'?")),
    ("label outside its range", lambda frame: frame.with_columns(click=pl.col("click") * 2), ("tasks.click", "2")),
    ("one class", constant("like"), ("tasks.like", "test")),
    ("no seen label", unseen("like"), ("tasks.like", "test")),
    ("empty split", lambda frame: frame.filter(~LATE), ("test",)),
    ("no training rows", lambda frame: frame.filter(pl.col("time_ms") >= VALID), ("train",)),
    ("label contradicts given", lambda frame: frame.with_columns(buy=1 - pl.col("click")), ("tasks.buy", "click")),
    ("text for a label", lambda frame: frame.with_columns(click=pl.lit("yes")), ("tasks.click",)),
]


@pytest.mark.parametrize(("name", "spoil", "parts"), SPOILS, ids=[name for name, _, _ in SPOILS])
def test_a_spoiled_log(run_file: Path, log: Path, name: str, spoil: Spoil, parts: tuple[str, ...]) -> None:
    spoiled(run_file, log, spoil)
    said = say("train", run_file, "-o", run_file.parent / "run")
    assert said.code == 2, said.err
    for part in parts:
        assert part in said.line
    assert "; " in said.line  # what and where; then the mend
    assert not (run_file.parent / "run" / "table").exists()


def test_infinite_numbers(run_file: Path, log: Path) -> None:
    spoiled(run_file, log, priced(pl.int_range(pl.len()) == 7, np.inf))
    add_field(run_file, 'price = { kind = "number" }')
    said = say("train", run_file, "-o", run_file.parent / "run")
    assert said.code == 2
    assert "fields.price" in said.line
    assert "infinite" in said.line


def test_nan_numbers_are_missing(run_file: Path, log: Path) -> None:
    spoiled(run_file, log, priced(pl.int_range(pl.len()) % 7 == 0, np.nan))
    add_field(run_file, 'price = { kind = "number" }')
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.epochs=1")
    assert said.code == 0, said.err


def test_empty_sequences_are_fine(run_file: Path, log: Path) -> None:
    history = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.concat_list("item", "item")).otherwise(pl.lit([], dtype=pl.List(pl.Int64)))
    spoiled(run_file, log, lambda frame: frame.with_columns(history=history))
    add_field(run_file, 'history = { kind = "sequence", like = "item", target = "item", length = 3 }')
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.epochs=1")
    assert said.code == 0, said.err


def test_a_missing_log(run_file: Path, log: Path) -> None:
    run_file.write_text(run_file.read_text().replace(str(log), "nowhere.parquet"))
    said = say("train", run_file, "-o", run_file.parent / "run")
    assert said.code == 2
    assert "nowhere.parquet: no such file" in said.line


def test_a_corrupt_parquet(run_file: Path, log: Path) -> None:
    copy = spoiled(run_file, log, lambda frame: frame)
    copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    said = say("train", run_file, "-o", run_file.parent / "run")
    assert said.code == 2
    assert "spoiled.parquet" in said.line


def test_ragged_csv(run_file: Path, log: Path) -> None:
    copy = spoiled(run_file, log, lambda frame: frame, suffix=".csv")
    lines = copy.read_text().splitlines()
    lines[40] += ",1,2,3"
    copy.write_text("\n".join(lines))
    said = say("train", run_file, "-o", run_file.parent / "run")
    assert said.code == 2
    assert "spoiled.csv" in said.line


def test_csv_in_another_encoding(run_file: Path, log: Path) -> None:
    copy = spoiled(run_file, log, lambda frame: frame.with_columns(device=pl.lit("téléphone")), suffix=".csv")
    copy.write_bytes(copy.read_text().encode("latin-1"))
    said = say("train", run_file, "-o", run_file.parent / "run")
    assert said.code == 2
    assert "spoiled.csv" in said.line
    assert "UTF-8" in said.line


def test_a_csv_log_gives_the_same_table(run_file: Path, log: Path, job: Job) -> None:
    spoiled(run_file, log, lambda frame: frame, suffix=".csv")
    assert say("ingest", run_file, "-o", run_file.parent / "table").code == 0
    for name in ("int32.npy", "labels.npy", "group.npy"):
        assert (run_file.parent / "table" / name).read_bytes() == (job.run / "table" / name).read_bytes(), name


def test_a_mended_run_file_may_use_the_folder_of_the_failed_run(run_file: Path) -> None:
    wrong = say("train", run_file, "-o", run_file.parent / "run", "--set", "fields.device.column=devise")
    assert wrong.code == 2
    mended = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.epochs=1")
    assert mended.code == 0, mended.err


def test_an_unknown_recipe(run_file: Path) -> None:
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", "model.recipe=stemm")
    assert said.code == 2
    assert "model.recipe: no 'stemm'; did you mean 'stem'?" in said.line


@pytest.mark.parametrize(("change", "said_of_it"), [
    ("model.head=esm", "model.head: no 'esm'; did you mean 'esmm'?"),
    ("model.interact=dnc", "model.interact: no 'dnc'; did you mean 'dcn'?"),
    ("model.sequence=dinn", "model.sequence: no 'dinn'; did you mean 'din'?"),
    ("model.views=ownn", "model.views: no 'ownn'; did you mean 'own'?"),
    ("fit.balancer=pcgard", "fit.balancer: no 'pcgard'; did you mean 'pcgrad'?"),
    ("fit.keep=pareta", "fit.keep: no 'pareta'; did you mean 'pareto'?"),
    ("model.dim=0", "model.dim = 0; input should be greater than or equal to 1"),
    ("model.dim=-8", "model.dim = -8; input should be greater than or equal to 1"),
    ("model.expert=[16, 0]", "model.expert.1 = 0; input should be greater than or equal to 1"),
    ("model.tower=[-8]", "model.tower.0 = -8; input should be greater than or equal to 1"),
    ("model.dim=1000000000", "lower model.dim = 1000000000"),
])  # fmt: skip
@pytest.mark.parametrize("verb", ["train", "compare", "transfer"])
def test_names_and_widths_that_cannot_be(run_file: Path, verb: str, change: str, said_of_it: str) -> None:
    said = say(verb, run_file, "-o", run_file.parent / "run", "--set", change, "--set", "data.log=nowhere.parquet")
    assert said.code == 2
    assert said_of_it in said.line


@pytest.mark.parametrize(("changes", "said_of_it"), [
    (("model.interact=autoint", "model.interact_sizes.heads=3"), "model.interact_sizes.heads = 3 does not divide model.dim = 4; use"),
    (("model.sequence=sasrec", "model.sequence_sizes.heads=3", "fields.past={ kind = 'sequence', like = 'item', target = 'item' }"),
     "model.sequence_sizes.heads = 3 does not divide model.dim = 4; use one of 1, 2, 4"),
    (("fit.balancer=krum", "tasks={ click = {}, like = {} }"), "fit.balancer: 'krum' needs 3 tasks, there are 2; add tasks"),
    (("fit.balancer=krum", "tasks={ click = {} }"), "fit.balancer: 'krum' needs 3 tasks, there are 1; add tasks"),
])  # fmt: skip
def test_numbers_that_do_not_go_together(run_file: Path, changes: tuple[str, ...], said_of_it: str) -> None:
    sets = [word for change in (*changes, "data.log=nowhere.parquet") for word in ("--set", change)]
    said = say("train", run_file, "-o", run_file.parent / "run", *sets)
    assert said.code == 2
    assert said_of_it in said.line


def test_an_unknown_slice(run_file: Path) -> None:
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", 'evaluate.slices=["devise"]', "--set", "fit.epochs=1")
    assert said.code == 2
    assert said.line.startswith("umbel: evaluate.slices: no column 'devise' in ")
    assert "did you mean 'device'?" in said.line


def test_a_slice_that_a_table_was_not_told_to_keep_is_said_before_the_training(run_file: Path) -> None:
    folder = run_file.parent / "run"
    assert say("ingest", run_file, "-o", folder / "table").code == 0
    said = say("train", run_file, "-o", folder, "--set", 'evaluate.slices=["click"]')
    assert said.code == 2
    assert said.line.startswith(f"umbel: evaluate.slices: 'click' is not in {folder / 'table'}; ingest again, into another folder")
    assert not (folder / "checkpoint").exists()


def test_a_device_that_is_not_there(run_file: Path) -> None:
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.device=nowhere")
    assert said.code == 2
    assert "fit.device: 'nowhere' is not here" in said.line


@pytest.mark.parametrize("change", ["model.recipe=stemm", "model.views=owned", "fit.device=nowhere"])
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_what_the_run_file_alone_gets_wrong_is_said_before_the_log_is_read(run_file: Path, verb: str, change: str) -> None:
    said = say(verb, run_file, "-o", run_file.parent / "run", "--set", change, "--set", "data.log=nowhere.parquet")
    assert said.code == 2
    assert change.partition("=")[0] in said.line


def test_a_compared_recipe_that_does_not_exist_is_said_before_the_log_is_read(run_file: Path) -> None:
    said = say("compare", run_file, "-o", run_file.parent / "run", "--recipe", "stemm", "--set", "data.log=nowhere.parquet")
    assert said.code == 2
    assert "did you mean 'stem'?" in said.line


def test_a_loss_that_explodes(run_file: Path) -> None:
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.rate=1e30")
    assert said.code == 2
    assert "rate" in said.line
    made = (run_file.parent / "run" / "table" / "meta.json").stat().st_mtime_ns
    mended = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.epochs=1")
    assert mended.code == 0, mended.err
    assert (run_file.parent / "run" / "table" / "meta.json").stat().st_mtime_ns == made
    assert "epochs = 1" in (run_file.parent / "run" / "run.toml").read_text()
    other = say("train", run_file, "-o", run_file.parent / "run", "--set", "fields.device.min_count=9")
    assert "holds a run of other settings (fields.device.min_count" in other.line


def test_a_run_that_was_refused_after_its_table_is_mended_in_its_folder(run_file: Path) -> None:
    asked = ("train", run_file, "-o", run_file.parent / "run")
    assert say(*asked, "--set", "fit.rate=1e30").code == 2
    mended = say(*asked, "--set", "fit.epochs=1", "--set", "fields.device.min_count=9")
    assert mended.code == 0, mended.err
    table = (run_file.parent / "run" / "table" / "run.toml").read_text()
    assert "min_count = 9" in table


def test_a_label_that_no_loss_can_hold_is_named_with_its_row(run_file: Path, log: Path) -> None:
    price = pl.col("price").cast(pl.Float64)
    spoiled(run_file, log, lambda frame: frame.with_columns(spent=pl.when(pl.int_range(pl.len()) == 7).then(1e30).otherwise(price)))
    run_file.write_text(run_file.read_text().replace("[split]", "spent = { kind = 'regression' }\n[split]"))
    said = say("train", run_file, "-o", run_file.parent / "run", "--set", "fit.minutes=1e-9")
    assert said.code == 2
    assert "training: the loss of task 'spent' is not a finite number in epoch 1, step " in said.line
    assert "the label of 'spent' holds 1e+30 in row " in said.line
    assert said.line.endswith("clip such numbers with sql in [tasks.spent], or drop the rows")
    row = int(said.line.split(" in row ")[1].split()[0])
    assert Table.open(run_file.parent / "run" / "table").batch(np.array([row])).labels[0, 3] == pytest.approx(1e30)


def test_a_full_disk_leaves_the_earlier_table(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run_file.parent / "table"
    assert say("ingest", run_file, "-o", table).code == 0
    before = {path.name: path.read_bytes() for path in table.iterdir() if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    said = say("ingest", run_file, "-o", table)
    assert said.code == 2
    assert "the disk is full" in said.line
    assert {path.name: path.read_bytes() for path in table.iterdir() if path.is_file()} == before
    assert not [path for path in run_file.parent.iterdir() if "partial" in path.name]


def test_a_folder_that_is_no_table_is_not_overwritten(run_file: Path) -> None:
    letters = run_file.parent / "letters"
    letters.mkdir()
    (letters / "a.txt").write_text("dear")
    said = say("ingest", run_file, "-o", letters)
    assert said.code == 2
    assert [path.name for path in letters.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("trian",), "umbel: no verb 'trian'; did you mean 'train'?"),
        (("trail",), "umbel: no verb 'trail'; did you mean 'train'?"),
        (("zzz", "--debug"), "umbel: no verb 'zzz'; known: bench, collect, compare, demo, "),
        (("--trian",), "No such option: --trian"),
        (("train",), "Missing argument"),
        (("train", "none.toml", "-o", "x"), "none.toml: no such run file"),
        (("compare", "none.toml", "-o", "x", "--seeds", "0"), "seeds"),
        (("score", "nowhere", "log.parquet", "-o", "x.parquet"), "not a bundle"),
        (("bench", "nowhere"), "no benchmarks here"),
    ],
)
def test_a_wrong_command_line(words: tuple[str, ...], part: str) -> None:
    said = say(*words)
    assert said.code == 2
    assert part in said.line


def test_debug_adds_the_traceback() -> None:
    said = say("train", "none.toml", "-o", "x", "--debug")
    assert said.code == 2
    assert "Traceback" in said.err


def test_help_and_no_words() -> None:
    for words in ((), ("--help",), ("train", "--help")):
        said = say(*words)
        assert said.code == 0
        assert "Usage" in said.out


def test_memory_that_runs_out_is_one_line_and_leaves_the_last_checkpoint(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second epoch; where there is more of it, the same command goes on with that epoch."""
    step, taken = Fast.take, list[int]()

    def full(self: Fast, batches: Sequence[Batch]) -> torch.Tensor:
        taken.append(1)
        if len(taken) == 10:  # of eight an epoch
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")
        return step(self, batches)

    out = run_file.parent / "run"
    monkeypatch.setattr(Fast, "take", full)
    said = say("train", run_file, "-o", out)
    assert said.code == 2, said.err
    assert all(key in said.line for key in ("memory ran out", "checkpoint stays", "fit.batch", "model.dim", "fit.rows", "fit.tables"))
    monkeypatch.undo()
    checkpoints = sorted((out / "checkpoint").iterdir())
    again = say("train", run_file, "-o", out)
    assert again.code == 0, again.err
    assert checkpoints
    assert "epoch   1" not in again.err
    assert "epoch   2" in again.err


def test_rows_that_one_process_shares_out_are_told(run_file: Path, log: Path) -> None:
    run_file.write_text(run_file.read_text().replace(str(log), str(run_file.parent / "none.parquet")))
    shared, plain = (say("train", run_file, "-o", run_file.parent / name, "--set", f"fit.tables={name}") for name in ("shards", "replicas"))
    assert shared.code == plain.code == 2
    assert 'fit.tables = "shards": one process holds every row' in shared.err
    assert "one process" not in plain.err
