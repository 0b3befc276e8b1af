"""The verbs of the service and of fusion as a shell meets them: what their help lists, and the exit code of each wrong command line."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from umbel.cli import main
from umbel.serve.http.keys import read_keys

Run = Callable[..., tuple[int, str, str]]
HELP = {
    "serve": ["BUNDLE", "--port", "--store", "--workers", "--keys", "--set", "umbel.db", "8080", "penalty", "at_once", "logged"],
    "key": ["FILE", "NAME", "--scope", "read, write or admin", "printed once"],
    "collect": ["STORE", "-o", "--rules", "--pseudonyms", "an interrupted collection goes on"],
    "erase": ["USER", "--store", "--before", "90d", "no byte is left"],
    "promote": ["CANDIDATE STABLE", "LOG", "--bound", "--join", "-o", "worse=0.002", "waived=TASK,TASK", "Exit code 0: yes, 3: no"],
    "monitor": ["BUNDLE", "LOG", "--join", "--all", "-o", "Exit code 0: quiet, 3"],
    "fuse": ["BUNDLE LOG", "-o", "--primary", "--bound", "--set", "TASK=FIGURE", "trials", "cma, tpe", "top, ndcg, auc", "99%"],
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """What `umbel WORDS` ends with and says, plain and on one line."""
    monkeypatch.setenv("COLUMNS", "200")

    def called(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, plain(said.out), plain(said.err)

    return called


def plain(text: str) -> str:
    """Text without colours, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[\d;]*m|[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize(("verb", "word"), [(verb, word) for verb, words in HELP.items() for word in words])
def test_the_help_of_a_verb_lists_what_it_takes(run: Run, verb: str, word: str) -> None:
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "")
    assert word.lower() in out.lower()


@pytest.mark.parametrize("verb", sorted(HELP))
def test_every_verb_is_in_the_help_of_all(run: Run, verb: str) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert f" {verb} " in out
    assert run()[:2] == (0, out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("serve", "Missing argument 'bundle'"),
        ("serve b --port 70000", "'--port': Input should be less than or equal to 65535"),
        ("serve b --port -1", "'--port': Input should be greater than or equal to 0"),
        ("serve b --port http", "'--port': Input should be a valid integer"),
        ("serve b --workers 0", "'--workers': Input should be greater than or equal to 1"),
        ("serve b --prot 80", "No such option: --prot"),
        ("serve b --set", "--set"),
        ("key", "Missing argument 'file'"),
        ("key keys.json", "Missing argument 'name'"),
        ("key keys.json me", "Missing option '--scope'"),
        ("key keys.json me --scope raed", "--scope raed: no such scope; did you mean 'read'?"),
        ("key keys.json me --scope read --scope root", "--scope root: no such scope"),
        ("collect", "Missing argument 'STORE'"),
        ("collect umbel.db", "Missing option '-o'"),
        ("collect umbel.db -o log.parquet", "umbel.db: no such store; name the file that `umbel serve` made"),
        ("collect umbel.db -o log.csv", "umbel: log.csv: rows are written as .parquet; name for example log.parquet"),
        ("collect umbel.db -o log.parquet --choices c.json", "umbel: c.json: rows are written as .parquet; name for example c.parquet"),
        ("collect mysql://x/y -o log.parquet", "mysql: no such store; name a file, or a postgresql:// URL"),
        ("collect umbel.db -o log.parquet --pseudonyms none.key", "none.key: not readable (No such file or directory)"),
        ("collect umbel.db -o log.parquet --pseudonyms short.key", "short.key: 5 bytes are no key; give 16 random bytes or more"),
        ("erase", "Missing option '--store'"),
        ("erase u1", "Missing option '--store'"),
        ("erase --store umbel.db", "erase: name a user, or --before a moment; e.g. umbel erase u17 --store umbel.db"),
        ("erase u1 --before 90d --store umbel.db", "erase: name a user, or --before a moment"),
        ("erase u1 --store umbel.db", "umbel.db: no such store"),
        ("erase --before 90d --store umbel.db", "umbel.db: no such store"),
        ("erase u1 u2 --store umbel.db", "u2"),
        ("promote", "Missing argument 'CANDIDATE STABLE'"),
        ("promote a b log.csv --bound wrose=1", "--bound wrose=1: no such bound; did you mean 'worse'?"),
        ("promote a b log.csv --bound worse", "--bound worse: no such bound"),
        ("promote a b log.csv --bound worse=little", "--bound worse: "),
        ("promote a b log.csv --bound calibration=0.9", "--bound calibration: "),
        ("promote a b log.csv", "umbel: a: not a bundle (no manifest.json)"),
        ("monitor", "Missing argument 'bundle'"),
        ("monitor b", "Missing argument 'log'"),
        ("monitor b log.csv --every", "No such option: --every"),
        ("monitor b log.csv", "umbel: b: not a bundle (no manifest.json)"),
        ("fuse", "Missing argument 'BUNDLE LOG'"),
        ("fuse b log.csv", "Missing option '-o'"),
        ("fuse b log.csv -o p.json --set trails=3", "'trails'"),
        ("fuse b log.csv -o p.json --set trials=0", "trials = 0; give 1 or more"),
        ("fuse b log.csv -o p.json --set trials=many", "trials"),
        ("fuse b log.csv -o p.json --set top=0", "top = 0; give 1 or more"),
        ("fuse b log.csv -o p.json --set seed=-1", "seed = -1; give 0 or more"),
        ("fuse b log.csv -o p.json --set method=cna", "method 'cna': unknown; did you mean 'cma'?"),
        ("fuse b log.csv -o p.json --set metric=tpo", "metric 'tpo': unknown; did you mean 'top'?"),
        ("fuse b log.csv -o p.json --bound click", "umbel: --bound click: not TASK=FIGURE; write like=0.02"),
        ("fuse b log.csv -o p.json --bound click=high", "high"),
        ("fuse b log.csv -o p.json", "umbel: b: not a bundle (no manifest.json)"),
        ("sevre b", "no verb 'sevre'; did you mean 'serve'?"),
    ],
)
def test_what_is_told_wrong_ends_with_two_and_leaves_nothing(
    run: Run, words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.key").write_bytes(b"short")
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("umbel: ")
    assert "Traceback" not in err
    assert [one.name for one in tmp_path.iterdir()] == ["short.key"]


@pytest.mark.parametrize("scopes", [["read"], ["write"], ["admin"], ["read", "write"], ["admin", "read", "write"]])
def test_a_key_is_printed_once_and_only_its_hash_is_kept(run: Run, tmp_path: Path, scopes: list[str]) -> None:
    path = tmp_path / "keys.json"
    code, printed, err = run("key", str(path), "me", *(word for one in scopes for word in ("--scope", one)))
    assert (code, err) == (0, "")
    assert printed not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = read_keys(path).keys
    assert (kept.name, sorted(one.value for one in kept.scopes)) == ("me", scopes)


def test_a_second_key_of_a_name_takes_the_place_of_the_first(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for name, scope in (("me", "read"), ("you", "admin"), ("me", "write")):
        assert run("key", str(path), name, "--scope", scope)[0] == 0
    assert [(one.name, [scope.value for scope in one.scopes]) for one in read_keys(path).keys] == [("you", ["admin"]), ("me", ["write"])]
