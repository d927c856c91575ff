"""Each field of each JSON file that is loaded, deleted or of another type: always one sentence that names the file."""

import copy

import pytest
from PIL import Image

from kdlib.compendium.sheets import save_sheet
from kdlib.encoder import Encoder
from kdlib.encoder.encoder import EMBEDDING_DIM, TEXT_MAP_WIDTH, StickerPreprocess, TextMap, build_sticker_clip
from kdlib.encoder.text_tower import sticker_tokenizer
from kdlib.evaluation.human.pictures import pictures_by_prompt
from kdlib.evaluation.judge import Judge
from kdlib.files import atomic_file, read_json, write_json
from kdlib.models.continuous.unet import ConditionedUnet
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig
from kdlib.pipeline import Pipeline
from kdlib.retrieval import open_index
from tests.models.continuous.test_unet import unet
from tests.test_pipeline import make_denoiser, make_pipe, parts_are_colours

WRONG = [None, [], {}, "x", True, 10 ** 18, 1e300, -1, 0, 0.5, float("nan"), ["x"], {"x": 1}]


def fields(value, path=()):
    """The path of every value inside a JSON value, its own among them."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from fields(part, (*path, key))


def changed(value, path, new=None, *, delete=False):
    """A copy with another value at a path, or none."""
    if not path:
        return new
    value = copy.deepcopy(value)
    part = value
    for key in path[:-1]:
        part = part[key]
    if delete:
        del part[path[-1]]
    else:
        part[path[-1]] = new
    return value


def assert_each_damage_is_one_sentence(path, load):
    """Damages every field of a JSON file in every way: `load` gives one sentence, or takes it."""
    whole, refused = read_json(path), 0
    try:
        for place in fields(whole):
            damaged = [changed(whole, place, new) for new in WRONG]
            for value in damaged + ([changed(whole, place, delete=True)] if place else []):
                write_json(path, value)
                try:
                    load()
                except (ValueError, OSError) as error:
                    refused += 1
                    assert str(error)
                    assert "\n" not in str(error) or "typechecking" in str(error)  # jaxtyping's, only under pytest
    finally:
        write_json(path, whole)
    load()
    assert refused > 10


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    make_pipe().save_pretrained(root / "pipeline")
    make_denoiser().save(root / "denoiser")
    Tokenizer(TokenizerConfig(8, 7, 4, 4, 1)).save(root / "tokenizer")
    Judge("resnet10t", 32, ["a", "b"], ["c"]).save(root / "judge")
    unet().save(root / "unet")
    clip = build_sticker_clip("resnet10t", 32)
    clip.text.proj = TextMap(384, TEXT_MAP_WIDTH, EMBEDDING_DIM)
    Encoder(clip, StickerPreprocess(32), sticker_tokenizer(), "sticker/resnet10t").save(root / "encoder")
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    save_sheet(root / "sheet", pictures, ["a red one", "a blue one"])
    write_json(root / "drawn" / "samples.json", [{"prompt": "red", "picture": "0.png"}])
    with atomic_file(root / "drawn" / "pictures" / "0.png") as temporary:
        pictures[0].save(temporary)
    return root


@pytest.mark.parametrize("file, load", [
    ("pipeline/pipeline.json", lambda root: Pipeline.from_pretrained(root / "pipeline")),
    ("pipeline/index/manifest.json", lambda root: open_index(root / "pipeline" / "index")),
    ("pipeline/index/ids.json", lambda root: open_index(root / "pipeline" / "index")),
    ("denoiser/config.json", lambda root: ConditionedDenoiser.load(root / "denoiser")),
    ("tokenizer/config.json", lambda root: Tokenizer.load(root / "tokenizer")),
    ("judge/config.json", lambda root: Judge.load(root / "judge")),
    ("unet/config.json", lambda root: ConditionedUnet.load(root / "unet")),
    ("encoder/config.json", lambda root: Encoder.load(root / "encoder")),
    ("sheet/pictures.json", lambda root: pictures_by_prompt(root / "sheet")),
    ("drawn/samples.json", lambda root: pictures_by_prompt(root / "drawn"))])
def test_whatever_is_wrong_is_one_sentence(saved, monkeypatch, file, load):
    parts_are_colours(monkeypatch) if file.startswith("pipeline") else None
    assert_each_damage_is_one_sentence(saved / file, lambda: load(saved))
