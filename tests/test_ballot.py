"""`kd ballot`: what it writes and says, and how it fails."""

import json
import re

import pytest
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.files import read_json, write_json
from tests.evaluation.human.test_ballot import PROMPTS, save_cells, save_samples


@pytest.fixture
def kd(tmp_path, monkeypatch):
    """Runs `kd` in a folder with pictures of three methods, for 30 prompts each."""
    monkeypatch.chdir(tmp_path)
    save_samples(tmp_path / "ours", "ours", PROMPTS)
    save_samples(tmp_path / "gan", "gan", PROMPTS)
    save_cells(tmp_path / "flat", "flat", PROMPTS)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


MAKE = ["ballot", "make", "--ours", "ours", "--theirs", "GAN=gan", "--theirs", "flat pictures=flat", "--out", "out"]


def answer(folder, rater, prefer):
    """A file of a rater who passes and answers each pair by `prefer`: what the key says of it -> ours or theirs."""
    other = {"left": "right", "right": "left"}
    key = read_json(folder / "out" / "key.json")
    answers = {question: {id: what["right"] if "check" in what
                          else what["ours"] if prefer(what) == "ours" else other[what["ours"]]
                          for id, what in told.items()} for question, told in key["questions"].items()}
    write_json(folder / f"{rater}.json", {"kind": "votes", "ballot": key["id"], "rater": rater, "answers": answers})
    return f"{rater}.json"


def test_made_answered_and_counted(kd, tmp_path):
    result = kd(*MAKE, "--num-pairs", 20, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout == ("out/ballot.html: 86 pairs to answer, attention checks among them; keep out/key.json to "
                             "yourself\n")
    files = [answer(tmp_path, f"r{rater}", lambda what: "ours" if what["against"] == "GAN" else "theirs")
             for rater in range(5)]
    result = kd("ballot", "count", *files, "--key", "out/key.json", "--out", "count.json")
    assert result.exit_code == 0, result.output
    table = [line.split() for line in result.stdout.splitlines()[2:7]]
    assert [row[:3] for row in table[1:]] == [["quality", "GAN", "1.000"], ["quality", "flat", "pictures"],
                                              ["alignment", "GAN", "1.000"], ["alignment", "flat", "pictures"]]
    assert "Krippendorff's alpha): quality 1.00, alignment 1.00" in result.stdout
    assert result.stdout.endswith("pairs with fewer than 5 votes: 0\n")
    counted = json.loads((tmp_path / "count.json").read_text())
    shares = {(row["question"], row["against"]): row["majority"]["value"] for row in counted["preferences"]}
    assert shares == {(question, against): share for question in ("quality", "alignment")
                      for against, share in (("GAN", 1.0), ("flat pictures", 0.0))}
    assert kd("ballot", "count", *files, "--key", "out/key.json", "--out", "count.json").exit_code == 0, "its own count"


def test_only_the_prompts_of_a_table(kd, tmp_path):
    (tmp_path / "few.csv").write_text(f"kind,prompt\nname,{PROMPTS[2]}\nname,{PROMPTS[3]}\n")
    assert kd(*MAKE, "--num-pairs", 2, "--prompts", "few.csv").exit_code == 0
    told = read_json(tmp_path / "out" / "key.json")["questions"]["alignment"].values()
    assert {what["prompt"] for what in told if "prompt" in what} == set(PROMPTS[2:4])


@pytest.mark.parametrize("words, message", [
    (MAKE, "--num-pairs = 600 must be from 1 to 30: there are 30 prompts for which all of ours, GAN, flat"),
    ([*MAKE, "--num-pairs", "0"], "--num-pairs = 0 must be from 1 to 30"),
    ([*MAKE, "--seed", "-1"], "--seed = -1 must be a whole number of at least 0"),
    ([*MAKE, "--theirs", "gan"], "--theirs gan is not of the form NAME=DIR, for example LAFITE="),
    ([*MAKE, "--theirs", "GAN=flat"], "--theirs names GAN twice; give each method a name of its own"),
    ([*MAKE, "--theirs", "new=empty"], "empty holds no samples.json and no pictures.json"),
    ([*MAKE, "--prompts", "out.csv"], ".*No such file or directory: 'out.csv'"),
    ([*MAKE, "--prompts", "ours/samples.json"], "--prompts ours/samples.json has no prompts in a column called prompt"),
    ([*MAKE, "--prompts", "ours/pictures/000.png"], "--prompts ours/pictures/000.png is no CSV file"),
    ([*MAKE, "--prompts", "new.csv", "--num-pairs", "1"], "ours has no picture for 'a new thing'; draw it, or leave"),
    ([*MAKE[:-1], "made", "--num-pairs", "3"], "made exists, and a ballot's key is never replaced"),
    (["ballot", "count", "absent.json", "--key", "made/key.json"], ".*No such file or directory: 'absent.json'"),
    (["ballot", "count", "new.csv", "--key", "made/key.json"], "new.csv is not valid JSON"),
    (["ballot", "count", "made/key.json", "--key", "made/key.json"], "made/key.json holds no answers; give the files"),
    (["ballot", "count", "r.json", "--key", "r.json"], "r.json is no key of a ballot; give the key.json that"),
    (["ballot", "count", "r.json", "--key", "made/key.json", "--out", "r.json"], "--out r.json is no count of votes"),
    (["ballot", "count", "r.json", "--key", "made/key.json"], "r.json belongs to the ballot x, and the key to"),
])
def test_errors_are_one_line_on_stderr_and_status_2(kd, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "new.csv").write_text("prompt\na new thing\n")
    assert kd(*MAKE[:-1], "made", "--num-pairs", 1).exit_code == 0
    write_json(tmp_path / "r.json", {"kind": "votes", "ballot": "x", "rater": "r", "answers": {}})
    result = kd(*words)
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert re.match(f"kd: {message}", result.stderr) and not (tmp_path / "out").exists()
    assert read_json(tmp_path / "r.json")["ballot"] == "x"
