"""What a target statistic is: of which labels, by which columns, and which rows it may be made of."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.errors import UserError, nearest

TIME, FOLDS = "time", "folds"
REFUSED = ("leave_one_out", "leave-one-out", "loo")
MOST = 20  # folds; with more, a row's own fold is little but the row


@dataclass(frozen=True, slots=True)
class Statistic:
    """The smoothed means of `tasks` and the count of rows that share a row's values of `by`, both of training rows alone.

    With labels y seen in n rows of the same values, the mean m of all rows and the weight `prior` = a of that mean, a task's
    statistic is `logit((sum y + a m) / (n + a)) - logit(m)` if it is binary, else `(sum y - n m) / (n + a)`; the last number is
    `log(1 + rows)`. All are scaled by the training rows. Values that no training row has give 0, the mean itself.

    Which rows a training row sees is the `mode`. With `time` (the default where the log has a time column) it sees rows before its
    own time less `window`, in the unit of that column, or in seconds where it holds dates; a missing time is 0. With `folds` it
    sees the other folds, to which rows belong by a hash and `seed`. Validation, test and scored rows see all training rows.

    Daniele Micci-Barreca, SIGKDD Explorations 2001, https://doi.org/10.1145/507533.507538, has the smoothed mean;
    CatBoost (https://arxiv.org/abs/1706.09516) shows why a row must not see its own label, and takes a drawn order for time.

    Example
    -------
    >>> Statistic(("user", "author"), ("click", "like")).width
    3
    """

    by: tuple[str, ...]
    tasks: tuple[str, ...]
    prior: float = 20.0
    window: float = 0.0
    mode: str | None = None
    folds: int = 5
    seed: int = 0

    @property
    def width(self) -> int:
        """Numbers a row: one a task, and the count."""
        return len(self.tasks) + 1

    def timed(self, time: str | None) -> bool:
        """Whether training rows see what was before them, in a log with that time column."""
        return time is not None and self.mode != FOLDS


def check_statistic(where: str, statistic: Statistic) -> None:
    """:raises UserError: for no column or task, a name twice, a prior that is not above 0, a negative window, or a mode that leaks."""
    for key, names in (("by", statistic.by), ("tasks", statistic.tasks)):
        if not names:
            raise UserError(f"{where}: {key} names none", mend=f"give one or more, {key} = [...]")
        if len(set(names)) < len(names):
            raise UserError(f"{where}: {key} = {', '.join(names)} names one twice", mend="keep one")
    if not statistic.prior > 0:
        raise UserError(f"{where}: prior = {statistic.prior:g}", mend="give the rows that the mean of all weighs, above 0, such as 20")
    if not statistic.window >= 0:
        raise UserError(f"{where}: window = {statistic.window:g}", mend="give the delay of the label, at least 0")
    if statistic.mode in REFUSED or not 2 <= statistic.folds <= MOST:
        asked = f"mode = {statistic.mode!r}" if statistic.mode in REFUSED else f"folds = {statistic.folds}"
        why = "a mean that leaves out little but the row itself tells its label to a model that knows the id"
        raise UserError(f"{where}: {asked} leaks ({why})", mend=f"use mode = 'time', or 'folds' with 2 to {MOST} folds")
    if statistic.mode not in (None, TIME, FOLDS):
        raise UserError(f"{where}: no mode {statistic.mode!r}", mend=nearest(statistic.mode, (TIME, FOLDS)))
    if statistic.mode == FOLDS and statistic.window:
        raise UserError(f"{where}: window = {statistic.window:g} with folds", mend="drop it, or use mode = 'time'")


def check_time(where: str, statistic: Statistic, time: str | None) -> None:
    """:raises UserError: for what needs a time column, in a log that names none."""
    if time is None and (statistic.mode == TIME or statistic.window):
        asked = "mode = 'time'" if statistic.mode == TIME else f"window = {statistic.window:g}"
        raise UserError(f"{where}: {asked}, but [data] names no time column", mend="add time = 'COLUMN' under [data], or drop it")
