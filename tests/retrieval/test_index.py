"""kdlib.retrieval against exhaustive search in NumPy."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib.data.catalogue import Catalogue, folder_catalogue, thumbnail
from kdlib.retrieval import Index, build_index, open_embeddings, open_index, save_embeddings
from kdlib.types import Embeddings


def unit_rows(seed, shape, dtype=np.float32):
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(dtype)


def make_embeddings(count=11, dim=7, seed=0, dtype=np.float32):
    return Embeddings(unit_rows(seed, (count, dim), dtype), np.array([f"set:{n:03}" for n in range(count)]), "enc-1")


def exhaustive(embeddings, queries, k, exclude):
    """The oracle: every cosine in float64, sorted by (-score, id), the excluded ids left out."""
    rows = embeddings.vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    ids, scores = [], []
    for query, out in zip(queries, exclude, strict=True):
        cosines = (rows * query).sum(axis=1).astype(np.float32)
        ranked = sorted((-score, str(id)) for score, id in zip(cosines, embeddings.ids, strict=True) if id not in out)
        ids.append([id for _, id in ranked[:k]])
        scores.append([-score for score, _ in ranked[:k]])
    return np.array(ids), np.array(scores)


class ColourEncoder:
    """A tiny encoder: the unit vector of the mean colour. Not a model, only something with the interface."""

    identity = "enc-1"
    dim = 3

    def encode_images(self, images):
        means = np.array([np.asarray(image, np.float32).mean((0, 1)) + 1 for image in images])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@given(count=st.integers(1, 60), dim=st.sampled_from([2, 5, 7]), num_queries=st.integers(0, 5), seed=st.integers(0, 99),
       dtype=st.sampled_from([np.float16, np.float32]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_search_equals_exhaustive_search(count, dim, num_queries, seed, dtype, data):
    embeddings = make_embeddings(count, dim, seed, dtype)
    queries = 3 * unit_rows(seed + 1, (num_queries, dim))
    exclude = [data.draw(st.sets(st.sampled_from([*embeddings.ids, "absent"]), max_size=count - 1))
               for _ in range(num_queries)]
    k = data.draw(st.integers(1, count - max([len(out) for out in exclude], default=0)))
    found = Index(embeddings).search(queries, k, exclude=exclude)
    assert found.ids.shape == found.scores.shape == (num_queries, k)
    assert found.vectors.shape == (num_queries, k, dim)
    assert found.vectors.dtype == found.scores.dtype == np.float32
    if num_queries:
        ids, scores = exhaustive(embeddings, queries, k, exclude)
        np.testing.assert_allclose(found.scores, scores, atol=2e-7)
        assert (found.ids == ids).mean() > 0.9 or np.allclose(found.scores, scores, atol=2e-7)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    doubles = embeddings.vectors.astype(np.float64)
    rows = {id: row / np.linalg.norm(row) for id, row in zip(embeddings.ids, doubles, strict=True)}
    for query_ids, vectors, out in zip(found.ids, found.vectors, exclude, strict=True):
        assert not set(query_ids) & out and len(set(query_ids)) == k
        np.testing.assert_allclose(vectors, [rows[id] for id in query_ids], atol=1e-6)


def test_ids_equal_the_oracle_on_spread_vectors():
    embeddings, queries = make_embeddings(500, 32), unit_rows(1, (23, 32))
    found = Index(embeddings).search(queries, 10)
    assert (found.ids == exhaustive(embeddings, queries, 10, [()] * 23)[0]).all()


def test_ties_come_in_the_order_of_ids_and_beyond_the_margin():
    """40 copies of one picture: the k best are the first k ids, whatever the order of the rows."""
    copies = np.repeat(unit_rows(0, (1, 7)), 40, axis=0)
    vectors = np.concatenate([copies, unit_rows(1, (60, 7))])
    ids = np.array([f"id{n:03}" for n in range(100)])
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(100)
        index = Index(Embeddings(vectors[order], ids[order], "enc-1"))
        found = index.search(copies[:1], 5, exclude=["id001"])
        assert found.ids[0].tolist() == ["id000", "id002", "id003", "id004", "id005"]


def test_ties_behind_many_excluded_ones():
    """20 excluded pictures nearer than 40 copies: the copies come in the order of their ids."""
    angles = np.concatenate([np.linspace(0, 0.5, 20), np.full(40, 1.0), np.full(40, 2.0)])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ids = np.array([f"near{n:02}" for n in range(20)] + [f"id{79 - n:02}" for n in range(80)])
    found = Index(Embeddings(vectors, ids, "enc-1")).search(vectors[:1], 5, exclude=[ids[:20]])
    assert found.ids[0].tolist() == ["id40", "id41", "id42", "id43", "id44"]


def test_a_result_depends_neither_on_the_batch_nor_on_the_rows_order():
    embeddings, queries = make_embeddings(300, 64, dtype=np.float16), unit_rows(1, (7, 64))
    index = Index(embeddings)
    together = index.search(queries, 11)
    order = np.random.default_rng(0).permutation(300)
    shuffled = Index(Embeddings(embeddings.vectors[order], embeddings.ids[order], "enc-1")).search(queries, 11)
    for n in range(7):
        alone = index.search(queries[n:n + 1], 11)
        for other in (alone.ids[0], shuffled.ids[n]):
            assert (together.ids[n] == other).all()
        assert (together.scores[n] == alone.scores[0]).all() and (together.scores[n] == shuffled.scores[n]).all()


def test_exclude_is_by_id_one_or_many_or_none():
    embeddings = make_embeddings()
    index = Index(embeddings)
    own = index.search(embeddings.vectors, 3, exclude=embeddings.ids)
    assert not (own.ids == embeddings.ids[:, None]).any()
    with_self = index.search(embeddings.vectors, 1)
    assert (with_self.ids[:, 0] == embeddings.ids).all()
    np.testing.assert_allclose(with_self.scores, 1, atol=1e-6)
    mixed = index.search(embeddings.vectors[:3], 9, exclude=[None, "set:001", {"set:002", "set:000"}])
    assert "set:000" in mixed.ids[0] and "set:001" not in mixed.ids[1]
    assert not {"set:002", "set:000"} & set(mixed.ids[2])


@pytest.mark.parametrize("k, exclude, message", [
    (0, None, "k = 0 must be a whole number of at least 1"),
    (-1, None, "k = -1 must be"),
    (True, None, "k = True must be"),
    (12, None, "k = 12 is more than the index can give: it has 11 pictures; choose k <= 11"),
    (11, ["set:001", None, None], "of which 1 are excluded; choose k <= 10"),
    (1, ["set:001"], "one entry for each of the 3 queries"),
    (1, "set", "one entry for each of the 3 queries"),
])
def test_bad_k_and_exclude(k, exclude, message):
    with pytest.raises(ValueError, match=message):
        Index(make_embeddings()).search(unit_rows(1, (3, 7)), k, exclude=exclude)


@pytest.mark.parametrize("queries, message", [
    (np.ones((3, 5), np.float32), r"queries have shape \(3, 5\); this index takes \(batch, 7\)"),
    (np.full((3, 7), np.nan, np.float32), "query 0 has length nan"),
    (np.array([[1.0] * 7, [np.inf] * 7]), "query 1 has length inf"),
    (np.zeros((2, 7), np.float32), "query 0 has length 0.0"),
])
def test_bad_queries(queries, message):
    with pytest.raises(ValueError, match=message):
        Index(make_embeddings()).search(queries, 1)


@pytest.mark.parametrize("vectors, ids, message", [
    (2 * unit_rows(0, (3, 5)), ["a", "b", "c"], "row 0 .'a'. has length 2"),
    (np.full((1, 5), np.nan, np.float32), ["a"], "row 0 .'a'. has length nan"),
    (unit_rows(0, (3, 5)), ["a", "b", "b"], "'b' occurs 2 times"),
    (unit_rows(0, (3, 5), np.float64), ["a", "b", "c"], "embeddings are float64"),
    (np.zeros((0, 5), np.float32), [], "at least one picture"),
])
def test_bad_embeddings(vectors, ids, message):
    with pytest.raises(ValueError, match=message):
        Index(Embeddings(vectors, np.array(ids, dtype=str), "enc-1"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_embeddings_come_back_from_disk(tmp_path, dtype):
    embeddings = make_embeddings(dtype=dtype)
    save_embeddings(tmp_path / "h", embeddings)
    save_embeddings(tmp_path / "h", embeddings)  # replaces
    back = open_embeddings(tmp_path / "h", "enc-1")
    assert isinstance(back.vectors, np.memmap) and back.vectors.dtype == dtype
    assert (back.vectors == embeddings.vectors).all() and (back.ids == embeddings.ids).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h"]
    manifest = json.loads((tmp_path / "h" / "manifest.json").read_text())
    assert (manifest["encoder_id"], manifest["count"], manifest["dim"]) == ("enc-1", 11, 7)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        Index(make_embeddings(), folder_catalogue([("x/y.png", b"<svg/>")])).save(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_another_encoders_index_is_refused_with_both_names(tmp_path):
    save_embeddings(tmp_path / "h", make_embeddings())
    assert open_index(tmp_path / "h").encoder_id == "enc-1"
    with pytest.raises(ValueError, match="built by encoder enc-1, but this model uses encoder enc-2"):
        open_index(tmp_path / "h", encoder_id="enc-2")


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["vectors.npy", "ids.json", "manifest.json"])
def test_missing_and_damaged_files_are_named(tmp_path, name):
    save_embeddings(tmp_path / "h", make_embeddings())
    shutil.copytree(tmp_path / "h", tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"it has no {name}"):
        open_index(tmp_path / "m")
    path = tmp_path / "h" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=name):
        open_index(tmp_path / "h")


def test_one_flipped_bit_and_foreign_manifests_are_noticed(tmp_path):
    save_embeddings(tmp_path / "h", make_embeddings())
    flip_last_byte(tmp_path / "h" / "vectors.npy")
    with pytest.raises(ValueError, match="vectors.npy is damaged"):
        open_index(tmp_path / "h")
    for text, message in [('{"kind": "cake"}', "describes no cosine index"), ("[1]", "describes no cosine index"),
                          ('{"kind": "embeddings", "metric": "cosine"}', "lacks count, dim, encoder_id, sha256")]:
        (tmp_path / "h" / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            open_index(tmp_path / "h")


def paint(folder, **colours):
    folder.mkdir(exist_ok=True)
    for name, colour in colours.items():
        Image.new("RGB", (17, 11), colour).save(folder / f"{name}.png")


def test_an_own_folder_becomes_an_index_with_a_catalogue(tmp_path):
    paint(tmp_path / "mine", red="red", green="lime", blue="blue")
    (tmp_path / "mine" / "broken.png").write_bytes(b"no picture")
    skipped = []
    index = build_index(tmp_path / "mine", ColourEncoder(), batch_size=2, skipped=skipped)
    assert [entry.path for entry in skipped] == ["broken.png"]
    index.save(tmp_path / "mine.index")
    back = open_index(tmp_path / "mine.index", ColourEncoder.identity)
    for found in (index, back):
        assert len(found) == 3
        assert found.search(np.eye(3, dtype=np.float32), 1).ids[:, 0].tolist() == ["red.png", "green.png", "blue.png"]
        assert found.catalogue.describe("red.png") == ("red", "unknown", "unknown", "unknown")
        middle = np.array(found.catalogue.picture("red.png", 32).getpixel((16, 16)), int)
        assert found.catalogue.picture("red.png", 32).size == (32, 32) and np.abs(middle - (255, 0, 0)).max() < 9


def test_build_index_from_embeddings_and_its_refusals(tmp_path):
    embeddings = Embeddings(unit_rows(0, (5, 3)), np.array(list("abcde")), "enc-1")
    assert len(build_index(embeddings, ColourEncoder())) == 5
    with pytest.raises(ValueError, match="built by encoder enc-9, but this model uses encoder enc-1"):
        build_index(Embeddings(embeddings.vectors, embeddings.ids, "enc-9"), ColourEncoder())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no readable picture"):
        build_index(tmp_path / "empty", ColourEncoder())
    with pytest.raises(NotADirectoryError, match="absent is no folder"):
        build_index(tmp_path / "absent", ColourEncoder())


def test_catalogue_subset_unknown_ids_and_damage(tmp_path):
    square = thumbnail(Image.new("RGB", (300, 200), "red"))
    catalogue = folder_catalogue([("a/tom.png", square), ("b.gif", square)])
    small = catalogue.subset(["b.gif", "absent"])
    assert len(small) == 1 and "b.gif" in small and "a/tom.png" not in small
    assert catalogue.describe("a/tom.png").title == "tom"
    assert catalogue.describe("absent") == ("absent", "unknown", "unknown", "unknown")
    assert catalogue.picture("absent", 9).size == (9, 9)
    catalogue.save(tmp_path / "c.parquet")
    assert Catalogue.load(tmp_path / "c.parquet").table.equals(catalogue.table)
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match="c.parquet is no whole catalogue"):
        Catalogue.load(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="'b.gif' comes twice"):
        folder_catalogue([("b.gif", square)] * 2)
    with pytest.raises(ValueError, match="style missing"):
        Catalogue(catalogue.table.drop_columns("style"))


def test_numpys_integers_serve_as_k():
    """In a process of its own, where no beartype guards the signature."""
    code = ("import numpy as np; from kdlib.retrieval import Index; from kdlib.types import Embeddings\n"
            "index = Index(Embeddings(np.eye(3, 5, dtype='float32'), np.array(list('abc')), ''))\n"
            "print(*index.search(np.array([[3, 2, 1, 0, 0]]), np.int32(2)).ids[0])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "a b\n", done.stderr
