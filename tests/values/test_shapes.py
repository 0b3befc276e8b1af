"""What tests lean on: umbel's functions refuse what their annotations do not allow, while tests run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.shapes import Finder

from umbel.nn.losses import Denominator, masked_mean

SOURCE = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from fractions import Fraction

def together(left: Float[Tensor, "rows width"], right: Float[Tensor, "rows"]) -> Float[Tensor, "width"]:
    return right @ left

def wrong(left: Float[Tensor, "rows width"]) -> Float[Tensor, "width"]:
    return left[:, 0]

def square(values: Float[Tensor, "rows rows"]) -> None:
    pass

def either(values: Float[Tensor, "rows rows"] | Float[Tensor, "width more"], rows: Float[Tensor, "rows"]) -> None:
    pass

def three(rows: Float[Tensor, "rows"], values: Float[Tensor, "rows 3"], more: Float[Tensor, "*rest rows"]) -> Float[Tensor, ""]:
    return rows.sum(0, keepdim=len(more) > 5)

def plain(count: int) -> str:
    return count

def half(number: Fraction) -> Fraction:
    return number / 2

@dataclass(frozen=True)
class Pair:
    name: str
    values: Float[Tensor, "rows"]

    @property
    def first(self) -> str:
        return self.values

    @staticmethod
    def of(name: str) -> Pair:
        return Pair(name, name)

def within() -> int:
    def free(count: int) -> str:
        return count
    return free(3)
'''


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module that was read as those of umbel are."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "planted_module.py").write_text(SOURCE)
    finder = Finder("planted_module")
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    import planted_module  # type: ignore[import-not-found]

    yield planted_module
    sys.meta_path.remove(finder)
    sys.path.remove(str(folder))
    del sys.modules["planted_module"]
    assert not list(Path(folder).rglob("*.pyc")), "nobody else runs what was marked"


def test_an_axis_has_one_length_within_a_call(seen: ModuleType) -> None:
    assert seen.together(torch.ones(3, 2), torch.ones(3)).shape == (2,)
    assert seen.together(torch.ones(4, 2), torch.ones(4)).shape == (2,), "and another in the next"
    with pytest.raises(TypeError):
        seen.together(torch.ones(3, 2), torch.ones(4))


@pytest.mark.parametrize("again", ["first", "known by now"])
def test_what_was_right_once_is_not_right_for_good(seen: ModuleType, again: str) -> None:
    """Another dtype, another rank, another kind of array, and another length of an axis that was told are refused as if new."""
    ones = torch.ones
    seen.square(ones(2, 2))
    for wrong in (ones(2, 3), ones(2), ones(2, 2, 2), ones(2, 2, dtype=torch.int32), np.ones((2, 2)), None):
        with pytest.raises(TypeError):
            seen.square(wrong)
    seen.three(ones(2), ones(2, 3), ones(5, 4, 2))
    for rows, values, more in ((2, (2, 4), (5, 2)), (3, (2, 3), (5, 2)), (2, (2, 3), (5, 3)), (2, (2, 3), (6, 2))):
        with pytest.raises(TypeError):
            seen.three(ones(rows), ones(values), ones(more))


@pytest.mark.parametrize("again", ["first", "known by now"])
def test_an_annotation_that_was_not_met_tells_no_length(seen: ModuleType, again: str) -> None:
    seen.either(torch.ones(3, 3), torch.ones(3))
    seen.either(torch.ones(3, 2), torch.ones(5))
    with pytest.raises(TypeError):
        seen.either(torch.ones(3, 3), torch.ones(5))


def test_what_is_given_back_is_looked_at(seen: ModuleType) -> None:
    assert seen.wrong(torch.ones(2, 2)).shape == (2,)
    with pytest.raises(TypeError):
        seen.wrong(torch.ones(3, 2))
    with pytest.raises(TypeError):
        seen.plain(3)


def test_dataclasses_properties_and_static_methods_are_checked(seen: ModuleType) -> None:
    with pytest.raises(TypeError):
        seen.Pair("a", torch.ones(2, 2))
    with pytest.raises(TypeError):
        _ = seen.Pair("a", torch.ones(2)).first
    with pytest.raises(TypeError):
        seen.Pair.of("a")


def test_a_name_for_the_reader_of_types_is_known(seen: ModuleType) -> None:
    from fractions import Fraction

    assert seen.half(Fraction(1)) == Fraction(1, 2)
    with pytest.raises(TypeError):
        seen.half(1.0)


def test_functions_within_functions_are_left(seen: ModuleType) -> None:
    assert seen.within() == 3


def test_umbel_itself_is_checked() -> None:
    with pytest.raises(TypeError):
        masked_mean(torch.ones(3), torch.ones(4, dtype=torch.bool), denominator=Denominator.SEEN)
