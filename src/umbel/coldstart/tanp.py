"""TaNP: a user's rows read as a set, and the model modulated by what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from umbel.coldstart.gradient import over
from umbel.coldstart.method import Method, Prepared, Setup
from umbel.errors import UserError
from umbel.learn.process import Process


@final
@dataclass(frozen=True, slots=True)
class Tanp(Method):
    """`tanp`: one pass and no inner gradient (https://arxiv.org/abs/2103.06137; equations in `umbel.learn.process`).

    Theirs draws z and pays for the distance of what support and all rows say of it, and modulates three layers of a decoder of its own;
    ours has no noise, and modulates what any recipe's first layer reads.
    """

    name: ClassVar[str] = "tanp"
    kinds: int = 10
    hidden: int = 32
    price: float = 0.1
    centred: bool = False

    def __post_init__(self) -> None:
        if min(self.kinds, self.hidden) < 1 or self.price < 0:
            raise UserError("tanp: kinds and hidden are at least 1, price at least 0", mend="raise them")

    def prepare(self, setup: Setup) -> Prepared:
        """The process over a new model."""
        model = setup.build(setup.schema)
        own = Process(model, kinds=self.kinds, hidden=self.hidden, price=self.price)
        return Prepared(setup.new_user(model, over(own, centred=self.centred)), setup.training, setup.reader.batch)
