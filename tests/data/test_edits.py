"""kdlib.data.edits: what counts as a true edit, by hand on a few pictures; caps; the bundled sets."""

from itertools import product

import pandas as pd

from kdlib.data.edits import MAX_PER_FAMILY, MAX_PER_TEXT, all_edits, find_edits


def table(*pictures):
    """Rows from (style, concept, skin tone, split)."""
    return pd.DataFrame([{"id": f"{style}:{concept}{tone and '-' + tone}", "style": style, "concept": concept,
                          "skin_tone": tone, "split": split, "author": f"author of {style}", "licence": "MIT"}
                         for style, concept, tone, split in pictures])


def found(stickers):
    return {(row.family, row.source, row.instruction, row.target, row.held_out)
            for row in find_edits(stickers).itertuples()}


def test_both_ends_are_of_one_hand():
    stickers = table(("noto", "red-heart", "", "train"), ("noto", "blue-heart", "", "test"),
                     ("twemoji", "green-heart", "", "train"), ("noto", "blue-book", "", "train"))
    assert found(stickers) == {("colour", "noto:red-heart", "a blue heart", "noto:blue-heart", "target"),
                               ("colour", "noto:blue-heart", "a red heart", "noto:red-heart", "source")}


def test_skin_tones_and_what_people_are():
    stickers = table(("noto", "man", "", "test"), ("noto", "man", "dark", "test"), ("noto", "man-farmer", "", "train"),
                     ("noto", "man-farmer", "dark", "train"), ("noto", "woman-red-hair", "", "train"))
    assert found(stickers) == {
        ("skin tone", "noto:man", "man with dark skin", "noto:man-dark", "both"),
        ("skin tone", "noto:man-farmer", "man farmer with dark skin", "noto:man-farmer-dark", "neither"),
        ("trade", "noto:man", "a man as a farmer", "noto:man-farmer", "source")}


def test_where_there_are_many_held_out_targets_come_first():
    colours = ["red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "pink", "grey"]
    split = {"red": "test", "blue": "test"}
    of_all = product(["noto", "twemoji", "openmoji"], ["heart", "book"], colours)
    stickers = table(*[(style, f"{colour}-{thing}", "", split.get(colour, "train")) for style, thing, colour in of_all])
    edits = find_edits(stickers)
    assert len(edits) == MAX_PER_FAMILY < 3 * 2 * 11 * 10
    assert edits.groupby("instruction").size().max() == MAX_PER_TEXT
    of_held_out = edits.instruction.isin([f"a {colour} {thing}" for colour in split for thing in ("heart", "book")])
    assert of_held_out.sum() == 4 * MAX_PER_TEXT and of_held_out.head(4 * MAX_PER_TEXT).all()


def test_the_order_of_the_rows_does_not_matter():
    stickers = table(*[("noto", f"{hour}-oclock", "", "train") for hour in ("one", "two", "three", "four", "five")])
    pd.testing.assert_frame_equal(find_edits(stickers), find_edits(stickers.iloc[::-1].reset_index(drop=True)))


def test_no_rule_leads_from_a_picture_to_itself():
    edits = list(all_edits(["man"]))
    assert all(edit.source != edit.target or edit.tone for edit in edits)
    assert len({(edit.source, edit.target, edit.tone) for edit in edits}) == len(edits)
