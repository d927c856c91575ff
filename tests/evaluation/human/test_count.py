"""The count against a ballot that was counted by hand, simulated raters, and closed forms."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from kdlib.evaluation.human.count import agreement, preference, short_pairs
from kdlib.evaluation.human.result import count, lines
from kdlib.evaluation.human.votes import read_votes
from kdlib.files import read_json, write_json

OTHER = {"left": "right", "right": "left"}


def save_key(path, pairs, checks=3):
    """A key whose questions have the pairs (id, against, side of ours), and checks c0, c1, ... with "left" right."""
    told = {id: {"prompt": f"prompt {id}", "against": against, "ours": side} for id, against, side in pairs}
    told |= {f"c{number}": {"check": "noise", "right": "left"} for number in range(checks)}
    write_json(path, {"kind": "ballot", "id": "b" * 16, "seed": 0, "questions": {"quality": told, "alignment": told}})
    return path


def save_votes(path, rater, quality, alignment=None, right=("c0", "c1", "c2"), wrong=()):
    """A rater's file; quality and alignment are id -> side."""
    checks = {id: "left" for id in right} | {id: "right" for id in wrong}
    write_json(path, {"kind": "votes", "ballot": "b" * 16, "rater": rater,
                      "answers": {"quality": quality | checks, "alignment": alignment or {}}})
    return path


SIDES = {"p1": "left", "p2": "left", "p3": "right", "p4": "right", "p5": "left"}  # of ours
BY_HAND = {  # five raters' votes: o for ours, t for theirs, - for can't tell, a blank for none
    "p1": "ooot-", "p2": "ott--", "p3": "oott-", "p4": "ooooo", "p5": "oott "}


@pytest.fixture
def by_hand(tmp_path):
    """Five raters on five pairs with one method; p9 is with another and has no votes."""
    key = save_key(tmp_path / "key.json", [(id, "gan", side) for id, side in SIDES.items()] + [("p9", "flat", "left")])
    said = lambda id, vote: {"o": SIDES[id], "t": OTHER[SIDES[id]], "-": "neither"}[vote]
    files = [save_votes(tmp_path / f"{rater}.json", f"r{rater}",
                        {id: said(id, votes[rater]) for id, votes in BY_HAND.items() if votes[rater] != " "})
             for rater in range(5)]
    return files, key


def wilson(share, n, z=1.959963984540054):
    """The interval's closed form."""
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]


def test_a_ballot_counted_by_hand(by_hand):
    """p1 and p4 are won, p2 is lost, p3 tied, p5 short of votes; 13 votes for ours, 7 against, 4 for neither."""
    found = preference(read_votes(*by_hand), "quality", "gan")
    assert (found.decided, found.tied, found.short, found.votes, found.undecided) == (3, 1, 1, 24, 4)
    assert found.majority.value == pytest.approx(2 / 3)
    assert found.majority[1:] == pytest.approx(wilson(2 / 3, 3))
    assert found.raw.value == pytest.approx(13 / 20)
    assert found.bootstrap == pytest.approx((2 / 3, 0, 1)), "three pairs: some resamples have only wins, some none"


def test_the_bootstrap_over_pairs_against_all_resamples(by_hand):
    """Of five pairs there are 5^5 resamples; those of the raw share, enumerated."""
    ours, both = np.array([3, 1, 2, 5, 2]), np.array([4, 3, 4, 5, 4])
    every = np.array([ours[list(rows)].sum() / both[list(rows)].sum()
                      for rows in itertools.product(range(5), repeat=5)])
    found = preference(read_votes(*by_hand), "quality", "gan").raw
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        assert np.mean(every < end - 1e-9) - 0.01 < share < np.mean(every <= end + 1e-9) + 0.01


def test_what_nobody_answered_is_no_share(by_hand):
    votes = read_votes(*by_hand)
    for question, against in (("quality", "flat"), ("alignment", "gan")):
        found = preference(votes, question, against)
        assert found.majority is found.bootstrap is found.raw is None and found.votes == 0
    assert agreement(votes, "alignment") is None
    with pytest.raises(ValueError, match="no pairs with 'lafite' by 'quality'"):
        preference(votes, "quality", "lafite")


def test_short_pairs_are_listed(by_hand):
    found = short_pairs(read_votes(*by_hand))
    assert [tuple(row) for row in found[found.question == "quality"].to_numpy()] == [
        ("quality", "p5", "prompt p5", "gan", 4), ("quality", "p9", "prompt p9", "flat", 0)]
    assert (found.question == "alignment").sum() == 6


def alpha_by_definition(units):
    """Krippendorff's nominal alpha: 1 - observed / expected disagreement, over all ordered pairs of values."""
    units = [values for values in units if len(values) > 1]
    values = [value for unit in units for value in unit]
    n = len(values)
    unlike = lambda among: sum(a != b for a, b in itertools.permutations(among, 2))
    observed = sum(Fraction(unlike(unit), len(unit) - 1) for unit in units) / n
    expected = Fraction(unlike(values), n * (n - 1))
    return float(1 - observed / expected)


def test_alpha_is_that_of_the_sides_as_shown(by_hand, tmp_path):
    shown = lambda id, votes: [{"o": SIDES[id], "t": OTHER[SIDES[id]], "-": "neither"}[v] for v in votes if v != " "]
    wanted = alpha_by_definition([shown(id, votes) for id, votes in BY_HAND.items()])
    assert agreement(read_votes(*by_hand), "quality") == pytest.approx(wanted)
    assert alpha_by_definition([["a", "a"], ["b", "b"]]) == 1


def test_raters_who_all_prefer_ours_agree(tmp_path):
    key = save_key(tmp_path / "key.json", [(id, "gan", side) for id, side in SIDES.items()])
    files = [save_votes(tmp_path / f"{rater}.json", f"r{rater}", SIDES) for rater in range(5)]
    assert agreement(read_votes(files, key), "quality") == 1
    one_side = [save_votes(tmp_path / f"{rater}.json", f"r{rater}", dict.fromkeys(SIDES, "left")) for rater in range(5)]
    assert agreement(read_votes(one_side, key), "quality") is None, "no two different answers: nothing to agree on"


def test_who_fails_the_checks_does_not_count_and_is_listed(by_hand, tmp_path):
    files, key = by_hand
    against = {id: OTHER[side] for id, side in SIDES.items()}
    failing = [save_votes(tmp_path / "fails.json", "x", against, right=("c0", "c1"), wrong=("c2",)),
               save_votes(tmp_path / "unchecked.json", "y", against, right=())]
    votes = read_votes(files + failing, key)
    assert preference(votes, "quality", "gan") == preference(read_votes(files, key), "quality", "gan")
    counted = count(votes)
    failed = [(row["rater"], row["num_right"], row["num_checks"]) for row in counted["failing"]]
    assert failed == [("x", 2, 3), ("y", 0, 0)]
    assert f"  {tmp_path}/fails.json: 2 of 3 right" in lines(counted)


def test_four_of_five_checks_pass(tmp_path):
    key = save_key(tmp_path / "key.json", [("p1", "gan", "left")], checks=5)
    save_votes(tmp_path / "a.json", "a", {"p1": "left"}, right=("c0", "c1", "c2", "c3"), wrong=("c4",))
    save_votes(tmp_path / "b.json", "b", {"p1": "left"}, right=("c0", "c1", "c2"), wrong=("c3", "c4"))
    raters = read_votes([tmp_path / "a.json", tmp_path / "b.json"], key).raters
    assert raters.passes.to_dict() == {"a": True, "b": False}


def test_of_seven_votes_five_make_the_majority_and_all_the_raw_share(tmp_path):
    key = save_key(tmp_path / "key.json", [("p1", "gan", "left")])
    files = [save_votes(tmp_path / f"{rater}.json", rater, {"p1": "left" if rater in "abc" else "right"})
             for rater in "gfedcba"]
    found = preference(read_votes(files, key), "quality", "gan")
    assert found.majority.value == 1 and found.raw.value == pytest.approx(3 / 7) and found.votes == 7


def simulate(folder, num_pairs, chances, seed):
    """Five raters who prefer ours in each pair with the pair's chance, and can't tell in one of ten."""
    random = np.random.default_rng(seed)
    ids = [f"{number:04}" for number in range(num_pairs)]
    ours = dict(zip(ids, random.choice(["left", "right"], num_pairs), strict=True))
    key = save_key(folder / "key.json", [(id, "gan", ours[id]) for id in ids])
    files = []
    for rater in range(5):
        said = {id: "neither" if random.random() < 0.1 else ours[id] if random.random() < chance else OTHER[ours[id]]
                for id, chance in zip(ids, chances, strict=True)}
        files.append(save_votes(folder / f"{rater}.json", f"r{rater}", said))
    return read_votes(files, key)


def majority_of_five(chance, undecided=0.1):
    """P(more for ours than against | not equal) of five votes, by enumeration."""
    single = {1: chance * (1 - undecided), -1: (1 - chance) * (1 - undecided), 0: undecided}
    won = lost = 0.0
    for votes in itertools.product(single, repeat=5):
        weight = math.prod(single[vote] for vote in votes)
        won, lost = won + weight * (sum(votes) > 0), lost + weight * (sum(votes) < 0)
    return won / (won + lost)


@pytest.mark.parametrize("chance", [0.35, 0.55, 0.7])
def test_a_known_preference_is_found_and_the_majority_is_further_from_a_half(tmp_path, chance):
    found = preference(simulate(tmp_path, 1500, [chance] * 1500, 1), "quality", "gan")
    assert found.raw.value == pytest.approx(chance, abs=0.02) and found.raw.low < chance < found.raw.high
    wanted = majority_of_five(chance)
    assert found.majority.low < wanted < found.majority.high
    assert abs(found.majority.value - 0.5) > abs(found.raw.value - 0.5)
    assert found.bootstrap[1:] == pytest.approx(found.majority[1:], abs=0.01), "of independent pairs both are alike"
    assert found.undecided / found.votes == pytest.approx(0.1, abs=0.015)


def test_majorities_of_independent_votes_are_inflated_as_the_binomial_says():
    assert majority_of_five(0.55, undecided=0) == pytest.approx(0.5931, abs=1e-4)


def test_votes_that_hang_together_by_pair_widen_the_interval(tmp_path):
    """Half of the pairs are clearly ours, half clearly theirs: the votes of a pair are one decision, not five."""
    found = preference(simulate(tmp_path, 400, [0.97, 0.03] * 200, 2), "quality", "gan")
    one_in_five = wilson(0.5, found.votes - found.undecided)
    assert found.raw.high - found.raw.low > 1.8 * (one_in_five[1] - one_in_five[0])


def test_the_papers_share_of_600_pairs_has_the_interval_that_its_size_gives(tmp_path):
    """59.6% of 600 decided pairs: [55.6, 63.5]."""
    ids = [f"{number:03}" for number in range(600)]
    key = save_key(tmp_path / "key.json", [(id, "gan", "left") for id in ids])
    said = {id: "left" if number < 358 else "right" for number, id in enumerate(ids)}
    files = [save_votes(tmp_path / f"{rater}.json", f"r{rater}", said) for rater in range(5)]
    assert np.round(preference(read_votes(files, key), "quality", "gan").majority, 3).tolist() == [0.597, 0.557, 0.635]


def test_the_lines_say_all_of_it(by_hand):
    text = "\n".join(lines(count(read_votes(*by_hand))))
    assert "0.667 [0.208, 0.939]" in text and "0.650 [" in text and "quality" in text
    assert "raters: 5, of whom 0 fail the attention checks" in text
    assert "pairs with fewer than 5 votes: 8, such as:" in text and "'prompt p9' against flat, 0 votes" in text


# --- what is no vote -----------------------------------------------------------------------------------------------

def change(path, **values):
    write_json(path, read_json(path) | values)


@pytest.mark.parametrize("harm, message", [
    (lambda files, key: files[0].write_text("{"), r"0.json is not valid JSON"),
    (lambda files, key: write_json(files[0], [1]), r"0.json holds no answers; give the files that raters saved"),
    (lambda files, key: files.append(key), r"key.json holds no answers"),
    (lambda files, key: change(files[0], ballot="c" * 16), r"0.json belongs to the ballot cccccccccccccccc, and"),
    (lambda files, key: change(files[0], rater=7), r"0.json holds no answers"),
    (lambda files, key: change(files[0], rater="r1"), r"0.json and .*1.json are of the same rater; give the later"),
    (lambda files, key: files.append(files[0]), r"0.json and .*0.json are of the same rater"),
    (lambda files, key: change(files[0], answers={"quality": {"p1": "ours"}}), r"0.json answers what the"),
    (lambda files, key: change(files[0], answers={"quality": {"p8": "left"}}), r"0.json answers what the"),
    (lambda files, key: change(files[0], answers={"beauty": {}}), r"0.json answers what the"),
    (lambda files, key: change(files[0], answers={"quality": {"p1": []}}), r"0.json answers what the"),
    (lambda files, key: change(files[0], answers=None), r"0.json answers what the"),
    (lambda files, key: write_json(key, read_json(files[0])), r"key.json is no key of a ballot; give the key.json"),
    (lambda files, key: change(key, questions={}), r"key.json, the key of a ballot, is damaged"),
    (lambda files, key: change(key, questions={"quality": {"p1": 3}, "alignment": {}}), r"key.json, .* is damaged"),
    (lambda files, key: files.append(key.with_name("absent.json")), r"No such file or directory: .*absent.json"),
])
def test_each_thing_that_is_wrong_is_one_sentence(by_hand, harm, message):
    files, key = by_hand
    harm(files, key)
    with pytest.raises((ValueError, OSError), match=message):
        read_votes(files, key)
