"""Methods that adapt by gradient steps from a start that was trained for it: MAML, MeLU, ANIL, Meta-SGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from umbel.coldstart.method import Method, Prepared, Setup
from umbel.learn.adapt import Inner, Steps
from umbel.learn.episode import Adapter, Untouched
from umbel.learn.offset import Centred
from umbel.learn.rates import MakeRates, fixed, per_weight
from umbel.learn.scope import ALL, DECISION, LAST


@final
@dataclass(frozen=True, slots=True)
class Unadapted(Method):
    """`base`: trained on the same episodes, never adapted; what every adaptation has to beat.

    `centred`, here and below, puts the user's offset under it (`umbel.learn.offset.Centred`).
    """

    name: ClassVar[str] = "base"
    centred: bool = False

    def prepare(self, setup: Setup) -> Prepared:
        """The model as it is."""
        learner = setup.new_user(setup.build(setup.schema), over(Untouched(), centred=self.centred))
        return Prepared(learner, setup.training, setup.reader.batch)


@final
@dataclass(frozen=True, slots=True)
class Maml(Method):
    """`maml`: everything is adapted, the embedding rows that a user's rows touch too (https://arxiv.org/abs/1703.03400)."""

    name: ClassVar[str] = "maml"
    steps: int = 1
    rate: float = 0.05
    second: bool = False
    centred: bool = False

    def prepare(self, setup: Setup) -> Prepared:
        """Steps over all parameters."""
        return stepped(setup, Inner(ALL, steps=self.steps, second=self.second), fixed(self.rate), centred=self.centred)


@final
@dataclass(frozen=True, slots=True)
class Melu(Method):
    """`melu`: the decision layers are adapted, embeddings only learned globally (https://arxiv.org/abs/1908.00413).

    MeLU's two ReLU layers of 64 and a linear output are recipe `shared_bottom`, `expert = [64, 64]`, `tower = []`. Its published
    inner rate is 5e-6, at which nothing is adapted to speak of.
    """

    name: ClassVar[str] = "melu"
    steps: int = 3
    rate: float = 0.05
    second: bool = False
    centred: bool = False

    def prepare(self, setup: Setup) -> Prepared:
        """Steps over experts, gates and towers."""
        return stepped(setup, Inner(DECISION, steps=self.steps, second=self.second), fixed(self.rate), centred=self.centred)


@final
@dataclass(frozen=True, slots=True)
class Anil(Method):
    """`anil`: the last layer alone is adapted (https://arxiv.org/abs/1909.09157)."""

    name: ClassVar[str] = "anil"
    steps: int = 3
    rate: float = 0.05
    second: bool = False
    centred: bool = False

    def prepare(self, setup: Setup) -> Prepared:
        """Steps over every tower's last layer."""
        return stepped(setup, Inner(LAST, steps=self.steps, second=self.second), fixed(self.rate), centred=self.centred)


@final
@dataclass(frozen=True, slots=True)
class MetaSgd(Method):
    """`meta_sgd`: the decision layers are adapted by one step, with a learned rate for each weight (https://arxiv.org/abs/1707.09835)."""

    name: ClassVar[str] = "meta_sgd"
    steps: int = 1
    rate: float = 0.05
    second: bool = True
    centred: bool = False

    def prepare(self, setup: Setup) -> Prepared:
        """Steps whose rates are trained."""
        return stepped(setup, Inner(DECISION, steps=self.steps, second=self.second), per_weight(self.rate), centred=self.centred)


def stepped(setup: Setup, inner: Inner, rates: MakeRates, *, centred: bool = False) -> Prepared:
    """A model, gradient steps, plain episodes."""
    model = setup.build(setup.schema)
    return Prepared(setup.new_user(model, over(Steps(model, inner, rates=rates), centred=centred)), setup.training, setup.reader.batch)


def over(adapter: Adapter, *, centred: bool) -> Adapter:
    """The adapter, on top of the user's offset if `centred`."""
    return Centred(adapter) if centred else adapter
