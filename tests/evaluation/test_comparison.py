"""kdlib.evaluation.comparison: what it counts, what belongs together, what an interval allows to say."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib.data.stickers import in_domain_rows
from kdlib.evaluation import comparison as experiments
from kdlib.evaluation.comparison import (
    MEASURES,
    against,
    claim,
    claim_best,
    cmmd_statistic,
    judge_pictures,
    long_table,
    measure,
    paired,
    ratio,
    ratios_to,
    rounded,
    shown,
    statistics,
)
from kdlib.evaluation.judge import Judge
from kdlib.evaluation.metrics import Interval, cmmd, fit_gaussian, frechet_distance
from kdlib.retrieval.embeddings import nested_subsets
from kdlib.types import Embeddings

PROMPTS, SEEDS, WIDTH = 7, 3, 5


def toy(seed: int = 0) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    said = pd.DataFrame({"top1": random.random(PROMPTS * SEEDS) < 0.3, "top5": random.random(PROMPTS * SEEDS) < 0.6,
                         "alignment": random.random(PROMPTS * SEEDS)})
    return random.normal(seed, 3, (PROMPTS, SEEDS, WIDTH)), said, random.normal(size=(11, WIDTH))


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, PROMPTS - 1), min_size=1, max_size=9))
def test_statistics_take_all_pictures_of_the_given_prompts_as_often_as_these_are_given(rows):
    features, said, reference = toy()
    pictures = [prompt * SEEDS + seed for prompt in rows for seed in range(SEEDS)]
    drawn = features.reshape(-1, WIDTH)[pictures]
    found = {name: of(np.array(rows)) for name, of in statistics(features, said, reference).items()}
    assert tuple(found) == MEASURES
    assert found == pytest.approx({
        "fd_sticker": frechet_distance(fit_gaussian(drawn), fit_gaussian(reference)), "cmmd": cmmd(drawn, reference),
        "concept_top1": sum(said.top1[pictures]) / len(pictures),
        "concept_top5": sum(said.top5[pictures]) / len(pictures),
        "text_alignment": sum(said.alignment[pictures]) / len(pictures)}, abs=1e-9)


def test_the_bandwidth_is_that_of_the_metric():
    features, _, reference = toy()
    alone = cmmd_statistic(features[:, :1], reference)
    assert alone(np.arange(PROMPTS)) == pytest.approx(cmmd(features[:, 0], reference), abs=1e-9)


def test_comparing_a_model_with_itself_leaves_no_doubt():
    found = statistics(*toy())
    differences = measure(paired(np.subtract, found, found), PROMPTS, 20, seed=0)
    assert all(tuple(interval) == (0, 0, 0) for interval in differences.values())
    ratios = measure(paired(ratio, found, found), PROMPTS, 20, seed=0)
    assert tuple(ratios["fd_sticker"]) == pytest.approx((1, 1, 1)) and tuple(ratios["text_alignment"]) == (1, 1, 1)


def test_a_pair_is_taken_on_the_same_prompts():
    """A second model that is better by 0.25 on every prompt: the difference is sure, though each alone is not."""
    features, said, reference = toy()
    first = statistics(features, said, reference)
    second = statistics(features, said.assign(alignment=said.alignment + 0.25), reference)
    difference = measure(paired(np.subtract, second, first), PROMPTS, 50, seed=0)["text_alignment"]
    alone = measure(first, PROMPTS, 50, seed=0)["text_alignment"]
    assert tuple(difference) == pytest.approx((0.25, 0.25, 0.25)) and alone.high - alone.low > 0.01


def test_ratios_without_a_denominator_are_no_numbers_and_are_left_out():
    assert ratio(3.0, 2.0) == 1.5 and np.isnan(ratio(1.0, 0.0)) and np.isnan(ratio(0.0, -1.0))
    features, said, reference = toy()
    none = statistics(features, said.assign(top1=False), reference)
    ratios = measure(paired(ratio, none, none), PROMPTS, 20, seed=0)
    assert against("concept_top1", ratios["concept_top1"], 0.95) == "can't be told"
    assert rounded(ratios).keys() == set(MEASURES) - {"concept_top1"}


@pytest.mark.parametrize("name, low, high, limit, said", [
    ("fd_sticker", 0.9, 1.04, 1.05, "better"), ("fd_sticker", 1.06, 1.2, 1.05, "worse"),
    ("fd_sticker", 0.9, 1.06, 1.05, "can't be told"), ("concept_top1", 0.96, 1.3, 0.95, "better"),
    ("concept_top1", 0.5, 0.94, 0.95, "worse"), ("concept_top1", 0.9, 1.0, 0.95, "can't be told"),
    ("text_alignment", 0.0, 0.0, 0.0, "can't be told"), ("cmmd", float("nan"), float("nan"), 0.0, "can't be told")])
def test_an_answer_needs_the_whole_interval_on_one_side(name, low, high, limit, said):
    assert against(name, Interval((low + high) / 2, low, high), limit) == said


def test_ratios_are_to_the_one_named_and_on_the_same_prompts():
    features, said, reference = toy()
    found = {k: statistics(features, said.assign(alignment=said.alignment * k), reference) for k in (1, 2, 4)}
    ratios = ratios_to(2, found, PROMPTS, 20, seed=0)
    assert {k: tuple(row["text_alignment"]) for k, row in ratios.items()} == {
        1: pytest.approx((0.5, 0.5, 0.5)), 4: pytest.approx((2, 2, 2))}


@pytest.mark.parametrize("ends, said", [
    ([(1.1, 1.2), (1.01, 1.5)], "holds"), ([(1.1, 1.2), (0.7, 0.9)], "does not hold"),
    ([(1.1, 1.2), (0.9, 1.1)], "can't be told"), ([(0.7, 0.9), (0.9, 1.1)], "does not hold")])
def test_a_best_one_is_refuted_by_one_that_is_better_and_holds_if_all_are_worse(ends, said):
    ratios = {place: {"fd_sticker": Interval(1.0, *pair)} for place, pair in enumerate(ends)}
    assert claim_best(ratios) == said


def test_a_claim_holds_where_the_reply_is_the_claimed_one():
    assert [claim(reply, "worse") for reply in ("worse", "better", "can't be told")] == [
        "holds", "does not hold", "can't be told"]


@settings(deadline=None)
@given(seed=st.integers(0, 99), size=st.integers(10, 40))
def test_smaller_parts_of_an_index_lie_in_the_larger_ones(seed, size):
    vectors = np.random.default_rng(seed).normal(size=(size, 3)).astype(np.float32)
    everything = Embeddings(vectors, np.array([f"p{row}" for row in range(size)]), "e")
    parts = nested_subsets(everything, [0.1, 0.5, 1.0], seed)
    assert [len(part) for part in parts.values()] == [round(0.1 * size), round(0.5 * size), size]
    assert set(parts[0.1].ids) <= set(parts[0.5].ids) <= set(parts[1.0].ids) == set(everything.ids)
    for part in parts.values():
        rows = [int(id[1:]) for id in part.ids]
        assert rows == sorted(rows) and np.array_equal(part.vectors, vectors[rows]) and part.encoder_id == "e"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.2, 0.01])
def test_a_part_of_no_picture_or_of_more_than_all_is_refused(share):
    with pytest.raises(ValueError, match=f"share {share} of 11 pictures"):
        nested_subsets(Embeddings(np.ones((11, 3)), np.arange(11).astype(str), "e"), [0.5, share], 0)


def test_the_in_domain_index_has_held_out_concepts_in_foreign_styles_only():
    rows = [("train", "noto", "", True), ("train", "openmoji", "", False), ("test", "noto", "", False),
            ("test", "openmoji", "", True), ("test", "openmoji", "dark", False), ("train", "noto", "dark", False)]
    stickers = pd.DataFrame([row[:3] for row in rows], columns=["split", "style", "skin_tone"])
    assert in_domain_rows(stickers).tolist() == [row[3] for row in rows]


def test_intervals_are_written_and_shown():
    found = {"cmmd": Interval(1.23456, -0.5, 2.0)}
    assert rounded(found) == {"cmmd": {"value": 1.2346, "low": -0.5, "high": 2.0}}
    assert shown(found) == {"cmmd": "1.23 [-0.5, 2]"}
    assert long_table({"ours": found}, "conditioning").to_csv(index=False).splitlines() == [
        "conditioning,measure,value,low,high", "ours,cmmd,1.23456,-0.5,2.0"]


# --- judging -------------------------------------------------------------------------------------------------------

class MeanColours(Judge):
    """Stands for the judge: its features are the means of the channels."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def features(self, pictures):
        return np.array([np.asarray(picture).reshape(-1, 3).mean(0) for picture in pictures], dtype=np.float32)


def test_pictures_of_a_prompt_lie_side_by_side(monkeypatch):
    monkeypatch.setattr(experiments, "verdicts", lambda judge, features, concepts, texts: pd.DataFrame(
        {"red": features[:, 0], "concept": concepts, "text": texts}))
    drawn = [[Image.new("RGB", (4, 4), (10 * prompt + seed, 0, 0)) for prompt in range(2)] for seed in range(3)]
    features, said = judge_pictures(MeanColours(), drawn, ["an ape", "a bee"], ["ape", "bee"])
    assert features[:, :, 0].tolist() == [[0, 1, 2], [10, 11, 12]]
    assert said.columns[:2].tolist() == ["prompt", "draw"] and said["draw"].tolist() == [0, 1, 2, 0, 1, 2]
    assert said.red.tolist() == [0, 1, 2, 10, 11, 12]
    assert said.prompt.tolist() == said.text.tolist() == ["an ape"] * 3 + ["a bee"] * 3
    assert said.concept.tolist() == ["ape"] * 3 + ["bee"] * 3
