"""kdlib.models.condition: what is done to a condition is done to each of its fields; NumPy is the truth."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from kdlib.models.condition import Condition, concatenate


@dataclass(frozen=True)
class Captioned(Condition):
    """A condition with one more field: no operation may leave it out."""

    caption: Float[Tensor, "batch words 11"]


def arrays(seed: int, batch: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in [(batch, 7), (batch, 5, 7), (batch, 2, 11)]]


def condition(fields: list[np.ndarray]) -> Captioned:
    return Captioned(*map(torch.from_numpy, fields))


def check(found: Captioned, expected: list[np.ndarray]) -> None:
    for field, wanted in zip((found.query, found.neighbours, found.caption), expected, strict=True):
        np.testing.assert_array_equal(field, wanted)


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0, 2], [True, False, True], []], ids=str)
def test_rows_are_chosen_as_in_numpy(rows):
    fields = arrays(0)
    of = rows if isinstance(rows, slice) else np.array(rows, dtype=int if rows in ([], [2, 0, 2]) else bool)
    chosen = condition(fields)[rows if isinstance(rows, slice) else torch.from_numpy(of)]
    check(chosen, [field[of] for field in fields])
    assert len(chosen) == len(fields[0][of])


def test_conditions_join_in_their_order():
    first, second, third = arrays(0), arrays(1, batch=2), arrays(2, batch=1)
    joined = concatenate(*map(condition, (first, second, third)))
    check(joined, [np.concatenate(fields) for fields in zip(first, second, third, strict=True)])


def test_the_null_condition_is_zero_and_takes_the_place_of_rows():
    fields = arrays(0)
    check(condition(fields).null(), [np.zeros_like(field) for field in fields])
    kept = condition(fields).null_unless(torch.tensor([1.0, 0.0, 1.0]))
    check(kept, [np.stack([field[0], 0 * field[1], field[2]]) for field in fields])


def test_one_row_is_repeated():
    fields = arrays(0, batch=1)
    check(condition(fields).expand(4), [np.repeat(field, 4, axis=0) for field in fields])


def test_fewer_neighbours_are_the_first_and_all_else_stays():
    query, neighbours, caption = arrays(0)
    for k in (0, 2, 5):
        check(condition([query, neighbours, caption]).with_neighbours(k), [query, neighbours[:, :k], caption])
    for k in (-1, 6):
        with pytest.raises(ValueError, match=rf"k = {k} must lie in 0 .. 5"):
            condition([query, neighbours, caption]).with_neighbours(k)


def test_types_follow_and_numpy_s_memory_is_shared():
    query, neighbours, caption = arrays(0)
    moved = condition([query, neighbours, caption]).to(torch.float64)
    assert {moved.query.dtype, moved.neighbours.dtype, moved.caption.dtype} == {torch.float64}
    shared = Condition.from_numpy(query, neighbours)
    query[1], neighbours[2] = 3, 4
    np.testing.assert_array_equal(shared.query, query)
    np.testing.assert_array_equal(shared.neighbours, neighbours)
