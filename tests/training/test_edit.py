"""kdlib.training.edit: what the lessons hold, what reaches the network, a tiny run, resumed or not."""

import numpy as np
import pandas as pd
import pytest
import torch

from kdlib.data.pixels import normalise_pixels
from kdlib.encoder import Encoder
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig
from kdlib.models.edit.denoiser import EditDenoiser
from kdlib.models.edit.pairs import first_aligned, make_pair, pair_generator
from kdlib.retrieval import Index
from kdlib.training.edit import EditObjective, Lessons, make_lessons, train_editor
from kdlib.training.loop import step_generator
from kdlib.types import Embeddings
from tests.models.edit.test_denoiser import DIM, POSITIONS, V, make_generator
from tests.models.edit.test_pairs import SIZE, blots

NUM = 6


class MeanEncoder(Encoder):
    """Mean colours, and how much is drawn, as unit vectors of width 5."""

    def __init__(self):
        self.identity, self.dim = "enc", DIM

    def encode_images(self, images, batch_size=256):
        means = 255 - np.asarray(images).astype(np.float32).mean((1, 2))
        rows = np.concatenate([means, means.sum(1, keepdims=True), np.ones((len(means), 1), np.float32)], 1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def made():
    """Pictures, index, tokenizer and two areas' lessons; picture 4 is white, and so in no lesson."""
    pictures = np.stack([blots(seed=n // 2, shift=(0.4 * n, 0)) for n in range(NUM)])
    pictures[4] = 255
    encoder, ids = MeanEncoder(), np.array([f"set:{n}" for n in (3, 1, 4, 0, 5, 2)])
    index = Index(Embeddings(encoder.encode_images(pictures), ids, "enc"))
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(SIZE, V, 4, 8, 4)).eval()  # 3 x 3 codes
    return pictures, index, tokenizer, make_lessons(pictures, index, encoder, tokenizer, 3, 2, 0)


def test_lessons_are_the_pairs_of_each_pictures_own_id(made):
    pictures, index, tokenizer, lessons = made
    code = lambda image: tokenizer.encode(normalise_pixels(torch.from_numpy(image[None])))[0].numpy()
    kept = [np.flatnonzero(index.ids == id)[0] for id in lessons.report.id]
    assert 4 not in kept and len(kept) >= 3 and lessons.codes.shape == (len(kept), POSITIONS)
    for place, row in enumerate(kept):
        near = index.search(index.embeddings.vectors[row:row + 1], NUM - 1, exclude=[index.ids[row]]).ids[0]
        others = [pictures[np.flatnonzero(index.ids == id)[0]] for id in near]
        aligned = first_aligned(others, pictures[row])
        np.testing.assert_array_equal(lessons.codes[place], code(pictures[row]))
        assert lessons.report.place[place] == aligned.place and lessons.report.after[place] == aligned.after
        for area in range(2):
            pair = make_pair(pictures[row], aligned.picture, pair_generator(0, str(index.ids[row]), area))
            np.testing.assert_array_equal(lessons.manipulated[area, place], code(pair.manipulated))
            np.testing.assert_allclose(lessons.queries[area, place], MeanEncoder().encode_images(pair.local[None])[0],
                                       atol=1e-3)
            assert row not in lessons.neighbours[area, place]


def test_lessons_need_the_pictures_of_the_index(made):
    pictures, index, tokenizer, _ = made
    with pytest.raises(ValueError, match="5 pictures are not the 6 of the index"):
        make_lessons(pictures[1:], index, MeanEncoder(), tokenizer, 3, 1, 0)
    with pytest.raises(ValueError, match="no picture of the index has a neighbour"):
        make_lessons(np.full_like(pictures, 255), index, MeanEncoder(), tokenizer, 3, 1, 0)


def test_what_reaches_the_network(made):
    _, index, _, lessons = made
    objective = EditObjective(EditDenoiser(make_generator()), lessons, index.embeddings, dropout=0.25)
    rows = torch.arange(len(lessons.codes)).repeat(400)
    x_0, condition, source = objective.draw(rows, step_generator(0, 0))
    np.testing.assert_array_equal(x_0.numpy(), lessons.codes[rows])
    without, told = (source == V).all(1).numpy(), condition.query.abs().sum(1).numpy() > 0
    near = condition.neighbours.abs().sum((1, 2)).numpy() > 0
    assert abs(without.mean() - 0.25) < 0.04 and abs(told.mean() - 0.75) < 0.04 and not (near & ~told).any()
    assert abs(near[told].mean() - 0.5) < 0.05 and abs((without & ~told).mean() - 0.25 ** 2) < 0.03
    for row in np.flatnonzero(~without & near)[:60]:
        area = [a for a in range(2) if np.array_equal(source[row], lessons.manipulated[a, rows[row]])
                and np.array_equal(condition.query[row], lessons.queries[a, rows[row]].astype(np.float32))]
        wanted = [index.embeddings.vectors[lessons.neighbours[a, rows[row]]] for a in area]
        assert any(np.array_equal(condition.neighbours[row], vectors) for vectors in wanted)


def run(made, folder, **changes):
    _, index, _, lessons = made
    make_generator().save(folder / "generator")
    return train_editor(lessons, index.embeddings, folder / "generator", folder, **{
        "batch_size": 2, "num_steps": 6, "learning_rate": 1e-2, "dropout": 0.1, "seed": 0, **changes})


def test_a_tiny_run_repeats_itself(made, tmp_path):
    history = run(made, tmp_path / "a")
    run(made, tmp_path / "b")
    assert np.isfinite(history.loss).all()
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    editor = EditDenoiser.load(tmp_path / "a" / "model")
    assert editor.config.encoder_id == "enc" and editor.denoiser.transformer.codes.source.weight.abs().max() > 0


def test_a_run_that_was_cut_off_goes_on(made, tmp_path, monkeypatch):
    run(made, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("kdlib.training.loop.CHECKPOINT_INTERVAL_S", -1)
        draw, calls = EditObjective.draw, []

        def cut_off(self, *arguments):
            calls.append(0)
            if len(calls) > 4:
                raise KeyboardInterrupt
            return draw(self, *arguments)

        patch.setattr(EditObjective, "draw", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(made, tmp_path / "cut")
    calls = []
    draw = EditObjective.draw
    monkeypatch.setattr(EditObjective, "draw", lambda self, *a: calls.append(0) or draw(self, *a))
    run(made, tmp_path / "cut")
    assert len(calls) == 2
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_other_encoders_embeddings_are_refused(made, tmp_path):
    pictures, index, tokenizer, lessons = made
    make_generator().save(tmp_path / "generator")
    foreign = Embeddings(index.embeddings.vectors, index.ids, "another")
    with pytest.raises(ValueError, match="trained with encoder enc, but these embeddings are of encoder another"):
        train_editor(lessons, foreign, tmp_path / "generator", tmp_path, batch_size=2, num_steps=1,
                     learning_rate=1e-3, dropout=0.1, seed=0)


def test_training_teaches_it_to_look_at_the_picture(tmp_path):
    """Random codes, of which nothing but the picture beside them can tell."""
    codes = np.random.default_rng(0).integers(0, V, (64, POSITIONS)).astype(np.uint16)
    unit = np.tile(np.eye(1, DIM, dtype=np.float16), (1, 64, 1))
    lessons = Lessons(codes, codes[None], unit, np.zeros((1, 64, 3), np.int32), pd.DataFrame())
    embeddings = Embeddings(unit[0].astype(np.float32), np.arange(64).astype(str), "enc")
    torch.manual_seed(0)
    ConditionedDenoiser(make_generator().config).save(tmp_path / "generator")
    train_editor(lessons, embeddings, tmp_path / "generator", tmp_path, batch_size=32, num_steps=120,
                 learning_rate=2e-2, dropout=0.1, seed=0)
    objective = EditObjective(EditDenoiser.load(tmp_path / "model"), lessons, embeddings, dropout=0.0)

    @torch.no_grad()
    def loss():
        return np.mean([objective(torch.arange(64), step_generator(9, step))["loss"].item() for step in range(5)])

    shown = loss()
    objective.manipulated.fill_(V)
    assert shown < 0.5 * loss()
