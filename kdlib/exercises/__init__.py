"""The notebooks' exercises: `check("posterior", yours)` holds an answer against a truth found in another way.

    topics   discrete, continuous, guidance, retrieval, inside, evaluation, editing: the exercises, each with its truth
    student  the notebooks as students get them, written from those with solutions

A truth is enumeration, plain loops, numerical integration or a closed form; none calls the rest of kdlib. Topics are
imported by name when an answer is checked: no result of a stage depends on them, so an edit of an exercise makes no
stage stale. What holds them to account are the tests, which run every solution.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

TOPICS = ("discrete", "continuous", "guidance", "retrieval", "inside", "evaluation", "editing")


class Exercise(NamedTuple):
    """What is asked, and how an answer is checked.

    wanted     the function's signature and what it returns, in a line
    cases      inputs, each a tuple of arguments
    truth      the same function, written so that it can hardly be wrong; slow is fine
    tolerance  largest difference that passes
    """

    wanted: str
    cases: Sequence[tuple]
    truth: Callable
    tolerance: float = 1e-6


def find_exercise(name: str) -> Exercise:
    """An exercise by its name; raises ValueError naming all where there is none of that name."""
    exercises = {}
    for topic in TOPICS:
        exercises |= importlib.import_module(f"{__name__}.{topic}").EXERCISES
    if name not in exercises:
        raise ValueError(f"there is no exercise {name!r}; choose one of {', '.join(sorted(exercises))}")
    return exercises[name]


def check(name: str, yours: object) -> None:
    """Prints that an answer is right, or raises AssertionError with the first case in which it is not.

    Raises TypeError for an answer that is no function, ValueError for an exercise that doesn't exist.
    """
    exercise = find_exercise(name)
    if not callable(yours):
        raise TypeError(f"{name}: write a function first: {exercise.wanted}")
    for case in exercise.cases:
        answer, truth = yours(*map(_copy, case)), np.asarray(exercise.truth(*case))
        if problem := _problem(answer, truth, exercise.tolerance):
            raise AssertionError(f"{name}: not yet. For {_shown(case)} yours {problem}. Wanted: {exercise.wanted}")
    print(f"{name}: right, in all {len(exercise.cases)} cases")


def _problem(answer: object, truth: np.ndarray, tolerance: float) -> str:
    """What is wrong with an answer, or nothing."""
    if answer is None or answer is ...:
        return "returns nothing"
    try:
        found = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return f"returns {answer!r}, which is no array of numbers"
    if found.shape != truth.shape:
        return f"returns the shape {found.shape}, not {truth.shape}"
    if not np.allclose(found, truth, rtol=0, atol=tolerance, equal_nan=True):
        return f"returns {_rounded(found)}, not {_rounded(truth)}"
    return ""


def _copy(value: object) -> object:
    """So that an answer which changes its arguments is found out by its answer, not by ours."""
    return value.copy() if isinstance(value, np.ndarray) else value


def _rounded(values: np.ndarray) -> str:
    return np.array2string(np.asarray(values, dtype=float), precision=4, threshold=12, separator=", ").replace("\n", "")


def _shown(case: tuple) -> str:
    """A case's arguments, large arrays by their shape."""
    return ", ".join(f"an array {value.shape}" if isinstance(value, np.ndarray) and value.size > 6
                     else str(value).replace("\n", "") for value in case)
