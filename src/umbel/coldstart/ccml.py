"""CCML: a user adapts together with training users whose rows pull the model the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

from umbel.coldstart.attributes import Attributes
from umbel.coldstart.choice import Choice
from umbel.coldstart.collaboration import Collaboration, Joining, Judged
from umbel.coldstart.method import Method, Prepared, Setup
from umbel.coldstart.pool import Pool, described
from umbel.coldstart.sampling import Looks, Sampler
from umbel.data.episodes import user_field
from umbel.errors import UserError, nearest
from umbel.learn.adapt import Inner, Steps
from umbel.learn.encoding import TASTE, Encoding, Reads
from umbel.learn.graph import Between, Graph
from umbel.learn.joint import Enriched, Joint, Price
from umbel.learn.offset import SHRINK
from umbel.learn.rates import MakeRates, fixed, per_layer, per_weight
from umbel.learn.scope import EMBEDDING, LAST, scope
from umbel.nn.avae import AttentionVae, Widths
from umbel.nn.propagate import Propagation
from umbel.nn.recommender import Recommender
from umbel.schema import Field, FieldKind, Schema

PREDICTORS = ("mlp", "avae")
RATES = {"fixed": fixed, "per_layer": per_layer, "per_weight": per_weight}


@final
@dataclass(frozen=True, slots=True)
class Ccml(Method):
    """`ccml`: MAML whose inner loop descends the losses of a user and of similar, beneficial training users at once.

    Du et al., IEEE TKDE 37(12), 2025. Inner loop: `[L(S_u) + sum_w share_w L(S_w)] / (1 + sum_w share_w)`, `steps` times. Outer loss:
    the user's query, `eta` times the mean query loss of the collaborators, `gamma` times InfoNCE, `kl` times the divergence of z.

    The paper says: a user is a task; MAML; collaborators that are similar and a benefit, chosen adaptively; cross-task training
    in two levels; profiles enhanced. Its published code (of February 2024, which may differ from the paper's) says how: cosine of
    gradients, 20 of candidates with the same profile, 10 of those by ratings, weight .1 in the inner loss, light graph convolution
    over attributes, an attention-VAE. Ours are: a bank of gradients that is refreshed once an epoch, `warmup`, `gate`, shares
    normalised, the symmetric filter, the residual graph that works in evaluation, too, InfoNCE where it has a gradient, `eta`, and
    `test_collab`.

    | part | fields |
    |---|---|
    | inner loop | `scope`, `steps`, `rate`, `rates`, `second`, `clip`, `centred` |
    | who may collaborate | `pool` (0: all), `profile_exact` |
    | who is similar, who is a benefit | `similar`, `most`, `grad_scope`, `grad_target`, `sketch`, `filter`, `kept`, `gate` |
    | when | `warmup` (epochs of plain MAML), `refresh` (steps; None: once an epoch), `test_collab` |
    | how much | `share`, `temperature` (softmax of cosines; None: all alike), `normalise`, `eta`, `gamma`, `tau` |
    | graph | `graph`, `layers`, `residual`, `graph_items` (none: every item attribute of one value) |
    | predictor | `predictor` (`mlp`: the recipe as it is), `latent`, `kl`, `transductive`, `noisy` |

    `share = 0` or `kept = 0` is MAML with the same scope. Item bias comes with the reader's priors, a member's own with `centred`.
    """

    name: ClassVar[str] = "ccml"
    scope: str = "decision"
    steps: int = 3
    rate: float = 0.05
    rates: str = "fixed"
    second: bool = False
    clip: float = 10.0
    centred: bool = False
    pool: int = 128
    profile_exact: bool = False
    similar: str = "gradient"
    most: int = 20
    grad_scope: str = "all"
    grad_target: str = "support"
    sketch: int = 2048
    filter: str = "agree_minus_conflict"
    kept: int = 10
    gate: bool = True
    warmup: int = 1
    refresh: int | None = None
    test_collab: bool = False
    share: float = 0.1
    temperature: float | None = None
    normalise: bool = True
    eta: float = 0.0
    gamma: float = 0.0
    tau: float = 0.2
    graph: bool = True
    layers: int = 3
    residual: bool = True
    graph_items: tuple[str, ...] = ()
    predictor: str = "mlp"
    latent: int = 20
    kl: float = 0.001
    transductive: bool = False
    noisy: bool = False

    def __post_init__(self) -> None:
        choices = (("rates", self.rates, tuple(RATES)), ("predictor", self.predictor, PREDICTORS),
                   ("grad_scope", self.grad_scope, ("all", "last")), ("grad_target", self.grad_target, ("support", "query")))
        for what, one, among in choices:
            if one not in among:
                raise UserError(f"ccml.{what}: no {one!r}", mend=nearest(one, among))
        if min(self.steps, self.pool, self.sketch, self.warmup, self.layers) < 0 or (self.refresh is not None and self.refresh < 1):
            raise UserError("ccml: steps, pool, sketch, warmup and layers are at least 0, refresh at least 1", mend="raise them")
        choice, adapted = self._choice(0), scope(self.scope)
        if self.grad_scope == "all" and adapted == EMBEDDING and choice.helps:
            raise UserError(f"ccml.scope = {self.scope!r}: adapts no layer whose gradients would say who is similar",
                            mend="add grad_scope = 'last', or another scope")

    def prepare(self, setup: Setup) -> Prepared:
        """The learner, and batches in which collaborators stand beside each user."""
        table = setup.reader.table
        attributes = Attributes.of(table)
        model = setup.build(self._schema(setup.schema))
        own = setup.training.episodes(0)
        inner = Inner(scope(self.scope), steps=self.steps, second=self.second, clip=self.clip)
        make: MakeRates = RATES[self.rates](self.rate)
        price = Price(self.kl if self.predictor == "avae" else 0.0, self.gamma, self.tau)
        enriched = Enriched(self._graph(setup.schema, attributes), self._encoding(model, attributes, user_field(table)))
        joint = Joint(Steps(model, inner, rates=make), (len(own), self.kept), enriched=enriched, price=price,
                      shrink=SHRINK if self.centred else None)
        learner = setup.new_user(model, joint)
        known = described(table, own, attributes.users, query=True)
        pool = Pool(known, size=self.pool, exact=self.profile_exact, seed=setup.seed)
        sampler = Sampler(setup.reader, self._choice(setup.seed), self._looks(), known=(attributes, known, pool))
        joining = Joining(self.normalise, self.eta)
        batches = Collaboration(setup.training, learner, sampler, joining, self.warmup, self.refresh)
        judged = Judged(setup.training, learner, sampler, self.test_collab and sampler.choice.helps, joining)
        return Prepared(learner, batches, judged, lone=replace(judged, collaborate=False))

    def _choice(self, seed: int) -> Choice:
        return Choice(self.similar, self.most, self.filter, self.kept, self.gate, self.share, self.temperature, seed)

    def _looks(self) -> Looks:
        adapted = scope(self.scope)
        return Looks(LAST if self.grad_scope == "last" else adapted, self.sketch, self.grad_target == "query")

    def _schema(self, plain: Schema) -> Schema:
        """The table's, with a field for z where there is one."""
        if self.predictor != "avae":
            return plain
        return Schema((*plain.fields, Field(TASTE, FieldKind.VECTOR, width=self.latent)), plain.tasks)

    def _graph(self, schema: Schema, attributes: Attributes) -> Graph | None:
        items = self.graph_items or tuple(one for one in attributes.items if not schema.field(one).many)
        unknown = [one for one in items if one not in attributes.items]
        if unknown:
            raise UserError(f"ccml.graph_items: {unknown[0]!r} is no attribute of items", mend=nearest(unknown[0], attributes.items))
        if not (self.graph and self.layers and attributes.users and items):
            return None
        propagation, published = Propagation(self.layers, residual=self.residual), not self.residual
        return Graph(Between(attributes.users, items), propagation, whole=self.test_collab or published, only_training=published)

    def _encoding(self, model: Recommender, attributes: Attributes, user: str | None) -> Encoding | None:
        if self.predictor != "avae":
            return None
        names = [field.name for field in model.schema.fields]
        users = tuple(place for place, name in enumerate(names) if name in attributes.users)
        items = tuple(place for place, name in enumerate(names) if name not in (*attributes.users, user, TASTE))
        width = model.views.views * model.views.dim
        vae = AttentionVae(max(1, len(users) * width), len(items) * width, widths=Widths(latent=self.latent), scaled=not self.transductive)
        return Encoding(vae, Reads(users, items), transductive=self.transductive, noisy=self.noisy)


PUBLISHED = Ccml(
    steps=3, rate=5e-4, profile_exact=True, pool=0, filter="omega_published", gate=False, warmup=0, refresh=1, normalise=False,
    residual=False, predictor="avae", kl=0.0, transductive=True, noisy=True,
)
"""The choices of the code published with CCML, as far as they have an effect.

InfoNCE and its 100 negatives are left out (`gamma = 0`): there they touch embeddings only, in a loss whose gradient is taken for
other weights, so that their gradient is 0. So is the KL term: it is in the inner loss alone. Not reproduced: the rating filter's pairing
of sorted users with unsorted embeddings, the division of a smaller last batch by the full size, the ReLU at the output, the adaptation
of the encoder in the inner loop. SGD at .005 is the plan's affair; support 10 and query the rest is `FIRST_TEN`. The code takes
gradients anew at every step, as here.
"""
