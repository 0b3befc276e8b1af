"""Laws of tables in fewer bytes: every recipe scores nearly as before, rows alone as together, however it is asked."""

from __future__ import annotations

import pytest
import torch
from tests import everykind
from tests.everykind import fields, sizes
from tests.laws.test_apart_laws import CUTS, check
from torch import nn

from umbel.nn.packed import TABLES, Packed
from umbel.nn.recommender import Parts, Recommender
from umbel.nn.views import compact
from umbel.recipes import RECIPES

FORMS = {name: one for name, one in TABLES.items() if isinstance(one, Packed)}
NEAR = {"float16": 2e-3, "int8": 0.1}  # of logits of about 1
BYTES = {"float16": lambda width: 2 * width, "int8": lambda width: width + 8}


def both(form: str, recipe: str = "stem") -> tuple[Recommender, Recommender]:
    """A model, and the same with its table in that form."""
    torch.manual_seed(0)
    model = everykind.awake(RECIPES[recipe](everykind.schema(2), sizes())).eval()
    packed = RECIPES[recipe](everykind.schema(2), sizes(), parts=Parts(holder=FORMS[form])).eval()
    state = model.state_dict()
    packed.load_state_dict({**state, "table": FORMS[form].pack(state["table"])})
    return model, packed


def test_there_is_a_form_to_judge() -> None:
    assert set(FORMS) == set(NEAR) == set(BYTES)
    assert set(TABLES) - set(FORMS) == {"float32"}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_recipe_scores_nearly_as_before(form: str, recipe: str) -> None:
    (model, packed), batch = both(form, recipe), fields(64)
    before, after = model(batch), packed(batch)
    assert not torch.equal(before, after)
    assert (before - after).abs().max() < NEAR[form] * before.abs().max()


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_as_near_as_the_form_says(form: str) -> None:
    """float16 has 11 bits; int8 half a step between the least and the greatest number of the row."""
    table = torch.randn(50, 24) * torch.logspace(-3, 1, 50)[:, None]
    found = FORMS[form].unpack(FORMS[form].pack(table))
    spread = table.amax(1) - table.amin(1)
    most = table.abs() * 2**-11 + 2**-24 if form == "float16" else (spread / 255 * 0.501)[:, None]
    assert found.dtype is torch.float32
    assert ((found - table).abs() <= most).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_row_stays(form: str) -> None:
    table = torch.tensor([[0.0] * 6, [0.5] * 6, [-2.0] * 6])
    torch.testing.assert_close(FORMS[form].unpack(FORMS[form].pack(table)), table, atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_it_takes_as_many_bytes_as_said_and_learns_as_many_numbers(form: str) -> None:
    model, packed = both(form)
    assert packed.table[0].nbytes == BYTES[form](model.table.shape[1])
    assert len(packed.table) == len(model.table)
    assert packed.numbers == model.numbers


@pytest.mark.parametrize("form", FORMS)
def test_rows_alone_touched_rows_and_rows_apart_score_as_together(form: str) -> None:
    _, packed = both(form)
    batch = fields(9)
    together = packed(batch)
    alone = torch.cat([packed({name: column[row : row + 1] for name, column in batch.items()}) for row in range(9)])
    torch.testing.assert_close(alone, together)
    touched, local = compact(packed.rows(batch))
    places = packed.places(batch)
    assert len(touched) == len(places[places >= 0].unique())
    torch.testing.assert_close(packed.score(local, batch), together)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("form", FORMS)
def test_rows_that_share_fields_score_as_one_by_one(form: str, cut: str) -> None:
    """As the service ranks: a user's fields once, an item's remembered."""
    check(both(form)[1], *CUTS[cut])


@pytest.mark.parametrize("form", FORMS)
def test_padding_is_no_row(form: str) -> None:
    table = FORMS[form].pack(torch.randn(5, 8))
    place = torch.tensor([[2, -1], [0, 2]])
    looked = FORMS[form].looked(table, place)
    assert (looked["place"] < 0).equal(place < 0)
    found = nn.functional.embedding(looked["place"].clamp(min=0), looked["table"])
    whole = nn.functional.embedding(place.clamp(min=0), FORMS[form].unpack(table))
    assert found[place >= 0].equal(whole[place >= 0])
