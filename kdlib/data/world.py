"""The data set `world`: drawings of many other artists, for the parts that have to have seen nearly everything.

The paper's encoder and tokenizer were trained on the world's pictures, and only its generator is new. These sets of the
pinned npm package stand for the world here. The stage `world` fetches them; they are not bundled, since only who trains
encoder, tokenizer or generator anew needs them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from kdlib.data.build import fetch_package, name_key, read_icon_sets, read_icons, strip_tone
from kdlib.data.stickers import known_concepts

COLOUR_SETS = ("emojione-v1", "flat-ui", "fluent-color", "streamline-color", "streamline-cyber-color",
               "streamline-flex-color", "streamline-freehand-color", "streamline-plump-color",
               "streamline-sharp-color", "streamline-ultimate-color")
# Drawings of several colours, no share-alike licence: what benchmarks/lessons shows a generator. The others are blue.
SUITED_SETS = ("flat-ui", "fluent-color", "streamline-freehand-color", "streamline-ultimate-color")
BLACK_EMOJI_SETS = ("emojione-monotone", "fluent-emoji-high-contrast")
BLACK_SETS = ("covid", "game-icons", "healthicons", "maki", "medical-icon", "osmic", "pinhead", "roentgen", "temaki")
SETS_BY_KIND = {"colour": COLOUR_SETS, "emoji": BLACK_EMOJI_SETS, "black": BLACK_SETS}
SETS = COLOUR_SETS + BLACK_EMOJI_SETS + BLACK_SETS
# The same artists as in the generator's styles, so that held-out concepts must not be here in their hands either.
KIN = ("emojione-v1", "emojione-monotone", "fluent-emoji-high-contrast")
UNUSED_SETS = ("icon-park", "meteocons", "flat-color-icons", "streamline-kameleon-color", "glyphs-poly")
ZERO_SHOT_SETS = ("streamline-stickies-color", "marketeq")  # to be asked for by name, and never seen before
SIZE = re.compile(r"-(?:\d\d(?:px)?)$")
STYLE_WORD = re.compile(
    r"-(?:outline|outlined|filled|fill|flat|duo|duotone|solid|stroked|line|linear|bold|negative|alt)$")
COLUMNS = ["id", "style", "name", "title", "concept", "keywords", "split", "colour", "author", "licence", "svg"]


def make_world(sets: dict[str, dict], stickers: pd.DataFrame) -> pd.DataFrame:
    """The pictures of `sets` (Iconify's JSON by name), one row each, in the order of sets and names.

    Columns as of `load_stickers`, with `colour` (bool) for skin_tone. `concept` is the stickers' where a name is one of
    its names, else the name itself; `split` is "test" for the held-out ones of these. Left out are copies of a drawing
    (in other sizes, or in two sets), flags of countries, and held-out concepts: those that stay new to all
    (`known_concepts`), and all of them in the sets of KIN.

    Raises ValueError for a set under a licence that forbids commercial use.
    """
    rows = [icon for style in sets for icon in read_icons(style, checked(style, sets[style]))]
    if not rows:
        return pd.DataFrame({name: pd.Series(dtype=bool if name == "colour" else str) for name in COLUMNS})
    table = pd.DataFrame(rows)
    table = table[(table.skin_tone == "") & ~table.name.str.match(r"flag-(?:for-)?")]
    table["title"] = table.name.map(clean_name)
    table = table[table.title != ""].assign(drawing=table.name.str.replace(SIZE, "", regex=True))
    table = table.drop_duplicates(["style", "drawing"]).drop_duplicates("svg")
    known = concept_of_key(stickers)
    keys = table.title.str.replace(" ", "-").map(name_key)
    table["concept"] = [known.get(key, key) for key in keys]
    held_out = set(stickers.concept[stickers.split == "test"])
    table["split"] = ["test" if concept in held_out else "train" for concept in table.concept]
    table["colour"], table["keywords"] = table["style"].isin(COLOUR_SETS), table.title
    known = table.concept.isin(known_concepts(stickers)) & ~table["style"].isin(KIN)
    kept = (table.split == "train") | known
    return table.loc[kept, COLUMNS].reset_index(drop=True)


def checked(style: str, icon_set: dict) -> dict:
    """The set, unless its licence is a non-commercial one."""
    if "-NC" in icon_set["info"]["license"]["spdx"]:
        raise ValueError(f"{style} is under {icon_set['info']['license']['spdx']}, which forbids commercial use")
    return icon_set


def clean_name(name: str) -> str:
    """A picture's name in words, without words of style, size or number: "open-book-2-outline-24px" -> "open book"."""
    before = None
    while before != name:
        before, name = name, re.sub(r"-\d{1,2}$", "", STYLE_WORD.sub("", SIZE.sub("", name)))
    return " ".join(word for word in name.split("-") if word)


def concept_of_key(stickers: pd.DataFrame) -> dict[str, str]:
    """The concept of every name that the stickers know, by its `name_key`; where two share a key, the held-out one."""
    rows = stickers.drop_duplicates("concept")[["concept", "split", "keywords"]].sort_values("split", ascending=False)
    return {name_key(strip_tone(name.replace(" ", "-"), ())): concept
            for concept, _, names in rows.itertuples(index=False) for name in names.split(", ")}


def load_world(kinds: Sequence[str], stickers: pd.DataFrame) -> pd.DataFrame:
    """`make_world` of all sets of some kinds (names of SETS_BY_KIND), which are fetched unless there are none.

    Raises ValueError for another kind, and as `fetch_package` does.
    """
    if unknown := sorted(set(kinds) - SETS_BY_KIND.keys()):
        raise ValueError(f"there is no kind of sets {unknown[0]!r}; choose among {', '.join(SETS_BY_KIND)}")
    sets = [name for kind in kinds for name in SETS_BY_KIND[kind]]
    return make_world(read_icon_sets(fetch_package(), sets) if sets else {}, stickers)
