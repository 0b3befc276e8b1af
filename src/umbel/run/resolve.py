"""From settings to the objects they name: source, schema, split, model, plan."""

from __future__ import annotations

import math
import platform
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.distributed import ProcessGroup

from umbel.balance.named import Setting, balancer
from umbel.bundle import Built
from umbel.chosen import choose
from umbel.data.source import Join, Source
from umbel.data.split import ByColumn, ByTime, ByUser, Split
from umbel.errors import UserError, nearest
from umbel.feedback import Feedback, duration
from umbel.kinds import TASK_KINDS, MultiClass
from umbel.learn.keep import KEEPS, Keep
from umbel.learn.optim import RowAdagrad, RowAdam
from umbel.learn.plan import MEAN, Plan
from umbel.learn.schedules import SCHEDULES
from umbel.learn.shards import Shards
from umbel.learn.taps import At
from umbel.learn.weigh import Balance
from umbel.nn.heads.chain import chains
from umbel.nn.interact import InteractSizes
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Sizes
from umbel.nn.sequence import SequenceSizes
from umbel.objectives import OBJECTIVES
from umbel.run.balancing import BalanceSection
from umbel.run.fields import FieldSection
from umbel.run.inputs import check_inputs
from umbel.run.settings import ColumnSplit, FitSection, Settings, TaskSection, TimeSplit
from umbel.run.sizing import check_size
from umbel.run.slicing import beside
from umbel.run.unread import check_read
from umbel.schema import NO_EDGES, Edges, Field, FieldKind, Schema, Task
from umbel.statistic import Statistic, check_time

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
ROWS = {"adam": RowAdam, "adagrad": RowAdagrad}
CHAINED = {"esmm", "escm2", "aitm"}  # recipes of a chain of tasks


def check(settings: Settings) -> None:
    """Find what is wrong with a run file by itself, before hours go into its log.

    :raises UserError: for a schema that contradicts itself, a recipe, paradigm or device that is not there, a recipe of a chain where
        there is none, an impossible slice, rows shared out in a training that needs all of them, an optimiser of rows
        where there is none, or a key that nothing in the run would read.
    """
    found = schema(settings)
    fit, new = settings.fit, settings.episodes is not None
    for key, asked in {"fit.exact": fit.exact, "fit.fresh": fit.fresh, "fit.start": fit.start is not None, "episodes": new}.items():
        if asked and fit.tables == "shards":
            raise UserError(f'fit.tables = "shards": {key} needs the whole table', mend="leave one of both out")
    how = plan(fit, balance(settings), keep(settings))
    if fit.exact and fit.rows != "adam":
        raise UserError(f"fit.rows = {fit.rows!r}: fit.exact trains tables by dense Adam", mend="leave one of both out")
    if fit.accumulate > 1 and new:
        raise UserError(f"fit.accumulate = {fit.accumulate}: a step of [episodes] is of one batch", mend="raise episodes.users instead")
    if fit.window and new:
        raise UserError(f"fit.window = {fit.window}: [episodes] holds the rows of all users", mend="leave it out")
    if 0 < fit.window < fit.batch:
        raise UserError(f"fit.window = {fit.window}: less than a batch", mend=f"say {fit.batch} rows (fit.batch) or more, best many")
    check_memory(settings, found, rows=dict.fromkeys(found.tables, 1), plan=how)
    built(settings, dict.fromkeys(found.tables, 1))(found)
    check_read(settings)
    if settings.model.recipe in CHAINED and settings.model.head is None and not chains(found):
        raise UserError(f"model.recipe: {settings.model.recipe!r}, but no yes-or-no task is given another",
                        mend="say it, e.g. given = 'click' under [tasks.buy], or use recipe 'alone' with views 'shared'")
    beside(found, settings.evaluate.slices)
    feedback(settings)


def check_memory(settings: Settings, schema: Schema, *, rows: dict[str, int], plan: Plan) -> None:
    """Refuse a model that this machine cannot train; :raises UserError: with the bytes it would take."""
    model, asked, judged = built(settings, rows), settings.model, sum(not task.auxiliary for task in schema.tasks)

    def build(dim: int) -> nn.Module:
        return replace(model, sizes=replace(model.sizes, dim=dim))(schema)

    step = math.lcm(asked.interact_sizes.heads, asked.sequence_sizes.heads)  # which divide the width
    check_size(build, plan, dim=asked.dim, step=step, rows=rows, kept=min(plan.epochs, plan.keep.holds(judged)))


def source(settings: Settings) -> Source:
    """Where the raw rows are."""
    data = settings.data
    joins = tuple(Join(join.table, join.on, time=join.time) for join in data.join)
    told = tuple(dict.fromkeys(beside(schema(settings), settings.evaluate.slices).values()))
    return Source(data.log, user=data.user, item=data.item, time=data.time, request=data.request, joins=joins, beside=told)


def schema(settings: Settings) -> Schema:
    """What the raw rows mean; :raises UserError: for a schema that contradicts itself, or an input that reads a label."""
    tasks = tuple(_task(name, one) for name, one in settings.tasks.items())
    meant = tuple(task.name for task in tasks if not isinstance(task.kind, MultiClass))
    found = Schema(tuple(_field(name, one, meant) for name, one in settings.fields.items()), tasks)
    check_inputs(found, {name: one.known for name, one in settings.tasks.items()})
    for field in found.fields:
        if field.statistic is not None:
            check_time(f"fields.{field.name}", field.statistic, settings.data.time)
            _check_window(settings, field.name, field.statistic)
    return found


def _check_window(settings: Settings, name: str, statistic: Statistic) -> None:
    """:raises UserError: where labels are known only after a while, and the run file does not say how long a row must not see them."""
    late = {task: rule for task in statistic.tasks if (rule := settings.tasks[task].feedback) is not None}
    if not late or settings.fields[name].window is not None or not statistic.timed(settings.data.time):
        return
    task = max(late, key=lambda one: duration(late[one].window))
    needs = duration(late[task].window)
    raise UserError(f"fields.{name}: no window, but labels of {task} are known {late[task].window} after the row (tasks.{task}.feedback)",
                    mend=f"give window = {needs} if {settings.data.time} holds milliseconds, {needs / 1000:g} if it holds seconds or dates")


def _field(name: str, section: FieldSection, tasks: tuple[str, ...]) -> Field:
    plain = section.model_dump(include={"column", "sql", "like", "target", "length", "width", "min_count", "bins"})
    return Field(name, FieldKind(section.kind), statistic=section.statistic(f"fields.{name}", tasks), **plain)


def _task(name: str, section: TaskSection) -> Task:
    kind = choose(f"tasks.{name}.kind", section.kind, TASK_KINDS)
    loss = choose(f"tasks.{name}.loss", section.loss, OBJECTIVES)
    return Task(name, kind, loss=loss, **section.model_dump(exclude={"kind", "loss", "known", "unwanted", "feedback"}))


def feedback(settings: Settings) -> Feedback | None:
    """The rules by which events of a service become labels; None where no task has one.

    The log that is made of them has the columns of this one: user, item, time (milliseconds since 1970, UTC), request and the labels.

    :raises UserError: for a rule that cannot be, or of a task whose label is an expression: what that reads is not in such a log.
    """
    told = {name: task for name, task in settings.tasks.items() if task.feedback is not None}
    for name, task in told.items():
        if task.sql is not None:
            raise UserError(f"tasks.{name}: both 'sql' and 'feedback', but events make a label, not what sql would read",
                            mend="have the label itself in a column of the log: label = \"...\"; values of events are in its unit")
    rules = tuple(task.feedback.rule(name, range=task.range) for name, task in told.items() if task.feedback is not None)
    ends = settings.data.model_dump(include={"user", "item", "time", "request"})
    labels = {name: task.label for name, task in told.items() if task.label is not None}
    columns = {name: column for name, column in ends.items() if column is not None}
    return settings.feedback.feedback(rules, columns=columns, labels=labels) if rules else None


def split(settings: Settings) -> Split:
    """Which rows train, validate and test."""
    one = settings.split
    if isinstance(one, TimeSplit):
        return ByTime(one.valid, one.test, zone=one.zone, column=one.column)
    if isinstance(one, ColumnSplit):
        return ByColumn(one.column, train=one.train, valid=one.valid, test=one.test)
    return ByUser(one.valid, one.test, seed=one.seed)


def built(settings: Settings, vocabulary: dict[str, int], *, edges: Edges = NO_EDGES) -> Built:
    """How the model is made, over vocabularies of these sizes, and bins with these edges."""
    model = settings.model
    names = {"recipe", "views", "interact", "sequence", "head"}
    return Built(
        **model.model_dump(include=names),
        sizes=Sizes(vocabulary, edges=dict(edges), **model.model_dump(exclude={*names, "interact_sizes", "sequence_sizes", "options"})),
        interact_sizes=InteractSizes(**model.interact_sizes.model_dump()),
        sequence_sizes=SequenceSizes(**model.sequence_sizes.model_dump()),
        options=model.options.model_dump(exclude_none=True),
    )


def balance(settings: Settings) -> Balance | None:
    """How the tasks are balanced; None where their losses are summed.

    :raises UserError: for a balancer that does not exist, a task or setting that it does not know, fewer tasks than it needs, or losses
        below 0 where it does not take them.
    """
    name, section = settings.fit.balancer, settings.balance
    if name is None:
        if section != BalanceSection():
            raise UserError("balance: there is no balancer to take it", mend="name one in [fit], e.g. balancer = 'static'")
        return None
    given = _weighing(section, list(settings.tasks))
    made = balancer(name, len(settings.tasks), given)
    below = next((key for key, task in settings.tasks.items() if choose(f"tasks.{key}.kind", task.kind, TASK_KINDS).form.density), None)
    if below is not None and not made.signed:
        raise UserError(f"fit.balancer: {name!r} reads how large losses are, and that of tasks.{below} can be below 0",
                        mend="choose 'static', or one that reads gradients, e.g. 'pcgrad'")
    return Balance(partial(balancer, name, settings=given), at=At(section.at), scalar=section.scalar)


def keep(settings: Settings) -> Keep:
    """The rule that picks the epoch to keep; :raises UserError: for one that does not exist, or a task that is not judged."""
    rule = choose("fit.keep", settings.fit.keep, KEEPS)
    judged = [name for name, task in settings.tasks.items() if not task.auxiliary]
    for name in rule.tasks:
        if name not in judged:
            raise UserError(f"fit.keep: no judged task {name!r}", mend=nearest(name, judged))
    return rule


def plan(fit: FitSection, balance: Balance | None = None, keep: Keep = MEAN, *, group: ProcessGroup | None = None) -> Plan:
    """How the model is trained; :raises UserError: for a device or a schedule that is not there, or what does not go together."""
    return Plan(
        epochs=fit.epochs,
        patience=fit.patience,
        keep=keep,
        rate=fit.rate,
        schedule=None if fit.schedule is None else choose("fit.schedule", fit.schedule, SCHEDULES),
        clip=fit.clip,
        l2=fit.l2,
        decay=fit.decay,
        fresh=fit.fresh,
        exact=fit.exact,
        rows=partial(ROWS[fit.rows]),
        denominator=Denominator(fit.denominator),
        device=_device(fit.device),
        precision=PRECISIONS[fit.precision],
        compiled=fit.compiled,
        accumulate=fit.accumulate,
        seed=fit.seed,
        pause=60 * fit.minutes,
        balance=balance,
        group=group,
        shards=Shards(group) if group is not None and fit.tables == "shards" else None,
    )


def emulated(fit: FitSection) -> bool:
    """Whether bfloat16 is asked of an x86 processor that has no products of it: there it takes many times as long as float32."""
    asked = PRECISIONS[fit.precision] is not None and _device(fit.device).type == "cpu"
    products = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return asked and platform.machine() in ("x86_64", "AMD64") and not products


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"fit.device: {name!r} is not here", mend="use 'cpu', or install a torch build for that device") from None
    return device


def _weighing(section: BalanceSection, tasks: list[str]) -> dict[str, Setting]:
    """What the balancer is given; a task without a weight weighs 1."""
    given: dict[str, Setting] = section.model_dump(exclude={"at", "scalar", "weights", "target"}, exclude_none=True)
    for key, names in (("weights", section.weights or ()), ("target", [section.target] if section.target else ())):
        for name in names:
            if name not in tasks:
                raise UserError(f"balance.{key}: no task {name!r}", mend=nearest(name, tasks))
    if section.weights is not None:
        given["weights"] = tuple(section.weights.get(task, 1.0) for task in tasks)
    if section.target is not None:
        given["target"] = tasks.index(section.target)
    return given
