"""The checks accept what is right however it is written, and refuse what is wrong in the ways that people are."""

import importlib

import numpy as np
import pytest

from kdlib.exercises import TOPICS, Exercise, check, find_exercise
from tests.exercises.answers import RIGHT, WRONG

EXERCISES = {name: exercise for topic in TOPICS
             for name, exercise in importlib.import_module(f"kdlib.exercises.{topic}").EXERCISES.items()}


def test_every_exercise_has_two_right_and_five_wrong_answers():
    assert set(RIGHT) == set(WRONG) == set(EXERCISES)
    assert all(len(RIGHT[name]) == 2 and len(WRONG[name]) == 5 for name in EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_right_answers_pass(name, capsys):
    for answer in RIGHT[name]:
        check(name, answer)
        assert capsys.readouterr().out == f"{name}: right, in all {len(EXERCISES[name].cases)} cases\n"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("name", EXERCISES)
def test_wrong_answers_are_refused_by_what_they_return(name, number, capsys):
    with pytest.raises(AssertionError, match=f"{name}: not yet. For .* yours returns "):
        check(name, WRONG[name][number])
    assert "right" not in capsys.readouterr().out


@pytest.mark.parametrize("yours, error, words", [
    (..., TypeError, "entropy: write a function first"), (lambda p: None, AssertionError, "returns nothing"),
    (lambda p: ..., AssertionError, "returns nothing"), (lambda p: "much", AssertionError, "no array of numbers")])
def test_what_is_no_answer_is_said(yours, error, words):
    with pytest.raises(error, match=words):
        check("entropy", yours)


def test_an_unknown_exercise_is_named_with_all_there_are():
    with pytest.raises(ValueError, match="no exercise 'entropie'; choose one of .*, entropy, "):
        find_exercise("entropie")


def test_an_answer_that_changes_its_arguments_gains_nothing_by_it(monkeypatch):
    held = np.arange(3.0)
    monkeypatch.setattr("kdlib.exercises.find_exercise", lambda name: Exercise("", [(held,)], lambda x: x.sum()))
    with pytest.raises(AssertionError):
        check("sum", lambda x: x.fill(0) or 0.0)
    assert held.tolist() == [0, 1, 2]
