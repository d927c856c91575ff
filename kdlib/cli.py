"""The command `kd`: generate, edit, search, index, info, evaluate, ballot, demo. Heavy modules wait for their turn."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from kdlib.ballot import ballot
from kdlib.console import check_own_code, choose_threads, clear_errors, printable
from kdlib.demo.command import demo
from kdlib.evaluate import evaluate
from kdlib.outputs import check_apart, check_index_paths, check_out, report_path, save_images, workspace_path
from kdlib.printing import as_json, as_table, examples, found_rows, neighbour_rows

# Before PyTorch is imported: its threads then sleep while they wait, and leave the cores to other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class Commands(TyperGroup):
    """The commands; where their help can't be printed, that is one line, too."""

    def main(self, *args, **kwargs):
        if sys.getfilesystemencoding() != "utf-8":  # by this locale, names would be read as others than libraries write
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
        try:
            with clear_errors():
                return super().main(*args, **kwargs)
        except typer.Exit as end:
            sys.exit(end.exit_code)


app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="KNN-Diffusion: pictures from text by a model trained on pictures alone.",
                  epilog=examples('kd generate "a red apple" --out apple.png', 'kd search "something round and red"',
                                  "kd info", "kd generate --help"))
app.add_typer(ballot, name="ballot")
app.command(epilog=examples("kd demo", "kd demo --preset quick --port 0"))(demo)
app.command("evaluate", epilog=examples("kd evaluate coco path/to/coco --out coco.measured",
                                        "kd evaluate cub path/to/cub --num 1000 --out cub.measured --json"))(evaluate)
MAX_LISTED = 5  # skipped files that `kd index` prints; its report has all
Prompt = Annotated[str, typer.Argument(help="What to draw or look for, in words.")]
Preset = Annotated[str | None, typer.Option(help="A preset of params.yaml, or a folder saved by save_pretrained. "
                                                 "Default: cpu, or else the first preset whose weights are here.")]
Engine = Annotated[str | None, typer.Option("--engine", help="Or draw from what a search engine finds for the prompt: "
                                            "stickers (by name, here) or openverse (asked over the network).")]
IndexFolder = Annotated[Path | None, typer.Option("--index", help="Another database, made by `kd index`.")]
Licences = Annotated[list[str] | None, typer.Option("--licence", help="Only pictures under this licence; may be "
                                                    "repeated, for example --licence CC0-1.0 --licence MIT.")]
Styles = Annotated[list[str] | None, typer.Option("--style", help="Only pictures of this set; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]


@app.callback()
def before_any_command() -> None:
    """Before a command looks at its arguments."""
    with clear_errors():
        check_own_code(Path(sys.argv[0]))


@app.command(epilog=examples(
    'kd generate "a red apple" --out apple.png',
    'kd generate "a red apple" --num-candidates 8 --out best.png',
    'kd generate "a red apple" --index my.index --k 5 --seed 3 --out mine.png',
    'kd generate "a red apple" --out apple.svg',
    'kd generate "a red apple" --num-images 4 --out apples.png --json'))
def generate(prompt: Prompt,
             out: Annotated[Path, typer.Option(help="The picture to write; several become NAME-1, NAME-2, "
                                                           "... As .svg it is traced.")],
             preset: Preset = None,
             k: Annotated[int | None, typer.Option("--k", help="Neighbours to draw from.")] = None,
             num_images: Annotated[int, typer.Option(help="How many pictures.")] = 1,
             num_candidates: Annotated[int | None, typer.Option(help="Draw so many, keep those that the encoder "
                                                                     "finds nearest to the prompt.")] = None,
             guidance_scale: Annotated[float | None, typer.Option(help="1 is no guidance.")] = None,
             num_steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
             seed: Annotated[int, typer.Option(help="Same seed, same picture.")] = 0,
             size: Annotated[int | None, typer.Option(help="Side in pixels: 64 as cpu draws, 256 or 1024 by its "
                                                           "upsampler. Default: one pass of it, if there is one."
                                              )] = None,
             backbone: Annotated[str | None, typer.Option(help="discrete or continuous. Default: the saved folder's "
                                                               "own, and of a preset the discrete one.")] = None,
             index: IndexFolder = None, engine: Engine = None, licence: Licences = None, style: Styles = None,
             json: Json = False) -> None:
    """Draw pictures of a text, and say what they were made from."""
    with clear_errors():
        from kdlib.types import check_prompt, check_request

        check_request(k, num_images, guidance_scale, num_steps, seed, num_candidates)
        check_prompt(prompt)
        check_out(out, num_images)
        check_preset(preset)
        check_engine(engine, index)
        choose_threads(num_candidates or num_images)
        from kdlib.artifacts import default_preset
        from kdlib.outputs import find_enlarging
        from kdlib.pipeline import load_pipeline
        from kdlib.retrieval import open_index

        name = preset or default_preset(backbone=backbone)
        pipe = load_pipeline(name, backbone=backbone)
        enlarge = find_enlarging(name, size, pipe.backbone.size_px)
        database = open_index(index, pipe.encoder.identity) if index else None
        if engine:
            database = ask_engine(engine, prompt, pipe.encoder, k)
        if licence or style:
            database = narrow(pipe.index if database is None else database, pipe.catalogue, licence, style)
        if engine or licence or style:
            k = default_k(k, pipe, database)
        result = pipe(prompt, k=k, num_images=num_images, guidance_scale=guidance_scale, num_steps=num_steps, seed=seed,
                      index=database, num_candidates=num_candidates)
        paths = save_images(enlarge(result.images), out)
        rows = neighbour_rows(result.neighbours)
        if json:
            told = {"preset": name, "backbone": pipe.backbone.kind, "seed": seed, **result.settings,
                    **told_database(index, licence, style), "engine": engine}
            files = [str(path) for path in paths]
            typer.echo(as_json({"prompt": prompt, "settings": told, "neighbours": rows, "files": files}))
        else:
            typer.echo(printable(f'"{prompt}" was made from these {len(rows)} pictures:') + "\n")
            typer.echo(as_table(rows))
            typer.echo("\n" + printable(f"written: {', '.join(map(str, paths))} (preset {name}, seed {seed})"))


@app.command(epilog=examples(
    'kd edit cat.png "a cat wearing sunglasses" --out edited.png',
    'kd edit cat.png "a blue cat" --out blue.png --strength 0.7 --seed 3 --json'))
def edit(picture: Annotated[Path, typer.Argument(help="The picture to change, a file.")],
         text: Annotated[str, typer.Argument(help="What it should show then, in words.")],
         out: Annotated[Path, typer.Option(help="The picture to write.")],
         preset: Preset = None,
         strength: Annotated[float | None, typer.Option(help="From 0 to 1: how much of it may change.")] = None,
         text_scale: Annotated[float | None, typer.Option(help="How closely to follow the text; 1 is plain.")] = None,
         picture_scale: Annotated[float | None, typer.Option(help="How closely to keep to the picture.")] = None,
         k: Annotated[int | None, typer.Option("--k", help="Neighbours of the text to be told, too.")] = None,
         num_steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
         seed: Annotated[int, typer.Option(help="Same seed, same picture.")] = 0,
         index: IndexFolder = None, json: Json = False) -> None:
    """Change a picture as a text says; no mask is needed. The result has the model's size."""
    with clear_errors():
        from kdlib.types import check_prompt, check_request

        check_request(seed=seed)
        check_prompt(text)
        check_out(out, 1)
        check_preset(preset)
        choose_threads(1)
        from kdlib.artifacts import default_preset
        from kdlib.editing import edit_file, report_edit

        name, asked = preset or default_preset(), {"strength": strength, "text_scale": text_scale, "k": k,
                                                   "picture_scale": picture_scale, "num_steps": num_steps}
        made = edit_file(picture, text, name, index, seed, {key: v for key, v in asked.items() if v is not None})
        path = save_images([made.image], out)[0]
        typer.echo(report_edit(made, picture, path, name, json))


@app.command(epilog=examples(
    'kd search "something round and red"',
    'kd search "a red apple" -n 3 --licence MIT --licence Apache-2.0',
    'kd search "a red apple" --index my.index --json'))
def search(prompt: Prompt,
           num: Annotated[int, typer.Option("--num", "-n", help="How many pictures to list.")] = 10,
           preset: Preset = None, index: IndexFolder = None, licence: Licences = None, style: Styles = None,
           json: Json = False) -> None:
    """List the pictures nearest to a text, with author and licence."""
    with clear_errors(k="--num"):
        from kdlib.types import check_prompt, check_request

        check_request(num)
        check_prompt(prompt)
        check_preset(preset)
        choose_threads(1)
        from kdlib.artifacts import default_preset, load_retrieval

        name = preset or default_preset()
        encoder, database, catalogue = load_retrieval(name, index)
        encoder.check_readable([prompt])
        database = narrow(database, catalogue, licence, style)
        found = database.search(encoder.encode_texts([prompt]), num)
        rows = found_rows(found.ids[0], found.scores[0], catalogue)
        told = {"preset": name, "num": num, **told_database(index, licence, style)}
        typer.echo(as_json({"prompt": prompt, "settings": told, "neighbours": rows}) if json else as_table(rows))


@app.command("index", epilog=examples(
    "kd index path/to/my/pictures --out my.index",
    "kd index photos --out photos.index --bytes-per-vector 64"))
def make_index(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures; folders in it "
                                                                          "count, too.")],
               out: Annotated[Path, typer.Option(help="The index to write, a folder.")],
               preset: Preset = None,
               bytes_per_vector: Annotated[int | None, typer.Option(
                   help="Compress each embedding to so many bytes; for more than 10,000 pictures.")] = None) -> None:
    """Make a database of your own pictures. Give it to `kd generate` and `kd search` as --index.

    Read are png, jpeg, webp, gif, bmp, tiff, avif, svg, and heic with the package pillow-heif, whatever a file's name
    says. All else, and unreadable, gigantic and duplicate pictures, is skipped and listed in OUT.skipped.csv; only
    hidden files and folders are passed by. After an interruption, the same command goes on where it was; until it ends,
    it keeps its work in the hidden folder .OUT.unfinished.

    Titles are the files' names, author and licence "unknown", unless DIR has a file credits.csv with the columns path
    (inside DIR, such as cats/tom.png), title, author, licence (or license), parted by commas, semicolons or tabs.
    """
    with clear_errors():
        if bytes_per_vector is not None and bytes_per_vector < 1:
            raise ValueError(f"bytes_per_vector = {bytes_per_vector} must be at least 1")
        check_apart(folder, out)
        check_preset(preset)
        from kdlib.artifacts import default_preset, find_parts
        from kdlib.encoder import Encoder
        from kdlib.retrieval import build_index
        from kdlib.retrieval.own_pictures import own_workspace, save_report

        check_index_paths(out)
        skipped, report = [], report_path(out)
        encoder = Encoder.load(find_parts(preset or default_preset(), ("encoder",))["encoder"])
        with own_workspace(workspace_path(out)) as workspace:
            built = build_index(folder, encoder, bytes_per_vector, skipped=skipped, workspace=workspace)
            save_report(report, skipped)
            built.save(out)
        for path, reason in skipped[:MAX_LISTED]:
            typer.echo(printable(f"skipped {path}: {reason}"), err=True)
        typer.echo(printable(f"{out}: {len(built)} pictures, {len(skipped)} files skipped (listed in {report})"))


@app.command(epilog=examples("kd info", "kd info --preset quick", "kd info --json"))
def info(preset: Preset = None, json: Json = False) -> None:
    """Say which models are here, and from whose pictures they draw.

    All presets of params.yaml, with the generators whose weights are here; then of one preset the index, k, the parts
    with their identity (the hash by which each refuses what was made with another) and number of parameters (without
    the encoder's text tower, which is a package's), and under which licences the indexed pictures are.
    """
    with clear_errors():
        check_preset(preset)
        choose_threads(1)
        from kdlib.info import as_text, model_facts

        facts = model_facts(preset)
        typer.echo(as_json(facts) if json else as_text(facts))


def told_database(index: Path | None, licence: list[str] | None, style: list[str] | None) -> dict:
    """What --json says of the database: the folder of another one, and what it was narrowed to."""
    return {"index": None if index is None else str(index), "licence": licence or [], "style": style or []}


def check_preset(preset: str | None) -> None:
    """Raises ValueError for what is neither a folder nor a preset of params.yaml."""
    from kdlib.params import load_preset

    if preset is not None and not (preset and Path(preset).is_dir()):
        load_preset(preset)


def check_engine(engine: str | None, index: Path | None) -> None:
    """Raises ValueError for an engine that isn't known, or beside another database."""
    if engine not in (None, "stickers", "openverse"):
        raise ValueError(f"--engine {engine} is not known; choose stickers or openverse")
    if engine and index:
        raise ValueError("--engine and --index both say what to draw from; give one of them")


def ask_engine(engine: str, prompt: str, encoder, k: int | None):
    """A throw-away index of what an engine finds for the prompt: at least k pictures, if there are so many."""
    from kdlib.retrieval.engines import NUM_FOUND, StickerEngine, index_from_engine
    from kdlib.retrieval.openverse import OpenverseEngine

    asked = StickerEngine() if engine == "stickers" else OpenverseEngine()
    return index_from_engine(prompt, asked, encoder, max(NUM_FOUND, k or 0))


def default_k(k: int | None, pipe, database) -> int | None:
    """The k that was asked for; else the pipeline's own, or what a smaller database can give."""
    return k if k is not None else min(pipe.settings["k"], len(pipe.index if database is None else database))


def narrow(index, catalogue, licences: list[str] | None, styles: list[str] | None):
    """The index with only pictures of these licences and styles; `catalogue` is for an index that carries none."""
    from kdlib.retrieval import by_column

    catalogue = catalogue if index.catalogue is None else index.catalogue
    for column, values in (("licence", licences), ("style", styles)):
        if values:
            index = index.where(by_column(index.ids, catalogue, column, values))
    return index


if __name__ == "__main__":
    app()
