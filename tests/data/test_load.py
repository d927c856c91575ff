"""kdlib.data.dataset: pictures and what is known of them, in the pictures' order, whatever the table's."""

import numpy as np
import pandas as pd
import pytest

from kdlib.data.dataset import DataSet, load
from kdlib.files import save_array, write_json

ORDER = list("dabe")  # the preset's pictures: some of the stickers, in another order


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    pd.DataFrame({"id": list("abcde"), "concept": ["ape", "bee", "cat", "dog", "elk"],
                  "licence": ["MIT", "CC0", "MIT", "MIT", "CC0"]}).to_parquet(tmp_path / "data" / "stickers.parquet")
    images = tmp_path / "reports" / "toy" / "images"
    save_array(images / "pictures.npy", pictures())
    write_json(images / "ids.json", ORDER)
    return tmp_path


def pictures() -> np.ndarray:
    """Each of one colour: its letter's place in the alphabet."""
    colours = np.array(["abcde".index(id) for id in ORDER], np.uint8)
    return np.broadcast_to(colours[:, None, None, None], (4, 5, 7, 3)).copy()


def test_a_row_of_the_table_is_its_picture_s(root):
    found = load("stickers", "toy", root)
    assert found.ids.tolist() == ORDER and found.table.index.tolist() == [0, 1, 2, 3] and len(found) == 4
    assert found.table.concept.tolist() == ["dog", "ape", "bee", "elk"]
    np.testing.assert_array_equal(found.pictures, pictures())
    assert isinstance(found.pictures, np.memmap)


def test_ids_find_rows_columns_and_pictures_in_their_own_shape(root):
    found, ids = load("stickers", "toy", root), np.array([["e", "d", "e"], ["b", "a", "b"]])
    np.testing.assert_array_equal(found.rows(ids), [[3, 0, 3], [2, 1, 2]])
    assert found.look_up("concept", ids).tolist() == [["elk", "dog", "elk"], ["bee", "ape", "bee"]]
    assert found.pictures_of(ids).shape == (2, 3, 5, 7, 3)
    assert found.pictures_of(ids)[..., 0, 0, 0].tolist() == [[4, 3, 4], [1, 0, 1]]
    assert found.pictures_of([]).shape == (0, 5, 7, 3)


def test_an_id_that_is_not_here_is_named(root):
    with pytest.raises(ValueError, match="no picture 'c'"):
        load("stickers", "toy", root).rows(["a", "c"])


def test_a_mask_keeps_rows_and_pictures_together(root):
    kept = load("stickers", "toy", root).where(np.array([True, False, False, True]))
    assert kept.ids.tolist() == ["d", "e"] and kept.table.index.tolist() == [0, 1]
    assert kept.pictures[:, 0, 0, 0].tolist() == [3, 4] and kept.rows(["e"]).tolist() == [1]
    assert isinstance(kept, DataSet)


def test_an_unknown_name_says_what_there_is(root):
    with pytest.raises(ValueError, match="no data set 'planets'; choose stickers"):
        load("planets", "toy", root)
