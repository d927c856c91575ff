"""kdlib.retrieval.inverted and the index over it, against exhaustive search in NumPy."""

import shutil

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.retrieval import Index, build_index, inverted, open_index
from kdlib.retrieval.embeddings import read_manifest
from kdlib.types import Embeddings
from tests.retrieval.test_index import exhaustive, flip_last_byte, unit_rows

COUNT, DIM = 12_000, 24
FACTORY = "OPQ12_24,IVF64,PQ12x8"


class SomeEncoder:
    identity, dim = "enc-1", DIM


@pytest.fixture(scope="module")
def clustered():
    """Vectors in 200 clumps, as pictures lie, and 50 queries near some of them."""
    rng = np.random.default_rng(0)
    centres = unit_rows(1, (200, DIM))
    rows = centres[rng.integers(200, size=COUNT + 50)] + 0.1 * rng.standard_normal((COUNT + 50, DIM))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    ids = np.array([f"p{row:05}" for row in rng.permutation(COUNT)])
    return Embeddings(rows[:COUNT].astype(np.float16), ids, "enc-1"), rows[COUNT:]


@pytest.fixture(scope="module")
def compressed(clustered):
    return build_index(clustered[0], SomeEncoder, factory=FACTORY, num_cells=8)


@pytest.mark.parametrize("count, dim, budget, wanted", [
    (69_000_000, 512, 256, "OPQ256_512,IVF65536_HNSW32,PQ256x8"),   # the paper's; see also field notes
    (400_000_000, 512, 256, "OPQ256_512,IVF131072_HNSW32,PQ256x8"),
    (1_000_000, 512, None, "IVF8192_HNSW32,Flat"),
    (1_000_000, 512, 300, "OPQ256_512,IVF8192_HNSW32,PQ256x8"),     # the largest divisor in the budget
    (1_000_000, 512, 2048, "IVF8192_HNSW32,Flat"),                  # room for whole vectors
    (30_000, 512, 64, "OPQ64_512,IVF512,PQ64x8"),                   # 39 vectors a cell at least
    (100_000, 512, None, "Flat"), (9_984, 512, 64, "Flat"), (1, 5, None, "Flat"),
    (10**6, 7, 6, "OPQ1_7,IVF8192_HNSW32,PQ1x8"),
])
def test_the_choice_of_structure(count, dim, budget, wanted):
    assert inverted.choose_factory(count, dim, budget) == wanted


def test_all_cells_of_whole_vectors_are_exhaustive_search(clustered):
    embeddings, queries = clustered
    index = build_index(embeddings, SomeEncoder, factory="IVF64,Flat", num_cells=64)
    found = index.search(queries, 7, exclude=[{"p00003", "p00005"}] * len(queries))
    ids, scores = exhaustive(embeddings, queries, 7, [{"p00003", "p00005"}] * len(queries))
    assert (found.ids == ids).all()
    np.testing.assert_allclose(found.scores, scores, atol=2e-7)


def test_compressed_codes_find_nearly_all_and_their_scores_are_exact(clustered, compressed):
    embeddings, queries = clustered
    found = compressed.search(queries, 10)
    ids, scores = exhaustive(embeddings, queries, 10, [()] * len(queries))
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.ids, ids, strict=True)]) > 0.95
    row_of = {id: row for row, id in enumerate(embeddings.ids)}
    for query, names, cosines, vectors in zip(queries, found.ids, found.scores, found.vectors, strict=True):
        rows = embeddings.vectors[[row_of[name] for name in names]].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(cosines, rows @ query / np.linalg.norm(query), atol=2e-7)
        np.testing.assert_allclose(vectors, rows, atol=1e-6)
    assert (np.diff(found.scores, axis=1) <= 0).all() and (found.scores <= scores + 2e-7).all()


def test_without_ranking_again_the_codes_alone_find_less(clustered, compressed, monkeypatch):
    embeddings, queries = clustered
    ids, _ = exhaustive(embeddings, queries, 10, [()] * len(queries))
    found = lambda: compressed.search(queries, 10).ids
    recall = lambda: np.mean([len(set(a) & set(b)) for a, b in zip(found(), ids, strict=True)])
    again = recall()
    monkeypatch.setattr("kdlib.retrieval.index.RANKED_AGAIN", 10)
    assert recall() < again


@given(kept=st.integers(1, 40), k=st.integers(1, 40), num_cells=st.sampled_from([1, 3, 64]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_however_strict_the_filter_k_pictures_are_found_and_none_else(clustered, compressed, kept, k, num_cells, seed):
    embeddings, queries = clustered
    mask = np.zeros(COUNT, dtype=bool)
    mask[np.random.default_rng(seed).choice(COUNT, kept, replace=False)] = True
    whole = Index(embeddings, structure=compressed.structure, num_cells=num_cells)
    view, k = whole.where(mask), min(k, kept)
    found = view.search(queries[:3], k)
    assert found.ids.shape == (3, k) and set(found.ids.ravel()) <= set(embeddings.ids[mask]) and len(view) == kept
    assert all(len(set(ids)) == k for ids in found.ids)
    if k == kept:
        assert all(set(ids) == set(embeddings.ids[mask]) for ids in found.ids)
    exact = Index(embeddings).where(mask).search(queries[:3], k)
    ids, _ = exhaustive(embeddings, queries[:3], k, [set(embeddings.ids[~mask])] * 3)
    assert (exact.ids == ids).all()


def test_a_filter_of_a_filter_and_exclusion_among_what_it_leaves(clustered, compressed):
    embeddings, queries = clustered
    first, second = np.arange(COUNT) < 300, np.arange(COUNT) >= 290
    view = compressed.where(first).where(second)
    assert len(view) == 10 and len(compressed) == COUNT
    kept = set(embeddings.ids[290:300])
    out = [[embeddings.ids[290], embeddings.ids[0]]]  # the second can't be found anyway
    assert set(view.search(queries[:1], 9, exclude=out).ids[0]) == kept - {embeddings.ids[290]}
    with pytest.raises(ValueError, match="it has 10 pictures that the filter allows, of which 1 are excluded; .* 9"):
        view.search(queries[:1], 10, exclude=out)
    with pytest.raises(ValueError, match="this index is filtered; save the whole one"):
        view.save("nowhere")


def test_cells_that_the_quantizer_never_reaches_are_scanned(clustered, compressed, monkeypatch):
    embeddings, queries = clustered
    monkeypatch.setattr(inverted, "propose", lambda structure, queries, *rest: [np.empty(0, np.int64) for _ in queries])
    monkeypatch.setattr(inverted, "CHUNK_ROWS", 5_000)
    assert (compressed.search(queries[:3], 5).ids == exhaustive(embeddings, queries[:3], 5, [()] * 3)[0]).all()


def test_it_comes_back_from_disk_memory_mapped_and_finds_the_same(clustered, compressed, tmp_path):
    compressed.save(tmp_path / "h")
    back = open_index(tmp_path / "h", "enc-1")
    assert back.num_cells == 8 and isinstance(back.embeddings.vectors, np.memmap)
    on_disk = faiss.downcast_InvertedLists(inverted.inverted_file(back.structure).invlists)
    assert isinstance(on_disk, faiss.OnDiskInvertedLists)
    found, before = (index.search(clustered[1], 10) for index in (back, compressed))
    assert (found.ids == before.ids).all() and (found.scores == before.scores).all()
    told = read_manifest(tmp_path / "h")["structure"]
    assert told == {"num_cells": 8, "cells": 64, "code_bytes": 12, "codes": "IndexIVFPQ", "transforms": ["OPQMatrix"]}
    back.save(tmp_path / "again")
    assert open_index(tmp_path / "again").search(clustered[1], 3).ids.tolist() == found.ids[:, :3].tolist()


def test_building_twice_gives_the_same_bytes(clustered, compressed, tmp_path):
    compressed.save(tmp_path / "a")
    build_index(clustered[0], SomeEncoder, factory=FACTORY, num_cells=8).save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_cells_placed_in_two_levels_are_nearly_as_good_as_in_one(clustered, monkeypatch):
    rows = inverted.unit(clustered[0].vectors)
    near = lambda cells: (rows @ cells.T).max(1).mean()
    one = inverted.place_cells(rows, 150)
    monkeypatch.setattr(inverted, "HNSW_FROM", 100)
    two = inverted.place_cells(rows, 150)
    assert one.shape == two.shape == (150, DIM)
    np.testing.assert_allclose(np.linalg.norm(two, axis=1), 1, atol=1e-5)
    assert near(two) > near(one) - 0.03 > near(rows[:150]) + 0.03


@pytest.fixture(scope="module")
def empty(clustered):
    rows = clustered[0].vectors
    return inverted.train_structure(FACTORY, inverted.unit(rows[inverted.sample_rows(len(rows), FACTORY)]))


def save_shards(structure, vectors, folder, starts, first_rows):
    paths = []
    for number, (start, end, first_row) in enumerate(zip(starts, [*starts[1:], len(vectors)], first_rows, strict=True)):
        shard = faiss.clone_index(structure)
        inverted.add_rows(shard, vectors[start:end], first_row)
        paths.append(folder / f"{number}.faiss")
        inverted.save_structure(paths[-1], shard)
    return paths


def test_shards_merged_on_disk_find_what_one_index_finds(clustered, compressed, empty, tmp_path):
    embeddings, queries = clustered
    starts = [0, 5_000, 5_001]
    inverted.merge_structures(empty, save_shards(empty, embeddings.vectors, tmp_path, starts, starts), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if "." in path.name[1:]) == [
        "0.faiss", "1.faiss", "2.faiss", inverted.LISTS_FILE, inverted.STRUCTURE_FILE]
    shutil.move(tmp_path / inverted.LISTS_FILE, tmp_path / "moved")  # the folder may move
    (tmp_path / "h").mkdir()
    shutil.move(tmp_path / "moved", tmp_path / "h" / inverted.LISTS_FILE)
    shutil.move(tmp_path / inverted.STRUCTURE_FILE, tmp_path / "h")
    merged = inverted.open_structure(tmp_path / "h" / inverted.STRUCTURE_FILE)
    found = Index(embeddings, structure=merged, num_cells=8).search(queries, 10)
    assert (found.ids == compressed.search(queries, 10).ids).all()


def test_shards_with_the_same_rows_are_refused(clustered, empty, tmp_path):
    paths = save_shards(empty, clustered[0].vectors, tmp_path, [0, 6_000], [0, 5_999])
    with pytest.raises(ValueError, match="hold some rows twice"):
        inverted.merge_structures(empty, paths, tmp_path)


def test_a_gpu_places_the_cells_and_what_it_cannot_search_stays_with_the_cpu(clustered, monkeypatch, caplog):
    """No GPU here: faiss is made to say that there is one, and to refuse as it does 256 sub-quantisers."""
    asked = []

    class Kmeans(faiss.Kmeans):
        def __init__(self, *arguments, gpu, **more):
            asked.append(gpu)
            super().__init__(*arguments, **more)

    def refuse(structure):
        raise RuntimeError("Error in foo at bar.cpp:1: Error: 'IVFPQ' can't have 256 sub-quantizers")

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "Kmeans", Kmeans)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", refuse, raising=False)
    index = build_index(clustered[0], SomeEncoder, factory="IVF16,Flat")
    assert asked == [True] and "the GPU can't search this index ('IVFPQ' can't have 256" in caplog.text
    assert index.search(clustered[1][:2], 3).ids.shape == (2, 3)


@pytest.mark.parametrize("build, message", [
    (dict(factory="IVF16,Cake"), "faiss can't make 'IVF16,Cake' for 24 dimensions"),
    (dict(factory="HNSW32"), "faiss can't make 'HNSW32' .*give a factory string with an inverted file"),
    (dict(factory="OPQ7_24,IVF16,PQ7x8"), "faiss can't make"),
    (dict(factory="IVF20000,Flat"), "trained on at least 20000 vectors, and there are 12000; ask for fewer cells"),
    (dict(bytes_per_vector=0), "bytes_per_vector = 0 must be at least 1"),
    (dict(bytes_per_vector=12, factory=FACTORY), "both say how to compress"),
    (dict(factory="IVF16,Flat", num_cells=0), "num_cells = 0 must be a whole number"),
    (dict(factory="IVF16,Flat", num_cells=True), "num_cells = True must be"),
])
def test_what_cannot_be_built_says_why(clustered, build, message):
    with pytest.raises(ValueError, match=message):
        build_index(clustered[0], SomeEncoder, **build)


def test_damaged_missing_and_foreign_structures(clustered, compressed, tmp_path):
    compressed.save(tmp_path / "h")
    shutil.copytree(tmp_path / "h", tmp_path / "m")
    (tmp_path / "m" / inverted.STRUCTURE_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=f"it has no {inverted.STRUCTURE_FILE}"):
        open_index(tmp_path / "m")
    flip_last_byte(tmp_path / "h" / inverted.STRUCTURE_FILE)
    with pytest.raises(ValueError, match=f"{inverted.STRUCTURE_FILE} is damaged"):
        open_index(tmp_path / "h")
    (tmp_path / "cake.faiss").write_bytes(b"no faiss index, but some bytes all the same")
    with pytest.raises(ValueError, match="cake.faiss is no whole faiss index"):
        inverted.open_structure(tmp_path / "cake.faiss")
    fewer = Embeddings(clustered[0].vectors[:-1], clustered[0].ids[:-1], "enc-1")
    with pytest.raises(ValueError, match=r"holds 12000 vectors of width 24, the embeddings are \(11999, 24\)"):
        Index(fewer, structure=compressed.structure)


@pytest.mark.parametrize("mask, message", [
    (np.ones(3, dtype=bool), r"bool of shape \(3,\); it must be bool, one value for each of the 12000"),
    (np.ones(COUNT), "the filter is float64"),
    (np.zeros(COUNT, dtype=bool), "leaves no picture"),
])
def test_bad_filters(compressed, mask, message):
    with pytest.raises(ValueError, match=message):
        compressed.where(mask)
