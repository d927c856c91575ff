"""kdlib.data.world on icon sets made by hand: names, concepts, what stays out."""

import hashlib
import itertools

import pandas as pd
import pytest

from kdlib.data import world as module
from kdlib.data.stickers import STYLES
from kdlib.data.world import (
    COLUMNS,
    KIN,
    SETS,
    SETS_BY_KIND,
    UNUSED_SETS,
    ZERO_SHOT_SETS,
    clean_name,
    concept_of_key,
    load_world,
    make_world,
)

# Held out are a known one, two-hearts, and two new ones: drum by its hash, gong since no held-out style draws it.
STICKERS = pd.DataFrame([("red-apple", "train", "red apple, apple", "noto"), ("drum", "test", "drum", "openmoji"),
                         ("two-hearts", "test", "two hearts, 2hearts", "openmoji"), ("gong", "test", "gong", "noto"),
                         ("drum-set", "train", "drum", "openmoji")],
                        columns=["concept", "split", "keywords", "style"])


def icon_set(names, spdx="MIT", author="an artist", bodies=None):
    bodies = bodies or {name: f"<path id='{author} {name}'/>" for name in names}
    return {"info": {"author": {"name": author}, "license": {"spdx": spdx}},
            "icons": {name: {"body": bodies[name]} for name in names}}


@pytest.mark.parametrize("name, words", [
    ("open-book-2-outline-24px", "open book"), ("add-circle-16", "add circle"), ("pin-1-flat", "pin"),
    ("7", "7"), ("hot-air-balloon", "hot air balloon"), ("headline", "headline"), ("2hearts", "2hearts")])
def test_names_lose_the_words_of_style_size_and_number(name, words):
    assert clean_name(name) == words


def test_a_name_that_two_concepts_have_is_the_held_out_one():
    assert concept_of_key(STICKERS)["drum"] == "drum"
    assert concept_of_key(STICKERS)["2hearts"] == "two-hearts"


def test_rows_have_concepts_splits_and_whose_they_are():
    sets = {"game-icons": icon_set(["apple", "heron", "two-hearts"], "CC-BY-3.0"),
            "streamline-color": icon_set(["2hearts-flat", "pole-star"])}
    table = make_world(sets, STICKERS)
    assert table.columns.tolist() == COLUMNS
    assert table.id.tolist() == ["game-icons:apple", "game-icons:heron", "game-icons:two-hearts",
                                 "streamline-color:2hearts-flat", "streamline-color:pole-star"]
    assert table.concept.tolist() == ["red-apple", "heron", "two-hearts", "two-hearts", "polestar"]
    assert table.split.tolist() == ["train", "train", "test", "test", "train"]
    assert table.keywords.tolist() == table.title.tolist() == ["apple", "heron", "two hearts", "2hearts", "pole star"]
    assert table.colour.tolist() == [False, False, False, True, True]
    assert set(table.licence) == {"CC-BY-3.0", "MIT"} and set(table.author) == {"an artist"}
    assert table["svg"].str.startswith("<svg").all()


def test_copies_and_flags_stay_out():
    same = {"cat-16": "<a/>", "cat-24": "<b/>", "lynx": "<a/>"}
    sets = {"fluent-color": icon_set(same, bodies=same), "emojione-v1": icon_set(["apple", "flag-for-france"])}
    assert make_world(sets, STICKERS).id.tolist() == ["fluent-color:cat-16", "emojione-v1:apple"]


@pytest.mark.parametrize("style, kept", [("game-icons", ["red-apple", "two-hearts"]),
                                         ("streamline-color", ["red-apple", "two-hearts"]),
                                         *[(style, ["red-apple"]) for style in KIN]])
def test_held_out_concepts_stay_out_if_they_are_new_or_by_the_generator_s_artists(style, kept):
    table = make_world({style: icon_set(["apple", "drum", "gong", "two-hearts"])}, STICKERS)
    assert table.concept.tolist() == kept


def test_a_quarter_of_the_held_out_concepts_is_in_no_hand():
    words = ["".join(letters) for letters in itertools.product("bdfgklmn", "aiou", "pqrstv", "aiu")]
    stickers = pd.DataFrame({"concept": words, "split": "test", "keywords": words, "style": "openmoji"})
    table = make_world({style: icon_set(words, author=style) for style in ("game-icons", "flat-ui")}, stickers)
    known = sorted(word for word in words if int(hashlib.sha256(word.encode()).hexdigest(), 16) // 100 % 4)
    assert table.concept.tolist() == known + known and set(table.split) == {"test"}
    assert 0.65 < len(known) / len(words) < 0.85


def test_no_sets_make_an_empty_table_of_the_same_columns_and_types():
    empty, full = make_world({}, STICKERS), make_world({"game-icons": icon_set(["apple"])}, STICKERS)
    assert len(empty) == 0 and empty.dtypes.to_dict() == full.dtypes.to_dict() and empty.columns.tolist() == COLUMNS


def test_a_non_commercial_set_is_refused():
    with pytest.raises(ValueError, match="game-icons is under CC-BY-NC-4.0, which forbids commercial use"):
        make_world({"game-icons": icon_set(["apple"], "CC-BY-NC-4.0")}, STICKERS)


def test_what_is_kept_for_tests_is_in_no_set():
    assert not set(SETS) & {*STYLES, *UNUSED_SETS, *ZERO_SHOT_SETS}
    assert len(set(SETS)) == len(SETS)


# --- fetching ------------------------------------------------------------------------------------------------------

def never():
    raise AssertionError("the package was fetched")


def test_no_kinds_fetch_nothing(monkeypatch):
    monkeypatch.setattr(module, "fetch_package", never)
    assert len(load_world([], STICKERS)) == 0


def test_an_unknown_kind_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(module, "fetch_package", never)
    with pytest.raises(ValueError, match="no kind of sets 'photos'; choose among colour, emoji, black"):
        load_world(["colour", "photos"], STICKERS)


def test_the_sets_of_the_kinds_are_read_and_no_others(monkeypatch):
    monkeypatch.setattr(module, "fetch_package", lambda: b"the package")
    monkeypatch.setattr(module, "read_icon_sets", lambda package, styles: {
        style: icon_set(["apple"], author=f"{style} in {package.decode()}") for style in styles})
    table = load_world(["emoji", "colour"], STICKERS)
    assert table["style"].tolist() == [*SETS_BY_KIND["emoji"], *SETS_BY_KIND["colour"]]
    assert table.author[0] == "emojione-monotone in the package"
    assert sorted(itertools.chain(*SETS_BY_KIND.values())) == sorted(SETS)
