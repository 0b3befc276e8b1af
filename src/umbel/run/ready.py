"""What is wrong with `[episodes]`, found before hours go into a training: names, sizes, and whether the log has such users."""

from __future__ import annotations

from umbel.data.episodes import episodes
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.kinds import BINARY, REGRESSION
from umbel.run import resolve
from umbel.run.coldstart import Newcomers, method, section_of
from umbel.run.episodic import EpisodeSection
from umbel.run.settings import Settings
from umbel.run.slicing import check_slices
from umbel.schema import FieldKind, Schema

SCORED = (BINARY, REGRESSION)


def check(settings: Settings) -> None:
    """By the run file alone.

    :raises UserError: for a method that does not exist, sizes that do not go together, a log without users or items, groups that are no
        field of one value, a share of negatives, a loss of pairs or lists, or no task that an episode is scored by.
    """
    section, schema = section_of(settings), resolve.schema(settings)
    method(settings)
    section.protocol()
    _check_curve(section)
    _check_columns(settings, schema)
    check_slices(schema, section.groups, where="episodes.groups")
    if thinned := [task.name for task in schema.tasks if task.negatives < 1]:
        raise UserError(f"tasks.{thinned[0]}.negatives: episodes are trained on whole", mend="leave it out, or leave [episodes] out")
    if together := [task for task in schema.tasks if task.loss.together]:
        name, loss = together[0].name, together[0].loss.name
        raise UserError(f"tasks.{name}.loss: {loss!r} compares rows of a batch, and an episode is one user's",
                        mend="choose another loss, or leave [episodes] out")
    if not any(task.kind in SCORED for task in schema.judged):
        raise UserError("episodes: no task is a regression or an event", mend="add one that is judged; users are compared by those")


def check_users(settings: Settings, table: Table) -> None:
    """By the log: whether anyone trains, validates, and is shown at every size of the curve; and whether a bundle can hold the method.

    :raises UserError: where nobody has rows enough (of test users a report says so instead), for a method that trains nothing, or
        whose model reads more than a row's own fields.
    """
    section = section_of(settings)
    prepared = Newcomers.of(settings, table).prepared
    if prepared.batches is None:
        raise UserError("episodes.method: trains nothing", mend="compare it with others by umbel compare")
    if prepared.learner.model.schema != table.schema:
        raise UserError("episodes.method: reads more than a row's fields, which no bundle gives", mend="compare it by umbel compare")
    for part in ("train", "valid"):
        episodes(table, part, section.protocol())
    sizes = [shots for shots in section.curve if shots]
    if sizes:
        try:
            episodes(table, "valid", section.at(max(sizes)))
        except UserError as error:
            what = error.what.replace("episodes:", "episodes.curve:")
            mend = "lower the first of [episodes] curve_history, and shorten curve to less than that"
            raise UserError(what, mend=mend) from None


def _check_curve(section: EpisodeSection) -> None:
    few, many = section.curve_history
    if any(shots < 0 for shots in section.curve):
        raise UserError(f"episodes.curve: {min(section.curve)} support rows", mend="give numbers from 0 on")
    most = max(section.curve, default=0)
    if few <= most or few > many:
        what = f"episodes.curve: {most} support rows leave no query in a history of {few} to {many}"
        raise UserError(what, mend=f"let [episodes] curve_history begin at {most + 1} or more, or shorten curve")


def _check_columns(settings: Settings, schema: Schema) -> None:
    if section_of(settings).by_time and settings.data.time is None:
        raise UserError("episodes.by_time: [data] names no time column", mend="add time = 'COLUMN' under [data], or leave by_time out")
    if settings.data.user is None:
        raise UserError("episodes: [data] names no user column", mend="add user = 'COLUMN' under [data]")
    ids = [field.column or field.name for field in schema.fields if field.kind is FieldKind.ID and field.sql is None]
    if settings.data.item is None or settings.data.item not in ids:
        raise UserError("episodes: no id field reads the log's item column", mend="name it in [data] item, and give it an id field")
