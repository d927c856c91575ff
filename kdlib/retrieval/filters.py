"""Which pictures of an index may be found: masks over its rows, for `Index.where`. Combine them with &, | and ~."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

import numpy as np
from jaxtyping import Bool, Float

from kdlib.data.catalogue import Catalogue

Mask = Bool[np.ndarray, " num_pictures"]


def by_score(scores: Float[np.ndarray, " num_pictures"], low: float = -np.inf, high: float = np.inf) -> Mask:
    """Pictures with low <= score < high, by any score: aesthetics, size, age (the paper's Fig. 7 and 9).

    Raises ValueError unless low < high, and for a score that is not a number.
    """
    scores = np.asarray(scores, dtype=float)
    if bad := np.flatnonzero(np.isnan(scores)).tolist():
        raise ValueError(f"the score of picture {bad[0]} is not a number; give each picture a score, or leave it out")
    if not low < high:
        raise ValueError(f"no score is at least {low} and below {high}; give low < high")
    return (scores >= low) & (scores < high)


def by_quantile(scores: Float[np.ndarray, " num_pictures"], low: float, high: float) -> Mask:
    """Pictures whose score lies from the quantile `low` up to `high`: (0.9, 1) is the best tenth.

    Equal scores are kept or left out together. Raises ValueError unless 0 <= low < high <= 1, and as `by_score` does.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"({low}, {high}) are no quantiles; give 0 <= low < high <= 1")
    by_score(scores)  # complains of what is no number
    bounds = np.quantile(np.asarray(scores, dtype=float), [low, high], method="higher")
    return by_score(scores, bounds[0], np.inf if high == 1 else bounds[1])


def by_column(ids: Sequence[str] | np.ndarray, catalogue: Catalogue, column: str, values: Collection[str]) -> Mask:
    """Pictures whose `column` in the catalogue ("style", "licence", "author") is one of `values`.

    ids  of the index (`index.ids`); those that the catalogue lacks are left out

    Raises ValueError for a value that no picture has, naming what there is, so that a slip can't pass for a result.
    """
    if isinstance(values, str):
        raise ValueError(f"give a list of values, such as [{values!r}], not one text")
    value_of = catalogue.column(column)
    known = set(value_of.values())
    for value in values:
        if value not in known:
            near = get_close_matches(value, known, n=1)
            raise ValueError(f"no picture has the {column} {value!r}{f'; did you mean {near[0]!r}?' if near else ''}; "
                             f"there are {', '.join(sorted(known)[:12])}")
    return np.array([id in value_of and value_of[id] in values for id in np.asarray(ids, dtype=str)], dtype=bool)


def same_group(ids: Sequence[str] | np.ndarray, groups: Sequence[str] | np.ndarray) -> list[frozenset[str]]:
    """For each picture, the ids of its group (its concept, say), its own among them, for `search(exclude=...)`."""
    if len(ids) != len(groups):
        raise ValueError(f"{len(ids)} ids and {len(groups)} groups; give each picture one group")
    members: dict[str, set[str]] = {}
    for id, group in zip(ids, groups, strict=True):
        members.setdefault(group, set()).add(str(id))
    frozen = {group: frozenset(of) for group, of in members.items()}
    return [frozen[group] for group in groups]
