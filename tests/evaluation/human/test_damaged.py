"""Each field of each JSON file that a ballot reads, deleted or of another type: one sentence, or no harm."""

import pytest

from kdlib.evaluation.human.ballot import make_ballot
from kdlib.evaluation.human.pictures import pictures_by_prompt
from kdlib.evaluation.human.result import count, lines
from kdlib.evaluation.human.votes import read_votes
from kdlib.files import read_json, write_json
from tests.evaluation.human.test_ballot import PROMPTS, save_cells, save_samples
from tests.test_damaged_json import assert_each_damage_is_one_sentence


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of each kind, a ballot of two pairs, and a rater's file."""
    root = tmp_path_factory.mktemp("human")
    save_samples(root / "ours", "ours", PROMPTS[:2])
    save_cells(root / "flat", "flat", PROMPTS[:2])
    make_ballot(root / "ours", {"flat": root / "flat"}, root / "ballot", num_pairs=2)
    key = read_json(root / "ballot" / "key.json")
    answers = {question: dict.fromkeys(told, "left") for question, told in key["questions"].items()}
    write_json(root / "votes.json", {"kind": "votes", "ballot": key["id"], "rater": "0a", "answers": answers})
    return root


def open_all(folder):
    for open_picture in pictures_by_prompt(folder).values():
        open_picture()


def count_all(root):
    lines(count(read_votes([root / "votes.json"], root / "ballot" / "key.json")))


@pytest.mark.parametrize("file, load", [
    ("ours/samples.json", lambda root: open_all(root / "ours")),
    ("flat/pictures.json", lambda root: open_all(root / "flat")),
    ("votes.json", count_all), ("ballot/key.json", count_all)])
def test_whatever_is_wrong_is_one_sentence(root, monkeypatch, file, load):
    monkeypatch.setattr("kdlib.evaluation.human.count.NUM_DRAWS", 2)  # for speed
    assert_each_damage_is_one_sentence(root / file, lambda: load(root))
