"""kdlib.evaluation.judge: its verdicts against NumPy, its loss written out, who is held out, files, a tiny run."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib.data.augment import augment
from kdlib.data.pixels import normalise_pixels
from kdlib.evaluation import judge as judging
from kdlib.evaluation.judge import FEATURE_DIM, TEXT_DIM, Judge, held_out_pictures, verdicts
from kdlib.params import load_params
from kdlib.training import judge as training
from kdlib.training.judge import JudgeObjective, train_judge
from kdlib.training.loop import step_generator

SIZE, BACKBONE = 32, "cs3darknet_focus_s"
CONCEPTS = ["apple", "banana", "cat", "dog", "eel", "fox", "goat"]
STYLES = ["noto", "openmoji", "twemoji"]


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def judge(pictures):
    torch.manual_seed(0)
    judge = Judge(BACKBONE, SIZE, CONCEPTS, STYLES)
    judge(normalise_pixels(torch.from_numpy(pictures)))  # moves the running statistics off their start
    return judge.eval()


def unit_texts(texts):
    """A text tower that costs nothing: a fixed unit vector for each text."""
    rows = [np.random.default_rng(sum(map(ord, text))).standard_normal(TEXT_DIM) for text in texts]
    return torch.nn.functional.normalize(torch.tensor(np.array(rows)).float(), dim=-1)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


# --- features and files --------------------------------------------------------------------------------------------

def test_features_do_not_depend_on_the_batch_and_come_from_arrays_and_pil(judge, pictures):
    features = judge.features(pictures)
    assert features.shape == (5, FEATURE_DIM) and features.dtype == np.float32
    np.testing.assert_allclose(judge.features(pictures, batch_size=2), features, atol=1e-4)
    np.testing.assert_allclose(judge.features([Image.fromarray(p) for p in pictures]), features, atol=1e-4)
    assert judge.features(pictures[:0]).shape == (0, FEATURE_DIM)
    large = pictures.repeat(2, axis=1).repeat(2, axis=2)
    assert judge.features(large).shape == (5, FEATURE_DIM)


def test_features_refuse_training_mode(judge, pictures):
    with pytest.raises(ValueError, match="judge.eval()"):
        judge.train().features(pictures)


def test_features_have_unit_variance_over_what_the_batch_norm_saw(judge, pictures):
    judge.train()
    features = judge(normalise_pixels(torch.from_numpy(pictures))).detach().numpy()
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(features.var(0), 1, atol=0.02)


def test_a_saved_judge_judges_the_same(judge, pictures, tmp_path):
    judge.save(tmp_path / "model")
    loaded = Judge.load(tmp_path / "model")
    assert loaded.concepts == CONCEPTS and loaded.styles == STYLES and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    np.testing.assert_allclose(loaded.features(pictures), judge.features(pictures), atol=0.05)  # float16 on disk
    loaded.save(tmp_path / "again")
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("model", "again")]
    assert files[0] == files[1]


def test_a_foreign_or_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved judge"):
        Judge.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "tokenizer"}))
    with pytest.raises(ValueError, match="'tokenizer', not a 'judge'"):
        Judge.load(tmp_path)


# --- verdicts ------------------------------------------------------------------------------------------------------

@given(seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_verdicts_equal_numpy(seed):
    judge = Judge(BACKBONE, SIZE, CONCEPTS, STYLES).eval()
    random = np.random.default_rng(seed)
    features = random.standard_normal((11, FEATURE_DIM)).astype(np.float32)
    concepts = [CONCEPTS[i] for i in random.integers(0, 7, 11)]
    texts = [f"a picture of {concept}" for concept in concepts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "text_features", unit_texts)
        found = verdicts(judge, features, concepts, texts)
    weights = {name: tensor.double().numpy() for name, tensor in judge.state_dict().items()}
    heads = {head: features.astype(float) @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]
             for head in ("concept", "style", "text")}
    for row in range(11):
        ranking = [CONCEPTS[i] for i in np.argsort(-heads["concept"][row])]
        told, text = found.iloc[row], unit_texts([texts[row]]).numpy()[0]
        assert told.top1 == (ranking[0] == concepts[row]) and told.top5 == (concepts[row] in ranking[:5])
        assert told.concept == ranking[0] and told["style"] == STYLES[heads["style"][row].argmax()]
        cosine = heads["text"][row] @ text / np.linalg.norm(heads["text"][row]) / np.linalg.norm(text)
        assert told.alignment == pytest.approx(cosine, abs=1e-5)


def test_a_judge_that_tells_nothing_apart_is_never_right(judge, monkeypatch):
    monkeypatch.setattr(judging, "text_features", unit_texts)
    torch.nn.init.zeros_(judge.concept.weight)
    torch.nn.init.zeros_(judge.concept.bias)
    assert not verdicts(judge, np.zeros((3, FEATURE_DIM), np.float32), CONCEPTS[:3], ["a", "b", "c"]).top5.any()
    torch.nn.init.constant_(judge.concept.bias, torch.nan)
    assert not verdicts(judge, np.zeros((3, FEATURE_DIM), np.float32), CONCEPTS[:3], ["a", "b", "c"]).top5.any()


def test_verdicts_say_what_is_wrong(judge):
    features = np.zeros((2, FEATURE_DIM), np.float32)
    with pytest.raises(ValueError, match="no concept 'unicorn'"):
        verdicts(judge, features, ["cat", "unicorn"], ["a cat", "a unicorn"])
    with pytest.raises(ValueError, match="2 pictures, 1 concepts, 2 texts"):
        verdicts(judge, features, ["cat"], ["a cat", "a unicorn"])


def test_text_features_are_the_frozen_towers_and_ignore_the_order():
    texts = ["a red apple", "a green apple", "a steam train"]
    vectors = judging.text_features(texts)
    assert vectors.shape == (3, TEXT_DIM) and judging.text_features([]).shape == (0, TEXT_DIM)
    np.testing.assert_allclose(vectors.norm(dim=-1), 1, atol=1e-5)
    np.testing.assert_allclose(judging.text_features(texts[::-1]).flip(0), vectors, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


# --- the loss ------------------------------------------------------------------------------------------------------

def test_the_loss_is_what_the_docstring_says(judge, pictures):
    """Three cross-entropies written out; in evaluation mode."""
    concepts, styles = np.array([6, 0, 3, 2, 2]), np.array([1, 0, 2, 1, 1])
    titles = unit_texts(CONCEPTS)
    groups = [np.array([row]) for row in range(5)]
    objective = JudgeObjective(judge, pictures, groups, concepts, styles, titles).eval()
    rows = torch.tensor([4, 0, 2])
    told = objective(rows, step_generator(0, 0))
    replay = step_generator(0, 0)
    torch.rand(3, generator=replay)  # the draw of the pictures
    with torch.no_grad():
        features = judge(augment(normalise_pixels(torch.from_numpy(pictures[rows])), replay))
        scores, by_style, text = (head(features).double().numpy() for head in (judge.concept, judge.style, judge.text))
    smooth = 0.9 * np.eye(7)[concepts[rows]] + 0.1 / 7
    concept = -(smooth * np.log(softmax(scores))).sum(1).mean()
    style = -np.log(softmax(by_style)[range(3), styles[rows]]).mean()
    cosines = text / np.linalg.norm(text, axis=1, keepdims=True) @ titles.double().numpy().T
    fit = -np.log(softmax(20 * cosines)[range(3), concepts[rows]]).mean()
    terms = [told[name].item() for name in ("concept", "style", "text")]
    assert terms == pytest.approx([concept, style, fit], rel=1e-4)
    assert told["loss"].item() == pytest.approx(concept + style + fit, rel=1e-4)
    assert told["accuracy"].item() == pytest.approx((scores.argmax(1) == concepts[rows]).mean())


def test_one_skin_tone_of_a_drawing_is_taken(judge, pictures, monkeypatch):
    objective = JudgeObjective(judge, pictures, [np.array([0]), np.array([1, 3])], np.arange(5), np.zeros(5, np.int64),
                               unit_texts(CONCEPTS)).eval()
    drawn = []
    monkeypatch.setattr("kdlib.training.judge.augment", lambda images, generator: drawn.append(images) or images)
    objective(torch.tensor([1] * 20 + [0]), step_generator(0, 0))
    found = [int(np.flatnonzero([torch.equal(image, own) for own in normalise_pixels(objective.pictures)])[0])
             for image in drawn[0]]
    assert set(found[:20]) == {1, 3} and found[20] == 0


# --- who is held out -----------------------------------------------------------------------------------------------

def table_of(num_concepts, num_styles):
    rows = [(f"concept-{c}", f"style-{s}", tone) for c in range(num_concepts) for s in range(num_styles)
            for tone in (["", "dark"] if c % 3 == 0 else [""])]
    return pd.DataFrame(rows, columns=["concept", "style", "skin_tone"])


def test_a_twentieth_of_the_drawings_is_held_out_whole():
    table = table_of(1000, 7)
    held = held_out_pictures(table)
    drawings = table.assign(held=held).groupby(["concept", "style"]).held
    assert 0.04 < drawings.first().mean() < 0.06 and (drawings.nunique() == 1).all()


def test_every_concept_is_learned_and_the_choice_knows_no_order():
    table = table_of(2000, 2)
    held = held_out_pictures(table)
    assert set(table.concept[~held]) == set(table.concept)
    assert not held_out_pictures(table_of(500, 1)).any()  # the only drawing of a concept is always learned from
    order = np.random.default_rng(0).permutation(len(table))
    np.testing.assert_array_equal(held_out_pictures(table.iloc[order]), held[order])


# --- a tiny run ----------------------------------------------------------------------------------------------------

def test_a_tiny_run_is_deterministic_and_never_looks_at_held_out_pictures(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "text_features", unit_texts)
    table = table_of(30, 3).assign(split="train")
    table.loc[table.concept == "concept-7", "split"] = "test"
    table["title"] = table.concept.str.replace("-", " ")
    held = held_out_pictures(table)
    assert 0 < held.sum() < 10
    pictures = np.random.default_rng(0).integers(0, 256, (len(table), SIZE, SIZE, 3), dtype=np.uint8)
    options = {"backbone": BACKBONE, "batch_size": 5, "num_steps": 3, "learning_rate": 1e-3}
    history = train_judge(table, pictures, tmp_path / "a", seed=0, **options)
    assert history.step.tolist() == [1, 2, 3] and np.isfinite(history.loss).all()
    changed = pictures.copy()
    changed[held] = 0
    train_judge(table, changed, tmp_path / "b", seed=0, **options)
    train_judge(table, pictures, tmp_path / "c", seed=1, **options)
    files = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in "abc"]
    assert files[0] == files[1] != files[2]
    judge = Judge.load(tmp_path / "a" / "model")
    assert judge.concepts == sorted(set(table.concept))  # held-out concepts among them
    assert judge.features(pictures[:3]).shape == (3, FEATURE_DIM)


def test_training_goes_on_from_its_checkpoint(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "text_features", unit_texts)
    table = table_of(10, 3).assign(title=lambda t: t.concept)
    pictures = np.random.default_rng(0).integers(0, 256, (len(table), SIZE, SIZE, 3), dtype=np.uint8)
    options = {"backbone": BACKBONE, "batch_size": 5, "num_steps": 2, "learning_rate": 1e-3, "seed": 0}
    train_judge(table, pictures, tmp_path, **options)
    monkeypatch.setattr(JudgeObjective, "forward", lambda *_: pytest.fail("all steps were done already"))
    assert train_judge(table, pictures, tmp_path, **options).step.tolist() == [1, 2]


def test_the_judge_is_another_network_than_the_encoder():
    params = load_params()
    for preset in params["presets"]:
        assert params[preset]["judge"]["backbone"] != params[preset]["encoder"]["vision_model"]


def test_weights_and_steps_have_another_seed_than_the_encoder_s(monkeypatch, tmp_path):
    seeds = []
    monkeypatch.setattr(training, "text_features", unit_texts)
    monkeypatch.setattr(training, "seed_weights", seeds.append)
    monkeypatch.setattr(training, "train", lambda objective, num_rows, settings, folder: pd.DataFrame(
        seeds.append(settings.seed)))
    table = table_of(10, 3).assign(title=lambda t: t.concept)
    train_judge(table, np.zeros((len(table), SIZE, SIZE, 3), np.uint8), tmp_path, backbone=BACKBONE, batch_size=5,
                num_steps=2, learning_rate=1e-3, seed=3)
    assert len(seeds) == 2 and 3 not in seeds
