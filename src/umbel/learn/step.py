"""One update of a model from a batch, or from several: over the rows they touch, or over everything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.held import Held, Whole
from umbel.learn.optim import DenseAdam
from umbel.learn.plan import Plan
from umbel.learn.processes import processes
from umbel.learn.seam import Model
from umbel.learn.tally import counted
from umbel.learn.weigh import Weigher


class Step(ABC):
    """Losses, gradients, L2, one joint clipping, Adam on the dense parameters; what becomes of the table is up to the kind of step."""

    def __init__(self, model: Model, plan: Plan) -> None:
        self.model = model
        self.plan = plan
        self.processes = processes(plan.group)
        self.held: Held = plan.shards or Whole(self.processes)
        self.optimizer = DenseAdam(model.dense_parameters(), lr=plan.rate, weight_decay=plan.decay, fused=True)
        self.score = torch.compile(model.score, dynamic=True) if plan.compiled else model.score  # the rows touched differ in number
        self.weigher: Weigher | None = None
        if plan.balance is not None:
            tasks = len(model.schema.tasks)
            self.weigher = Weigher(model, plan.balance, tasks=tasks, processes=self.processes, compiled=plan.compiled)

    def __call__(self, batch: Batch) -> Float[Tensor, "tasks"]:
        """Update the model from one batch; the losses before the update, on the device."""
        return self.take([batch])[0]

    @abstractmethod
    def take(self, batches: Sequence[Batch]) -> Float[Tensor, "batches tasks"]:
        """Update the model once from batches that are scored one after the other; their losses before the update, on the device.

        What is descended is each task's mean over the rows of all of them, where the loss of a batch is the mean over its own.
        """

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Take the gradients of a step and let go of them, so that what compiles the model has done so.

        :raises UserError: where it cannot be compiled.
        """
        from torch._dynamo.exc import TorchDynamoException  # slow to import, and of no use to others
        from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

        parts = [self.processes.part(batch) for batch in batches]
        rows = self._rows(parts)
        if not self.plan.exact:
            rows, _ = self.held.leaves(rows)
        remembered = {name: tensor.clone() for name, tensor in self.balance_state().items()}
        try:
            self._descend(batches, parts, rows)
        except (TorchDynamoException, CppCompileError, InvalidCxxCompiler) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            said = next((line for line in lines if line and not line.endswith("raised:")), type(error).__name__)  # who raised is no news
            mend = "install a C++ compiler (g++, or the one that CXX names), or leave fit.compiled out"
            raise UserError(f"fit.compiled: torch cannot compile this model here ({said})", mend=mend) from error
        self.optimizer.zero_grad()
        self.load_balance(remembered)

    def state(self) -> dict[str, Tensor]:
        """The dense optimiser's tensors, named by the number of their parameter."""
        states = [self.optimizer.state.get(parameter, {}) for parameter in self._trained()]
        return {f"{number}.{name}": tensor for number, state in enumerate(states) for name, tensor in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        trained = self._trained()
        for key, tensor in state.items():
            number, _, name = key.partition(".")
            parameter = trained[int(number)]
            self.optimizer.state[parameter][name] = tensor.to(parameter.device, copy=True)

    @abstractmethod
    def table_state(self) -> dict[str, Tensor]:
        """The row optimiser's tensors, by name."""

    @abstractmethod
    def load_table(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `table_state` gave."""

    @abstractmethod
    def forget_table(self) -> None:
        """Begin anew with the table's moments, for its numbers were drawn again."""

    def balance_state(self) -> dict[str, Tensor]:
        """The balancer's tensors, by name; none without one."""
        return self.weigher.state() if self.weigher else {}

    def load_balance(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `balance_state` gave."""
        if self.weigher:
            self.weigher.load(state)

    def weights(self) -> tuple[float, ...]:
        """The balancer's mean weights of the epoch so far; none without one."""
        return self.weigher.means if self.weigher else ()

    def turn(self) -> None:
        """An epoch is over."""
        if self.weigher:
            self.weigher.turn()

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _rows(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """The table, and the places in it of every part, one below the other."""
        if len(parts) == 1:
            return self.model.rows(parts[0].fields)
        return self.model.rows({name: torch.cat([part.fields[name] for part in parts]) for name in parts[0].fields})

    def _descend(self, batches: Sequence[Batch], parts: Sequence[Batch], rows: Mapping[str, Tensor]) -> Float[Tensor, "batches tasks"]:
        """Leave the gradients of the batches' losses on the leaves, where this process scores `parts`; dense ones are those of all."""
        self.optimizer.zero_grad()
        if len(batches) == 1:
            losses = [self._gradients(batches[0], parts[0].fields, rows, share=None)]
        else:
            places = rows["place"].split_with_sizes([len(part.labels) for part in parts])
            own = [{**rows, "place": place} for place in places]
            given = zip(batches, parts, own, self._shares(batches), strict=True)
            losses = [self._gradients(batch, part.fields, some, share=share) for batch, part, some, share in given]
        self.processes.mean(self.model.dense_parameters())
        return torch.stack(losses)

    def _shares(self, batches: Sequence[Batch]) -> Float[Tensor, "batches tasks"]:
        """What each batch's mean loss is of all batches': its share of the rows; the same for each where a task has none in any."""
        counts = torch.stack([counted(self.model.paid(batch), self.plan.denominator) for batch in batches]).float()
        every = counts.sum(dim=0)
        return torch.where(every > 0, counts / every.clamp(min=1), 1 / len(batches))

    def _gradients(
        self, batch: Batch, fields: Mapping[str, Tensor], rows: Mapping[str, Tensor], *, share: Float[Tensor, "tasks"] | None
    ) -> Float[Tensor, "tasks"]:
        """Add those of one batch, each task's loss times its share in the step's (1 where it is None)."""
        plan, model, table = self.plan, self.model, rows["table"]
        listening = self.weigher.taps if self.weigher else nullcontext()
        with listening, torch.autocast(table.device.type, dtype=plan.precision, enabled=plan.precision is not None):
            logits = self.score(rows, fields)
        losses = model.losses(self.processes.whole(logits.float(), len(batch.labels)), batch, denominator=plan.denominator)
        if self.weigher:
            self.weigher.backward(losses, {**dict(model.named_parameters()), "table": table}, share=share)
        else:
            torch.autograd.backward((losses if share is None else losses * share).sum())
        return losses.detach()

    def _bound(self, table: Tensor) -> None:
        """Add L2's part to the table's gradient, and clip all gradients together."""
        if table.grad is not None:
            table.grad.add_(table.detach(), alpha=self.plan.l2)
        dense = self.model.dense_parameters()
        norm = self.held.norm(_taken(dense), _taken([table]))
        nn.utils.clip_grads_with_norm_([*dense, table], self.plan.clip, norm)


@final
class Fast(Step):
    """The touched rows become a leaf of their own; each is updated once, whatever the size of the table.

    L2 counts the touched rows only: `(lambda / 2) * ||E_touched||^2`.
    """

    def __init__(self, model: Model, plan: Plan) -> None:
        super().__init__(model, plan)
        self.rows = plan.rows(model.table)

    def take(self, batches: Sequence[Batch]) -> Float[Tensor, "batches tasks"]:
        """Update the dense parameters, and the rows that any of the batches reads, once each."""
        parts = [self.processes.part(batch) for batch in batches]
        rows, touched = self.held.leaves(self._rows(parts))
        losses = self._descend(batches, parts, rows)
        ids, table = touched()
        self._bound(table)
        self.optimizer.step()
        if table.grad is not None:
            self.rows.step(ids, table.grad, rate=self._rate())
        return losses

    def table_state(self) -> dict[str, Tensor]:
        """The row optimiser's own."""
        return self.rows.state()

    def load_table(self, state: Mapping[str, Tensor]) -> None:
        """Hand it back to the row optimiser."""
        self.rows.load(state)

    def forget_table(self) -> None:
        """A row optimiser like the one before it, at its beginning."""
        self.rows = self.plan.rows(self.model.table)

    def _rate(self) -> float:
        """The row optimiser's rate, scaled as the schedule has scaled the dense one."""
        own = self.plan.rate if self.rows.rate is None else self.rows.rate
        return own * float(self.optimizer.param_groups[0]["lr"]) / self.plan.rate


@final
class Exact(Step):
    """Dense Adam over everything, with `(lambda / 2) * ||E||^2` over the whole table in every step: for parity with published numbers."""

    def __init__(self, model: Model, plan: Plan) -> None:
        super().__init__(model, plan)
        self.optimizer.add_param_group({"params": [model.table], "weight_decay": 0.0})

    def take(self, batches: Sequence[Batch]) -> Float[Tensor, "batches tasks"]:
        """Update everything."""
        parts = [self.processes.part(batch) for batch in batches]
        losses = self._descend(batches, parts, self._rows(parts))
        self.processes.mean([self.model.table])
        self._bound(self.model.table)
        self.optimizer.step()
        return losses

    def table_state(self) -> dict[str, Tensor]:
        """Nothing: the table's moments are the dense optimiser's."""
        return {}

    def load_table(self, state: Mapping[str, Tensor]) -> None:
        """Nothing: the table's moments are the dense optimiser's."""

    def forget_table(self) -> None:
        """The dense optimiser's moments of the table go."""
        self.optimizer.state.pop(self.model.table, None)


def _taken(leaves: Sequence[Tensor]) -> list[Tensor]:
    return [leaf.grad for leaf in leaves if leaf.grad is not None]
