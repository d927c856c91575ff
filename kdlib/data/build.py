"""Makes data/ anew from the pinned npm package: `python -m kdlib.data.build`; the bytes are the same every time."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kdlib.data.datasheet import write_datasheet
from kdlib.data.stickers import STYLES, TRAINING_STYLES, _hash
from kdlib.files import atomic_file
from kdlib.params import find_root

PACKAGE = "@iconify/json@2.2.535"
PACKAGE_SHA256 = "1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91"
TEST_PERCENT = 10
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
NUMBER_WORDS = {word: str(number) for number, word in enumerate(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])}
TONE = re.compile(r"-(?:tone\d|(?:medium-)?(?:light|dark|medium)-skin-tone|medium-skin-tone)")
SHORT_TONE = re.compile(r"-(light|medium-light|medium|medium-dark|dark)$")


def build(folder: str | Path) -> pd.DataFrame:
    """Writes stickers.parquet, prompts.csv and README.md (the data card) into `folder`; returns the table."""
    folder = Path(folder)
    sets = read_icon_sets(fetch_package())
    table = fold_concepts(pd.DataFrame(icon for style in STYLES for icon in read_icons(style, sets[style])), sets)
    table["split"] = ["test" if int(_hash(c), 16) % 100 < TEST_PERCENT else "train" for c in table.concept]
    columns = ["id", "style", "name", "title", "concept", "keywords", "skin_tone", "split", "author", "licence", "svg"]
    table = table[columns].astype("str")
    with atomic_file(folder / "stickers.parquet") as temporary:
        table.to_parquet(temporary, index=False, compression="zstd", compression_level=22, use_dictionary=False,
                         row_group_size=len(table), data_page_size=2 ** 30)  # one page a column: smaller by a tenth
    prompts = make_prompts(table)
    with atomic_file(folder / "prompts.csv") as temporary:
        prompts.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_file(folder / "README.md") as temporary:
        temporary.write_text(write_datasheet(table, prompts, PACKAGE, TRAINING_STYLES), encoding="utf-8")
    return table


def fetch_package() -> bytes:
    """The npm package as bytes, through the npm client.

    Raises FileNotFoundError where there is no npm, ValueError when the package is not the pinned one.
    """
    if shutil.which("npm") is None:
        raise FileNotFoundError(f"the npm client is needed to fetch {PACKAGE}; install Node.js with npm, or take the "
                                "published results, which do without")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        content = next(Path(folder).glob("*.tgz")).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != PACKAGE_SHA256:
        raise ValueError(f"{PACKAGE} has sha256 {found}, expected {PACKAGE_SHA256}; the package was changed")
    return content


def read_icon_sets(package: bytes, styles: Sequence[str] = STYLES) -> dict[str, dict]:
    """Icon sets out of the package, as Iconify's JSON; by default the nine bundled ones."""
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        wanted = {f"package/json/{style}.json": style for style in styles}
        return {wanted[m.name]: json.load(archive.extractfile(m)) for m in archive if m.name in wanted}


def read_icons(style: str, icon_set: dict) -> list[dict]:
    """The visible pictures of one set; fluent-emoji (12 times the bytes of the others) without skin-tone copies."""
    rows = []
    for name, icon in sorted(icon_set["icons"].items()):
        base = strip_tone(name, icon_set["icons"])
        if icon.get("hidden") or (style == "fluent-emoji" and base != name):
            continue
        box = [icon.get(key, icon_set.get(key, default)) for key, default in
               [("left", 0), ("top", 0), ("width", 16), ("height", 16)]]
        view = " ".join(f"{value:g}" for value in box)
        svg = f'<svg {NAMESPACES} viewBox="{view}">{icon["body"]}</svg>'
        rows.append({"id": f"{style}:{name}", "style": style, "name": name, "base": base, "svg": svg,
                     "skin_tone": "" if base == name else name_tone(name), "author": icon_set["info"]["author"]["name"],
                     "licence": icon_set["info"]["license"]["spdx"]})
    return rows


def strip_tone(name: str, names) -> str:
    """A sticker's name without its skin tones: "man-judge-dark-skin-tone", "man-judge-dark" -> "man-judge"."""
    stripped = TONE.sub("", name)
    short = SHORT_TONE.sub("", name)
    if stripped == name and short != name and all(f"{short}-{t}" in names for t in ("light", "medium", "dark")):
        return short
    return stripped


def name_tone(name: str) -> str:
    """The skin tones that a name tells: "man-judge-dark-skin-tone" -> "dark"."""
    tones = TONE.findall(name) or SHORT_TONE.findall(name)
    return " ".join(t.removeprefix("-").removesuffix("-skin-tone") for t in tones)


def name_key(name: str) -> str:
    """A spelling-independent key: "two-hearts", "2hearts" -> "2hearts"; "strawberry-1" -> "strawberry"."""
    name = re.sub(r"^clock(\d+)", r"\1", re.sub(r"-facing-right$|^keycap-(?=\d)", "", name))
    name = re.sub(r"^flag-(?:for-)?(?:flag-)?(.+)", r"\1-flag", name)
    if re.search(r"[a-z]{3}-?\d$", name) and not name.startswith(("keycap", "hal", "pool")):
        name = re.sub(r"-?\d$", "", name)
    return "".join(NUMBER_WORDS.get(word, word) for word in name.split("-"))


def fold_concepts(table: pd.DataFrame, sets: dict[str, dict]) -> pd.DataFrame:
    """Adds concept, title and keywords: names are one concept when they share a key, alias, code point or drawing.

    Folding too much only joins two concepts; folding too little would leak evaluation concepts into training.
    """
    parent: dict[str, str] = {}

    def find(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    drawings = table.groupby("svg").base.agg(lambda bases: [name_key(base) for base in bases])
    same_drawing = [(keys[0], key) for keys in drawings for key in keys[1:]]
    for left, right in itertools.chain(same_drawing, *(same_concept(style, sets[style]) for style in STYLES)):
        parent[max(find(left), find(right))] = min(find(left), find(right))
    roots = [find(name_key(base)) for base in table.base]
    names = defaultdict(Counter)
    for root, base in zip(roots, table.base, strict=True):
        names[root][re.sub(r"-\d$|-facing-right$", "", base)] += 1
    best = {root: max(counts, key=lambda n: (counts[n], "-" in n, -len(n), n)) for root, counts in names.items()}
    words = {word for base in table.base[table["style"] != "fxemoji"] for word in base.split("-") if word.isalpha()}
    table["concept"] = [best[root] for root in roots]
    table["title"] = [" ".join(split_words(part, words)) for part in table.concept.str.replace("-", " ")]
    table["keywords"] = [", ".join(sorted(n.replace("-", " ") for n in names[root])) for root in roots]
    return table


def split_words(name: str, words: set[str]) -> list[str]:
    """Splits run-together words into the fewest known ones: "blackheartsuit" -> black, heart, suit; else as it is."""
    if " " in name or name in words:
        return [name]
    best: list[list[str] | None] = [[]] + [None] * len(name)
    for end in range(1, len(name) + 1):
        options = [best[start] + [name[start:end]] for start in range(end)
                   if best[start] is not None and name[start:end] in words and end - start > 1]
        best[end] = min(options, key=len, default=None)
    return best[-1] or [name]


def same_concept(style: str, icon_set: dict) -> list[tuple[str, str]]:
    """Pairs of keys that mean one concept: a set's aliases, and its code points ("U+1f34e" is a key, too)."""
    icons = icon_set["icons"]
    pairs = [(name_key(strip_tone(alias, icons)), name_key(strip_tone(entry["parent"], icons)))
             for alias, entry in icon_set.get("aliases", {}).items() if set(entry) == {"parent"}]
    for points, name in icon_set.get("chars", {}).items():
        plain = "-".join(p for p in points.split("-") if p != "fe0f" and not re.fullmatch(r"1f3f[b-f]", p))
        if plain:
            pairs.append((f"U+{plain}", name_key(strip_tone(name, icons))))
    return pairs


def make_prompts(table: pd.DataFrame) -> pd.DataFrame:
    """The evaluation prompts: titles of held-out concepts in order of their hash, then about 200 composed ones.

    A concept that one set alone draws is no prompt, since its name is often that set's own ("cloudtwo", "dash").
    """
    num_styles = table.groupby("concept")["style"].transform("nunique")
    held_out = table[(table.split == "test") & (num_styles >= 2)].drop_duplicates("concept")
    held_out = held_out.iloc[np.argsort([_hash(c) for c in held_out.concept])]
    known = {name_key(name) for name in table.name}
    composed = [p for p in compose_prompts() if name_key(re.sub(r"^an? ", "", p).replace(" ", "-")) not in known]
    return pd.concat([pd.DataFrame({"prompt": held_out.title, "kind": "name", "concept": held_out.concept}),
                      pd.DataFrame({"prompt": composed, "kind": "composed", "concept": ""})], ignore_index=True)


def compose_prompts() -> list[str]:
    """Prompts that are no sticker's name: things that two known things or properties make together."""
    animals = ["cat", "dog", "bear", "rabbit", "penguin", "frog", "lion", "panda"]
    worn = ["sunglasses", "a crown", "a top hat", "a santa hat", "headphones", "a red scarf"]
    held = ["a red heart", "a balloon", "a cup of coffee", "an ice cream", "a flower"]
    foods = ["apple", "banana", "tomato", "carrot", "pizza", "strawberry", "burger", "avocado"]
    moods = ["a happy face", "an angry face", "tears in its eyes"]
    colours = ["red", "green", "blue", "yellow", "pink", "purple"]
    things = ["car", "house", "umbrella", "guitar", "balloon", "bicycle"]
    places = ["on a snowy mountain", "under a rainbow", "on the beach", "in space"]
    riders = ["a monkey", "a robot", "an astronaut", "a snowman"]
    ridden = ["bicycle", "horse", "skateboard", "motorcycle", "rocket", "turtle"]
    article = lambda noun: ("an " if noun[0] in "aeiou" else "a ") + noun
    return [f"{article(a)} wearing {w}" for a in animals for w in worn] \
        + [f"{article(a)} holding {h}" for a in animals for h in held] \
        + [f"{article(f)} with {m}" for f in foods for m in moods] \
        + [f"{article(c)} {t}" for c in colours for t in things] \
        + [f"{article(t)} {p}" for t in [*things[:2], *animals[:3], "tree"] for p in places] \
        + [f"{r} riding {article(v)}" for r in riders for v in ridden]


if __name__ == "__main__":
    stickers = build(find_root() / "data")
    print(stickers.groupby(["style", "split"]).agg(pictures=("id", "size"), concepts=("concept", "nunique")))
