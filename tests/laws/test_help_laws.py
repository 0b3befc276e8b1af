"""What help shows is what was written: no bracket is taken for markup, in no verb."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer

from umbel import cli
from umbel.cli import main

VERBS = sorted(typer.main.get_group(cli.app).commands)
BRACKETS = re.compile(r"\[[^\[\]]*[^\[\]\s][^\[\]]*\]")


def written(verb: str) -> Iterator[str]:
    """What a verb says of itself and of each of its words."""
    command = typer.main.get_group(cli.app).commands[verb]
    yield command.help or ""
    yield from (getattr(one, "help", None) or "" for one in command.params)


def brackets(texts: Iterator[str]) -> list[str]:
    """All that stands in brackets, without the strokes that keep it from being markup."""
    return [found for text in texts for found in BRACKETS.findall(text.replace("\\[", "["))]


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    return " ".join(re.sub(r"\x1b\[[\d;]*m|[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


@pytest.mark.parametrize("verb", VERBS)
def test_no_bracket_of_a_help_is_lost(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    said = shown([verb, "--help"], capsys)
    for one in brackets(written(verb)):
        assert one in said, f"write \\\\[ for [ in the help of {verb}"
    assert "\\[" not in said


def test_the_law_looks_at_something() -> None:
    assert brackets(written("collect")) == ["[tasks.NAME]"]
    assert brackets(iter([r"a \[x.y] and [red]b[/red]"])) == ["[x.y]", "[red]", "[/red]"]


def test_no_verb_that_help_hides_is_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    hidden = [name for name, one in typer.main.get_group(cli.app).commands.items() if one.hidden]
    assert "trial" in hidden
    for name in hidden:
        with pytest.raises(SystemExit) as ended:
            main([f"{name}x"])
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert said.startswith(f"umbel: no verb '{name}x'; ")
        assert repr(name) not in said.partition("; ")[2]
