"""What the commands print: tables for people, JSON for programs; nothing in either moves a terminal's cursor."""

from __future__ import annotations

import json

from kdlib.console import printable

COLUMNS = ("score", "title", "style", "author", "licence")
DIGITS = 6  # of a score in JSON; a float32 has no more


def examples(*lines: str) -> str:
    r"""The end of a command's --help: lines as they are typed (\b keeps them from being wrapped)."""
    return "\n".join(["Examples:", "", "\b", *(f"  {line}" for line in lines)])


def neighbour_rows(neighbours: list) -> list[dict]:
    """kdlib.types.Neighbour as rows: id, score, title, style, author, licence."""
    return [{"id": one.id, "score": round(float(one.score), DIGITS),
             **{name: getattr(one, name) for name in COLUMNS[1:]}} for one in neighbours]


def found_rows(ids, scores, catalogue) -> list[dict]:
    """The same of what an index found for one query, in its order; `catalogue` knows whose pictures they are."""
    return [{"id": str(id), "score": round(float(score), DIGITS), **catalogue.describe(str(id))._asdict()}
            for id, score in zip(ids, scores, strict=True)]


def as_table(rows: list[dict]) -> str:
    """Rows as aligned columns; the id is left out, as people know a picture by its title."""
    cells = [COLUMNS]
    cells += [(f"{row['score']:.3f}", *(printable(str(row[name])) for name in COLUMNS[1:])) for row in rows]
    return aligned(cells)


def aligned(cells: list[tuple[str, ...]]) -> str:
    """Texts in columns, two blanks between them."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in cells)


def as_json(document: dict) -> str:
    """One JSON document; all but printable ASCII is escaped."""
    return json.dumps(document, indent=2)
