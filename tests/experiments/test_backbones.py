"""kdlib.experiments.backbones: what a U-Net is trained on, what it draws with, the table and its ratios."""

import numpy as np
import pandas as pd
import pytest

from kdlib.data.dataset import DataSet
from kdlib.evaluation.metrics import Interval
from kdlib.experiments import backbones
from kdlib.experiments.backbones import (
    COLUMNS,
    RATIOS,
    style_statistics,
    table_2,
    table_2_ratios,
    train_unet_variant,
    unet_pipeline,
)
from kdlib.files import save_array
from kdlib.models.continuous.backbone import ContinuousBackbone
from kdlib.pipeline import Pipeline
from kdlib.retrieval import save_embeddings
from kdlib.training.views import Views, view_pictures, with_style_lessons
from kdlib.types import Embeddings
from tests.models.continuous.test_backbone import make_unet
from tests.test_pipeline import make_pipe, make_root, parts_are_colours, pixels

IDS, STYLES = np.array(["s:c", "s:a", "s:d", "s:b"]), ["noto", "twemoji", "noto", "twemoji"]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A root in which the stage `views` has run for four pictures, known to the data set in another order."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    order = np.argsort(IDS)
    table = pd.DataFrame({"id": IDS[order], "style": np.array(STYLES)[order]})
    monkeypatch.setattr(backbones, "training_set", lambda preset, root: DataSet(table, pictures[order]))
    (tmp_path / "params.yaml").write_text("toy: {seed: 6}\n")
    vectors = random.standard_normal((5, 4, 7))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)
    made = tmp_path / "reports" / "toy" / "views"
    with_style_lessons(Views(np.zeros((5, 4, 9), np.int16), vectors), STYLES).save(made / "views")
    save_embeddings(made / "training_set", Embeddings(vectors[0], IDS, "e"))
    save_array(made / "neighbours.npy", np.arange(10 * 4 * 2, dtype=np.int32).reshape(10, 4, 2))
    return tmp_path, pictures, vectors


def test_a_u_net_is_trained_on_the_pictures_of_the_views_with_their_queries_and_neighbours(stage, monkeypatch):
    root, pictures, vectors = stage
    told = {}

    def train(shown, queries, database, neighbours, folder, **settings):
        told.update(shown=np.array(shown), queries=queries, ids=database.ids, neighbours=neighbours, settings=settings)
        return pd.DataFrame({"step": [1]})

    monkeypatch.setattr(backbones, "train_unet", train)
    history = train_unet_variant("toy", root / "mine", root, seed=3, conditioning="ours")
    assert history.step.tolist() == [1] and told["settings"] == {"seed": 3, "conditioning": "ours"}
    np.testing.assert_array_equal(told["shown"], np.stack(list(view_pictures(pictures, 3, 6))))
    assert told["queries"].shape == (5, 4, 7) and told["ids"].tolist() == IDS.tolist()
    np.testing.assert_array_equal(told["queries"], vectors)
    assert told["neighbours"].tolist() == np.arange(40).reshape(5, 4, 2).tolist()
    assert not (root / "mine" / "views.npy").exists()


def test_a_u_net_draws_with_the_preset_s_encoder_and_index(tmp_path, monkeypatch):
    parts_are_colours(monkeypatch)
    make_root(tmp_path)
    make_unet().save(tmp_path / "mine" / "model")
    pipe = unet_pipeline("quick", tmp_path / "mine", tmp_path, k=2, sampling_steps=4, guidance_scale=2.0)
    plain = make_pipe()
    beside = Pipeline(plain.encoder, plain.index, ContinuousBackbone(make_unet()), pipe.settings, plain.catalogue)
    assert pipe.settings == {"k": 2, "num_steps": 4, "guidance_scale": 2.0}
    assert (pixels(pipe("a red thing", seed=3).images) == pixels(beside("a red thing", seed=3).images)).all()


def test_style_is_measured_on_the_prompts_that_are_drawn():
    of = style_statistics(pd.DataFrame({"in_style": [1, 0.5, 0, 0.25], "by_chance": [0.5, 0.5, 0, 0]}))
    rows = np.array([0, 3, 3])
    assert of["in_swapped_style"](rows) == pytest.approx(0.5)
    assert of["beyond_chance"](rows) == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def test_the_table_has_a_row_a_model_and_each_column_with_its_interval():
    results = {name: {of: Interval(number + 0.5, number, number + 1.0) for number, of in enumerate((*COLUMNS, "cmmd"))}
               for name in ("b", "a")}
    table = table_2(results)
    assert list(table.index) == ["b", "a"] and tuple(table.columns) == COLUMNS
    assert table.loc["a", "text_alignment"] == "2.5 [2, 3]"


def test_ratios_are_those_of_the_same_prompts():
    random = np.random.default_rng(1)
    values = {model: random.uniform(1, 2, 11) for pair in RATIOS.values() for model in pair}
    found = {model: {of: lambda rows, model=model: float(values[model][rows].mean()) for of in COLUMNS}
             for model in values}
    ratios = table_2_ratios(found, 11, 50, 0)
    assert ratios.keys() == RATIOS.keys()
    for name, (first, second) in RATIOS.items():
        assert set(ratios[name]) == set(COLUMNS[:3])
        row = ratios[name]["concept_top5"]
        assert row.value == pytest.approx(values[first].mean() / values[second].mean()) and row.low < row.high
