"""The explorer: for each prompt its neighbours, whose they are, and what every model draws from them.

All of it is HTML in the page, since a page opened from disk may fetch nothing; assets/explorer.js only hides, sorts and
enlarges.
"""

from __future__ import annotations

import csv
import html
from pathlib import Path

from PIL import Image

from kdlib.compendium.report.provenance import badge
from kdlib.compendium.sheets import read_layout
from kdlib.data.catalogue import Catalogue, Description, read_table
from kdlib.files import read_json
from kdlib.params import data_file

SHOWN_NEIGHBOURS = 5
THUMBNAIL_PX = 64
PALETTE = 256
FULL_MODEL = "full model"
PAGE = """# Explore the prompts

{badge} All {num} prompts, each with a real picture of it, which no model is given, its {shown} nearest pictures in the
database (below each the cosine between its embedding and the text's) and, framed, what is drawn from them: by the *full
model*{variants} "Neighbours" opens the list of all that the models are given, with authors and licences.

<form id="kd-filter" class="kd-filter" role="search" hidden>
<label for="kd-prompt">Prompts with</label> <input id="kd-prompt" name="prompt" type="search" autocomplete="off">
<label for="kd-sort">in the order</label> <select id="kd-sort" name="sort">
<option value="number">as they were drawn</option>
<option value="prompt">A to Z</option>
<option value="-score">nearest neighbours first</option>
<option value="score">farthest neighbours first</option>
</select>
<button type="reset">Show all</button> <span role="status" aria-live="polite"></span>
</form>

{samples}

<dialog id="kd-large" aria-label="Larger pictures"><div></div>
<form method="dialog"><button>Close</button></form></dialog>

<script src="_static/explorer.js"></script>
"""


def write_explorer(preset: str, root: Path, variants: dict[str, str], source: Path, catalogue: Catalogue) -> None:
    """explorer.md, and the pictures of it and of the first page in `source`/_static.

    root      the compendium's; its reports/<preset> has the pictures, its data the prompts' concepts
    variants  folders under reports/<preset> that may hold a sheet of pictures ("variant/ours"), each with its page
    """
    results = root / "reports" / preset
    samples = read_json(results / "generation" / "samples.json")
    static = source / "_static"
    for id in {neighbour["id"] for sample in samples for neighbour in sample["neighbours"]}:
        save_small(catalogue.picture(id, THUMBNAIL_PX), static / "neighbours" / file_name(id))
    drawn = {FULL_MODEL: {sample["prompt"]: f"generated/{sample['picture']}" for sample in samples}}
    for path in drawn[FULL_MODEL].values():
        with Image.open(results / "generation" / "pictures" / Path(path).name) as picture:
            save_small(picture.convert("RGB"), static / path)
    pages = {}
    for folder, page in variants.items():
        if (results / folder / "pictures.json").is_file():
            name = folder.rpartition("/")[2].replace("_", " ")
            drawn[name] = cut_sheet(results / folder, list(drawn[FULL_MODEL]), static, folder)
            pages[name] = page
    real = {prompt: id for prompt, id in real_pictures(root).items() if prompt in drawn[FULL_MODEL]}
    for id in real.values():
        save_small(catalogue.picture(id, THUMBNAIL_PX), static / "neighbours" / file_name(id))
    links = ", ".join(f"[{name}]({page}.ipynb)" if page else name for name, page in pages.items())
    (source / "explorer.md").write_text(PAGE.format(
        badge=badge(preset), num=len(samples), shown=SHOWN_NEIGHBOURS,
        samples=sample_list(samples, drawn, {prompt: (id, catalogue.describe(id)) for prompt, id in real.items()}),
        variants=f", and by the variants, trained for fewer steps: {links}." if links else "."), encoding="utf-8")


def cut_sheet(folder: Path, wanted: list[str], static: Path, name: str) -> dict[str, str]:
    """Saves the cells of `wanted` prompts of a sheet; returns prompt -> path under `static`, for those that it has.

    folder  holds pictures.png, square cells row by row, and pictures.json: size_px, columns, and the prompts in order
    Raises ValueError for another list, and where the sheet is smaller than that.
    """
    paths = {}
    with Image.open(folder / "pictures.png") as sheet:
        size, columns, prompts = read_layout(folder, sheet.size)
        for number, prompt in enumerate(prompts):
            if prompt in wanted:
                left, top = number % columns * size, number // columns * size
                paths[prompt] = f"generated/{name}/{number:03}.png"
                save_small(sheet.convert("RGB").crop((left, top, left + size, top + size)), static / paths[prompt])
    return paths


def save_small(picture: Image.Image, path: Path) -> None:
    """Writes an RGB picture as a PNG with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(PALETTE).save(path, optimize=True)


def file_name(id: str) -> str:
    """A file name for a sticker's id: "noto:red-apple" -> "noto-red-apple.png"."""
    return id.replace(":", "-").replace("/", "-") + ".png"


def image_tag(path: str, alt: str) -> str:
    return f'<img src="_static/{html.escape(path)}" alt="{html.escape(alt)}" title="{html.escape(alt)}" ' \
           f'width="{THUMBNAIL_PX}" height="{THUMBNAIL_PX}" loading="lazy">'


def real_pictures(root: Path) -> dict[str, str]:
    """Each prompt of data/prompts.csv whose concept has stickers, and the id of the first of them."""
    stickers = read_table(data_file("stickers.parquet", root), ["id", "concept"])
    first = {}
    for id, concept in zip(stickers["id"].to_pylist(), stickers["concept"].to_pylist(), strict=True):
        first.setdefault(concept, id)
    with open(data_file("prompts.csv", root), encoding="utf-8", newline="") as file:
        return {row["prompt"]: first[row["concept"]] for row in csv.DictReader(file) if row["concept"] in first}


def sample_list(samples: list[dict], drawn: dict[str, dict[str, str]],
                real: dict[str, tuple[str, Description]]) -> str:
    """Prompts with neighbours and drawings as an HTML list (one line, as Markdown wants it).

    drawn  name of the model -> prompt -> path of its picture under _static
    real   prompt -> (id, description) of a real picture of it
    """
    items = "".join(sample_item(number, sample, drawn, real) for number, sample in enumerate(samples))
    return f'<ul class="kd-samples">{items}</ul>'


def sample_item(number: int, sample: dict, drawn: dict[str, dict[str, str]],
                real: dict[str, tuple[str, Description]]) -> str:
    """One prompt: what is real, what is near, what is drawn, and whose pictures those are."""
    prompt, near, whose = sample["prompt"], [], []
    for neighbour in sample["neighbours"]:
        picture = f"neighbours/{file_name(neighbour['id'])}"
        text = f"{neighbour['title']} ({neighbour['style']}, {neighbour['author']}, {neighbour['licence']}), " \
               f"cosine {neighbour['score']:.2f}"
        near.append(captioned(image_tag(picture, text), f"{neighbour['score']:.2f}"))
        whose.append(f'<li>{image_tag(picture, neighbour["title"])}{html.escape(text)}</li>')
    made = [captioned(image_tag(paths[prompt], f"drawn by {name} for the prompt “{prompt}”"), name)
            for name, paths in drawn.items() if prompt in paths]
    score = sample["neighbours"][0]["score"]
    return f'<li class="kd-sample" data-prompt="{html.escape(prompt.lower())}" data-number="{number}" ' \
           f'data-score="{score:.4f}"><h2>{html.escape(prompt)}</h2>' \
           f'<div class="kd-row">{real_picture(prompt, real)}<div>{"".join(near[:SHOWN_NEIGHBOURS])}</div>' \
           f'<div class="kd-made">{"".join(made)}</div></div>' \
           f'<button type="button" class="kd-zoom" hidden>Larger</button>' \
           f'<details><summary>Neighbours</summary><ol>{"".join(whose)}</ol></details></li>'


def real_picture(prompt: str, real: dict[str, tuple[str, Description]]) -> str:
    """The real picture of a prompt in a <div>; empty where there is none."""
    if prompt not in real:
        return ""
    id, told = real[prompt]
    alt = f"a real picture of “{prompt}”: {told.title} ({told.style}, {told.author}, {told.licence})"
    return f'<div>{captioned(image_tag(f"neighbours/{file_name(id)}", alt), "real")}</div>'


def captioned(picture: str, caption: str) -> str:
    """A picture's tag with a few words below it."""
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"
