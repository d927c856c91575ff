"""The results of a compendium so small that its report is built in seconds, for the tests of the report."""

import hashlib
from pathlib import Path

import pandas as pd
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from PIL import Image

from kdlib.compendium import figures
from kdlib.compendium.notebook import normalise, write_notebook
from kdlib.compendium.report.site import DOCS
from kdlib.files import write_json

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="5" fill="red"/></svg>'
WIDE = f"## {'a_long_' * 12}name\n\n`{'call(with.long_' * 9}names)`"  # nowhere to break at 400 px
FORMULA = r"""
$$ \mathrm{knn}(I, k) := \underset{h \in \mathcal{H}}{\mathrm{arg\,min}^k}\ \mathbf{s}(f_{img}(I), h) $$

with $\lambda = 8$; [more](10_variant.ipynb), [of green](10_variant-green.ipynb), [and more](11_larger.ipynb)"""
PAGES = ["00_tour", "03_index", "10_variant-blue", "10_variant-green"]
STAGES = {"00_tour": "stage: tour\npart: The road",
          "03_index": "stage: index\npart: The road\nwrites: [metrics.json]",
          "10_variant": "stage: variant\npart: Experiments\nmatrix: {colour: colours}\n"
                        "writes: [metrics.json, pictures.json]",
          "11_larger": "stage: larger\npart: Experiments\nwrites: [metrics.json]"}  # not of the preset `toy`

PROMPTS = ["an <apple>", "a Blue bird"]
SHEET_COLOURS = ["red", "blue", "lime", "black", "yellow"]
LOCKED_DEPS = [{"path": "notebooks/x.ipynb", "md5": "1" * 32}, {"path": "data/stickers.parquet", "md5": "2" * 32},
               {"path": "data/prompts.csv", "md5": "3" * 32}]

CLAIMS = [{"claim": "It <finds> most", "place": "Fig. 3", "paper": "a curve", "ours": {
               "stage": "variant/blue", "key": "recall.at_10", "what": "recall", "holds": "above 0.5",
               "matters": 0.05}},
          {"claim": "Ten are best", "place": "Fig. 5", "paper": "of five", "ours": {
              "stage": "variant/older", "key": "recall.at_10", "what": "recall", "holds": "below 1", "matters": 0}},
          {"claim": "People like it", "place": "Table 1", "paper": "72%", "cannot": "nobody was asked"}]

PAPER = [{"place": "Table 1", "shows": "votes of people", "not_askable": "nobody is asked", "ours": {
              "says": "Half of it.", "pages": ["10_variant", "explorer", "11_larger"],
              "numbers": [{"stage": "variant/blue", "key": "recall.at_10", "what": "recall"},
                          {"stage": "variant/older", "key": "recall.at_10", "what": "an older one"}],
              "picture": {"page": "00_tour", "alt": "three green"}}},
         {"place": "Fig. 3", "shows": "a curve", "ours": {
             "says": "All of it.", "pages": ["03_index"], "picture": {"page": "11_larger", "alt": "a curve"}}},
         {"place": "Fig. 5", "shows": "a bridge", "not_built": "It is to be built.", "not_askable": "Not that half."},
         {"place": "Fig. 7", "shows": "the sea", "not_askable": "There is none here."}]

FINDINGS = [{"says": "It finds {share} of {all}.", "page": "10_variant", "numbers": {
                "share": {"stage": "variant/blue", "key": "recall.at_10", "format": ".0%"},
                "all": {"stage": "index", "key": "num_pictures", "format": ","}}},
            {"says": "An older one found {share}.", "page": "10_variant", "numbers": {
                "share": {"stage": "variant/older", "key": "recall.at_10", "format": ".1f"}}}]


def toy_results(root: Path) -> None:
    """All that a report is made of, at a preset `toy`; the tour was run again since DVC last ran it."""
    (root / "params.yaml").write_text("compendium: kdlib\ntoy: {seed: 3, tour: {}, index: {}, variant: {}}\n"
                                      "colours: {blue: 1, green: 2}\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    results = root / "reports" / "toy"
    for folder in ("data", "docs", "notebooks", "reports/toy/notebooks", "reports/toy/generation/pictures"):
        (root / folder).mkdir(parents=True)
    for name in DOCS:
        (root / "docs" / f"{name}.md").write_text(f"# For {name}\n\nChange a number.\n")
    pd.DataFrame({"id": ["noto:red-apple"], "title": ["red apple"], "style": ["noto"], "author": ["Goo & Co"],
                  "licence": ["Apache-2.0"], "svg": [SVG], "concept": ["apple"]}
                 ).to_parquet(root / "data" / "stickers.parquet")
    (root / "data" / "prompts.csv").write_text("prompt,kind,concept\nan <apple>,name,apple\na Blue bird,name,bird\n")
    output = toy_picture("three green squares")
    cells = [new_markdown_cell(f"# The tour\n\n{WIDE}\n\n{FORMULA}"),
             new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]}),
             new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]}),
             new_code_cell("grid()", outputs=[output], execution_count=1),
             new_code_cell(f"both({'a_long_name, ' * 12})", execution_count=2,
                           outputs=[toy_table(), toy_picture("a blue square")])]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    for name, told in STAGES.items():
        declared = new_raw_cell(told, metadata={"tags": ["stage"]})
        write_notebook(new_notebook(cells=[declared]), root / "notebooks" / f"{name}.ipynb")
    for name in [*PAGES, "10_variant-of-an-older-matrix"]:
        write_notebook(normalise(new_notebook(cells=cells)), results / "notebooks" / f"{name}.ipynb")
    neighbour = {"id": "noto:red-apple", "title": "red apple", "style": "noto", "author": "Goo & Co",
                 "licence": "Apache-2.0", "score": 0.5}
    samples = [{"prompt": prompt, "picture": f"{number:03}.png", "seed": 3,
                "neighbours": [neighbour | {"score": 0.5 - 0.25 * number}] * 7}
               for number, prompt in enumerate(PROMPTS)]
    for sample in samples:
        Image.new("RGB", (32, 32), "red").save(results / "generation" / "pictures" / sample["picture"])
    write_json(results / "generation" / "samples.json", samples)
    (root / "reports" / "claims.yaml").write_text(yaml.safe_dump(CLAIMS))
    (root / "reports" / "paper.yaml").write_text(yaml.safe_dump(PAPER))
    (root / "reports" / "findings.yaml").write_text(yaml.safe_dump(FINDINGS))
    for stage in ("index", "variant/blue", "variant/older"):
        write_json(results / stage / "metrics.json", {"recall": {"at_10": 0.61234}, "num_pictures": 12345})
    toy_sheet(results / "variant" / "blue", ["a pear", PROMPTS[1], "a plum"])
    (results / "variant" / "blue" / "verdicts.csv").write_text("prompt,seen\na pear,1\n")
    toy_lock(root)


def toy_picture(alt: str):
    """The output of a cell that shows a figure."""
    data, metadata = figures.grid([Image.new("RGB", (5, 7), "green")] * 3, alt=alt)._repr_mimebundle_()
    return new_output("display_data", data=data, metadata=metadata)


def toy_table():
    """A table of nine columns, as wide as the widest of the notebooks."""
    wide = pd.DataFrame({f"a_long_{number}": ["49.6 [44.4, 54.9]: can't be told"] for number in range(9)})
    return new_output("display_data", data={"text/html": wide.to_html(), "text/plain": "7"})


def toy_sheet(folder: Path, prompts: list[str], size_px: int = 16, columns: int = 2) -> None:
    """A variant's sheet of pictures, cell n in SHEET_COLOURS[n]."""
    folder.mkdir(parents=True, exist_ok=True)
    sheet = Image.new("RGB", (columns * size_px, -(-len(prompts) // columns) * size_px), "white")
    for number, _ in enumerate(prompts):
        sheet.paste(Image.new("RGB", (size_px, size_px), SHEET_COLOURS[number]),
                    (number % columns * size_px, number // columns * size_px))
    sheet.save(folder / "pictures.png")
    write_json(folder / "pictures.json", {"size_px": size_px, "columns": columns, "prompts": prompts})


def toy_lock(root: Path) -> None:
    """The dvc.lock of a run of the tour and of one variant."""
    outs = {"variant@toy-blue": ["notebooks/10_variant-blue.ipynb", "variant/blue/verdicts.csv"],
            "tour@toy": ["notebooks/00_tour.ipynb"]}
    stages = {stage: {"deps": LOCKED_DEPS, "outs": [
        {"path": f"reports/toy/{name}", "md5": hashlib.md5((root / "reports/toy" / name).read_bytes()).hexdigest()}
        for name in names]} for stage, names in outs.items()}
    stages["tour@toy"]["outs"][0]["md5"] = "0" * 32
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
