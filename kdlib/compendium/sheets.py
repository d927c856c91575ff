"""Many pictures as one file: square cells without gaps, row by row, and a JSON beside it that says what is where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from kdlib.files import atomic_file, read_json, write_json

COLUMNS = 8
MAX_PICTURES = 64
COLOURS = 256  # a third of the bytes of a PNG without a palette, as in the notebooks


def save_sheet(folder: str | Path, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> None:
    """Writes the pictures, at most the first 64, as `folder`/pictures.png, and pictures.json with their prompts.

    pictures  RGB, all of one size, square
    prompts   as many; prompt i has the cell in row i // columns and column i % columns

    pictures.json has size_px (of a cell), columns and prompts. Raises ValueError for no pictures, for another number of
    prompts, or for pictures that are not squares of one size.
    """
    if not pictures or len(pictures) != len(prompts):
        raise ValueError(f"{len(pictures)} pictures for {len(prompts)} prompts; give as many, and at least one")
    sizes = {picture.size for picture in pictures}
    size_px = pictures[0].width
    if sizes != {(size_px, size_px)}:
        raise ValueError(f"the pictures measure {sorted(sizes)} pixels; a sheet takes squares of one size")
    pictures, prompts = pictures[:MAX_PICTURES], list(prompts[:MAX_PICTURES])
    page = Image.new("RGB", (COLUMNS * size_px, -(-len(pictures) // COLUMNS) * size_px), "white")
    for number, picture in enumerate(pictures):
        page.paste(picture, (number % COLUMNS * size_px, number // COLUMNS * size_px))
    with atomic_file(Path(folder) / "pictures.png") as temporary:
        page.quantize(COLOURS, kmeans=1).save(temporary, optimize=True)
    write_json(Path(folder) / "pictures.json", {"size_px": size_px, "columns": COLUMNS, "prompts": prompts})


def open_sheet(folder: str | Path) -> dict[str, Image.Image]:
    """The pictures that `save_sheet` wrote, as RGB, by their prompts; raises ValueError as `read_layout` does."""
    with Image.open(Path(folder) / "pictures.png") as file:
        page = file.convert("RGB")
    size_px, columns, prompts = read_layout(folder, page.size)
    places = [divmod(number, columns) for number in range(len(prompts))]
    boxes = [tuple(size_px * edge for edge in (x, y, x + 1, y + 1)) for y, x in places]
    return {prompt: page.crop(box) for prompt, box in zip(prompts, boxes, strict=True)}


def read_layout(folder: str | Path, page_px: tuple[int, int]) -> tuple[int, int, list[str]]:
    """(size_px, columns, prompts) of a sheet of this width and height; ValueError for another list, or without room."""
    layout = read_json(Path(folder) / "pictures.json")
    layout = layout if isinstance(layout, dict) else {}
    size_px, columns, prompts = (layout.get(name) for name in ("size_px", "columns", "prompts"))
    whole = all(type(value) is int and value > 0 for value in (size_px, columns))
    if not whole or not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"{folder}/pictures.json doesn't say size_px, columns and prompts; run its stage again")
    if page_px[0] < columns * size_px or page_px[1] < -(-len(prompts) // columns) * size_px:
        raise ValueError(f"{folder}/pictures.png, {page_px[0]} x {page_px[1]} px, has no room for "
                         f"{len(prompts)} cells of {size_px} px in {columns} columns; run its stage again")
    return size_px, columns, prompts
