"""benchmarks: the restated side computes what kdlib computes, and a tiny run has all its rows."""

import math
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from sklearn.linear_model import Ridge

from kdlib.data.dataset import DataSet
from kdlib.encoder import Encoder
from kdlib.files import read_json
from kdlib.models import attention as transformer
from kdlib.models.condition import Condition
from kdlib.models.discrete import process as discrete
from kdlib.models.discrete.process import Schedule
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig
from kdlib.params import load_params
from kdlib.training.loop import TrainSettings
from kdlib.training.views import Views
from kdlib.types import Embeddings
from tests import processes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import (  # noqa: E402
    choices,
    contenders,
    lessons,
    machine,
    notebooks,
    pairs_of_codes,
    restated,
    text_map,
    tokenizers,
    tried,
)
from benchmarks import discrete as benchmark  # noqa: E402
from benchmarks.reference import load  # noqa: E402
from benchmarks.shapes import Shape  # noqa: E402

BATCH, POSITIONS, CODES, STEPS = 5, 7, 3, 11


def problem(uniform_share):
    """A schedule, codes, noisy codes at t (1 and N among them) and logits."""
    torch.manual_seed(0)
    schedule = Schedule(STEPS, uniform_share=uniform_share)
    t = torch.tensor([1, 2, 5, 8, STEPS])
    x_0 = torch.randint(CODES, (BATCH, POSITIONS))
    x_t = discrete.q_sample(schedule, x_0, t, CODES)
    x_t[:, 0] = CODES
    return schedule, t, x_0, x_t, torch.randn(BATCH, POSITIONS, CODES, dtype=torch.float64)


def log_letters(logits):
    return F.pad(logits.log_softmax(-1).transpose(1, 2), (0, 0, 0, 1), value=restated.LOWEST)


@pytest.mark.parametrize("uniform_share", [1e-6, 0.1])
def test_the_restated_posterior_is_kdlibs(uniform_share):
    schedule, t, _, x_t, logits = problem(uniform_share)
    wanted = discrete.posterior(schedule, x_t, logits.softmax(-1), t - 1, t)
    got = restated.posterior(schedule, log_letters(logits), restated.log_one_hot(x_t, CODES + 1).double(), t)
    torch.testing.assert_close(got.exp().transpose(1, 2), wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("uniform_share, tolerance", [(1e-6, 1e-4), (0.1, 1e-8)])
def test_the_restated_loss_is_kdlibs(uniform_share, tolerance):
    schedule, t, x_0, x_t, logits = problem(uniform_share)
    if schedule.pure_masking:  # kdlib then takes codes for known; the restated side leaves the network to say so
        logits += 60 * F.one_hot(x_t, CODES + 1)[..., :CODES]
    terms, x0_terms = discrete.loss_terms(schedule, logits, x_0, x_t, t)
    got = restated.loss_rows(schedule, log_letters(logits), *(
        restated.log_one_hot(x, CODES + 1).double() for x in (x_0, x_t)), t, xi=0.3)
    torch.testing.assert_close(got, terms + 0.3 * torch.where(t > 1, x0_terms, 0), rtol=tolerance, atol=tolerance)


def test_explicit_attention_is_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4)
    with restated.explicit_attention():
        got = transformer.attend(q, k, v)
    torch.testing.assert_close(got, transformer.attend(q, k, v))


def test_a_restated_sampling_step_draws_from_kdlibs_guided_posterior():
    """Many equal rows: the frequencies of the letters after one step."""
    schedule, rows = Schedule(STEPS, uniform_share=0.1), 20_000
    given, null = torch.randn(2, CODES, generator=torch.Generator().manual_seed(0))

    def denoise(x_t, t, condition):
        return torch.where(condition.query.any(1)[:, None, None], given, null).expand(*x_t.shape, CODES)

    condition, t = Condition(torch.ones(rows, 5), torch.ones(rows, 2, 5)), torch.full((rows,), 6)
    x_t = torch.tensor([CODES, 0]).expand(rows, 2)
    torch.manual_seed(0)
    log_x = restated.log_one_hot(x_t, CODES + 1)
    got = restated.sampling_step(schedule, denoise, log_x, t, condition, 3.0).exp().mean(0).T
    log_p = discrete.predict_x0(denoise, x_t[:1], t[:1], Condition(torch.ones(1, 5), torch.ones(1, 2, 5)),
                                torch.ones(1, 2, dtype=torch.bool), guidance_scale=3.0)
    wanted = discrete.posterior(schedule, x_t[:1], log_p.exp()[None], t[:1] - 1, t[:1])[0]
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.015)


def test_a_tiny_run_has_all_its_rows():
    processes.make_ready()
    table = benchmark.benchmark({"tiny": Shape(1, 8, 2, 9, 5, batch=3, k=2, embedding_dim=7)}, None, repetitions=1,
                                peaks={"fp32": 1e9, "bf16": 1e9})
    assert table.contender.tolist() == [contenders.OURS, contenders.OURS_FP32, contenders.RESTATED]
    assert table.parameters_M.nunique() == 1 and (table.drop(columns=[
        "shape", "contender", "train_peak_MiB", "step_peak_MiB", "memory_ratio"]) > 0).all(axis=None)
    assert table[["train_ratio", "step_ratio"]].iloc[0].tolist() == [1, 1]


def test_memory_counts_what_a_step_takes():
    """One full-size logits tensor at least; and the restated side, with its float64 tensors, takes more."""
    processes.make_ready()
    shape = Shape(1, 8, 2, 1024, 1001, batch=4, k=2, embedding_dim=7)
    ours, restated_ = (contenders.run_step_alone(name, shape, None, "sample")[2]
                       for name in (contenders.OURS_FP32, contenders.RESTATED))
    assert 2 * 4 * 1024 * 1001 * 4 < ours < restated_


IDEAS = [name for name in tried.IDEAS if name != tried.COMPILED]  # compiling takes a minute
SMALL = Shape(2, 32, 2, 64, 13, batch=8, k=2, embedding_dim=7)
WORKS = [(name, work) for name in IDEAS for work in tried.IDEAS[name].works]


def test_every_idea_has_its_rows():
    table = tried.try_ideas({"small": SMALL}, IDEAS, repetitions=2)
    assert list(zip(table.idea, table.step, strict=True)) == WORKS
    assert (table[["before_ms", "after_ms", "ratio_low"]] > 0).all(axis=None)
    assert (table.ratio_low <= table.ratio).all() and (table.ratio <= table.ratio_high).all()


@pytest.mark.parametrize("name, work", WORKS)
def test_an_idea_changes_no_result_beyond_rounding_and_leaves_no_trace(name, work):
    contender = contenders.make_contender(contenders.OURS, SMALL, None)
    before = tried.outcome(contender, work)
    with tried.IDEAS[name].swap(contender):
        swapped = tried.outcome(contender, work)
    assert tried.difference(before, tried.outcome(contender, work)) == 0
    assert tried.difference(before, swapped) < 0.2  # bfloat16 has three digits, and small gradients are sums of large
    if name in ("AdaLN in one piece", "kept casts", "kept keys"):
        assert tried.difference(before, swapped) == 0


def test_rows_are_added_to_a_file_of_the_same_machine_only(tmp_path):
    facts, out = machine.describe_machine(), tmp_path / "table.csv"
    machine.write_table(pd.DataFrame({"shape": ["a", "b"], "ms": [1.0, 2.0]}), {**facts, "peak": 3}, out)
    machine.add_rows(pd.DataFrame({"shape": ["b"], "ms": [4.0]}), facts, out)
    assert pd.read_csv(out).to_dict("list") == {"shape": ["a", "b"], "ms": [1.0, 4.0]}
    assert read_json(out.with_suffix(".json")) == {**facts, "peak": 3}
    with pytest.raises(ValueError, match="cores .* here 1000"):
        machine.add_rows(pd.DataFrame({"shape": ["c"], "ms": [5.0]}), {**facts, "cores": 1000}, out)


def test_a_folder_that_is_no_reference_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkout of microsoft/VQ-Diffusion"):
        load(tmp_path)


def test_ridges_map_tensors_to_tensors():
    texts, targets = torch.randn(11, 5), torch.randn(11, 3)
    fitted = text_map.ridge(Ridge(alpha=0.3, fit_intercept=False))(texts, targets)(texts)
    rows = torch.cat([texts, 0.3 ** 0.5 * torch.eye(5)])
    weight = torch.linalg.lstsq(rows, torch.cat([targets, torch.zeros(5, 3)])).solution
    torch.testing.assert_close(fitted, texts @ weight, atol=1e-4, rtol=0)


def test_a_choice_changes_what_training_takes_and_something_at_all():
    trained = load_params(ROOT)["cpu"]["training"]
    options = choices.choices(trained)
    assert options.pop("as trained") == choices.Choice()
    plain = {field.name: field.default for field in fields(TrainSettings)} | trained
    for name, choice in options.items():
        assert set(choice.settings) <= set(plain), name
        fewer = choice.num_views is not None and choice.num_views < 2 + load_params(ROOT)["cpu"]["views"]["num_changed"]
        assert {**plain, **choice.settings} != plain or fewer, name


def test_fewer_views_are_as_many_fewer_of_the_lessons_in_style():
    assert choices.views_used(2, 10).tolist() == [0, 1, 5, 6]
    assert choices.views_used(None, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_loss_of_a_choice_is_the_mean_over_all_pictures_and_draws(monkeypatch):
    """A loss that is a picture's own number, in batches that don't divide the pictures."""
    monkeypatch.setattr(choices, "training_loss", lambda schedule, denoise, codes, condition, num_codes, generator: (
        (codes[:, 0] + condition.query[:, 0]).mean()))
    codes, condition = torch.arange(5)[:, None], Condition(torch.arange(5.0)[:, None], torch.zeros(5, 2, 1))
    denoiser = SimpleNamespace(schedule=None, config=SimpleNamespace(num_codes=7))
    assert choices.mean_loss(denoiser, codes, condition, batch_size=3) == pytest.approx(4.0)


def test_a_tokenizer_choice_changes_what_training_takes_and_something_at_all():
    trained = load_params(ROOT)["cpu"]["tokenizer"]
    options = tokenizers.choices(trained)
    assert options.pop("as trained") == tokenizers.Choice()
    for name, choice in options.items():
        assert set(choice.settings) <= set(trained), name
        assert {**trained, **choice.settings} != trained, name


def test_shrunk_pictures_are_means_of_squares():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    got = tokenizers.shrunk(pictures, 2)
    assert got.shape == (3, 2, 3, 3)
    assert got[1, 0, 2, 1] == round(pictures[1, 0:2, 4:6, 1].mean())
    np.testing.assert_array_equal(tokenizers.shrunk(pictures, 1), pictures)


def test_bits_are_the_entropy_times_positions():
    """Half, a quarter and a quarter: 1.5 bits a code."""
    assert tokenizers.bits(np.array([[0, 0, 5, 7], [7, 0, 0, 5]])) == pytest.approx(4 * 1.5)
    assert tokenizers.bits(np.arange(35).reshape(7, 5)) == pytest.approx(5 * math.log2(35))


@pytest.mark.parametrize("join, width", [(pairs_of_codes.side_by_side, 3), (pairs_of_codes.added, 6)])
def test_the_codebook_of_pairs_holds_every_pair_and_a_plain_tokenizer_gives_the_same_codes(join, width):
    torch.manual_seed(0)
    pairs = pairs_of_codes.PairTokenizer(TokenizerConfig(16, 32, 6, 4, 1), join, width).eval()
    first, second = pairs.first.detach().numpy()[:, 0], pairs.second.detach().numpy()[0]
    assert (len(first), len(second)) == (8, 4)
    unit = lambda vector: vector / np.linalg.norm(vector)
    wanted = [unit(np.concatenate([unit(a), unit(b)]) if width == 3 else unit(a) + b) for a in first for b in second]
    np.testing.assert_allclose(pairs.codebook().detach(), wanted, atol=1e-6)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    plain = pairs_of_codes.with_one_table(pairs)
    torch.testing.assert_close(plain.encode(images), pairs.encode(images))
    torch.testing.assert_close(plain.decode(plain.encode(images)), pairs.decode(pairs.encode(images)))


def test_a_table_is_added_to_and_its_rows_are_not_run_again(tmp_path):
    out, asked = tmp_path / "table.csv", []

    def run(choice):
        asked.append(choice)
        return {"value": choice * 2}

    facts = {"date": "2026-11-24", "cpu": "one"}
    choices.add_rows_missing(out, facts, {"a": 1, "b": 2}, run)
    table = choices.add_rows_missing(out, facts | {"date": "2026-11-25"}, {"b": 2, "c": 3}, run)
    assert asked == [1, 2, 3] and table.value.tolist() == [2, 4, 6]
    assert pd.read_csv(out).choice.tolist() == ["a", "b", "c"]
    assert read_json(out.with_suffix(".json")) == {"date": "2026-11-25", "cpu": "one"}
    with pytest.raises(ValueError, match="cpu one, here another"):
        choices.add_rows_missing(out, {"cpu": "another"}, {"d": 4}, run)
    out.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="cpu unknown, here one"):
        choices.add_rows_missing(out, facts, {"d": 4}, run)


def shown_to_a_toy():
    """Four pictures on a circle, two plain views and two lessons, a and c of one style and of the stickers."""
    on_circle = lambda degrees: np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)
    vectors = np.stack([on_circle(of) for of in ([0, 10, 40, 55], [-5, 12, 38, 60], [3, 9, 41, 52], [1, 8, 44, 57])])
    views = Views(np.arange(48).reshape(4, 4, 3), vectors.astype(np.float16))
    embeddings = Embeddings(vectors[0].astype(np.float32), np.array(list("abcd")), "e")
    table = pd.DataFrame({"id": list("cbda"), "style": ["noto", "fluent-color", "noto", "noto"]})
    near = np.array([[[1], [0], [3], [2]]] * 2 + [[[2], [1], [0], [0]]] * 2, np.int32)
    return lessons.Shown(views, embeddings, near), DataSet(table, np.zeros((4, 5, 7, 3), np.uint8))


def test_the_world_s_suited_pictures_are_shown_with_neighbours_among_all():
    of_degrees = lambda *degrees: np.broadcast_to(np.array(degrees, np.uint8)[:, None, None, None],
                                                  (len(degrees), 4, 4, 3)).copy()
    learned = DataSet(pd.DataFrame({"id": ["a", "b"], "style": ["noto", "noto"]}), of_degrees(10, 22))
    world = DataSet(pd.DataFrame({"id": ["w", "x", "y", "z"], "style": ["flat-ui", "flat-ui", "blues", "flat-ui"],
                                  "colour": True, "split": ["train", "test", "train", "train"]}),
                    of_degrees(30, 21, 23, 50))
    angles = lambda pictures: np.radians(pictures[:, 0, 0, 0].astype(float))
    encoder = object.__new__(Encoder)
    encoder.identity = "e"
    encoder.encode_images_exactly = lambda pictures: np.stack(
        [np.cos(angles(pictures)), np.sin(angles(pictures))], 1).astype(np.float16)
    tokenizer = Tokenizer(TokenizerConfig(size_px=4, num_codes=5, code_dim=2, width=4, num_downsamplings=1))
    got = lessons.with_the_world(learned, world, tokenizer, encoder, k=1, num_changed=0, seed=0)
    assert got.pictures.ids.tolist() == ["a", "b", "w", "z"]  # x is held out, y doesn't suit
    assert got.neighbours[:2].tolist() == [[[1], [2], [1], [2]]] * 2  # plain and mirrored, at 10, 22, 30, 50 degrees
    assert got.neighbours[2:].tolist() == [[[1], [0], [3], [2]]] * 2  # each in its own style


def test_plain_lessons_are_the_first_half_of_what_is_shown():
    got = lessons.plain_lessons(shown_to_a_toy()[0])
    assert got.views.codes.shape == (2, 4, 3) and got.neighbours[:, :, 0].tolist() == [[1, 0, 3, 2]] * 2


def test_frequent_codes_are_of_the_same_views(monkeypatch):
    monkeypatch.setattr(lessons, "FrequentCodes", lambda tokenizer, pictures, weight: SimpleNamespace(
        encode=lambda view: np.full((len(view), 3), view[0, 0, 0, 0] + int(weight * 10))))
    shown, learned = shown_to_a_toy()
    learned.pictures[:, :, 0] = 9  # mirrored ones begin with 0
    got = lessons.with_frequent_codes(shown, learned, None, num_changed=0, seed=0, rate_weight=0.5)
    assert got.views.codes[:, 0, 0].tolist() == [14, 5, 14, 5]
    np.testing.assert_array_equal(got.views.vectors, shown.views.vectors)
    np.testing.assert_array_equal(got.neighbours, shown.neighbours)


def test_a_notebook_s_words_lines_and_exercises_are_counted():
    exercise = {"tags": ["exercise"]}
    cells = [new_markdown_cell("# Two words"), new_code_cell("a = 1\n\nb = 2"),
             new_markdown_cell("## Exercises\n\n### 1. One\n\nDo it.", metadata=exercise),
             new_code_cell("def one():\n    return 1"), new_code_cell('check("one", one)', metadata=exercise),
             new_markdown_cell("### 2. Two", metadata=exercise), new_raw_cell("stage: x")]
    assert notebooks.contents(new_notebook(cells=cells)) == {
        "words": 3 + 7 + 3, "code_lines": 2 + 2 + 1, "exercises": 2, "checks": 1}
