"""What a folder holds, sealed and verified: every way in which a copy can go wrong is named by its file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from umbel.errors import UserError
from umbel.manifest import DIGITS, FORMAT, NAME, name_of, read_json, seal, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder with a file below another folder."""
    made = tmp_path / "bundle"
    (made / "encoder").mkdir(parents=True)
    (made / "weights").write_bytes(bytes(range(256)) * 40)
    (made / "encoder" / "words.txt").write_text("one two")
    (made / "report.json").write_text('{"a": 1}')
    seal(made)
    return made


def test_a_folder_as_it_was_sealed_is_verified(folder: Path) -> None:
    verify(folder)
    manifest = read_json(folder, NAME)
    assert manifest["format"] == FORMAT
    assert set(manifest["files"]) == {"weights", "encoder/words.txt", "report.json"}, "all but the manifest, by path"
    assert all(len(one) == 64 for one in manifest["files"].values())


def test_the_bundle_of_a_run_is_what_was_meant(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        verify(folder.parent)
    assert str(caught.value) == f"{folder.parent}: not a bundle (no {NAME}); did you mean {folder}?"
    with pytest.raises(UserError, match=r"not a bundle \(no manifest.json\); give a folder that `umbel train` left, such as RUN/bundle"):
        verify(folder.parent / "nowhere")


def shorten(folder: Path) -> None:
    (folder / "weights").write_bytes((folder / "weights").read_bytes()[:-1])


def flip(folder: Path) -> None:
    content = bytearray((folder / "weights").read_bytes())
    content[500] ^= 1
    (folder / "weights").write_bytes(bytes(content))


def lose(folder: Path) -> None:
    (folder / "encoder" / "words.txt").unlink()


def add(folder: Path) -> None:
    (folder / "encoder" / "more.txt").write_text("three")


def rename(folder: Path) -> None:
    (folder / "report.json").rename(folder / "report.JSON")


@pytest.mark.parametrize(("change", "said"), [
    (shorten, "weights: is truncated or changed"),
    (flip, "weights: is truncated or changed"),
    (lose, "encoder/words.txt: is missing"),
    (add, "encoder/more.txt: was not part of it"),
    (rename, "report.JSON: was not part of it"),
])
def test_a_change_is_named_by_its_file(folder: Path, change: Callable[[Path], None], said: str) -> None:
    change(folder)
    with pytest.raises(UserError) as caught:
        verify(folder)
    assert said in str(caught.value)
    assert "copy the bundle again" in str(caught.value)


def forbidden(monkeypatch: pytest.MonkeyPatch, name: str, place: Path) -> None:
    """One method of `Path` may not do its work at a place; a test may run as somebody who may read everything."""
    allowed: Callable[..., object] = getattr(Path, name)

    def asked(path: Path, *arguments: object, **named: object) -> object:
        if path == place:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return allowed(path, *arguments, **named)

    monkeypatch.setattr(Path, name, asked)


@pytest.mark.parametrize(("name", "place"), [
    ("read_bytes", "weights"), ("read_bytes", "encoder/words.txt"), ("iterdir", "encoder"), ("read_text", NAME), ("is_file", NAME),
])
def test_what_may_not_be_read_is_not_called_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str) -> None:
    forbidden(monkeypatch, name, folder / place)
    with pytest.raises(UserError) as caught:
        verify(folder)
    mend = f"let who runs this read all of it, for example: chmod -R a+rX {folder}"
    assert str(caught.value) == f"{folder / place}: may not be read; {mend}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_within_is_named(folder: Path) -> None:
    (folder / "encoder").chmod(0)
    with pytest.raises(UserError, match=r"encoder.*: may not be read"):
        verify(folder)


def test_a_manifest_that_was_written_over_is_found_out(folder: Path) -> None:
    """Whoever changes a file and its sum in the manifest has to change the sum of sums too."""
    flip(folder)
    manifest = read_json(folder, NAME)
    other = folder.parent / "other"
    other.mkdir()
    (other / "weights").write_bytes((folder / "weights").read_bytes())
    seal(other)
    manifest["files"]["weights"] = read_json(other, NAME)["files"]["weights"]
    (folder / NAME).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json: was changed"):
        verify(folder)


@pytest.mark.parametrize(("content", "said"), [
    ('{"format": 99, "files": {}}', "bundle format 99, not 1"),
    ("{}", "bundle format None"),
    ('{"format": 1, "files": []}', "bundle format 1"),
    ("[]", "not readable (no object)"),
    ("7", "not readable (no object)"),
    ("", "not readable"),
    ("\x00\x01", "not readable"),
])
def test_a_foreign_manifest_is_refused(folder: Path, content: str, said: str) -> None:
    (folder / NAME).write_text(content)
    with pytest.raises(UserError) as caught:
        verify(folder)
    assert said in str(caught.value)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a bundle \(no manifest\.json\)"):
        verify(tmp_path)


def test_the_name_is_that_of_the_content(folder: Path, tmp_path: Path) -> None:
    """Equal folders have one name wherever they lie; another byte is another name."""
    copy = tmp_path / "copy"
    (copy / "encoder").mkdir(parents=True)
    for name in ("weights", "encoder/words.txt", "report.json"):
        (copy / name).write_bytes((folder / name).read_bytes())
    seal(copy)
    assert name_of(copy) == name_of(folder)
    assert len(name_of(copy)) == DIGITS
    flip(copy)
    seal(copy)
    assert name_of(copy) != name_of(folder)


@pytest.mark.parametrize("name", ["none.json", "weights"])
def test_a_document_that_cannot_be_read_is_told(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="not readable"):
        read_json(folder, name)
