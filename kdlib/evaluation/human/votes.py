"""The files that raters saved, read against the ballot's key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kdlib.evaluation.human.ballot import BALLOT, OURS, QUESTIONS, SIDES
from kdlib.files import read_json

ANSWERS = (*SIDES, "neither")
PASSING = 0.8  # share of the attention checks that a rater has to get right


class Votes(NamedTuple):
    """What was answered, a row for each answer, and by whom.

    pairs   question, id (of the pair in its pass), prompt, against: all that can be answered
    given   question, id, against, rater, side ("left", "right", "neither"), vote ("ours", "theirs", "neither")
    raters  indexed by the rater's random number: file, num_answers, num_checks, num_right, passes (bool)
    """

    pairs: pd.DataFrame
    given: pd.DataFrame
    raters: pd.DataFrame


def read_votes(files: Sequence[str | Path], key: str | Path) -> Votes:
    """The votes in some files. Raises ValueError or OSError for what isn't a ballot's key or isn't answered with it.

    A rater passes who got at least 80% of the attention checks that they answered right, and answered one at least.
    """
    questions, id = read_key(key)
    pairs = pd.DataFrame([{"question": question, "id": number, "prompt": told["prompt"], "against": told["against"]}
                          for question, items in questions.items() for number, told in items.items()
                          if "check" not in told], columns=["question", "id", "prompt", "against"])
    given, raters = [], {}
    for path in files:
        rater, answers = read_answers(path, id, questions)
        if rater in raters:
            raise ValueError(f"{raters[rater]['file']} and {path} are of the same rater; give the later one only")
        told = [(question, number, side, questions[question][number])
                for question, sides in answers.items() for number, side in sides.items()]
        checks = [side == what["right"] for _, _, side, what in told if "check" in what]
        raters[rater] = {"file": str(path), "num_answers": len(told), "num_checks": len(checks),
                         "num_right": sum(checks), "passes": bool(checks) and sum(checks) >= PASSING * len(checks)}
        given += [(question, number, what["against"], rater, side, vote_of(side, what["ours"]))
                  for question, number, side, what in told if "check" not in what]
    return Votes(pairs, pd.DataFrame(given, columns=["question", "id", "against", "rater", "side", "vote"]),
                 pd.DataFrame.from_dict(raters, orient="index",
                                        columns=["file", "num_answers", "num_checks", "num_right", "passes"]))


def vote_of(side: str, ours: str) -> str:
    """Whom an answer is for."""
    return side if side == "neither" else OURS if side == ours else "theirs"


def read_key(path: str | Path) -> tuple[dict[str, dict[str, dict[str, str]]], str]:
    """(question -> id of a pair -> what the key says of it, the ballot's id)."""
    key = read_json(path)
    if not isinstance(key, dict) or key.get("kind") != BALLOT.label:
        raise ValueError(f"{path} is no key of a ballot; give the key.json that `kd ballot make` wrote beside the page")
    questions = key.get("questions")
    whole = isinstance(key.get("id"), str) and isinstance(questions, dict) and questions.keys() == QUESTIONS.keys()
    if not whole or not all(isinstance(items, dict) and items and all(map(is_told, items.values()))
                            for items in questions.values()):
        raise ValueError(f"{path}, the key of a ballot, is damaged; restore it")
    return questions, key["id"]


def is_told(told: object) -> bool:
    """Whether the key says all of a pair."""
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        return False
    return (told.keys() == {"check", "right"} and told["right"] in SIDES
            or told.keys() == {"prompt", "against", "ours"} and told["ours"] in SIDES)


def read_answers(path: str | Path, ballot: str, questions: dict) -> tuple[str, dict[str, dict[str, str]]]:
    """(the rater's number, question -> id of a pair -> side) of a file that the page saved."""
    votes = read_json(path)
    if not isinstance(votes, dict) or votes.get("kind") != "votes" or not isinstance(votes.get("rater"), str):
        raise ValueError(f"{path} holds no answers; give the files that raters saved from the ballot's page")
    if votes.get("ballot") != ballot:
        raise ValueError(f"{path} belongs to the ballot {votes.get('ballot')}, and the key to {ballot}; give the key "
                         "that was made with its page")
    answers = votes.get("answers")
    fits = isinstance(answers, dict) and answers.keys() <= questions.keys() and all(
        isinstance(sides, dict) and sides.keys() <= questions[question].keys()
        and all(isinstance(side, str) and side in ANSWERS for side in sides.values())
        for question, sides in answers.items())
    if not fits:
        raise ValueError(f"{path} answers what the ballot didn't ask; it was changed after it was saved: leave it out")
    return votes["rater"], answers
