"""The house stands: imports run down the floors, and the figures of the source stay inside their bounds."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "umbel"
FILES = sorted(SOURCE.rglob("*.py"))
FLOORS = {
    "cores": 0, "machine": 0,
    "errors": 0, "lock": 0.3, "durable": 0.5, "manifest": 0.5, "expression": 0.5, "chosen": 0.5, "kinds": 0.5, "objectives": 0.8,
    "statistic": 0.8, "schema": 1, "fusion": 1, "feedback": 1,
    "data": 2, "nn": 2, "balance": 2,
    "recipes": 3, "learn": 3, "evaluate": 3, "retrieve": 3,
    "built": 3.9, "bundle": 4, "coldstart": 4,
    "run": 5,
    "study": 6, "fuse": 6,
    "serve": 7,
    "cli_away": 7.5, "cli_fuse": 7.5, "cli_serve": 7.5, "cli_tune": 7.5, "cli": 8, "__main__": 9,
}
RUN = 6  # lines that follow each other in two files: a copy
Function = ast.FunctionDef | ast.AsyncFunctionDef


def room(path: Path) -> str:
    part = path.relative_to(SOURCE).parts[0]
    return part.removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            yield from [name.name for name in node.names]


def functions(path: Path) -> Iterator[Function]:
    yield from (node for node in nodes(path) if isinstance(node, Function))


def parameters(function: Function) -> list[ast.arg]:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [one for one in every if one.arg not in ("self", "cls")]


def length(function: Function) -> int:
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def untyped(function: Function) -> list[str]:
    """Its parameters without a type, `*args` too."""
    starred = [function.args.vararg] if function.args.vararg else []
    return [one.arg for one in (*parameters(function), *starred) if one.annotation is None]


def code(path: Path) -> list[str]:
    """Its lines without indents, blank ones and comments."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def copied(files: Mapping[Path, list[str]], run: int) -> dict[Path, int]:
    """How many lines of each file stand in another one, too, among so many or more that follow each other there as well."""
    found: dict[tuple[str, ...], set[Path]] = {}
    for path, lines in files.items():
        for at in range(len(lines) - run + 1):
            found.setdefault(tuple(lines[at : at + run]), set()).add(path)
    counts = {}
    for path, lines in files.items():
        starts = [at for at in range(len(lines) - run + 1) if len(found[tuple(lines[at : at + run])]) > 1]
        counts[path] = len({line for at in starts for line in range(at, at + run)})
    return counts


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[int(share * (len(values) - 1))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_down(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("umbel."):
            other = name.split(".")[1]
            if other in FLOORS and other != own:
                assert FLOORS[other] < FLOORS[own], f"{path.name} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[other]})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_is_one_room(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 300, f"{path.name}: {len(lines)} lines"
    docstring = ast.get_docstring(tree(path))
    assert docstring, f"{path.name} opens with no sentence"
    assert not [line for line in lines if "TODO" in line or "FIXME" in line]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_are_small_and_typed(path: Path) -> None:
    for function in functions(path):
        where = f"{path.name}:{function.lineno} {function.name}"
        assert length(function) <= 50, f"{where}: {length(function)} lines"
        assert len(parameters(function)) <= 6, f"{where}: {len(parameters(function))} parameters"
        positional = [one for one in [*function.args.posonlyargs, *function.args.args] if one.arg not in ("self", "cls")]
        assert len(positional) <= 3, f"{where}: {len(positional)} parameters that need no keyword"
        assert function.args.kwarg is None, f"{where}: **kwargs"
        assert function.returns is not None, f"{where}: no return type"
        assert not untyped(function), f"{where}: {untyped(function)} without type"
        defaults = [*function.args.defaults, *(one for one in function.args.kw_defaults if one)]
        assert not any(isinstance(one, ast.List | ast.Dict | ast.Set) for one in defaults), f"{where}: a mutable default"


def test_figures() -> None:
    every = [function for path in FILES for function in functions(path)]
    lengths = [length(function) for function in every]
    assert percentile(lengths, 0.5) <= 8, f"median function: {percentile(lengths, 0.5)} lines"
    assert percentile([len(parameters(function)) for function in every], 0.9) <= 4
    assert percentile([len(path.read_text().splitlines()) for path in FILES], 0.5) <= 110


def test_string_keys_are_rare() -> None:
    subscripts = [node.slice for path in FILES for node in nodes(path) if isinstance(node, ast.Subscript)]
    keys = sum(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in subscripts)
    lines = sum(len([line for line in path.read_text().splitlines() if line.strip()]) for path in FILES)
    assert keys <= 10 * lines / 1000, f"{keys} string keys in {lines} lines"


def test_few_lines_are_copied() -> None:
    files = {path: code(path) for path in FILES}
    found, lines = copied(files, RUN), sum(map(len, files.values()))
    worst = sorted(found, key=lambda path: -found[path])[:4]
    said = ", ".join(f"{path.relative_to(SOURCE)} {found[path]}" for path in worst)
    assert sum(found.values()) <= 0.02 * lines, f"{sum(found.values())} of {lines} lines stand in another file, too: {said}"


def test_a_copy_is_found_where_it_is_as_long_as_a_run_and_in_another_file() -> None:
    one, other, third = map(Path, ("one", "other", "third"))
    files = {one: list("abcdefgh"), other: list("xbcdefy"), third: list("pqpqpqpq")}
    assert copied(files, 5) == {one: 5, other: 5, third: 0}, "b to f stand in both; what is twice in a file of its own is not counted"
    assert copied(files, 6) == {one: 0, other: 0, third: 0}
    assert copied(files, 4) == {one: 5, other: 5, third: 0}, "a line of two runs counts once"
    assert copied({one: list("abc")}, 6) == {one: 0}


def test_parameters_of_any_kind_are_asked_for_their_type() -> None:
    (bare, typed, mine) = ast.parse("def f(a, /, b, *c, d): ...\ndef g(a: int, /, *b: int, c: int): ...\ndef h(self, *, cls): ...").body
    assert isinstance(bare, Function)
    assert isinstance(typed, Function)
    assert isinstance(mine, Function)
    assert [untyped(bare), untyped(typed), untyped(mine)] == [["a", "b", "d", "c"], [], []]


def test_no_import_circle() -> None:
    edges = {module(path): set(targets(path)) for path in FILES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"circle: {' -> '.join([*above, name])}"
        if name in done:
            return
        for other in edges.get(name, set()):
            visit(other, (*above, name))
        done.add(name)

    for name in edges:
        visit(name, ())


def module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> frozenset[str]:
    return frozenset(map(module, FILES))


def targets(path: Path) -> Iterator[str]:
    for name in imports(path):
        for candidate in (name, name.rpartition(".")[0]):
            if candidate in modules() and candidate not in (module(path), "umbel"):
                yield candidate
                break


def test_tests_outweigh_the_source() -> None:
    source = sum(len(path.read_text().splitlines()) for path in FILES)
    tests = sum(len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py"))
    assert tests >= 1.5 * source, f"{tests} test lines on {source} source lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_names_say_what_they_are(path: Path) -> None:
    for node in tree(path).body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
