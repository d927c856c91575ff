"""A benchmark of edits with true answers: two stickers of one artist that differ by what a text says.

Section 3.1 of the paper edits a picture by a text, and shows examples only, since nobody has the true result of an
edit. Sets of stickers have it: the same face with sunglasses, the same heart in another colour, drawn by the same hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from kdlib.data.stickers import _hash

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "pink", "grey")
COLOURED = ("heart", "circle", "square", "book", "apple", "flag", "hexagon")
HAIR = {"red-hair": "with red hair", "curly-hair": "with curly hair", "white-hair": "with white hair",
        "blond-hair": "with blond hair", "bald": "with a bald head", "beard": "with a beard"}
TRADES = ("artist", "astronaut", "cook", "factory-worker", "farmer", "firefighter", "health-worker", "judge",
          "mechanic", "office-worker", "pilot", "scientist", "singer", "student", "teacher", "technologist",
          "superhero", "vampire", "mage", "elf", "zombie")
PLAIN_FACES = ("slightly-smiling-face", "smiling-face", "grinning-face", "neutral-face")
WORN = {"smiling-face-with-sunglasses": "wearing sunglasses", "smiling-face-with-halo": "with a halo",
        "smiling-face-with-horns": "with horns", "cowboy-hat-face": "wearing a cowboy hat",
        "face-with-medical-mask": "wearing a medical mask", "face-with-monocle": "with a monocle",
        "nerd-face": "wearing glasses", "face-with-head-bandage": "with a bandage on its head",
        "face-with-thermometer": "with a thermometer in its mouth", "partying-face": "wearing a party hat"}
MOODS = {"crying-face": "crying", "angry-face": "angry", "sleeping-face": "sleeping", "astonished-face": "astonished",
         "face-with-tongue": "sticking its tongue out", "fearful-face": "afraid", "winking-face": "winking",
         "smiling-face-with-heart-eyes": "with hearts for eyes", "frowning-face": "frowning",
         "flushed-face": "blushing", "face-without-mouth": "without a mouth", "nauseated-face": "sick and green"}
CATS = {"crying-cat": "a crying cat", "kissing-cat": "a kissing cat", "pouting-cat": "an angry cat",
        "weary-cat": "a weary cat", "smiling-cat-with-heart-eyes": "a cat with hearts for eyes",
        "cat-with-tears-of-joy": "a cat laughing with tears", "cat-with-wry-smile": "a cat with a wry smile",
        "grinning-cat-with-smiling-eyes": "a grinning cat"}
GESTURES = {"victory-hand": "a hand making the victory sign", "thumbs-up": "a thumb up", "thumbs-down": "a thumb down",
            "raised-fist": "a raised fist", "ok-hand": "a hand making the ok sign", "raised-hand": "a raised hand",
            "crossed-fingers": "a hand with crossed fingers", "call-me-hand": "a hand saying call me",
            "love-you-gesture": "a hand saying I love you", "vulcan-salute": "a hand in a vulcan salute",
            "hand-with-fingers-splayed": "a hand with its fingers splayed", "middle-finger": "a middle finger"}
HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
HELD_OUT = {(True, True): "both", (True, False): "source", (False, True): "target", (False, False): "neither"}
MAX_PER_TEXT, MAX_PER_FAMILY = 6, 60


class Edit(NamedTuple):
    """What an instruction makes of a concept; `tone` is the skin tone of the result."""

    family: str
    source: str
    instruction: str
    target: str
    tone: str = ""


def find_edits(stickers: pd.DataFrame) -> pd.DataFrame:
    """Pairs of one style's pictures with the text that leads from one to the other.

    Columns, all str: family, instruction, source and target (ids), style, held_out ("both", "source", "target" or
    "neither": whose concept the generators never saw), author, licence. At most MAX_PER_TEXT of a text and
    MAX_PER_FAMILY of a family are kept, held-out targets first, then by a hash; that is also their order.
    """
    keys = zip(stickers["style"], stickers.concept, stickers.skin_tone, strict=True)
    place, styles = {key: row for row, key in enumerate(keys)}, sorted(set(stickers["style"]))
    pairs = [(edit.family, edit.instruction, place.get((style, edit.source, "")),
              place.get((style, edit.target, edit.tone)))
             for edit in all_edits(sorted(set(stickers.concept))) for style in styles]
    pairs = [pair for pair in pairs if None not in pair[2:]]
    found = pd.DataFrame(pairs, columns=["family", "instruction", "source", "target"])
    of = {end: stickers.iloc[found[end]].reset_index(drop=True) for end in ("source", "target")}
    ends = zip(of["source"].split == "test", of["target"].split == "test", strict=True)
    found = found.assign(source=of["source"].id, target=of["target"].id, style=of["target"]["style"],
                         held_out=[HELD_OUT[end] for end in ends], author=of["target"].author,
                         licence=of["target"].licence).drop_duplicates(["source", "target"])
    found["seen"] = ~found.held_out.isin(("both", "target"))
    found["order"] = [_hash(f"{source} {target}") for source, target in zip(found.source, found.target, strict=True)]
    found = found.sort_values(["family", "seen", "order"])
    found = found.groupby(["family", "instruction"]).head(MAX_PER_TEXT).groupby("family").head(MAX_PER_FAMILY)
    return found.drop(columns=["seen", "order"]).reset_index(drop=True)


def all_edits(concepts: list[str]) -> Iterator[Edit]:
    """All rules, whether or not a set draws both ends; skin tones of the concepts that are told."""
    for thing, (before, after) in itertools.product(COLOURED, itertools.permutations(COLOURS, 2)):
        yield Edit("colour", f"{before}-{thing}", f"a {after} {thing}", f"{after}-{thing}")
    for who, (style, words) in itertools.product(("man", "woman", "person"), HAIR.items()):
        yield Edit("hair", who, f"a {who} {words}", f"{who}-{style}")
    for who, trade in itertools.product(("man", "woman"), TRADES):
        yield Edit("trade", who, f"a {who} as {article(trade)}", f"{who}-{trade}")
    for face, (target, words) in itertools.product(PLAIN_FACES, WORN.items()):
        yield Edit("worn", face, f"a face {words}", target)
    for face, (target, words) in itertools.product(PLAIN_FACES, MOODS.items()):
        yield Edit("mood", face, f"a face {words}", target)
    for family, sources, texts in [("cat", ("cat-face", *CATS), CATS), ("gesture", GESTURES, GESTURES)]:
        for source, (target, words) in itertools.product(sources, texts.items()):
            if source != target:
                yield Edit(family, source, words, target)
    for before, after in itertools.permutations(HOURS, 2):
        yield Edit("clock", f"{before}-oclock", f"a clock at {after} o'clock", f"{after}-oclock")
    for concept, tone in itertools.product(concepts, TONES):
        words = f"{concept} with {tone} skin".replace("-", " ")
        yield Edit("skin tone", concept, words, concept, tone)


def article(noun: str) -> str:
    """A noun in words with its article: "office-worker" -> "an office worker"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun.replace("-", " ")
