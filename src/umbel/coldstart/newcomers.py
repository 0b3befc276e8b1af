"""Methods that make a new user's embedding out of what is known: of nobody in particular, of traits, of a few rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

from umbel.coldstart.attributes import Attributes
from umbel.coldstart.gradient import over
from umbel.coldstart.method import Method, Prepared, Setup
from umbel.data.episodes import item_field, user_field
from umbel.errors import UserError
from umbel.learn.episode import Adapter, Untouched
from umbel.learn.newcomer import Generated, MeanUser, Spots, Warmed
from umbel.nn.recommender import Recommender


@final
@dataclass(frozen=True, slots=True)
class MeanEmbedding(Method):
    """`mean_embedding`: users are trained by id, and a new one has the mean of their embeddings; the support is not read.

    The mean of the support's items, which some papers take, lives in another space than users do in a model with fields.
    """

    name: ClassVar[str] = "mean_embedding"

    def prepare(self, setup: Setup) -> Prepared:
        """Training by id, the mean in evaluation."""
        return _made(setup, setup.build(setup.schema), MeanUser(spots(setup, self.name)), ids=1.0)


@final
@dataclass(frozen=True, slots=True)
class DropoutNet(Method):
    """`dropoutnet`: users are trained by id, but for a share `drop` of the episodes in which they are unknown, as new ones are.

    Volkovs et al. (NIPS 2017) reproduce the scores of a factorisation and drop its vectors; here labels are learned, and ids dropped.
    """

    name: ClassVar[str] = "dropoutnet"
    drop: float = 0.5
    centred: bool = False

    def __post_init__(self) -> None:
        _share("dropoutnet.drop", self.drop)

    def prepare(self, setup: Setup) -> Prepared:
        """Training by id for a share of the episodes."""
        spots(setup, self.name)
        return _made(setup, setup.build(setup.schema), over(Untouched(), centred=self.centred), ids=1.0 - self.drop)


@final
@dataclass(frozen=True, slots=True)
class MetaEmbedding(Method):
    """`meta_emb`: an embedding generated from the user's traits, good at once (`alpha`) and after one step on it (`1 - alpha`).

    Pan et al. (SIGIR 2019) generate items' embeddings over a model that was trained before and stays as it is; here both are
    trained together, and the generator reads the traits' embeddings through a small network.
    """

    name: ClassVar[str] = "meta_emb"
    alpha: float = 0.1
    rate: float = 0.05
    second: bool = True
    centred: bool = False

    def __post_init__(self) -> None:
        _share("meta_emb.alpha", self.alpha)

    def prepare(self, setup: Setup) -> Prepared:
        """The generator over a new model."""
        model = setup.build(setup.schema)
        own = Generated(model, spots(setup, self.name), rate=self.rate, share=self.alpha, second=self.second)
        return _made(setup, model, over(own, centred=self.centred))


@final
@dataclass(frozen=True, slots=True)
class MetaWarmUp(Method):
    """`mwuf`: the unknown id's embedding, scaled by the user's traits and shifted by the mean of the support's items.

    Zhu et al. (SIGIR 2021) warm items up by their users over a model trained before, with a cold and a warm loss in turn; here users are
    warmed up by their items, and all is trained together by the loss of the query.
    """

    name: ClassVar[str] = "mwuf"
    centred: bool = False

    def prepare(self, setup: Setup) -> Prepared:
        """Both networks over a new model."""
        model = setup.build(setup.schema)
        return _made(setup, model, over(Warmed(model, spots(setup, self.name)), centred=self.centred))


def spots(setup: Setup, name: str) -> Spots:
    """Where the user's id, traits and the item's id stand; :raises UserError: if the model reads no id of the user."""
    table = setup.reader.table
    user = user_field(table)
    if user is None:
        raise UserError(f"{name}: no id field reads the log's user column", mend="give it one under [fields], or choose another method")
    names = [field.name for field in setup.schema.fields]
    return Spots(names.index(user), tuple(map(names.index, Attributes.of(table).users)), names.index(item_field(table)))


def _made(setup: Setup, model: Recommender, adapter: Adapter, *, ids: float | None = None) -> Prepared:
    training = setup.training if ids is None else replace(setup.training, ids=ids)
    return Prepared(setup.new_user(model, adapter), training, setup.reader.batch)


def _share(what: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"{what} = {value:g}", mend="give 0 or more, and less than 1")
