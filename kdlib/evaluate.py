"""`kd evaluate`: the paper's zero-shot protocol on a set of captioned pictures that the user has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdlib.console import clear_errors, printable
from kdlib.printing import aligned, as_json

RESULT = "result.json"


def evaluate(name: Annotated[str, typer.Argument(metavar="SET", help="coco, ln-coco, cub, cc3m, cc12m or webdataset.")],
             source: Annotated[Path, typer.Argument(metavar="DIR", help="Where the set was unpacked.")],
             out: Annotated[Path, typer.Option(metavar="DIR", help="Keeps progress and the result; the same command "
                                                                   "goes on where it was.")],
             num: Annotated[int, typer.Option(help="Captions to draw for.")] = 30_000,
             preset: Annotated[str | None, typer.Option(help="A preset of params.yaml. Default: cpu, or else the first "
                                                             "preset whose weights are here.")] = None,
             num_steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
             seed: Annotated[int, typer.Option(help="Chooses captions and random numbers.")] = 0,
             inception: Annotated[Path | None, typer.Option(metavar="FILE", help="Inception's weights, for a FID by "
                                  "torch-fidelity. Default: the judge's features, which make another number.")] = None,
             json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")] = False
             ) -> None:
    """Draw for a set's captions and say how far the pictures lie from the set's.

    LAFITE's protocol: 30,000 captions of the validation set, a picture for each, the Frechet distance at 256 px to the
    pictures that the captions belong to. It runs on whatever size, and says what the number lacks to be the paper's.
    The folder of the set holds, for coco, annotations/captions_val2014.json and val2014/; for ln-coco,
    coco_val_captions.jsonl and val2017/; for cub, CUB_200_2011/ and text_c10/. Nothing is fetched.
    """
    with clear_errors():
        from kdlib.data.captioned.published import SETS
        from kdlib.types import check_request

        check_request(num_steps=num_steps, seed=seed)
        if num < 2:
            raise ValueError(f"--num {num} captions are too few for a distance; give at least 2")
        if name not in SETS:
            raise ValueError(f"there is no reader of {name!r}; choose one of {', '.join(SETS)}")
        told = measure(name, source, out, num, preset, num_steps, seed, inception)
        typer.echo(as_json(told) if json else printable_table(told))


def measure(name: str, source: Path, out: Path, num: int, preset: str | None, num_steps: int | None, seed: int,
            inception: Path | None) -> dict:
    """Runs the protocol, writes `out`/result.json and returns what it holds."""
    from kdlib.artifacts import default_preset
    from kdlib.evaluation.inception import inception_features
    from kdlib.evaluation.judge import Judge
    from kdlib.experiments.captions import Features, draw_captions, result
    from kdlib.files import check_place, write_json
    from kdlib.params import load_preset, stage_folder
    from kdlib.pipeline import load_pipeline

    preset = preset or default_preset()
    load_preset(preset)
    check_place(out)
    if inception is None:
        judge = Judge.load(stage_folder(preset, "judge") / "model")
        features = Features("judge", judge.features)
    else:
        features = Features("inception", inception_features(inception))
    pipe = load_pipeline(preset)
    found = draw_captions(pipe, features, name, source, out, num, num_steps, seed)
    told = {"preset": preset, "seed": seed, **result(found, features.name, name)}
    write_json(out / RESULT, told)
    return told


def printable_table(told: dict) -> str:
    """The result for people: numbers, what was broken, and what is missing for the paper's figure."""
    rows = [(key, str(value)) for key, value in told.items() if key not in ("broken", "missing")]
    rows += [("broken", f"{kind}: {count:,}") for kind, count in told["broken"].items()]
    lines = [printable(line) for line in aligned(rows).splitlines()]
    return "\n".join([*lines, "", "missing for a number of the paper's:", *(f"- {one}" for one in told["missing"])])
