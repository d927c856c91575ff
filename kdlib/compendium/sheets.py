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
    """The pictures that `save_sheet` wrote, as RGB, by their prompts."""
    layout = read_json(Path(folder) / "pictures.json")
    with Image.open(Path(folder) / "pictures.png") as file:
        page = file.convert("RGB")
    places = [divmod(number, layout["columns"]) for number in range(len(layout["prompts"]))]
    boxes = [tuple(layout["size_px"] * edge for edge in (x, y, x + 1, y + 1)) for y, x in places]
    return {prompt: page.crop(box) for prompt, box in zip(layout["prompts"], boxes, strict=True)}
