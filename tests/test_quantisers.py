"""benchmarks.quantisers: what is compared, and how it is counted."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import quantisers  # noqa: E402

DIM, CELLS = 16, 4


def clustered(count, seed):
    """Unit vectors in 40 clusters, the same for every seed."""
    centres = np.random.default_rng(0).normal(size=(40, DIM))
    random = np.random.default_rng(seed)
    rows = centres[random.integers(40, size=count)] + 0.3 * random.normal(size=(count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_every_kind_has_its_row_and_nears_the_truth():
    """All cells are looked into, so that only the codes lose anything, and whole vectors nothing."""
    vectors, queries = clustered(3000, 1), clustered(30, 2)
    table = quantisers.compare(vectors, queries, CELLS, k=5).set_index("kind")
    assert table.factory.to_dict() == quantisers.factories(DIM, CELLS)
    assert (table.loc["whole vectors", ["recall_of_codes", "recall"]] == 1).all()
    assert (table.recall > 0.8).all() and (table.recall_of_codes > 0.2).all()
    assert (table.recall >= table.recall_of_codes - 0.01).all() and (table.queries_per_s > 0).all()
    sizes = table.bytes_per_vector
    assert sizes["whole vectors"] == pytest.approx(4 * DIM + 8, abs=1)
    assert sizes["OPQ, 8 bits (the paper's)"] == pytest.approx(DIM / 2 + 8, abs=1)
    assert sizes["scalar, 4 bits"] == pytest.approx(DIM / 2 + 8, abs=1)


def test_rows_that_are_equal_count_once_and_keep_their_order():
    first, second = np.array([[2.0, 0], [0, 3], [2, 0]]), np.array([[0, 3], [1, 1]])
    assert quantisers.distinct(first, second) == pytest.approx(np.array([[1, 0], [0, 1], [0.5 ** 0.5, 0.5 ** 0.5]]))


def test_ranking_again_is_by_the_exact_vectors_and_none_stays_none():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    queries = np.array([[1, 0], [0, 1]], np.float32)
    found = quantisers.ranked_again(np.array([[3, 1, 0, -1], [1, -1, -1, -1]]), vectors, queries, 2)
    assert found.tolist() == [[0, 1], [1, -1]]
    assert quantisers.share_found(found, np.array([[0, 1], [2, 1]])) == 0.75
