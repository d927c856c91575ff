"""kdlib.data.stickers: the table in data/, its split, pictures and prompts; the builder on icon sets made by hand."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlib.data import build as module
from kdlib.data.build import (
    compose_prompts,
    fold_concepts,
    make_prompts,
    name_key,
    name_tone,
    read_icon_sets,
    read_icons,
    same_concept,
    split_words,
    strip_tone,
)
from kdlib.data.drawings import rasterise, render
from kdlib.data.stickers import (
    HELD_OUT_STYLES,
    STYLES,
    TRAINING_STYLES,
    encoder_rows,
    held_out_rows,
    known_concepts,
    load_prompts,
    load_stickers,
    select_pictures,
    training_rows,
)
from kdlib.params import find_root

COLUMNS = ["id", "style", "name", "title", "concept", "keywords", "skin_tone", "split", "author", "licence", "svg"]
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">{}</svg>'


@pytest.fixture(scope="module")
def table():
    """The bundled table, with `base`: each name without its skin tones."""
    table = load_stickers()
    names = {style: set(rows["name"]) for style, rows in table.groupby("style")}
    table["base"] = [strip_tone(name, names[style]) for name, style in zip(table.name, table["style"], strict=True)]
    return table


def on_both_sides(table, keys):
    """The keys that occur in training and in evaluation concepts."""
    sides = table["split"].groupby(pd.Series(list(keys), index=table.index)).nunique()
    return sides[sides > 1].index.tolist()


# --- the table -----------------------------------------------------------------------------------------------------

def test_columns_and_ids(table):
    assert list(load_stickers(find_root()).columns) == COLUMNS
    assert table.id.is_unique and (table.id == table["style"] + ":" + table["name"]).all()
    assert set(table["style"]) == set(STYLES) and set(table.split) == {"train", "test"}
    for column in set(COLUMNS) - {"skin_tone"}:
        assert (table[column].str.strip() != "").all(), column
    assert table.svg.str.startswith("<svg").all() and table.svg.str.endswith("</svg>").all()


def test_every_picture_has_an_author_and_a_free_licence(table):
    assert set(table.licence) == {"Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT"}
    assert (table.groupby("style")[["author", "licence"]].nunique() == 1).all(axis=None)


def test_missing_table_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"stickers\.parquet.*dvc pull"):
        load_stickers(tmp_path)


def test_split_depends_on_the_concept_alone(table):
    assert (table.groupby("concept")["split"].nunique() == 1).all()
    told = [int(hashlib.sha256(c.encode()).hexdigest(), 16) % 100 < 10 for c in table.concept]
    assert ((table.split == "test") == told).all()
    assert 0.08 < (table.drop_duplicates("concept").split == "test").mean() < 0.12


def test_no_name_is_on_both_sides_of_the_split(table):
    assert on_both_sides(table, table.base.map(name_key)) == []
    assert on_both_sides(table, table.title) == []
    # the same without name_key: words in any order, letters and digits run together, words as a title shows them
    words = table.base.str.replace("-(?:for|of|the)(?=-)", "", regex=True).str.split("-")
    assert on_both_sides(table, words.map(sorted).str.join(" ")) == []
    assert on_both_sides(table, table.base.map(lambda n: re.sub("[^a-z0-9]", "", n))) == []


def test_no_keyword_is_on_both_sides_of_the_split(table):
    concepts = table.drop_duplicates("concept")
    words = concepts.assign(word=concepts.keywords.str.split(", ")).explode("word").reset_index(drop=True)
    assert on_both_sides(words, words.word) == []
    assert on_both_sides(words, words.word.str.replace(" ", "-").map(name_key)) == []
    base = table.base.str.replace(r"-\d$|-facing-right$", "", regex=True).str.replace("-", " ")
    told = table.keywords.str.split(", ")
    assert all(name in names for name, names in zip(base, told, strict=True))


def test_no_drawing_is_on_both_sides_of_the_split(table):
    assert on_both_sides(table, table.svg) == []


def test_skin_tones(table):
    assert ((table.skin_tone == "") == (table.base == table["name"])).all()
    assert (table.skin_tone[table["style"] == "fluent-emoji"] == "").all()
    assert (table.skin_tone[table["style"] == "fluent-emoji-flat"] != "").any()
    tones = {tone for several in table.skin_tone for tone in several.split()}
    assert tones == {"light", "medium-light", "medium", "medium-dark", "dark"}


def test_training_rows_hold_nothing_back(table):
    assert set(TRAINING_STYLES) & set(HELD_OUT_STYLES) == set()
    rows = training_rows(table)
    assert rows.dtype == bool and rows.shape == (len(table),)
    chosen, others = table[rows], table[~rows]
    assert set(chosen["style"]) == set(TRAINING_STYLES)
    assert set(chosen.split) == {"train"} and set(chosen.skin_tone) == {""}
    held_back = others["style"].isin(HELD_OUT_STYLES) | (others.split == "test") | (others.skin_tone != "")
    assert held_back.all()


def test_held_out_rows_are_the_other_concepts_of_the_same_styles(table):
    rows = held_out_rows(table)
    assert rows.dtype == bool and rows.shape == (len(table),) and not (rows & training_rows(table)).any()
    in_styles = table["style"].isin(TRAINING_STYLES) & (table.skin_tone == "")
    assert ((rows | training_rows(table)) == in_styles).all()
    assert not set(table.concept[rows]) & set(table.concept[training_rows(table)]) and rows.any()


def is_new(concept: str) -> bool:
    return int(hashlib.sha256(concept.encode()).hexdigest(), 16) // 100 % 4 == 0


def openmoji(concepts):
    return pd.DataFrame({"concept": concepts, "split": "test", "style": "openmoji"})


@given(names=st.sets(st.text("abcdefgh-", min_size=3), min_size=1))
def test_a_quarter_of_the_held_out_concepts_is_new(names):
    """It depends on the concept alone: not on the others, not on order; never is one known that only trains."""
    stickers = openmoji(sorted(names))
    known = known_concepts(stickers)
    assert known == {name for name in names if not is_new(name)} == known_concepts(stickers[::-1])
    assert not known_concepts(stickers.assign(split="train")) and not known_concepts(stickers.assign(style="noto"))
    many = openmoji([f"{name} {n}" for name in names for n in range(400 // len(names) + 1)])
    assert 0.65 < len(known_concepts(many)) / len(many) < 0.85


def test_the_encoder_sees_no_new_concept_and_known_ones_by_other_artists_only(table):
    rows = encoder_rows(table)
    assert rows.dtype == bool and rows.shape == (len(table),) and rows[table.split == "train"].all()
    told = table[rows & (table.split == "test")]
    assert set(told["style"]) == set(HELD_OUT_STYLES) and not told.concept.map(is_new).any()
    by_others = table[(table.split == "test") & table["style"].isin(HELD_OUT_STYLES)]
    assert len(told) == (~by_others.concept.map(is_new)).sum()
    assert 0.65 < told.concept.nunique() / by_others.concept.nunique() < 0.85


@given(small=st.integers(1, 40), more=st.integers(0, 40))
def test_selections_are_nested_and_whole(small, more):
    concepts = [f"c{n}" for n in np.random.default_rng(7).integers(0, 30, 111)]
    table = pd.DataFrame({"concept": concepts, "row": range(111)})
    inner, outer = select_pictures(table, small), select_pictures(table, small + more)
    assert set(inner.row) <= set(outer.row) and inner.row.is_monotonic_increasing
    assert inner.concept.nunique() == min(small, len(set(concepts)))
    assert len(inner) == sum(concept in set(inner.concept) for concept in concepts)
    assert select_pictures(table, None).equals(table)


def test_selection_of_the_bundled_table_has_both_splits(table):
    chosen = select_pictures(table, 200)
    assert set(chosen.split) == {"train", "test"} and set(chosen["style"]) == set(STYLES)


# --- pictures ------------------------------------------------------------------------------------------------------

def test_rasterise_gives_the_same_bytes_twice(table):
    svgs = table.groupby("style").svg.first().tolist()
    first, second = rasterise(svgs, 33), rasterise(svgs, 33)
    assert first.shape == (len(STYLES), 33, 33, 3) and first.dtype == np.uint8
    assert first.tobytes() == second.tobytes()
    for svg, picture in zip(svgs, first, strict=True):
        assert np.array_equal(np.asarray(render(svg, 33)), picture)
        assert picture.min() < 250 and (picture == 255).all(-1).any()


@pytest.mark.parametrize("size", [5, 8, 64])
def test_render_is_rgb_of_that_size_on_white(size):
    empty = render(SQUARE.format(""), size)
    assert empty.mode == "RGB" and empty.size == (size, size)
    assert (np.asarray(empty) == 255).all()


def test_render_draws_what_the_vectors_say():
    half = np.asarray(render(SQUARE.format('<rect width="2" height="4" fill="#ff0000" fill-opacity=".5"/>'), 8))
    assert (half[:, 4:] == 255).all()
    assert (half[:, :4, 0] == 255).all() and (np.abs(half[:, :4, 1:].astype(int) - 127.5) <= 1).all()


def test_render_centres_a_picture_that_is_not_square():
    wide = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 2"><rect width="4" height="2" fill="#000"/></svg>'
    picture = np.asarray(render(wide, 8))
    assert (picture[2:6] == 0).all() and (picture[:2] == 255).all() and (picture[6:] == 255).all()


# --- names ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("left, right", [
    ("two-hearts", "2hearts"), ("strawberry-1", "strawberry"), ("black-heart-suit", "blackheartsuit"),
    ("flag-for-france", "france-flag"), ("flag-for-flag-france", "flag-france"), ("keycap-5", "five"),
    ("person-running-facing-right", "person-running"), ("clock1thirty", "one-thirty")])
def test_spellings_of_one_name_share_a_key(left, right):
    assert name_key(left) == name_key(right)


@pytest.mark.parametrize("left, right", [
    ("two-hearts", "three-hearts"), ("red-apple", "green-apple"), ("keycap-1", "keycap-2"), ("cat", "cat-face"),
    ("one-thirty", "two-thirty"), ("flag-france", "france"), ("pool-8-ball", "pool")])
def test_different_names_have_different_keys(left, right):
    assert name_key(left) != name_key(right)


def test_strip_tone():
    toned = {f"judge-{t}" for t in ("light", "medium-light", "medium", "medium-dark", "dark")} | {"judge", "hair-dark"}
    assert strip_tone("man-judge-dark-skin-tone", set()) == "man-judge"
    assert strip_tone("handshake-light-skin-tone-medium-dark-skin-tone", set()) == "handshake"
    assert strip_tone("thumbs-up-tone3", set()) == "thumbs-up"
    assert strip_tone("judge-medium-dark", toned) == strip_tone("judge-dark", toned) == "judge"
    assert strip_tone("hair-dark", toned) == "hair-dark"  # no tone: "hair-light" and "hair-medium" do not exist
    assert strip_tone("red-apple", toned) == "red-apple"


def test_name_tone():
    assert name_tone("man-judge-dark-skin-tone") == "dark"
    assert name_tone("handshake-light-skin-tone-medium-dark-skin-tone") == "light medium-dark"
    assert name_tone("judge-medium-light") == "medium-light"
    assert name_tone("red-apple") == ""


def test_split_words():
    words = {"black", "heart", "suit", "blackheart", "he", "art", "a"}
    assert split_words("blackheartsuit", words) == ["blackheart", "suit"]  # the fewest words
    assert split_words("blackheartsuit", words - {"blackheart"}) == ["black", "heart", "suit"]
    assert split_words("heart", words) == ["heart"]
    assert split_words("heartx", words) == ["heartx"]
    assert split_words("black heart", words) == ["black heart"]


@given(parts=st.lists(st.sampled_from(["black", "heart", "suit", "apple"]), min_size=1, max_size=4))
def test_split_words_loses_no_letter(parts):
    assert split_words("".join(parts), {"black", "heart", "suit", "apple"}) == parts


# --- building ------------------------------------------------------------------------------------------------------

def icon_set(names, chars=None, aliases=None, **more):
    return {"icons": {name: {"body": f"<g id='{name}'/>"} for name in names}, "chars": chars or {},
            "aliases": {alias: {"parent": parent} for alias, parent in (aliases or {}).items()},
            "info": {"author": {"name": "Ada"}, "license": {"spdx": "MIT"}}, **more}


def test_read_icons_leaves_out_hidden_ones_and_keeps_boxes():
    icons = icon_set(["red-apple", "old", "cat"], width=36, height=36)
    icons["icons"]["old"]["hidden"] = True
    icons["icons"]["cat"] |= {"width": 18.5, "left": -1}
    rows = read_icons("noto", icons)
    assert [row["id"] for row in rows] == ["noto:cat", "noto:red-apple"]
    assert 'viewBox="-1 0 18.5 36"' in rows[0]["svg"] and 'viewBox="0 0 36 36"' in rows[1]["svg"]
    assert "<g id='cat'/>" in rows[0]["svg"] and rows[0]["author"] == "Ada" and rows[0]["licence"] == "MIT"


def test_read_icons_drops_the_skin_tones_of_fluent_emoji_alone():
    icons = icon_set(["ear", "ear-light-skin-tone", "ear-dark-skin-tone"])
    assert [row["name"] for row in read_icons("fluent-emoji", icons)] == ["ear"]
    rows = {row["name"]: row for row in read_icons("fluent-emoji-flat", icons)}
    assert {name: row["skin_tone"] for name, row in rows.items()} == {
        "ear": "", "ear-light-skin-tone": "light", "ear-dark-skin-tone": "dark"}
    assert {row["base"] for row in rows.values()} == {"ear"}


def folded(sets):
    sets = {style: sets.get(style, icon_set([])) for style in STYLES}
    table = fold_concepts(pd.DataFrame(row for style in STYLES for row in read_icons(style, sets[style])), sets)
    return table.set_index("id")


def test_concepts_are_joined_by_key_alias_and_code_point():
    table = folded({
        "twemoji": icon_set(["red-apple", "grin", "two-hearts", "ear-dark-skin-tone"],
                            chars={"1f34e": "red-apple", "1f442-1f3ff": "ear-dark-skin-tone"}),
        "noto": icon_set(["apple", "cat", "beaming-face", "2hearts"], chars={"1f34e-fe0f": "apple"},
                         aliases={"grin": "beaming-face"}),
        "openmoji": icon_set(["lughole", "feline"], chars={"1f442": "lughole"}, aliases={"feline": "cat"})})
    concept = table.concept.to_dict()
    assert concept["twemoji:red-apple"] == concept["noto:apple"]  # one code point
    assert concept["twemoji:grin"] == concept["noto:beaming-face"]  # an alias in another set
    assert concept["twemoji:two-hearts"] == concept["noto:2hearts"]  # one key
    assert concept["twemoji:ear-dark-skin-tone"] == concept["openmoji:lughole"]  # one code point but for the tone
    assert concept["noto:cat"] == concept["openmoji:feline"]
    assert table.concept.nunique() == 5
    assert table.keywords["noto:apple"] == "apple, red apple"


def test_a_chain_of_code_points_and_aliases_is_one_concept():
    table = folded({"twemoji": icon_set(["a-a", "far"], chars={"1f600": "a-a"}),
                    "noto": icon_set(["b-b"], chars={"1f600": "b-b"}, aliases={"c-c": "b-b"}),
                    "openmoji": icon_set(["c-c", "d-d"], chars={"1f601": "c-c"}),
                    "fxemoji": icon_set(["e-e"], chars={"1f601": "e-e"})})
    assert table.concept[["twemoji:a-a", "noto:b-b", "openmoji:c-c", "fxemoji:e-e"]].nunique() == 1
    assert table.concept.nunique() == 3


def test_an_alias_that_changes_the_drawing_joins_nothing():
    icons = icon_set(["left", "right"], aliases={"up": "left"})
    icons["aliases"]["down"] = {"parent": "right", "rotate": 1}
    assert same_concept("noto", icons) == [("up", "left")]


def test_icon_sets_are_read_out_of_the_package():
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        for style in [*STYLES, "foreign"]:
            content = json.dumps({"prefix": style}).encode()
            entry = tarfile.TarInfo(f"package/json/{style}.json")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert read_icon_sets(package.getvalue()) == {style: {"prefix": style} for style in STYLES}


def test_another_package_is_refused(monkeypatch):
    monkeypatch.setattr(module.subprocess, "run", lambda command, cwd, **_: Path(cwd, "other.tgz").write_bytes(b""))
    with pytest.raises(ValueError, match=hashlib.sha256(b"").hexdigest()):
        module.fetch_package()


# --- prompts -------------------------------------------------------------------------------------------------------

def test_name_prompts_are_the_titles_of_held_out_concepts(table):
    prompts = load_prompts()
    assert list(prompts.columns) == ["prompt", "kind", "concept"] and prompts.prompt.is_unique
    named = prompts[prompts.kind == "name"]
    held_out = table[table.split == "test"].groupby("concept").agg(title=("title", "first"),
                                                                   styles=("style", "nunique"))
    wanted = held_out[held_out.styles >= 2]
    assert dict(zip(named.concept, named.prompt, strict=True)) == wanted.title.to_dict()
    assert set(named.concept).isdisjoint(table.concept[table.split == "train"])


def test_composed_prompts_are_no_names(table):
    prompts = load_prompts()
    composed = prompts.prompt[prompts.kind == "composed"]
    assert set(prompts.kind) == {"name", "composed"} and 180 <= len(composed) <= 220
    assert set(composed) <= set(compose_prompts())
    names = {*table["name"].str.replace("-", " "), *table.title, *", ".join(table.keywords.unique()).split(", ")}
    squashed = {name.replace(" ", "") for name in names}
    for prompt in composed:
        bare = re.sub(r"^an? ", "", prompt)
        assert {prompt, bare}.isdisjoint(names) and bare.replace(" ", "") not in squashed, prompt


def test_prompts_follow_from_the_table(table):
    made = make_prompts(table[COLUMNS])
    pd.testing.assert_frame_equal(made.astype(object), load_prompts().astype(object))
