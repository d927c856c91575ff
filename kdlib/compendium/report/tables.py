"""Tables of executed notebooks as readers want them: names in words, and a box of their own to scroll in.

The notebooks' tables have the names of the code; a CSV keeps them, and so does the title of a renamed cell.
"""

from __future__ import annotations

import html
import re

# Arrows say where better is. What isn't named here loses its underscores.
NAMES = {
    "fd_sticker": "FD-sticker ↓", "cmmd": "CMMD ↓", "loss": "loss (nats) ↓",
    "concept_top1": "concept recognised, first guess (share) ↑",
    "concept_top5": "concept recognised, first five (share) ↑",
    "text_alignment": "fits the text (cosine) ↑", "precision": "precision ↑", "recall": "recall ↑",
    "density": "density ↑", "coverage": "coverage ↑", "cosine_to_prompt": "cosine to the prompt ↑",
    "own_prompt_is_first": "own prompt is nearest (share) ↑", "at_1": "recall@1 ↑", "at_5": "recall@5 ↑",
    "at_10": "recall@10 ↑", "recall_at_10_known": "recall@10, known names ↑",
    "recall_at_10_new": "recall@10, new names ↑",
    "cosine_known": "cosine, known names ↑", "cosine_new": "cosine, new names ↑",
    "parameters_M": "parameters (millions)",
    "train_images_per_s": "training (pictures/s) ↑", "step_ms": "sampling step (ms) ↓",
    "step_peak_MiB": "memory of a step (MiB) ↓", "p50_ms": "query, median (ms) ↓",
    "p99_ms": "query, 99th percentile (ms) ↓", "bytes_per_vector": "bytes a vector ↓", "build_s": "build (s) ↓",
    "held_out": "held out", "M weights": "weights (millions)",
}
HEAD = re.compile(r"(<th\b[^>]*)>([^<]+)</th>")
TEXT = re.compile(r"(<t[hd]\b[^>]*>)([^<]+)(?=</t[hd]>)")
LONG = re.compile(r"\S{12,}")               # a word that would keep its column wide
JOINT = re.compile(r"([/,_=]|(?<!\d)\.)(?=\S)")  # where it may break; not within a number
TABLE = re.compile(r"<table\b.*?</table>", re.S)
BOX = '<div class="kd-table" role="group" aria-label="table" tabindex="0">{}</div>'


def readable_tables(text: str) -> str:
    """The HTML of a notebook's output with its tables' heads in words, long words breakable, each table in a box."""
    return TABLE.sub(lambda found: BOX.format(TEXT.sub(breakable, HEAD.sub(rename, found[0]))), text)


def in_words(name: str) -> str:
    """A column's or row's name for readers: "fd_sticker, ratio" -> "FD-sticker, ratio"; the arrow goes where a name is
    a ratio or a difference, since there it would mislead."""
    first, comma, rest = name.partition(", ")
    if comma and first in NAMES:
        return f"{NAMES[first].rstrip(' ↓↑')}, {rest.replace('_', ' ')}"
    return NAMES.get(name, name.replace("_", " "))


def rename(found: re.Match) -> str:
    """A head cell in words, with the code's name as its title where that is another."""
    name = html.unescape(found[2])
    words = in_words(name)
    title = "" if words == name else f' title="{html.escape(name)}"'
    return f"{found[1]}{title}>{html.escape(words, quote=False)}</th>"


def breakable(found: re.Match) -> str:
    """A cell whose long words, such as a path or a shape, may be broken where their parts meet."""
    return found[1] + LONG.sub(lambda word: JOINT.sub(r"\1<wbr>", word[0]), found[2])
