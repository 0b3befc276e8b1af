"""A training on disk, so that it survives being killed at any moment: safetensors and JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel import durable
from umbel.errors import UserError
from umbel.learn.processes import every, is_first, told
from umbel.learn.shards import Shards
from umbel.learn.state import Progress, State

KEPT = 2  # the newest, and the one before it in case the newest does not read back
TENSORS, NUMBERS = "state.safetensors", "state.json"
PARTS = tuple(field.name for field in fields(State) if field.name != "progress")
BY_ROW = re.compile("weights/table|kept/[0-9]+/table|table/.*")
ALONE = Shards(None)


def save(state: State, folder: Path, *, shards: Shards = ALONE) -> None:
    """Write the next numbered checkpoint into `folder` and drop all but the one before it; of `shards` every process calls this.

    A checkpoint is a folder of its own: each process's rows of the table and of its moments in a file (`rows-0-of-2.safetensors`), the
    other tensors, the numbers, and the SHA-256 of the files. It is filled and flushed to the disk under a temporary name, so that one
    with a number is whole.

    :raises UserError: if the disk is full or the place is not writable; older checkpoints stay.
    """
    rows, others = _parted(state)
    number = max(_numbers(folder), default=0) + 1
    with _made(_place(folder, number), shards) as made:
        with durable.disk(made):
            own = {name: _saved(rows, made / name) for name in _files(shards.world)[shards.rank : shards.rank + 1]}
        digests = {name: digest for one in shards.gathered(own) for name, digest in one.items()}
        if is_first(shards.group):
            with durable.disk(made):
                digests[TENSORS] = _saved(others, made / TENSORS)
            about = {"sha256": digests, "world": shards.world, "progress": asdict(state.progress)}
            (made / NUMBERS).write_text(json.dumps(about, indent=1))
    if is_first(shards.group):
        durable.sweep(folder)
        for other in _numbers(folder):
            if other <= number - KEPT:
                shutil.rmtree(_place(folder, other), ignore_errors=True)


def load(folder: Path, *, shards: Shards = ALONE, group: ProcessGroup | None = None) -> State | None:
    """The newest checkpoint that all processes of a group read back whole, however many wrote it; None where none was ever finished.

    Which there are the first process says: each of the others reads the one that the first reads, or none of them does. With `shards`
    (of that group) a process gets its own rows.

    :raises UserError: in all of them, when there are checkpoints, and none that all read back.
    """
    numbers = told(group, _numbers(folder))
    for number in reversed(numbers):
        about, state = _read(_place(folder, number), shards)
        same = about == told(group, about)
        if every(group, same and state is not None):
            return state
    if numbers and group is not None:
        what = f"{folder}: no checkpoint reads back whole, and the same, in all {group.size()} processes"
        raise UserError(what, mend="name a folder that all of them see, or delete it and train anew")
    if numbers:
        raise UserError(f"{folder}: no checkpoint reads back whole", mend="delete the folder and train anew")
    return None


@dataclass(frozen=True, slots=True)
class _About:
    """What is told of a checkpoint: where training stood, how many processes wrote it, and the SHA-256 of each file."""

    progress: Progress
    world: int
    sha256: Mapping[str, str]


def _read(place: Path, shards: Shards) -> tuple[_About | None, State | None]:
    """Nothing where something is missing, truncated or changed; with shards each process looks at the bytes of some of the files."""
    try:
        read = json.loads((place / NUMBERS).read_text())
        numbers = read["progress"]
        progress = Progress(**{**numbers, "scores": tuple(dict(scores) for scores in numbers["scores"])})
        about = _About(progress, int(read["world"]), dict(read["sha256"]))
        names = [TENSORS, *_files(about.world)]
        if any(_digest(place / name) != about.sha256[name] for name in names[shards.rank :: shards.world]):
            return None, None
        return about, _state(place, about, shards=shards)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None, None


def _state(place: Path, about: _About, *, shards: Shards) -> State:
    tensors = load_file(place / TENSORS) | _rows([place / name for name in _files(about.world)], shards)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    return State(about.progress, **parts)


def _parted(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of a row of the table each, and the others."""
    parts: dict[str, Mapping[str, Tensor]] = {part: getattr(state, part) for part in PARTS}
    flat = {f"{part}/{name}": tensor.contiguous() for part, tensors in parts.items() for name, tensor in tensors.items()}
    rows = {key: flat.pop(key) for key in list(flat) if BY_ROW.fullmatch(key) and flat[key].ndim}
    return rows, flat


def _rows(files: Sequence[Path], shards: Shards) -> dict[str, Tensor]:
    """A process's rows out of the files of others, which may have been more or fewer."""
    with ExitStack() as opened:
        found = [opened.enter_context(safe_open(file, "pt")) for file in files]
        return {key: shards.picked([one.get_slice(key) for one in found]) for key in found[0].keys()}  # noqa: SIM118


def _saved(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Its SHA-256, once it is on the disk."""
    save_file(dict(tensors), path)
    durable.sync(path)
    return _digest(path)


@contextmanager
def _made(place: Path, shards: Shards) -> Iterator[Path]:
    """The first process's temporary folder, in all of them."""
    if is_first(shards.group):
        with durable.folder(place) as made:
            told(shards.group, made)
            yield made
    else:
        yield told(shards.group, place)


def _files(world: int) -> list[str]:
    return [f"rows-{rank}-of-{world}.safetensors" for rank in range(world)]


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
