"""Episodes that are enriched before the steps: a group's graph is the graph written out, an encoding is a member's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import rated
from torch import Tensor

from umbel.coldstart.ccml import Ccml
from umbel.coldstart.choice import Chosen
from umbel.coldstart.collaboration import Joining, Others, joined
from umbel.coldstart.method import Prepared
from umbel.coldstart.source import Reader
from umbel.data.batch import Batch
from umbel.data.episodes import Episodes, Protocol, episodes
from umbel.data.shots import LABELS, SUPPORT, WEIGHT, parted
from umbel.data.table import Table
from umbel.data.together import MEMBER
from umbel.learn.encoding import TASTE, Encoding
from umbel.learn.episode import Episode
from umbel.learn.graph import Graph
from umbel.learn.joint import Joint
from umbel.learn.members import Members
from umbel.learn.offset import Centred, offsets
from umbel.nn.propagate import RHO

GRAPH = Ccml(graph_items=("genres",), filter="none", layers=2)
CHOSEN = Chosen(torch.tensor([[1, 2], [0, -1], [5, 3]]), torch.tensor([[0.5, 0.5], [0.5, 0.0], [0.2, 0.4]]))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def own(table: Table) -> Episodes:
    return episodes(table, "train", Protocol(support=None, query=3, history=(7, 100)))


def made(table: Table, method: Ccml) -> Prepared:
    return method.prepare(rated.setup(table))


def joint(one: Prepared) -> Joint:
    assert isinstance(one.learner.adapter, Joint)
    return one.learner.adapter


def helped(table: Table, own: Episodes, *, users: int = 3) -> Batch:
    chosen = Chosen(CHOSEN.who[:users], CHOSEN.share[:users])
    return joined(Reader(table, rated.setup(table).reader.means), own.of(np.arange(users)), others=Others(chosen, own, Joining()))


def episode_of(one: Prepared, batch: Batch) -> Episode:
    return one.learner.episode(one.learner.rows(batch.fields), batch.fields)


def by_hand(one: Prepared, batch: Batch, user: int, *, member: int | None) -> dict[tuple[str, int], Tensor]:
    """The values of one group after two rounds, by dictionaries: the user's whole episode, or one member's rows."""
    support, _ = parted(batch.fields)
    links: Counter[tuple[tuple[str, int], tuple[str, int]]] = Counter()
    for row in range(support.weight.shape[1]):
        if support.weight[user, row] == 0 or (member is not None and int(support.fields[MEMBER][user, row]) != member):
            continue
        age = int(support.fields["age"][user, row])
        for genre in support.fields["genres"][user, row].tolist():
            if age > 0 and genre > 0:
                links[("age", age), ("genres", genre)] += 1
    start = {name: int(one.learner.model.places({**flat(batch)})[0, slot]) - int(flat(batch)[name].reshape(-1)[0])
             for name, slot in (("age", 2), ("genres", 3))}
    table = one.learner.model.table.detach()
    rounds: list[dict[tuple[str, int], Tensor]] = [{node: table[start[node[0]] + node[1]] for pair in links for node in pair}]
    degree: Counter[tuple[str, int]] = Counter()
    for (left, right), count in links.items():
        degree[left] += count
        degree[right] += count
    for _ in range(2):
        after = {node: torch.zeros_like(value) for node, value in rounds[0].items()}
        for (left, right), count in links.items():
            scale = count / (degree[left] * degree[right]) ** 0.5
            after[left] = after[left] + scale * rounds[-1][right]
            after[right] = after[right] + scale * rounds[-1][left]
        rounds.append(after)
    return {node: value + RHO * ((rounds[1][node] + rounds[2][node]) / 2 - value) for node, value in rounds[0].items()}


def flat(batch: Batch) -> dict[str, Tensor]:
    support, _ = parted(batch.fields)
    return {name: column.flatten(0, 1) for name, column in support.fields.items()}


@pytest.mark.parametrize("whole", [False, True], ids=["each alone", "the group"])
def test_the_graph_is_the_graph_written_out(table: Table, own: Episodes, *, whole: bool) -> None:
    one = made(table, replace(GRAPH, test_collab=whole))
    batch = helped(table, own)
    read = joint(one).read(one.learner.model, episode_of(one, batch)).episode
    support, _ = read.seen()
    place = [field.name for field in one.learner.schema.fields].index("age")
    marks = batch.fields[f"{SUPPORT}{MEMBER}"]
    checked = 0
    for user in range(3):
        for row in range(marks.shape[1]):
            if batch.fields[WEIGHT][user, row] == 0:
                continue
            member = None if whole else int(marks[user, row])
            expected = by_hand(one, batch, user, member=member)["age", int(batch.fields[f"{SUPPORT}age"][user, row])]
            torch.testing.assert_close(support[user, row, 0, place], expected, rtol=1e-5, atol=1e-6)
            checked += 1
    assert checked > 20


def test_a_users_query_is_seen_as_its_support_is(table: Table, own: Episodes) -> None:
    one = made(table, GRAPH)
    read = joint(one).read(one.learner.model, episode_of(one, helped(table, own))).episode
    support, query = read.seen()
    place = [field.name for field in one.learner.schema.fields].index("age")
    torch.testing.assert_close(query[:, 0, 0, place], support[:, 0, 0, place])


def test_values_that_nobody_knows_and_users_without_rows_stay_as_they_are(table: Table, own: Episodes) -> None:
    one = made(table, GRAPH)
    batch = helped(table, own)
    strange = {**batch.fields, f"{SUPPORT}age": torch.zeros_like(batch.fields[f"{SUPPORT}age"])}
    nothing = {**batch.fields, WEIGHT: torch.zeros_like(batch.fields[WEIGHT])}
    for fields in (strange, nothing):
        episode = episode_of(one, replace(batch, fields=fields))
        assert joint(one).read(one.learner.model, episode).episode is episode


def test_propagation_teaches_the_embeddings_of_all_values_of_the_group(table: Table, own: Episodes) -> None:
    """The genres that a user met get a gradient from what is seen of the user's age."""
    one = made(table, GRAPH)
    batch = helped(table, own, users=1)
    support, _ = joint(one).read(one.learner.model, episode_of(one, batch)).episode.seen()
    place = [field.name for field in one.learner.schema.fields].index("age")
    support[0, 0, 0, place].sum().backward()  # type: ignore[no-untyped-call]
    grad = one.learner.model.table.grad
    assert grad is not None
    touched = set(grad.any(1).nonzero().flatten().tolist())
    places = one.learner.model.places(flat(batch))
    mine = batch.fields[f"{SUPPORT}{MEMBER}"][0] == 0
    genres = set(places[mine][:, 3:6].flatten().tolist()) - {-1}
    assert genres <= touched
    assert int(places[0, 2]) in touched
    assert not touched & set(places[:, 1].tolist()), "no item"


def test_who_stands_where_in_a_batch_does_not_matter(table: Table, own: Episodes) -> None:
    """Groups are apart: others in the batch, or another order of them, leave a user's values as they are."""
    for whole in (False, True):
        one = made(table, replace(GRAPH, test_collab=whole))
        batch, lone = helped(table, own), helped(table, own, users=1)
        together, _ = joint(one).read(one.learner.model, episode_of(one, batch)).episode.seen()
        alone, _ = joint(one).read(one.learner.model, episode_of(one, lone)).episode.seen()
        torch.testing.assert_close(together[0][batch.fields[WEIGHT][0] > 0], alone[0][lone.fields[WEIGHT][0] > 0])


def test_members_are_counted_by_what_is_there(table: Table, own: Episodes) -> None:
    one = made(table, GRAPH)
    members = Members.of(episode_of(one, helped(table, own)))
    assert members.count == 3
    marks = members.marks(members.support)
    assert marks.shape[:2] == (3, 3)
    assert marks[1, 2].sum() == 0, "the second user has one collaborator"
    assert torch.equal(marks.sum(1) > 0, members.support >= 0)
    plain = rated.setup(table).reader.batch(own)
    alone = Members.of(episode_of(one, plain))
    assert alone.count == 1
    assert torch.equal(alone.support >= 0, plain.fields[WEIGHT] > 0)
    assert (alone.query == 0).all()


VAE = Ccml(predictor="avae", graph=False, filter="none")


def encoded(one: Prepared, batch: Batch) -> tuple[Tensor, Tensor]:
    """z at support and query rows."""
    read = joint(one).read(one.learner.eval().model, episode_of(one, batch)).episode
    return read.support.fields[TASTE], read.query[TASTE].view(len(read.support.labels), -1, 20)


def test_each_members_rows_have_its_own_encoding(table: Table, own: Episodes) -> None:
    """That of a collaborator is what it has as a user of its own."""
    one = made(table, VAE)
    support, query = encoded(one, helped(table, own))
    plain = joined(rated.setup(table).reader, own)
    alone, _ = encoded(one, plain)
    marks = helped(table, own).fields[f"{SUPPORT}{MEMBER}"]
    for user, others in enumerate(CHOSEN.who.tolist()):
        for member, who in enumerate([user, *others]):
            rows = (marks[user] == member).nonzero().flatten().tolist()
            if who >= 0:
                for row in rows:
                    torch.testing.assert_close(support[user, row], alone[who, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(query[user], alone[user, :1].expand_as(query[user]), rtol=1e-4, atol=1e-5)
    assert (alone[0, 0] - alone[1, 0]).abs().max() > 1e-4, "users differ"


def test_a_user_without_rows_is_told_by_its_attributes(table: Table, own: Episodes) -> None:
    """The query says who asks: users of one age are one to the encoding, of two ages two."""
    one = made(table, VAE)
    batch = joined(rated.setup(table).reader, own)
    nothing = replace(batch, fields={**batch.fields, WEIGHT: torch.zeros_like(batch.fields[WEIGHT])})
    _, query = encoded(one, nothing)
    age = parted(batch.fields)[1]["age"].view(len(own), -1)[:, 0]
    for user in range(len(own)):
        assert torch.allclose(query[user, 0], query[0, 0], atol=1e-6) is bool(age[user] == age[0])


def test_labels_do_not_enter_the_encoding(table: Table, own: Episodes) -> None:
    one = made(table, VAE)
    batch = helped(table, own)
    other = replace(batch, fields={**batch.fields, LABELS: batch.fields[LABELS] + 5})
    for before, after in zip(encoded(one, batch), encoded(one, other), strict=True):
        assert torch.equal(before, after)


def test_the_transductive_form_tells_the_query_by_its_own_items(table: Table, own: Episodes) -> None:
    for transductive in (False, True):
        one = made(table, replace(VAE, transductive=transductive))
        batch = joined(rated.setup(table).reader, own)
        moved = {**batch.fields, "item": batch.fields["item"].roll(1)}
        (support, query), (same, other) = encoded(one, batch), encoded(one, replace(batch, fields=moved))
        assert torch.equal(support, same)
        assert torch.allclose(query, other, atol=1e-6) is not transductive
        assert torch.allclose(query[:, 0], support[:, 0], atol=1e-6) is not transductive


def test_without_attributes_of_users_the_encoding_reads_items_alone(tmp_path: Path) -> None:
    frame = rated.log().drop("age")
    schema = rated.SCHEMA
    fields = tuple(field for field in schema.fields if field.name != "age")
    table = rated.table(tmp_path, frame, type(schema)(fields, schema.tasks))
    one = made(table, VAE)
    assert isinstance(joint(one).encoding, Encoding)
    support, _ = encoded(one, joined(rated.setup(table).reader, episodes(table, "train", rated.SHORT)))
    assert support.isfinite().all()
    assert (support[0, 0] - support[1, 0]).abs().max() > 1e-4
    assert joint(made(table, Ccml())).graph is None, "nothing to link"


def test_offsets_of_members_are_each_ones_own(table: Table, own: Episodes) -> None:
    """Centred, a user alone is what `Centred` makes of it; a collaborator is centred by its own rows."""
    one = made(table, Ccml(graph=False, centred=True, filter="none"))
    batch = joined(rated.setup(table).reader, own)
    read = joint(one).read(one.learner.model, episode_of(one, batch)).episode
    episode = episode_of(one, batch)
    found = offsets(one.learner.schema, episode.support)
    there = batch.fields[WEIGHT] > 0
    torch.testing.assert_close(read.support.prior[there], (episode.support.prior + found.others)[there])
    torch.testing.assert_close(read.query_prior, episode.query_prior + found.whole)
    with_others = helped(table, own)
    prior = joint(one).read(one.learner.model, episode_of(one, with_others)).episode.support.prior
    marks = with_others.fields[f"{SUPPORT}{MEMBER}"]
    who = CHOSEN.who[0, 0]
    torch.testing.assert_close(prior[0][marks[0] == 1], read.support.prior[who][there[who]])


def test_alone_and_centred_it_is_the_centred_adapter(table: Table, own: Episodes) -> None:
    one = made(table, Ccml(graph=False, centred=True))
    batch = joined(rated.setup(table).reader, own)
    episode = episode_of(one, batch)
    other = Centred(joint(one).steps)(one.learner.model, episode)
    torch.testing.assert_close(joint(one)(one.learner.model, episode), other, rtol=1e-5, atol=1e-5)


def test_the_graph_links_nothing_where_a_row_has_no_genre(table: Table, own: Episodes) -> None:
    one = made(table, GRAPH)
    assert isinstance(joint(one).graph, Graph)
    batch = helped(table, own)
    bare = {**batch.fields, f"{SUPPORT}genres": torch.full_like(batch.fields[f"{SUPPORT}genres"], -1)}
    episode = episode_of(one, replace(batch, fields=bare))
    assert joint(one).read(one.learner.model, episode).episode is episode
