"""The notebooks' order, told to readers: README's list of them, and in each a link to the next one."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import nbformat

from kdlib.compendium.declared import Stage, read_notebook

LIST = re.compile(r"(<!-- notebooks -->\n).*?(<!-- end of notebooks -->)", re.S)
NEXT = re.compile(r"\n*^Next: .*\Z", re.M | re.S)


def title(notebook: nbformat.NotebookNode) -> str:
    """The first heading."""
    return notebook.cells[0].source.partition("\n")[0].removeprefix("# ")


def with_list(readme: str, stages: dict[str, Stage], root: Path) -> str:
    """README's text with the notebooks, by part, between its two marks."""
    parts = {}
    for stage in stages.values():
        path = f"notebooks/{stage.notebook}.ipynb"
        parts.setdefault(stage.part, []).append(f"[{title(read_notebook(root / path))}]({path})")
    lines = [line for part, links in parts.items() for line in (f"**{part}:**", *wrapped(" · ".join(links)), "")]
    return LIST.sub(lambda found: f"{found[1]}\n{chr(10).join(lines)}\n{found[2]}", readme)


def wrapped(text: str) -> list[str]:
    """Lines of at most 120 characters, broken at spaces alone."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def with_next(notebook: nbformat.NotebookNode, after: Path | None) -> nbformat.NotebookNode:
    """A notebook whose last text ends with a link to the one after it, if there is one; changes and returns it."""
    last = [cell for cell in notebook.cells if cell.cell_type == "markdown"][-1]
    link = f"\n\nNext: [{title(read_notebook(after))}]({after.name})." if after else ""
    last.source = NEXT.sub("", last.source) + link
    return notebook


def notebook_order(stages: dict[str, Stage], root: Path) -> list[tuple[Path, Path | None]]:
    """Each notebook with the one after it; None after the last."""
    paths = [root / "notebooks" / f"{stage.notebook}.ipynb" for stage in stages.values()]
    return list(zip(paths, [*paths[1:], None], strict=True))
