"""`kd ballot`: a page on which people say which pictures are better, and the count of what they said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdlib.console import clear_errors, printable
from kdlib.printing import examples

ballot = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
                     help="Let people compare pictures: make a page, count the votes.",
                     epilog=examples("kd ballot make --help", "kd ballot count --help"))


@ballot.command(epilog=examples(
    "kd ballot make --ours reports/cpu/variant/ours --theirs no-kNN=reports/cpu/variant/no_knn --out my.ballot"))
def make(ours: Annotated[Path, typer.Option(metavar="DIR", help="Our pictures: a folder with samples.json or "
                                                                "pictures.json, as stages write them.")],
         theirs: Annotated[list[str], typer.Option(metavar="NAME=DIR", help="The pictures of a method to compare with; "
                                                                            "may be repeated.")],
         out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write; it must not be there yet.")],
         prompts: Annotated[Path | None, typer.Option(metavar="CSV", help="Only the prompts in its column prompt. "
                                                      "Default: those that all have drawn.")] = None,
         num_pairs: Annotated[int, typer.Option(help="Pairs of ours against each method.")] = 600,
         seed: Annotated[int, typer.Option(help="Chooses prompts, sides, order and checks.")] = 0) -> None:
    """Make a page that asks which of two pictures is better, and its key.

    DIR/ballot.html works without a network and holds all pictures: hand it out as it is. It doesn't say which pictures
    are ours; DIR/key.json does, so keep that. Five people should fill the page in; each saves a file of answers.
    """
    with clear_errors():
        from kdlib.types import check_request

        check_request(seed=seed)
        folders = parse_methods(theirs)
        wanted = None if prompts is None else read_prompts(prompts)
        from kdlib.evaluation.human.ballot import make_ballot

        num_answers = make_ballot(ours, folders, out, num_pairs, seed, wanted)
        typer.echo(printable(f"{out / 'ballot.html'}: {num_answers} pairs to answer, attention checks among them; keep "
                             f"{out / 'key.json'} to yourself"))


@ballot.command(epilog=examples("kd ballot count answers-*.json --key my.ballot/key.json"))
def count(files: Annotated[list[Path], typer.Argument(help="The files that raters saved.")],
          key: Annotated[Path, typer.Option(metavar="JSON", help="The key.json of the ballot.")],
          out: Annotated[Path | None, typer.Option(metavar="JSON", help="Write all of it here, too.")] = None) -> None:
    """Say how often people preferred ours.

    For each question and method: majorities of five votes, as in the paper, and single votes, both with intervals. Then
    how far raters agree, who fails the attention checks (fewer than 80% right: none of their votes count), and which
    pairs have fewer than five votes.
    """
    with clear_errors():
        if out is not None:
            check_count(out)
        from kdlib.evaluation.human.result import count as count_votes
        from kdlib.evaluation.human.result import lines
        from kdlib.evaluation.human.votes import read_votes
        from kdlib.files import write_json

        counted = count_votes(read_votes(files, key))
        for line in lines(counted):
            typer.echo(printable(line))
        if out is not None:
            write_json(out, counted)


def parse_methods(theirs: list[str]) -> dict[str, Path]:
    """["LAFITE=reports/cpu/gan"] -> {"LAFITE": Path("reports/cpu/gan")}; ValueError for another form."""
    folders = {}
    for text in theirs:
        name, equals, folder = text.partition("=")
        if not (equals and name.strip() and folder):
            raise ValueError(f"--theirs {text} is not of the form NAME=DIR, for example LAFITE=pictures/lafite")
        if name.strip() in folders:
            raise ValueError(f"--theirs names {name.strip()} twice; give each method a name of its own")
        folders[name.strip()] = Path(folder)
    return folders


def read_prompts(path: Path) -> list[str]:
    """The column prompt of a CSV file; ValueError where it has none, or nothing in it."""
    import csv

    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--prompts {path} is no CSV file ({error})") from error
    found = [row["prompt"] for row in rows if row.get("prompt")]
    if not found:
        raise ValueError(f"--prompts {path} has no prompts in a column called prompt")
    return found


def check_count(out: Path) -> None:
    """Raises ValueError or OSError unless `out` can be written, and is an older count if it is there."""
    from kdlib.files import check_file, read_json

    check_file(out)
    told = read_json(out) if out.exists() else {"kind": "count"}
    if not isinstance(told, dict) or told.get("kind") != "count":
        raise ValueError(f"--out {out} is no count of votes, and would be replaced; choose another name")
