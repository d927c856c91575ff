"""The data card: what is in data/, counted, with licences and known limits."""

from __future__ import annotations

import pandas as pd

LINKS = {"Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0", "MIT": "https://opensource.org/license/mit",
         "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
         "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/"}

TEXT = """# Data card: nine open sticker sets

{pictures:,} pictures of {concepts:,} concepts in {styles} styles, as SVG with names, authors and licences
(`stickers.parquet`), and {prompts} evaluation prompts (`prompts.csv`). Source: the npm package `{package}`;
`python -m kdlib.data.build` makes both files anew, with the same bytes.

## Sets

{sets}

Generators train on the styles marked "training" only; the others are databases to swap in. Pictures keep their
licence and author wherever they are shown. CC-BY-SA-4.0 (openmoji) asks that adaptations be shared alike; no
shipped generator was trained on it, the shipped encoder was.

## Columns of stickers.parquet

id, style (the set), name (the set's own), title (the concept in words), concept, keywords (every name of the
concept), skin_tone ("" where there is none), split, author, licence (SPDX), svg.

## Split

By concept, never by picture: {test} concepts are held out ("test"), {train} are for training. Names are one
concept when they differ in spelling or skin tone only, when a set lists one as an alias of the other, or when sets
give them the same code point. Prompts of kind "name" ({names}) are the titles of held-out concepts that at least
two sets draw; prompts of kind "composed" ({composed}) are no sticker's name.

## Known limits

- Synonyms that no alias or code point joins ("aubergine", "eggplant") count as two concepts and may fall on both
  sides of the split; so may near relatives ("woman teacher", "man teacher").
- Some sets use one drawing for two concepts ("man surfing", "person surfing"): {twins} held-out concepts have such a
  twin among the training concepts. They are no prompts, but the encoder's recall counts them.
- {single:,} concepts are drawn by one set only. Run-together names (fxemoji) are split by the other sets' words,
  not always well.
- Emoji are a small world: icons on white, many faces, people ({people:.0%} of the pictures carry a skin tone) and
  flags, named in English.
- fluent-emoji comes without its skin-tone copies, for their size.
"""


def write_datasheet(table: pd.DataFrame, prompts: pd.DataFrame, package: str, training_styles: tuple[str, ...]) -> str:
    """The card as Markdown, every number counted from the table of stickers and the table of prompts."""
    sets = table.groupby("style", sort=False).agg(pictures=("id", "size"), concepts=("concept", "nunique"),
                                                  author=("author", "first"), licence=("licence", "first"))
    role = lambda style: "training" if style in training_styles else "held out"
    rows = [f"| {style} | {role(style)} | {row.pictures:,} | {row.concepts:,} | {row.author} | "
            f"[{row.licence}]({LINKS[row.licence]}) |" for style, row in sets.iterrows()]
    head = "| style | role | pictures | concepts | author | licence |\n|---|---|---|---|---|---|\n"
    split = table.drop_duplicates("concept").split.value_counts()
    kinds = prompts.kind.value_counts()
    twins = table[(table.split == "test") & (table.groupby("svg").split.transform("nunique") > 1)].concept.nunique()
    return TEXT.format(
        pictures=len(table), concepts=table.concept.nunique(), styles=len(sets), prompts=len(prompts), package=package,
        sets=head + "\n".join(rows), test=split["test"], train=split["train"], names=kinds["name"],
        composed=kinds["composed"], single=int((table.groupby("concept")["style"].nunique() == 1).sum()),
        people=(table.skin_tone != "").mean(), twins=twins)
