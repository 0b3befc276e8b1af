"""Every store there is, for laws to find: SQLite files, and a PostgreSQL server of the tests' own where its programs are at hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

Open = Callable[[], str]  # the name of a new, empty store
USER = "postgres"         # whom the server runs as where we are root: it refuses root
URL = "UMBEL_TEST_POSTGRES"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where there are none."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in reversed(places) if (place / "pg_ctl").exists()), None)


def absent() -> str | None:
    """Why PostgreSQL cannot be tested here; None if it can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    if URL in os.environ or programs() is not None:
        return None
    return f"no PostgreSQL here: neither initdb and pg_ctl nor {URL}"


def run(words: list[str]) -> None:
    """Run one of PostgreSQL's programs, as another user where we are root."""
    other = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*other, *words], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


class Server:
    """A PostgreSQL server on a socket in a folder of its own."""

    def __init__(self, place: Path) -> None:
        found = programs()
        assert found is not None
        self.programs, self.folder, self.data = found, place, place / "data"
        place.chmod(0o777)
        user = USER if os.geteuid() == 0 else os.environ.get("USER", USER)
        self.base = f"postgresql://{user}@/postgres?host={place}"
        run([str(found / "initdb"), "-D", str(self.data), "-A", "trust", "-N", "-E", "UTF8", "--locale=C"])

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses= -c shared_buffers=16MB -c fsync=off -c full_page_writes=off"
        run([str(self.programs / "pg_ctl"), "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", options, "start"])

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        if not (self.data / "postmaster.pid").exists():
            return
        run([str(self.programs / "pg_ctl"), "-D", str(self.data), "-w", "-m", "immediate", "stop"])

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Its processes stand still while the block lasts: what they are sent is taken, and nothing comes back."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        told = [(int(one.parent.name), one.read_text().rpartition(")")[2].split()) for one in Path("/proc").glob("[0-9]*/stat")]
        every = [first, *(number for number, fields in told if int(fields[1]) == first)]
        for number in every:
            os.kill(number, signal.SIGSTOP)
        try:
            yield
        finally:
            for number in every:
                os.kill(number, signal.SIGCONT)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for a server: a socket's path must be short, and another user must reach it."""
    made = Path(tempfile.mkdtemp(prefix="umbel-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def server(place: Path) -> Iterator[Server]:
    """A running server while the block lasts."""
    made = Server(place)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def database(base: str) -> str:
    """A new, empty store of a server: a schema of its own, which is made far sooner than a database."""
    import psycopg

    name = f"umbel_{uuid.uuid4().hex}"
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return sa.make_url(base).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)


def sqlite(factory: pytest.TempPathFactory) -> Iterator[Open]:
    """New files."""
    place = factory.mktemp("sqlite")
    yield lambda: str(place / f"{uuid.uuid4().hex}.db")


def postgres(factory: pytest.TempPathFactory) -> Iterator[Open]:
    """New schemas of one server."""
    if why := absent():
        pytest.skip(why)
    if URL in os.environ:
        yield lambda: database(os.environ[URL])
        return
    with folder() as place, server(place) as made:
        yield lambda: database(made.base)


STORES = {"sqlite": sqlite, "postgres": postgres}
