"""A store brought to the schema of this version of umbel, step by step; a newer one is refused."""

from __future__ import annotations

from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from umbel.errors import UserError

HERE = Path(__file__).parent
HEAD = "head"


def migrate(connection: Connection, *, where: str, steps: Path = HERE) -> None:
    """Run the steps that this store lacks, inside the caller's transaction; `steps` is the folder that holds `versions`.

    :raises UserError: if the store was made by a newer umbel.
    """
    script = ScriptDirectory(str(steps))
    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    if current is not None and current not in {step.revision for step in script.walk_revisions()}:
        raise UserError(f"{where}: its schema {current!r} is newer than this umbel", mend="upgrade umbel, or name another store")
    with Operations.context(context):
        for step in reversed(list(script.iterate_revisions(HEAD, current or "base"))):
            step.module.upgrade()
            context.stamp(script, step.revision)
