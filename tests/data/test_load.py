"""kdlib.data.dataset: pictures and what is known of them, in the pictures' order; which of them who trains on."""

import numpy as np
import pandas as pd
import pytest

from kdlib.data.dataset import DataSet, concatenate, load, tokenizer_set, training_set
from kdlib.data.world import make_world
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
    with pytest.raises(ValueError, match="no data set 'planets'; choose stickers or world"):
        load("planets", "toy", root)


# --- two data sets, and who trains on what of them -----------------------------------------------------------------

HELD_OUT = {"harp", "drum", "gong"}  # harp is known; drum is new by its hash, and gong since no held-out style draws it
STICKERS = ["noto:apple", "noto:ear", "noto:ear-dark", "noto:harp", "noto:drum", "twemoji:gong", "openmoji:apple",
            "openmoji:ear-dark", "openmoji:harp", "openmoji:harp-dark", "openmoji:drum"]
WORLD = ["game-icons:apple", "game-icons:harp", "flat-ui:apple", "flat-ui:harp", "flat-ui:heron",
         "streamline-color:apple"]
IN_COLOUR = ("flat-ui", "streamline-color")
WANTED = {training_set: ({"noto:apple", "noto:ear"}, set()),
          tokenizer_set: ({"noto:apple", "noto:ear", "openmoji:apple"},
                          {"flat-ui:apple", "flat-ui:heron", "streamline-color:apple"})}


def table_of(ids: list[str]) -> pd.DataFrame:
    """What an id says: its style, its concept and a skin tone."""
    parts = pd.Series(ids).str.extract("(?P<style>[^:]+):(?P<concept>[a-z]+)-?(?P<skin_tone>.*)")
    split = ["test" if concept in HELD_OUT else "train" for concept in parts.concept]
    return parts.assign(id=ids, split=split, title=parts.concept, keywords=parts.concept, licence="MIT")


def greys(ids) -> list[int]:
    """The grey of each id's picture: no two have the same."""
    return [(STICKERS + WORLD).index(id) for id in ids]


def write_pictures(folder, ids):
    levels = np.array(greys(ids), np.uint8).reshape(-1, 1, 1, 1)
    save_array(folder / "pictures.npy", np.broadcast_to(levels, (len(ids), 5, 7, 3)).copy())
    write_json(folder / "ids.json", list(ids))


def write_world(root, world):
    write_pictures(root / "reports" / "toy" / "world", world.id.tolist())
    world.to_parquet(root / "reports" / "toy" / "world" / "world.parquet")


@pytest.fixture
def both(tmp_path):
    """A root with stickers, whose table is in another order than the pictures, and a world."""
    (tmp_path / "data").mkdir()
    table_of(STICKERS).to_parquet(tmp_path / "data" / "stickers.parquet")
    write_pictures(tmp_path / "reports" / "toy" / "images", STICKERS[::-1])
    write_world(tmp_path, table_of(WORLD).drop(columns="skin_tone").assign(
        colour=lambda of: of["style"].isin(IN_COLOUR)))
    return tmp_path


def test_the_world_is_a_data_set_too(both):
    found = load("world", "toy", both)
    assert found.ids.tolist() == WORLD and isinstance(found.pictures, np.memmap)
    assert found.pictures[:, 0, 0, 0].tolist() == greys(WORLD)
    assert found.table.colour.tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("made", WANTED, ids=lambda made: made.__name__)
def test_each_trains_on_all_that_it_may_see_and_on_nothing_else(made, both):
    found, (stickers, world) = made("toy", both), WANTED[made]
    assert set(found.ids[:len(stickers)]) == stickers and set(found.ids[len(stickers):]) == world
    assert len(found) == len(stickers) + len(world) and found.pictures[:, 4, 6, 2].tolist() == greys(found.ids)
    assert {"style", "title", "concept", "keywords", "split"} <= set(found.table)


@pytest.mark.parametrize("made", WANTED, ids=lambda made: made.__name__)
def test_without_a_world_they_train_on_the_stickers(made, both):
    write_world(both, make_world({}, table_of(STICKERS)))
    assert set(made("toy", both).ids) == WANTED[made][0]


def test_data_sets_are_one_after_another_with_the_columns_that_all_of_them_have():
    of = lambda letters, *columns: DataSet(
        pd.DataFrame({name: [f"{letter} {name}" for letter in letters] for name in columns}),
        np.array([ord(letter) for letter in letters], np.uint8)[:, None, None, None] * np.ones((1, 5, 7, 3), np.uint8))
    one = concatenate(of("zax", "id", "title", "tone", "author", "style"),
                      of("bycvd", "style", "colour", "id", "author", "title"), of("u", "title", "style", "id"))
    assert one.table.columns.tolist() == ["id", "title", "style"] and one.table.index.tolist() == list(range(9))
    assert one.ids.tolist() == [f"{letter} id" for letter in "zaxbycvdu"]
    assert one.table["style"].tolist() == [f"{letter} style" for letter in "zaxbycvdu"]
    assert one.pictures.shape == (9, 5, 7, 3) and one.pictures[:, 4, 6, 2].tolist() == [ord(a) for a in "zaxbycvdu"]
