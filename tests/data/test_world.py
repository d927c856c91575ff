"""kdlib.data.world on icon sets made by hand: names, concepts, what stays out."""

import pandas as pd
import pytest

from kdlib.data.stickers import STYLES
from kdlib.data.world import SETS, UNUSED_SETS, ZERO_SHOT_SETS, clean_name, concept_of_key, make_world

STICKERS = pd.DataFrame([("red-apple", "train", "red apple, apple"), ("drum", "test", "drum"),
                         ("two-hearts", "test", "two hearts, 2hearts"), ("drum-set", "train", "drum")],
                        columns=["concept", "split", "keywords"])


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
    sets = {"game-icons": icon_set(["apple", "drum", "heron"], "CC-BY-3.0"),
            "streamline-color": icon_set(["two-hearts-flat"])}
    table = make_world(sets, STICKERS)
    assert table.id.tolist() == ["game-icons:apple", "game-icons:drum", "game-icons:heron",
                                 "streamline-color:two-hearts-flat"]
    assert table.concept.tolist() == ["red-apple", "drum", "heron", "two-hearts"]
    assert table.split.tolist() == ["train", "test", "train", "test"]
    assert table.colour.tolist() == [False, False, False, True]
    assert set(table.licence) == {"CC-BY-3.0", "MIT"} and set(table.author) == {"an artist"}
    assert table["svg"].str.startswith("<svg").all()


def test_copies_flags_and_held_out_concepts_by_the_generator_s_artists_stay_out():
    same = {"cat-16": "<a/>", "cat-24": "<b/>", "lynx": "<a/>"}
    sets = {"fluent-color": icon_set(same, bodies=same),
            "emojione-v1": icon_set(["drum", "apple", "flag-for-france"])}
    table = make_world(sets, STICKERS)
    assert table.id.tolist() == ["fluent-color:cat-16", "emojione-v1:apple"]


def test_a_non_commercial_set_is_refused():
    with pytest.raises(ValueError, match="game-icons is under CC-BY-NC-4.0, which forbids commercial use"):
        make_world({"game-icons": icon_set(["apple"], "CC-BY-NC-4.0")}, STICKERS)


def test_what_is_kept_for_tests_is_in_no_set():
    assert not set(SETS) & {*STYLES, *UNUSED_SETS, *ZERO_SHOT_SETS}
    assert len(set(SETS)) == len(SETS)
