"""What people prefer: the paper's figure, what it is made of, and how sure both are (section 6.1)."""

from __future__ import annotations

from typing import NamedTuple

import krippendorff
import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer
from scipy.stats import binomtest

from kdlib.evaluation.human.ballot import OURS
from kdlib.evaluation.human.votes import ANSWERS, Votes
from kdlib.evaluation.metrics import Interval, bootstrap

RATERS = 5  # of a pair, as in the paper
NUM_DRAWS = 2000


class Preference(NamedTuple):
    """How often ours was preferred to one other method, by one question.

    majority   share of the pairs that most of five raters decided for ours, among those decided; 95% interval of Wilson
               (1927), for independent pairs. None where no pair is decided
    bootstrap  the same share, with the interval of the bootstrap over pairs
    raw        share of single votes for ours, "can't tell" left out, with the interval of the bootstrap over pairs:
               the votes on a pair aren't independent
    decided, tied, short   pairs with five votes and a majority, with five and none, and with fewer than five
    votes, undecided       all votes, and those that say "can't tell"

    A majority of five is further from 1/2 than single votes are: of raters who each prefer ours in 55% of the pairs by
    chance alone, it makes 59.3%. So read both.
    """

    majority: Interval | None
    bootstrap: Interval | None
    raw: Interval | None
    decided: int
    tied: int
    short: int
    votes: int
    undecided: int


def preference(votes: Votes, question: str, against: str, seed: int = 0) -> Preference:
    """Preference of ours over one method by the raters who pass the attention checks.

    Of more than five votes on a pair those of the five raters with the lowest random numbers make its majority.
    Raises ValueError for a question or method that is not in the ballot.
    """
    asked = votes.pairs[(votes.pairs.question == question) & (votes.pairs.against == against)]
    if asked.empty:
        raise ValueError(f"the ballot has no pairs with {against!r} by {question!r}")
    given = passing(votes)
    given = given[(given.question == question) & (given.against == against)].sort_values("rater")
    every = tally(given, asked.id)
    first = tally(given.groupby("id").head(RATERS), asked.id)
    enough = first.sum(1) >= RATERS
    lead = (first[OURS] - first.theirs)[enough].to_numpy()
    won = (lead > 0)[lead != 0]
    return Preference(majority=wilson(won), bootstrap=share_of(won.astype(int), (~won).astype(int), seed),
                      raw=share_of(every[OURS].to_numpy(), every.theirs.to_numpy(), seed),
                      decided=len(won), tied=int((lead == 0).sum()), short=int((~enough).sum()),
                      votes=int(every.to_numpy().sum()), undecided=int(every.neither.sum()))


def passing(votes: Votes) -> pd.DataFrame:
    """The votes of raters who pass the attention checks."""
    return votes.given[votes.given.rater.isin(votes.raters.index[votes.raters.passes.astype(bool)])]


def tally(given: pd.DataFrame, ids: pd.Series) -> pd.DataFrame:
    """Numbers of votes for each pair (row) and each of ours, theirs, neither (column)."""
    return pd.crosstab(given.id, given.vote).reindex(index=ids, columns=[OURS, "theirs", "neither"], fill_value=0)


def wilson(won: Bool[np.ndarray, " pairs"]) -> Interval | None:
    """The share of True with its 95% interval (Wilson, 1927)."""
    if not len(won):
        return None
    found = binomtest(int(won.sum()), len(won))
    return Interval(found.statistic, *map(float, found.proportion_ci(0.95, method="wilson")))


def share_of(ours: Integer[np.ndarray, " pairs"], theirs: Integer[np.ndarray, " pairs"],
             seed: int) -> Interval | None:
    """sum(ours) / sum(ours + theirs) over pairs, with its bootstrap interval over pairs that have either."""
    some = ours + theirs > 0
    ours, both = ours[some], (ours + theirs)[some]
    if not len(ours):
        return None
    return bootstrap(lambda rows: ours[rows].sum() / both[rows].sum(), len(ours), NUM_DRAWS, seed)


def agreement(votes: Votes, question: str) -> float | None:
    """Krippendorff's alpha (nominal) of the raters who pass, over all pairs of a question; None where it isn't defined.

    1 is perfect agreement, 0 what chance gives. The values are the sides as they were shown ("left", "right",
    "neither"): since ours is on either side in half of the pairs, a preference that all share counts as agreement.
    """
    given = passing(votes)
    counts = pd.crosstab(given.id[given.question == question], given.side).reindex(columns=ANSWERS, fill_value=0)
    counts = counts[counts.sum(1) > 1].to_numpy()
    if (counts.sum(0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def short_pairs(votes: Votes) -> pd.DataFrame:
    """Pairs with fewer than five votes of raters who pass: question, id, prompt, against, votes."""
    counts = passing(votes).groupby(["question", "id"]).size().rename("votes")
    found = votes.pairs.join(counts, on=["question", "id"]).fillna({"votes": 0}).astype({"votes": int})
    return found[found.votes < RATERS].reset_index(drop=True)
