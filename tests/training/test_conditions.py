"""kdlib.training.conditions: what every generator's objective refuses, and conditions that are dropped whole."""

import numpy as np
import pytest
import torch

from kdlib.training.conditions import ConditionedObjective
from kdlib.training.loop import step_generator
from kdlib.types import Embeddings

NUM_PICTURES, DIM, K = 11, 5, 3


@pytest.fixture
def data():
    """Queries of two views, embeddings whose ids are not in the order of their rows, neighbours without the own row."""
    random = np.random.default_rng(0)
    queries = random.standard_normal((2, NUM_PICTURES, DIM))
    queries = (queries / np.linalg.norm(queries, axis=-1, keepdims=True)).astype(np.float16)
    ids = np.array([f"set:{n}" for n in random.permutation(NUM_PICTURES)])
    neighbours = np.stack([[random.choice(np.delete(np.arange(NUM_PICTURES), row), K, replace=False)
                            for row in range(NUM_PICTURES)] for _ in queries])
    return queries, Embeddings(queries[0].astype(np.float32), ids, "encoder-1"), neighbours


@pytest.mark.parametrize("view, row, place", [(0, 0, 0), (1, 6, 2)])
def test_a_picture_among_its_own_neighbours_is_refused(data, view, row, place):
    queries, embeddings, neighbours = data
    neighbours[view, row, place] = row
    with pytest.raises(ValueError, match="among its own neighbours; search with exclude=ids"):
        ConditionedObjective(queries, embeddings, neighbours, 0.1)


def test_neighbours_of_other_views_are_refused(data):
    queries, embeddings, neighbours = data
    for others in (neighbours[:1], neighbours[:, :-1]):
        with pytest.raises(ValueError, match=r"neighbours \(\d, 1\d, 3\) are not those of \(2, 11\) views"):
            ConditionedObjective(queries, embeddings, others, 0.1)


@pytest.mark.parametrize("row, told", [(11, "0 to 11"), (-1, "-1 to 10")])
def test_neighbours_out_of_range_are_refused(data, row, told):
    """As -1 is what a search for an id that isn't there gives, it must not be taken for the last row."""
    queries, embeddings, neighbours = data
    neighbours[1, 6, 2] = row
    with pytest.raises(ValueError, match=f"rows {told} of 11 embeddings; find them again in these"):
        ConditionedObjective(queries, embeddings, neighbours, 0.1)


def test_a_condition_is_a_view_s_query_and_the_vectors_of_its_neighbours_in_single_precision(data):
    queries, embeddings, neighbours = data
    rows = torch.tensor([7, 0, 3, 10, 3])
    view, condition = ConditionedObjective(*data, 0.0).draw(rows, step_generator(0, 0))
    assert set(view.tolist()) == {0, 1} and condition.query.dtype == condition.neighbours.dtype == torch.float32
    np.testing.assert_array_equal(condition.query, queries[view, rows])
    np.testing.assert_array_equal(condition.neighbours, embeddings.vectors[neighbours[view, rows]])


@pytest.mark.parametrize("dropout, low, high", [(0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)])
def test_conditions_are_dropped_whole(data, dropout, low, high):
    _, condition = ConditionedObjective(*data, dropout).draw(torch.arange(NUM_PICTURES).repeat(40),
                                                             step_generator(0, 0))
    no_query = (condition.query == 0).all(-1)
    no_neighbours = (condition.neighbours == 0).all(-1)
    assert torch.equal(no_query[:, None].expand(-1, K), no_neighbours)  # the query and all neighbours, or none of them
    assert low <= no_query.float().mean() <= high
