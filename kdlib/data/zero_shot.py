"""Sets of drawings that no part has seen in any form, with their own names as captions (Table 1's sets, on stickers).

Two of the npm package's sets were set aside before anything was trained on it; the third is Open Clip Art.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from kdlib.data.build import fetch_package, name_key, read_icon_sets, read_icons
from kdlib.data.drawings import render
from kdlib.data.openclipart import fetch_openclipart, read_openclipart
from kdlib.data.stickers import STYLES
from kdlib.data.world import ZERO_SHOT_SETS, checked, clean_name, concept_of_key

SETS = (*ZERO_SHOT_SETS, "openclipart")
COLUMNS = ["id", "style", "title", "concept", "seen", "author", "licence", "svg"]


def load_zero_shot(sets: Sequence[str], stickers: pd.DataFrame) -> pd.DataFrame:
    """The drawings of some SETS, which are fetched; a bundled style stands in where its name is given, for tests.

    Columns, a row for each title of a set, in their order: id, style (the set), title (its own name in words), concept
    (the stickers', where a name is one of its names, else the name), seen (bool: do generators train on that concept,
    in other hands?), author, licence, svg. Raises ValueError for another name, and as the fetching does.
    """
    if unknown := sorted(set(sets) - {*SETS, *STYLES}):
        raise ValueError(f"there is no set {unknown[0]!r}; choose among {', '.join(SETS)}")
    tables = []
    if packed := [name for name in sets if name in ZERO_SHOT_SETS]:
        icons = read_icon_sets(fetch_package(), packed)
        tables += [of_icons(name, icons[name]) for name in packed]
    if "openclipart" in sets:
        tables.append(read_openclipart(fetch_openclipart()))
    tables += [stand_in(name, stickers) for name in sets if name in STYLES]
    return with_concepts(pd.concat(tables, ignore_index=True), stickers)


def of_icons(name: str, icon_set: dict) -> pd.DataFrame:
    """A set of the npm package (Iconify's JSON): of drawings with one name in words, the first."""
    table = pd.DataFrame(read_icons(name, checked(name, icon_set)))
    table["title"] = table.name.map(clean_name)
    table = table[table.title.str.contains("[a-z]{3}", regex=True)]
    return table.drop_duplicates("title").drop_duplicates("svg")


def stand_in(style: str, stickers: pd.DataFrame) -> pd.DataFrame:
    """Held-out concepts of a bundled style: nothing new to the encoder, but nothing to fetch either."""
    rows = stickers[(stickers["style"] == style) & (stickers.split == "test") & (stickers.skin_tone == "")]
    return rows.drop_duplicates("title")


def with_concepts(table: pd.DataFrame, stickers: pd.DataFrame) -> pd.DataFrame:
    """Adds concept and seen, and leaves out drawings that are among the stickers themselves, unless they stand in."""
    known, taught = concept_of_key(stickers), set(stickers.concept[stickers.split == "train"])
    table = table[~table.svg.isin(set(stickers.svg)) | table["style"].isin(STYLES)]
    keys = table.title.str.replace(" ", "-").map(name_key)
    concepts = [known.get(key, key) for key in keys]
    return table.assign(concept=concepts, seen=[one in taught for one in concepts])[COLUMNS].reset_index(drop=True)


def drawn_rows(table: pd.DataFrame, size_px: int, num: int,
               seed: int) -> tuple[pd.DataFrame, UInt8[np.ndarray, "num_pictures {size_px} {size_px} 3"]]:
    """At most `num` random rows and their pictures; drawings that can't be rendered, or empty ones, are left out."""
    rows, pictures = [], []
    for row in np.random.default_rng(seed).permutation(len(table)):
        picture = rendered(table.svg[row], size_px)
        if picture is not None:
            rows.append(row)
            pictures.append(np.asarray(picture))
        if len(rows) == num:
            break
    return table.iloc[rows].reset_index(drop=True), np.array(pictures, np.uint8).reshape(-1, size_px, size_px, 3)


def rendered(svg: str, size_px: int) -> Image.Image | None:
    """A drawing as a picture, or None where that can't be had: foreign SVG is not always whole."""
    try:
        picture = render(svg, size_px)
    except (ValueError, OSError, RuntimeError):
        return None
    return picture if len(picture.getcolors(size_px * size_px)) > 1 else None
