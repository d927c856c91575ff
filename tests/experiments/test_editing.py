"""kdlib.experiments.editing: the benchmark's rows belong together; methods, and differences on the same edits."""

import numpy as np
import pandas as pd
import pytest

from kdlib.data.dataset import DataSet
from kdlib.data.edits import find_edits
from kdlib.experiments import editing
from kdlib.experiments.editing import (
    AS_IT_IS,
    Benchmark,
    by_editor,
    by_word,
    difference,
    load_benchmark,
    measured,
    plain_text,
)
from kdlib.models.edit.sampler import EditSettings
from tests.evaluation.test_edits import MeanJudge
from tests.models.edit.test_editor import make_editor
from tests.test_pipeline import make_pipe

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def stickers():
    """Hearts and books in three colours, by two hands; an hour of a clock, which no other belongs to."""
    named = [(style, f"{colour}-{thing}", rgb) for style in ("noto", "twemoji") for thing in ("heart", "book")
             for colour, rgb in COLOURS.items()] + [("noto", "one-oclock", (0, 0, 0))]
    table = pd.DataFrame([{"id": f"{style}:{concept}", "style": style, "concept": concept, "skin_tone": "",
                           "title": concept.replace("-", " "), "split": "train", "author": "A", "licence": "MIT"}
                          for style, concept, _ in named])
    pictures = np.full((len(named), 12, 12, 3), 255, np.uint8)
    for picture, (_, _, rgb) in zip(pictures, named, strict=True):
        picture[3:9, 3:9] = rgb
    return DataSet(table, pictures)


@pytest.fixture
def pipe():
    pipe = make_pipe()
    pipe.editor = make_editor()
    pipe.backbone.tokenizer.encode = pipe.editor.tokenizer.encode
    return pipe


def test_rows_belong_together():
    edits = load_benchmark(stickers())
    assert len(edits) == len(find_edits(stickers().table)) == 2 * 2 * 3 * 2
    for row, source, target in zip(edits.table.itertuples(), edits.sources, edits.targets, strict=True):
        assert tuple(source[5, 5]) == COLOURS[row.source.split(":")[1].split("-")[0]]
        assert tuple(target[5, 5]) == COLOURS[row.instruction.split()[1]]
        assert row.concept == row.target.split(":")[1] and row.source_title.replace(" ", "-") in row.source
    with pytest.raises(ValueError, match="no edits among these pictures"):
        load_benchmark(stickers().where(np.arange(13) == 0))


def test_a_spread_takes_from_every_family_first():
    table = pd.DataFrame({"family": ["a"] * 5 + ["b"] * 2 + ["c"], "row": range(8)})
    pictures = np.arange(8, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    few = Benchmark(table, pictures, pictures).spread(4)
    assert few.table.row.tolist() == [0, 1, 5, 7] and few.sources[:, 0, 0, 0].tolist() == [0, 1, 5, 7]
    assert len(Benchmark(table, pictures, pictures).spread(99)) == 8


def test_methods_draw_a_picture_for_each_edit(pipe, monkeypatch):
    edits = load_benchmark(stickers()).spread(5)
    monkeypatch.setattr(editing, "BATCH", 2)
    settings = EditSettings(num_steps=3, strength=0.5, k=2)
    ours = by_editor(pipe, edits, settings, 0)
    first = edits.images()[:2]
    condition = pipe.editor.condition(first, edits.table.instruction.tolist()[:2], pipe.index, settings)[0]
    np.testing.assert_array_equal(ours[0], np.asarray(pipe.editor.draw(first, condition, settings, 0)[0]))
    texts = plain_text(pipe, edits, 3, 0)
    wanted = pipe.generate(pipe.retrieve(edits.table.instruction.tolist()[:2])[1], 3, seed=0)
    np.testing.assert_array_equal(texts[1], np.asarray(wanted[1]))
    assert ours.shape == texts.shape == by_word(pipe, edits, 1, 3, 0).shape == edits.sources.shape


def test_measured_keeps_rows_and_names(monkeypatch):
    monkeypatch.setattr("kdlib.evaluation.edits.verdicts", lambda judge, found, concepts, texts: pd.DataFrame(
        {"top5": [concept.startswith("red") for concept in concepts], "alignment": np.zeros(len(texts))}))
    edits = load_benchmark(stickers())
    found = measured(MeanJudge(), edits, {AS_IT_IS: edits.sources, "answer": edits.targets})
    assert found["answer"].nearer.all() and not found[AS_IT_IS].nearer.any()
    assert found["answer"].target.tolist() == edits.table.target.tolist()
    assert (found["answer"].top5 == edits.table.concept.str.startswith("red")).all()


def test_differences_are_paired_and_leave_out_what_one_lacks():
    first, second = pd.DataFrame({"x": [1.0, 5.0, np.nan]}), pd.DataFrame({"x": [0.0, 4.0, 7.0]})
    assert tuple(difference(first, second, "x", 20, 0)) == (1.0, 1.0, 1.0)
    assert difference(first[2:], second[2:], "x", 20, 0) is None
