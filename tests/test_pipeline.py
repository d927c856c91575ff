"""kdlib.pipeline with a real (tiny, untrained) denoiser and index, and an encoder and a tokenizer that know colours."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import kdlib
from kdlib import artifacts, types
from kdlib.data.catalogue import Catalogue
from kdlib.data.pixels import to_pil
from kdlib.encoder import Encoder
from kdlib.encoder.text_tower import Unread
from kdlib.files import read_json, write_json
from kdlib.models.backbone import load_backbone
from kdlib.models.condition import Condition
from kdlib.models.discrete.backbone import DiscreteBackbone
from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.process import Schedule, sample_ancestral
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.pipeline import Pipeline, load_pipeline
from kdlib.retrieval import Index, build_index, save_embeddings
from kdlib.types import Embeddings

WORDS = ("red", "green", "blue", "dark")


class ColourEncoder(Encoder):
    """Colour words and mean colours as unit vectors of width 5; the interface of Encoder without its networks."""

    def __init__(self, identity="colours"):
        self.identity, self.name, self.dim = identity, identity, 5

    def unread(self, text):
        return Unread([], "", False)

    def encode_texts(self, texts):
        return self._unit([[word in text for word in WORDS] for text in texts])

    def encode_images(self, images):
        return self._unit([[*np.asarray(image).mean((0, 1)) / 255, 0] for image in images])

    def encode_images_exactly(self, images):
        return self.encode_images(images).astype(np.float16)

    def _unit(self, rows):
        rows = np.concatenate([np.array(rows, np.float32), np.full((len(rows), 1), 0.1, np.float32)], axis=1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def save(self, folder):
        folder.mkdir(parents=True)
        write_json(folder / "config.json", {"identity": self.identity})

    @classmethod
    def load(cls, folder):
        return cls(read_json(folder / "config.json")["identity"])


class ColourTokenizer(Tokenizer):
    """Code c is a flat square of grey level c; the interface of Tokenizer without its networks."""

    identity, size_px = "greys", 12

    def __init__(self):
        torch.nn.Module.__init__(self)

    def decode(self, codes):
        grid = codes.reshape(-1, 1, 3, 3).float() / 6 * 2 - 1
        return grid.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)

    def save(self, folder):
        folder.mkdir(parents=True)

    @classmethod
    def load(cls, folder):
        return cls()


def make_denoiser(encoder_id="colours", tokenizer_id="greys"):
    torch.manual_seed(0)
    denoiser = ConditionedDenoiser(DenoiserConfig(
        num_codes=7, num_positions=9, width=16, num_blocks=1, num_heads=2, embedding_dim=5, k=3,
        schedule=Schedule(num_timesteps=20).to_dict(), encoder_id=encoder_id, tokenizer_id=tokenizer_id))
    for parameter in denoiser.parameters():  # blocks start as identity, in which no condition can be seen
        torch.nn.init.normal_(parameter, std=0.5)
    return denoiser


STICKERS = [("a:red", "a", "red apple", (255, 0, 0)), ("a:green", "a", "frog", (0, 255, 0)),
            ("b:blue", "b", "sea", (0, 0, 255)), ("b:pink", "b", "pig", (255, 120, 120))]


def sticker_table():
    rows = [{"id": id, "style": style, "title": title, "author": f"author of {style}", "licence": "MIT",
             "svg": f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path fill="#{r:02x}{g:02x}{b:02x}" '
                    'd="M0 0H1V1H0z"/></svg>'}
            for id, style, title, (r, g, b) in STICKERS]
    return pd.DataFrame(rows)


def sticker_embeddings():
    images = [Image.new("RGB", (4, 4), colour) for *_, colour in STICKERS]
    return Embeddings(ColourEncoder().encode_images(images).astype(np.float16), np.array([id for id, *_ in STICKERS]),
                      "colours")


def make_pipe():
    catalogue = Catalogue(pa.Table.from_pandas(sticker_table().rename(columns={"svg": "picture"})))
    return Pipeline(ColourEncoder(), Index(sticker_embeddings()), DiscreteBackbone(make_denoiser(), ColourTokenizer()),
                    {"k": 3, "guidance_scale": 2.0, "num_steps": 5}, catalogue)


def make_root(folder):
    """A compendium with one preset, `quick`, whose parts have been made."""
    pipe = make_pipe()
    (folder / "params.yaml").write_text("compendium: kdlib\npresets: [quick]\n"
                                        "quick: {k: 2, generation: {num_steps: 4, guidance_scale: 1.5}}\n"
                                        "cpu: {k: 2}\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    reports = folder / "reports" / "quick"
    denoiser, tokenizer = pipe.backbone.denoiser, pipe.backbone.tokenizer
    for part, stage in [(pipe.encoder, "encoder"), (tokenizer, "tokenizer"), (denoiser, "training")]:
        part.save(reports / stage / "model")
    save_embeddings(reports / "index" / "training", pipe.index.embeddings)
    (folder / "data").mkdir()
    sticker_table().to_parquet(folder / "data" / "stickers.parquet")


@pytest.fixture
def pipe():
    return make_pipe()


def parts_are_colours(monkeypatch):
    """`load` of encoder and tokenizer finds the two classes above."""
    monkeypatch.setattr(Encoder, "load", ColourEncoder.load)
    monkeypatch.setattr(Tokenizer, "load", ColourTokenizer.load)


@pytest.fixture
def parts_by_colour(monkeypatch):
    parts_are_colours(monkeypatch)


@pytest.fixture
def root(tmp_path, parts_by_colour):
    make_root(tmp_path)
    return tmp_path


def pixels(images):
    return np.stack([np.asarray(image) for image in images])


def test_a_call_returns_pictures_and_what_they_were_made_from(pipe):
    out = pipe("a red thing", num_images=2, seed=7)
    assert pixels(out.images).shape == (2, 12, 12, 3) and (out.prompt, out.seed) == ("a red thing", 7)
    assert out.settings == {"k": 3, "num_images": 2, "guidance_scale": 2.0, "num_steps": 5}
    assert [n.id for n in out.neighbours][:2] == ["a:red", "b:pink"] and len(out.neighbours) == 3
    first = out.neighbours[0]
    assert (first.title, first.style, first.author, first.licence) == ("red apple", "a", "author of a", "MIT")
    assert first.image.getpixel((5, 5)) == (255, 0, 0)
    assert first.score == pytest.approx(1, abs=1e-3) and out.neighbours[2].score < out.neighbours[1].score < first.score


def test_a_call_is_algorithm_2(pipe):
    out = pipe("blue", k=2, num_images=3, guidance_scale=1.5, num_steps=4, seed=11)
    query = pipe.encoder.encode_texts(["blue"])
    vectors = pipe.index.search(query, 2).vectors
    y = Condition(torch.tensor(query).repeat(3, 1), torch.tensor(vectors).repeat(3, 1, 1))
    codes = sample_ancestral(pipe.backbone.denoiser, pipe.backbone.denoiser.schedule, y, 7, 9, 4, guidance_scale=1.5,
                             generator=torch.Generator().manual_seed(11))
    assert (pixels(out.images) == pixels(to_pil(pipe.backbone.tokenizer.decode(codes)))).all()


def test_the_seed_decides(pipe):
    first, again, other = (pixels(pipe("red", num_images=3, seed=seed).images) for seed in (5, 5, 6))
    assert (first == again).all() and (first != other).any()
    assert (first[0] != first[1]).any()


def test_of_candidates_those_nearest_to_the_prompt_are_kept_best_first(pipe):
    drawn = pipe("dark", num_images=5, seed=4).images
    out = pipe("dark", num_images=2, num_candidates=5, seed=4)
    dark = pipe.encoder.encode_texts(["dark"])[0]
    cosines = [float(pipe.encoder.encode_images([image])[0] @ dark) for image in drawn]
    best = np.argsort(cosines)[::-1][:2]
    assert len(set(cosines)) == 5 and (pixels(out.images) == pixels([drawn[i] for i in best])).all()
    assert out.settings["num_candidates"] == 5 and out.settings["num_images"] == 2


@pytest.mark.parametrize("num_candidates", [-3, 0, 1])
def test_fewer_candidates_than_pictures_are_refused(pipe, num_candidates):
    with pytest.raises(ValueError, match=f"num_candidates = {num_candidates!r} must be a whole number of at least 2"):
        pipe("red", num_images=2, num_candidates=num_candidates)


def test_calls_leave_the_global_random_state_alone(pipe):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    pipe("red")
    assert (torch.rand(3) == expected).all()


def test_many_prompts_at_once(pipe):
    prompts = ["red", "green", "dark blue", "green red", "something else"]
    neighbours, condition = pipe.retrieve(prompts, k=2)
    assert condition.query.shape == (5, 5) and condition.neighbours.shape == (5, 2, 5)
    assert neighbours.ids[:3, 0].tolist() == ["a:red", "a:green", "b:blue"]
    assert torch.equal(condition.neighbours, torch.tensor(neighbours.vectors))
    for row, prompt in enumerate(prompts):
        alone, _ = pipe.retrieve([prompt], k=2)
        assert (alone.ids[0] == neighbours.ids[row]).all()
    assert len(pipe.generate(condition, seed=3)) == 5
    assert [[n.id for n in row] for row in pipe.describe(neighbours)] == neighbours.ids.tolist()


@pytest.mark.parametrize("arguments, message", [
    ({"prompt": ""}, "the prompt is ''; say in words"),
    ({"prompt": " \n"}, r"the prompt is ' \\n'; say"),
    ({"k": 0}, "k = 0 must be a whole number of at least 1"),
    ({"k": 5}, "k = 5 is more than the index can give: it has 4 pictures"),
    ({"num_images": 0}, "num_images = 0 must be a whole number of at least 1"),
    ({"num_steps": 0}, "num_steps = 0 must be a whole number of at least 1"),
    ({"seed": -1}, "seed = -1 must be a whole number of at least 0"),
    ({"seed": 2 ** 63}, "seed = .* at most 9223372036854775807"),
    ({"num_images": True}, "num_images = True must be a whole number"),
    ({"prompt": "caf\udce9"}, "the prompt 'caf.udce9' is not valid Unicode"),
    ({"guidance_scale": -101.0}, "guidance_scale = -101.0 must be a finite number from -100 to 100"),
    ({"num_steps": 21}, "num_steps is 21; it must lie in 1 .. 20"),
    ({"guidance_scale": float("nan")}, "guidance_scale = nan must be a finite number"),
])
def test_bad_arguments(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt": "red", **arguments})


def unguarded(function):
    """A function past beartype, which guards signatures only in tests."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize("arguments, message", [
    ({"num_images": None}, "num_images = None must be a whole number"), ({"seed": 1.5}, "seed = 1.5 must be a whole"),
    ({"seed": None}, "seed = None must be a whole number"), ({"k": 2.0}, "k = 2.0 must be a whole number"),
    ({"guidance_scale": "3"}, "guidance_scale = '3' must be a finite number")])
def test_settings_of_another_type(arguments, message):
    with pytest.raises(ValueError, match=message):
        unguarded(types.check_request)(**arguments)
    unguarded(types.check_request)(k=np.int32(3), seed=np.int64(3), guidance_scale=np.float32(3))


@pytest.mark.parametrize("prompts, index", [("red", None), (["red"], "my.index")])
def test_one_prompt_for_a_list_and_a_path_for_an_index(pipe, prompts, index):
    with pytest.raises(ValueError, match="must be a list of texts, .* an Index, such as kd.open_index"):
        unguarded(Pipeline.retrieve)(pipe, prompts, 1, index)


@pytest.mark.parametrize("prompt", [
    None, 7, ["red"], "", " \n", "\u200b\u200d", "\ufeff", "\x00\x1b", "\u2800", "\u3164", "\u0301", "\u202e\u2066",
    "\ue000", "\ufe0f", "\u00ad"])
def test_a_prompt_is_a_string_in_which_something_is_seen(prompt):
    with pytest.raises(ValueError, match="the prompt is .*; say in words"):
        unguarded(types.check_prompt)(prompt)


@pytest.mark.parametrize("prompt", ["a", "7", "?", "\u200ba", "\U0001f34e", "\u0e41", "\u82f9"])
def test_what_is_seen_is_a_prompt(prompt):
    types.check_prompt(prompt)


def test_a_swapped_index_with_its_own_catalogue(pipe, tmp_path):
    (tmp_path / "mine").mkdir()
    for name, colour in [("rose", "red"), ("night", "navy"), ("leaf", "lime")]:
        Image.new("RGB", (20, 10), colour).save(tmp_path / "mine" / f"{name}.png")
    index = build_index(tmp_path / "mine", encoder=pipe.encoder)
    out = pipe("red", index=index, k=2)
    assert out.neighbours[0].title == "rose" and out.neighbours[0].licence == "unknown"
    assert pipe("red", k=2).neighbours[0].title == "red apple"


def test_another_encoders_index_is_refused(pipe):
    foreign = Index(Embeddings(pipe.index.embeddings.vectors, pipe.index.embeddings.ids, "other"))
    with pytest.raises(ValueError, match="built by encoder other, but this model uses encoder colours"):
        pipe("red", index=foreign)


def test_parts_must_belong_together(pipe):
    settings = pipe.settings
    with pytest.raises(ValueError, match="trained with encoder x1, but this is encoder colours"):
        Pipeline(pipe.encoder, pipe.index, DiscreteBackbone(make_denoiser("x1"), ColourTokenizer()), settings)
    with pytest.raises(ValueError, match="trained with tokenizer x2, but this is .* greys"):
        DiscreteBackbone(make_denoiser(tokenizer_id="x2"), ColourTokenizer())
    with pytest.raises(ValueError, match="settings are .'k'.; give k, guidance_scale, num_steps"):
        Pipeline(pipe.encoder, pipe.index, pipe.backbone, {"k": 3})


class Painter:
    """A generator of another kind: one flat picture for each row, of the colour of its first neighbour."""

    kind, encoder_id, size_px = "painter", "colours", 7

    def draw(self, condition, num_steps, guidance_scale, generator):
        colours = (condition.neighbours[:, 0, :3] * 255).to(torch.uint8).tolist()
        return [Image.new("RGB", (self.size_px, self.size_px), tuple(colour)) for colour in colours]

    def to(self, device):
        return self

    def save(self, folder):
        (folder / "denoiser").mkdir()


def test_a_generator_of_another_kind_is_a_backbone(pipe):
    out = Pipeline(pipe.encoder, pipe.index, Painter(), pipe.settings, pipe.catalogue)("red", num_images=2)
    red = (pipe.index.search(pipe.encoder.encode_texts(["red"]), 1).vectors[0, 0, :3] * 255).astype(np.uint8)
    assert len(out.images) == 2 and (pixels(out.images) == red).all()


def test_a_backbone_is_loaded_by_its_kind(pipe, tmp_path, parts_by_colour):
    parts = {name: tmp_path / name for name in ("denoiser", "tokenizer")}
    pipe.backbone.save(tmp_path)
    loaded = load_backbone(parts)
    assert loaded.kind == "discrete" and loaded.size_px == 12 and loaded.encoder_id == "colours"
    write_json(tmp_path / "denoiser" / "config.json", {"kind": "teapot"})
    with pytest.raises(ValueError, match="denoiser holds a 'teapot'; a generator's kind is one of discrete-denoiser"):
        load_backbone(parts)
    (tmp_path / "denoiser" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        load_backbone(parts)


def test_without_a_catalogue_neighbours_are_their_ids(pipe):
    bare = Pipeline(pipe.encoder, pipe.index, pipe.backbone, pipe.settings)
    assert bare("red").neighbours[0].title == "a:red"


def test_a_saved_pipeline_works_elsewhere(pipe, tmp_path, parts_by_colour, monkeypatch):
    pipe.save_pretrained(tmp_path / "first")
    pipe.save_pretrained(tmp_path / "first")
    shutil.move(tmp_path / "first", tmp_path / "moved")
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    monkeypatch.chdir(tmp_path)
    before = pipe("red", num_images=2, seed=3)
    for load, folder in [(Pipeline.from_pretrained, tmp_path / "moved"), (load_pipeline, "moved")]:
        after = load(folder)("red", num_images=2, seed=3)
        assert (pixels(before.images) == pixels(after.images)).all() and before.settings == after.settings
        assert before.neighbours == after.neighbours


def test_only_the_indexed_pictures_are_saved_with_a_pipeline(pipe, tmp_path):
    vectors, ids = pipe.index.embeddings.vectors[1:3], pipe.index.embeddings.ids[1:3]
    pipe.index = Index(Embeddings(vectors, ids, "colours"))
    pipe.save_pretrained(tmp_path / "saved")
    assert Catalogue.load(tmp_path / "saved" / "index" / "catalogue.parquet").table["id"].to_pylist() == ids.tolist()


def test_a_save_that_fails_leaves_the_old_one(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path / "saved")
    monkeypatch.setattr(ColourTokenizer, "save", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pipe.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"encoder", "index", "tokenizer", "denoiser",
                                                                      "pipeline.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_damaged_saved_pipeline_says_what_is_wrong(pipe, tmp_path, parts_by_colour):
    pipe.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "index" / "vectors.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="vectors.npy is damaged"):
        load_pipeline(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "denoiser")
    with pytest.raises(FileNotFoundError, match="has no denoiser .*; save the pipeline again"):
        load_pipeline(tmp_path / "saved")
    (tmp_path / "saved" / "pipeline.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match="no saved pipeline"):
        Pipeline.from_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "pipeline.json").write_text("{")
    with pytest.raises(ValueError, match="pipeline.json is not valid JSON"):
        load_pipeline(tmp_path / "saved")


def test_a_preset_is_loaded_with_its_settings_and_the_sticker_catalogue(root):
    pipe = load_pipeline("quick", root)
    assert pipe.settings == {"k": 2, "guidance_scale": 1.5, "num_steps": 4}
    out = pipe("red")
    assert [n.title for n in out.neighbours] == ["red apple", "pig"] and out.neighbours[0].author == "author of a"


def test_preset_errors(root, monkeypatch):
    with pytest.raises(ValueError, match="there is no preset 'qiuck'; choose one of quick, cpu"):
        load_pipeline("qiuck", root)
    with pytest.raises(FileNotFoundError, match="cpu has no encoder, index, .*PRESET=cpu.*dvc pull"):
        load_pipeline("cpu", root)
    assert artifacts.default_preset(root) == "quick"
    shutil.copytree(root / "reports" / "quick", root / "reports" / "cpu")
    assert artifacts.default_preset(root) == "cpu"
    shutil.rmtree(root / "reports")
    assert artifacts.default_preset(root) == "cpu"


def test_editors_see_the_same_public_names():
    tree = ast.parse(Path(kdlib.__file__).read_text())
    seen = {alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
            for alias in node.names if node.module.startswith("kdlib")}
    assert seen == kdlib._PUBLIC


def test_public_names_arrive_when_asked_for():
    assert kdlib.Pipeline is Pipeline and kdlib.build_index is build_index and kdlib.__version__
    for name in kdlib.__all__:
        assert getattr(kdlib, name) is not None
    assert set(kdlib.__all__) <= set(dir(kdlib))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kdlib.nothing  # noqa: B018
