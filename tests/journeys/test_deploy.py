"""The files of `deploy/`, as far as they can be tested without Docker or a systemd that runs: their words, paths, times and bounds."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Job, say
from tests.server import here
from umbel.serve.http import server
from umbel.serve.http.told import Told

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ANSWERING = 30  # seconds that uvicorn waits for what is being answered


def parts(name: str, instruction: str) -> list[str]:
    """What follows an instruction of a Dockerfile, each time it stands there; lines that go on are one."""
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(f"{instruction} ")]


def unit() -> dict[str, str]:
    """The settings of the systemd unit."""
    lines = (DEPLOY / "umbel.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def compose() -> Any:  # noqa: ANN401
    """What the compose file says."""
    yaml = pytest.importorskip("yaml", reason="no parser of YAML here")
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def commands() -> dict[str, list[str]]:
    """The words of `umbel` in each of the files."""
    return {
        "image": json.loads(parts("Dockerfile", "CMD")[-1]),
        "compose": compose()["services"]["umbel"]["command"],
        "systemd": shlex.split(unit()["ExecStart"])[1:],
    }


def told(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """What `umbel serve` would be told."""
    found: list[Told] = []
    monkeypatch.setattr(server, "run", lambda told, say: found.append(told))
    said = say(*words)
    assert (said.code, said.err) == (0, "")
    return found[0]


@pytest.mark.parametrize("where", ["image", "compose", "systemd"])
def test_commands_are_those_of_umbel(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = told(commands()[where], monkeypatch)
    assert (asked.port, asked.workers, asked.grace) == (8080, 1, 5.0)
    assert asked.keys, "whatever others reach takes keys"
    assert (asked.host == "0.0.0.0") == (where != "systemd")


def test_a_word_that_umbel_does_not_know_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "run", lambda told, say: None)
    assert "did you mean 'grace'?" in say(*commands()["image"][:-1], "grave=5").line


def test_whoever_ends_it_waits_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = told(commands()["systemd"], monkeypatch).grace + ANSWERING
    assert int(unit()["TimeoutStopSec"]) > longest
    assert int(compose()["services"]["umbel"]["stop_grace_period"].removesuffix("s")) > longest
    (text,) = re.findall(r"timeout_graceful_shutdown=(\d+)", Path(server.__file__).read_text())
    assert int(text) == ANSWERING


def test_what_is_copied_into_the_image_exists_and_is_not_ignored() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [word for line in parts("Dockerfile", "COPY") if "--from" not in line for word in line.split()[:-1]]
    assert {"src", "pyproject.toml", "constraints.txt"} <= set(copied)
    for word in copied:
        assert (ROOT / word).exists(), word
        assert f"!{word}" in ignored, word
    extras = re.findall(r"\.\[([\w,]+)\]", parts("Dockerfile", "RUN")[0])[0].split(",")
    text = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in text for extra in extras)


def test_the_image_is_not_root_and_asks_for_health() -> None:
    assert parts("Dockerfile", "USER") == ["umbel"]
    text = (DEPLOY / "Dockerfile").read_text()
    assert text.index("USER umbel") < text.index("ENTRYPOINT")


def test_the_images_health_is_that_of_the_service(job: Job, tmp_path: Path) -> None:
    words = json.loads(parts("Dockerfile", "HEALTHCHECK")[0].partition("CMD ")[2])
    with here(job.run / "bundle", tmp_path) as running:
        asked = [sys.executable, *(word.replace("http://127.0.0.1:8080", running.url) for word in words[1:])]
        assert subprocess.run(asked, capture_output=True).returncode == 0
    assert subprocess.run(asked, capture_output=True).returncode == 1


def test_compose_mounts_bundles_read_only_and_gives_nothing_away() -> None:
    file = compose()
    service, store = file["services"]["umbel"], file["services"]["store"]
    (volume,) = service["volumes"]
    assert volume.endswith(":/bundles:ro")
    assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in store
    assert set(service["secrets"]) <= set(file["secrets"])
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    for given in (service["environment"]["PGPASSWORD"], store["environment"]["POSTGRES_PASSWORD"]):
        assert given.startswith("${UMBEL_PASSWORD:?"), "a password in the file"


@pytest.mark.parametrize(("name", "value"), [
    ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("StateDirectory", "umbel"), ("Restart", "on-failure"),
    ("RestartPreventExitStatus", "2"), ("KillMode", "mixed"), ("CapabilityBoundingSet", ""), ("MemoryMax", "80%"),
])  # fmt: skip
def test_the_unit_is_hardened(name: str, value: str) -> None:
    assert unit()[name] == value


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """With a program of this machine in place of the one in /opt, which is not here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    made = tmp_path / "umbel.service"
    made.write_text((DEPLOY / "umbel.service").read_text().replace("/opt/umbel/bin/umbel", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(made)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
