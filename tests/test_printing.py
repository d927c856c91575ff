"""kdlib.printing: tables and JSON; the examples of --help are commands that can be typed."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.printing import as_json, as_table
from tests.test_pipeline import make_root


def row(score, title, style, author, licence):
    return {"id": "x", "score": score, "title": title, "style": style, "author": author, "licence": licence}


def test_tables_are_aligned():
    table = as_table([row(0.5, "a long title", "s", "me", "MIT"), row(-0.25, "b", "style", "you", "CC0")])
    assert table.splitlines() == ["score   title         style  author  licence",
                                  "0.500   a long title  s      me      MIT",
                                  "-0.250  b             style  you     CC0"]


def test_json_holds_any_text_and_moves_no_cursor():
    told = {"title": "ros\u00e9\x1b[2J\n\x7f\x9b\u202e\udc80", "n": 1}
    text = as_json(told)
    assert json.loads(text) == told and all(letter.isprintable() for line in text.split("\n") for letter in line)


# --- --json --------------------------------------------------------------------------------------------------------

def test_search_as_json(kd):
    result = kd("search", "something green", "-n", 2, "--style", "a", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["prompt"] == "something green"
    assert told["settings"] == {"preset": "quick", "num": 2, "index": None, "licence": [], "style": ["a"]}
    first, second = told["neighbours"]
    assert list(first) == ["id", "score", "title", "style", "author", "licence"]
    assert {**first, "score": None} == {"id": "a:green", "score": None, "title": "frog", "style": "a",
                                        "author": "author of a", "licence": "MIT"}
    assert second["id"] == "a:red" and 1 >= first["score"] > second["score"] > 0
    assert first["score"] == round(first["score"], 6), "digits beyond float32 are noise"


def test_the_table_and_the_json_say_the_same(kd):
    lines = kd("search", "red", "-n", 4).stdout.splitlines()[1:]
    found = json.loads(kd("search", "red", "-n", 4, "--json").stdout)["neighbours"]
    assert [line.split()[0] for line in lines] == [f"{one['score']:.3f}" for one in found]
    assert all(one["title"] in line for line, one in zip(lines, found, strict=True))


def test_generate_as_json(kd, tmp_path):
    result = kd("generate", "a red apple", "--out", "deep/a.png", "--num-images", 2, "--k", 3, "--seed", 5,
                "--num-steps", 7, "--licence", "MIT", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert list(told) == ["prompt", "settings", "neighbours", "files"] and told["prompt"] == "a red apple"
    assert told["settings"] == {
        "preset": "quick", "backbone": "discrete", "seed": 5, "k": 3, "num_images": 2, "guidance_scale": 1.5,
        "num_steps": 7, "index": None, "licence": ["MIT"], "style": [], "engine": None}
    assert [one["id"] for one in told["neighbours"]][0] == "a:red" and len(told["neighbours"]) == 3
    assert told["files"] == ["deep/a-1.png", "deep/a-2.png"]
    assert all(Image.open(tmp_path / name).size == (12, 12) for name in told["files"])


@pytest.mark.parametrize("words", [["search", "red", "-n", 9], ["generate", "red", "--out", "a.png", "--k", 9],
                                   ["info", "--preset", "cpu"]])
def test_what_fails_leaves_stdout_empty(kd, words):
    result = kd(*words, "--json")
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.startswith("kd: ")


def test_progress_is_on_stderr(tmp_path, monkeypatch):
    """`kd generate` and `kd index` in a process of their own, with bars on: stdout holds the results alone."""
    make_root(tmp_path)
    (tmp_path / "mine").mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9), (80 * number, 0, 0)).save(tmp_path / "mine" / f"{number}.png")
    code = ("import sys, pytest; from tests.test_pipeline import parts_are_colours; from kdlib.cli import app\n"
            "parts_are_colours(pytest.MonkeyPatch()); app(sys.argv[1:])")
    run = lambda *words: subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"} | {
            "PYTHONPATH": os.pathsep.join(sys.path)})
    drawn = run("generate", "red", "--out", "a.png", "--json")
    assert "sampling: 100%" in drawn.stderr and json.loads(drawn.stdout)["files"] == ["a.png"]
    made = run("index", "mine", "--out", "my.index")
    assert "index: 100%" in made.stderr
    assert made.stdout == "my.index: 3 pictures, 0 files skipped (listed in my.index.skipped.csv)\n"


# --- --help --------------------------------------------------------------------------------------------------------

def all_commands(group, words=()):
    """Every command and group, as (words, command)."""
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, (*words, name))


COMMANDS = dict(all_commands(typer.main.get_command(app)))


def examples_of(words):
    """The lines under Examples in a command's help."""
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    return [line.strip() for line in done.stdout.partition("Examples:")[2].splitlines() if line.strip()]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "kd")
def test_every_command_shows_examples_that_it_understands(words):
    """Each begins with the command, is whole on its line, and has only arguments and options that there are."""
    lines = examples_of(words)
    assert 1 <= len(lines) <= 5
    for line in lines:
        first, *rest = shlex.split(line)
        assert first == "kd" and tuple(rest[:len(words)]) == words, line
        parse(rest)


def parse(words):
    """As `kd` reads its words, without running anything; raises what it would print."""
    command = max((known for known in COMMANDS if known == tuple(words[:len(known)])), key=len)
    if (rest := words[len(command):]) != ["--help"]:
        COMMANDS[command].make_context("kd", rest)


def test_the_shell_can_complete(tmp_path):
    """What README tells of: bash asks `kd` itself for words and options."""
    script = tmp_path / "kd"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom kdlib.cli import app\nsys.exit(app())\n")
    script.chmod(0o755)
    ask = lambda **more: subprocess.run([script], capture_output=True, text=True, check=True, env=os.environ | more |
                                        {"PYTHONPATH": os.pathsep.join(sys.path)}).stdout
    assert "complete -o default -F _kd_completion kd" in ask(_KD_COMPLETE="source_bash")
    asked = {"_KD_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert ask(COMP_WORDS="kd ge", **asked).split() == ["generate"]
    assert "--guidance-scale" in ask(COMP_WORDS="kd generate --g", **asked | {"COMP_CWORD": "2"})


def test_the_package_is_the_command():
    run = lambda name, *words: subprocess.run([sys.executable, "-m", name, *words], capture_output=True, text=True,
                                              env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    for words in (["--help"], ["generate", "", "--out", "a.png"], ["search", "--no-such"]):
        package, module = run("kdlib", *words), run("kdlib.cli", *words)
        assert (package.returncode, package.stderr.replace("kdlib.cli", "kdlib")) == (
            module.returncode, module.stderr.replace("kdlib.cli", "kdlib"))
        assert package.stdout == module.stdout.replace("kdlib.cli", "kdlib")
    assert run("kdlib", "--help").stdout.startswith("Usage: python -m kdlib ")
