"""kdlib.experiments.session: what is asked, what is measured against, where it goes."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdlib.evaluation import comparison
from kdlib.evaluation.judge import Judge
from kdlib.experiments.session import Session
from kdlib.files import save_array, write_json
from kdlib.params import STAGE_RUN
from tests.evaluation.test_comparison import MeanColours


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(STAGE_RUN, "1")
    (tmp_path / "data").mkdir()
    pd.DataFrame({"id": list("abcde"), "split": ["test", "train", "test", "test", "test"],
                  "style": ["noto", "noto", "noto", "openmoji", "noto"],
                  "skin_tone": ["", "", "dark", "", ""]}).to_parquet(tmp_path / "data" / "stickers.parquet")
    (tmp_path / "data" / "prompts.csv").write_text(
        "prompt,kind,concept\nan ape,name,ape\na bee in a hat,composed,\na bee,name,bee\na cat,name,cat\n")
    images = tmp_path / "reports" / "toy" / "images"
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 2, 3), np.uint8)
    save_array(images / "pictures.npy", pictures)
    write_json(images / "ids.json", list("edcba"))
    return tmp_path


@pytest.mark.parametrize("num_prompts, concepts", [(2, ["ape", "bee"]), (None, ["ape", "bee", "cat"])])
def test_only_names_of_concepts_are_asked_for(root, num_prompts, concepts):
    session = Session("toy", "mine", num_prompts, root)
    assert session.concepts == concepts
    assert session.prompts == [f"{'an' if concept == 'ape' else 'a'} {concept}" for concept in concepts]


def test_the_reference_is_of_held_out_concepts_in_the_generator_s_styles_and_one_skin_tone(root, monkeypatch):
    monkeypatch.setattr(Judge, "load", lambda folder: MeanColours())
    session = Session("toy", "mine", root=root)
    assert session.reference[:, 0].tolist() == [0, 4]  # e and a, in the pictures' order
    assert session.stickers.ids.tolist() == list("edcba")


def test_the_judge_is_asked_about_the_prompts_in_their_order(root, monkeypatch):
    judges = {root / "reports" / "toy" / "judge" / "model": MeanColours()}
    monkeypatch.setattr(Judge, "load", judges.__getitem__)
    monkeypatch.setattr(comparison, "verdicts", lambda judge, features, concepts, texts: pd.DataFrame(
        {"red": features[:, 0], "concept": concepts, "top1": False, "top5": True, "alignment": features[:, 0]}))
    session = Session("toy", "mine", 2, root)
    drawn = [[Image.new("RGB", (4, 4), (10 * prompt + seed, 0, 0)) for prompt in range(2)] for seed in range(3)]
    features, said = session.judged(drawn)
    assert features[:, :, 0].tolist() == [[0, 1, 2], [10, 11, 12]]
    assert said.prompt.tolist() == ["an ape"] * 3 + ["a bee"] * 3 and said.concept.tolist() == ["ape"] * 3 + ["bee"] * 3
    found = session.statistics(drawn)
    assert found["text_alignment"](np.array([1])) == 11 and found["concept_top5"](np.array([0, 1])) == 1


def test_tables_and_numbers_are_written_where_the_stage_writes(root):
    session = Session("toy", "mine/one", root=root)
    session.write_table("a.csv", pd.DataFrame({"of": ["x"], "value": [1 / 3]}))
    session.write_table("b.csv", pd.DataFrame({"value": [1 / 3]}), float_format=None)
    session.write_metrics({"num_prompts": 3})
    folder = root / "reports" / "toy" / "mine" / "one"
    assert session.out == folder and session.folder("index") == root / "reports" / "toy" / "index"
    assert (folder / "a.csv").read_text() == "of,value\nx,0.333333\n"
    assert float((folder / "b.csv").read_text().split()[1]) == 1 / 3
    assert json.loads((folder / "metrics.json").read_text()) == {"num_prompts": 3}
    assert {path.name for path in folder.iterdir()} == {"a.csv", "b.csv", "metrics.json"}
