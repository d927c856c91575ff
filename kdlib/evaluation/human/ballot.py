"""A ballot: one page, opened from disk, that asks which of two pictures is better (the paper's section 6.1).

The page doesn't know which picture is whose. That is in key.json beside it, which stays with whoever counts.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kdlib.evaluation.human.checks import Check, alignment_check, quality_check
from kdlib.evaluation.human.pictures import Pictures, pictures_by_prompt, shared_prompts
from kdlib.files import Kind, atomic_folder, check_place, write_json

QUESTIONS = {"quality": "Which image is of a higher quality?",  # as the paper asks, each in a pass of its own
             "alignment": "Which image best matches the text?"}
OURS = "ours"
SIDES = ("left", "right")
CHECK_EVERY, MIN_CHECKS = 20, 3  # pairs in a pass; checks in a pass
MAX_PAGE_BYTES = 200_000_000
ASSETS = Path(__file__).parent / "assets"
BALLOT = Kind("ballot", "key.json", "ballot", frozenset({"ballot.html", "key.json"}))


class Pair(NamedTuple):
    """Two pictures side by side, and what the key says of them: {"prompt", "against", "ours"} or {"check", "right"}."""

    text: str
    left: Image.Image
    right: Image.Image
    key: dict[str, str]


def make_ballot(ours: str | Path, theirs: dict[str, str | Path], out: str | Path, num_pairs: int = 600, seed: int = 0,
                prompts: Iterable[str] | None = None) -> int:
    """Writes `out`/ballot.html and `out`/key.json, both or neither; returns how many answers a whole ballot has.

    ours       a folder of our pictures, as `pictures_by_prompt` reads it
    theirs     the same for each method to compare with, by name
    num_pairs  pairs of ours against each of these: 600 in the paper; the same prompts for all, drawn by chance
    seed       chooses prompts, sides, order and checks: the same seed, the same page
    prompts    only these; else those for which all have a picture

    Each question has a pass of its own, with its own sides and order; in each, ours is on the left in half of the pairs
    with a method. Raises ValueError or OSError where a picture or prompt is missing, prompts are fewer than pairs, or
    `out` is there already: with another key, votes that were given couldn't be counted any more.
    """
    out = Path(out)
    check_new(out)
    if not theirs:
        raise ValueError("there is nothing to compare ours with; name at least one other method")
    if OURS in theirs or not all(name.strip() for name in theirs):
        raise ValueError(f"a method is called {OURS if OURS in theirs else ''!r}; give it another name")
    drawn = {name: pictures_by_prompt(folder) for name, folder in {OURS: ours, **theirs}.items()}
    found = shared_prompts(drawn, prompts)
    if not 1 <= num_pairs <= len(found):
        raise ValueError(f"num_pairs = {num_pairs} must be from 1 to {len(found)}: there are {len(found)} prompts for "
                         f"which all of {', '.join(drawn)} have a picture")
    random = np.random.default_rng(seed)
    chosen = [found[row] for row in random.permutation(len(found))[:num_pairs]]
    passes = {question: in_order(question_pairs(question, chosen, drawn, random),
                                 question_checks(question, chosen, drawn, len(theirs), random), random)
              for question in QUESTIONS}
    page, id = write_page(passes)
    with atomic_folder(out, BALLOT) as temporary:
        (temporary / "ballot.html").write_text(page, encoding="utf-8")
        write_json(temporary / "key.json", {"kind": BALLOT.label, "id": id, "seed": seed, "questions": {
            question: {number(i): pair.key for i, pair in enumerate(pairs)} for question, pairs in passes.items()}})
    return sum(map(len, passes.values()))


def check_new(out: Path) -> None:
    """Raises ValueError or OSError unless `out` can be written and is not there yet, or is an empty folder."""
    check_place(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists, and a ballot's key is never replaced: votes given with it could no longer be "
                         "counted; choose another name")


# --- pairs ---------------------------------------------------------------------------------------------------------

def question_pairs(question: str, prompts: list[str], drawn: dict[str, Pictures],
                   random: np.random.Generator) -> list[Pair]:
    """Ours against each other method for each prompt; ours is on the left in half of the pairs with a method."""
    pairs = []
    for name in (name for name in drawn if name != OURS):
        sides = (np.arange(len(prompts)) + random.integers(2)) % 2
        for prompt, side in zip(prompts, random.permutation(sides), strict=True):
            key = {"prompt": prompt, "against": name, "ours": SIDES[side]}
            text = prompt if question == "alignment" else ""
            pairs.append(on_sides(text, drawn[OURS][prompt](), drawn[name][prompt](), int(side), key))
    return pairs


def question_checks(question: str, prompts: list[str], drawn: dict[str, Pictures], num_methods: int,
                    random: np.random.Generator) -> list[Pair]:
    """Attention checks: one for every CHECK_EVERY pairs, at least MIN_CHECKS."""
    count = max(MIN_CHECKS, -(-len(prompts) * num_methods // CHECK_EVERY))
    pairs = []
    for side in random.permutation((np.arange(count) + random.integers(2)) % 2):
        prompt = prompts[random.integers(len(prompts))]
        name = list(drawn)[random.integers(len(drawn))]
        picture = drawn[name][prompt]()
        check = quality_check(picture, random) if question == "quality" else alignment_check(picture.width, random)
        pairs.append(check_pair(check, int(side)))
    return pairs


def check_pair(check: Check, side: int) -> Pair:
    """A check as a pair, with what is right on a side."""
    return on_sides(check.text, check.right, check.wrong, side, {"check": check.text or "noise", "right": SIDES[side]})


def on_sides(text: str, first: Image.Image, second: Image.Image, side: int, key: dict[str, str]) -> Pair:
    """A pair with the first picture on side 0, the left, or 1."""
    left, right = (first, second) if side == 0 else (second, first)
    return Pair(text, left, right, key)


def in_order(pairs: list[Pair], checks: list[Pair], random: np.random.Generator) -> list[Pair]:
    """Pairs in random order, and in each of as many equal stretches one check at a random place, not the first."""
    shuffled = [pairs[row] for row in random.permutation(len(pairs))]
    ordered = []
    for rows, check in zip(np.array_split(np.arange(len(shuffled)), len(checks)), checks, strict=True):
        stretch = [shuffled[row] for row in rows]
        stretch.insert(int(random.integers(len(stretch))) + 1 if stretch else 0, check)
        ordered += stretch
    return ordered


# --- the page ------------------------------------------------------------------------------------------------------

def number(row: int) -> str:
    """How page, key and votes call a pair of a pass: its place in it, from 1."""
    return f"{row + 1:04}"


def write_page(passes: dict[str, list[Pair]]) -> tuple[str, str]:
    """(the page, its id: 16 hex digits of the SHA-256 over all that it shows)."""
    shown = [{"question": question, "title": QUESTIONS[question], "pairs": [
        {"id": number(i), "text": pair.text, "left": data_uri(pair.left), "right": data_uri(pair.right)}
        for i, pair in enumerate(pairs)]} for question, pairs in passes.items()]
    content = json.dumps(shown, ensure_ascii=False)
    id = hashlib.sha256(content.encode()).hexdigest()[:16]
    page = (ASSETS / "ballot.html").read_text(encoding="utf-8")
    for name, text in {"style": (ASSETS / "ballot.css").read_text(encoding="utf-8"),
                       "script": (ASSETS / "ballot.js").read_text(encoding="utf-8"),
                       "ballot": json.dumps({"id": id, "passes": shown}, ensure_ascii=False).replace("<", "\\u003c")
                       }.items():
        page = page.replace(f"/* {name} */", text)
    if len(page) > MAX_PAGE_BYTES:
        raise ValueError(f"the page would have {len(page) / 1e6:.0f} MB, more than browsers open with ease "
                         f"({MAX_PAGE_BYTES / 1e6:.0f} MB); ask for fewer pairs, or give smaller pictures")
    return page, id


def data_uri(picture: Image.Image) -> str:
    """A picture as text, without loss."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
