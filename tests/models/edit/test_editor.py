"""kdlib.models.edit.editor: how pictures are read, what the model is told, what stays of a picture; pipe.edit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.data.pixels import to_pil
from kdlib.models.edit.denoiser import EditDenoiser
from kdlib.models.edit.editor import AGREE, Editor, with_detail
from kdlib.models.edit.sampler import EditSettings, sample_edits
from kdlib.pipeline import load_pipeline
from kdlib.retrieval import Index
from kdlib.types import Embeddings
from tests.test_pipeline import (
    ColourEncoder,
    ColourTokenizer,
    make_denoiser,
    make_pipe,
    make_root,
    parts_are_colours,
    sticker_embeddings,
)

SIZE = 12


class GreyTokenizer(ColourTokenizer):
    """A code is the grey level of a 4 x 4 square."""

    def encode(self, images):
        grey = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4).flatten(1)
        return ((grey + 1) / 2 * 6).round().long()


def make_editor():
    editor = EditDenoiser(make_denoiser())
    torch.nn.init.normal_(editor.denoiser.transformer.codes.source.weight)
    return Editor(ColourEncoder(), GreyTokenizer(), editor)


def square(size=(SIZE, SIZE), colour=(200, 30, 30)):
    picture = Image.new("RGB", size, "white")
    picture.paste(colour, (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    return picture


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A compendium whose preset `quick` has an editor."""
    make_root(tmp_path)
    parts_are_colours(monkeypatch)
    monkeypatch.setattr("kdlib.models.discrete.tokenizer.Tokenizer.load", lambda folder: GreyTokenizer())
    make_editor().denoiser.save(tmp_path / "reports" / "quick" / "edits" / "model")
    return tmp_path


# --- reading -------------------------------------------------------------------------------------------------------

def test_a_picture_of_the_models_size_is_read_as_it_is():
    seen, notes = make_editor().read(square())
    assert (np.asarray(seen) == np.asarray(square())).all() and notes == []


def test_larger_ones_are_made_small_on_white_and_that_is_said():
    seen, notes = make_editor().read(square((60, 30)))
    assert seen.size == (SIZE, SIZE) and seen.mode == "RGB" and seen.getpixel((0, 0)) == (255, 255, 255)
    assert notes == ["60 x 30 px are answered at 12 x 12, the model's size"]


def test_transparent_ground_becomes_white_and_cmyk_is_read():
    clear = square().convert("RGBA")
    clear.putalpha(Image.fromarray((np.asarray(square()) < 250).any(-1).astype(np.uint8) * 255))
    seen, notes = make_editor().read(clear)
    assert (np.asarray(seen) == np.asarray(square())).all() and notes == ["what is transparent becomes white"]
    seen, notes = make_editor().read(square().convert("CMYK"))
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(square())).max() < 3 and notes == []


def test_of_an_animation_the_first_frame_is_read_and_that_is_said(tmp_path):
    frames = [square(colour=colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    for image in (Image.open(tmp_path / "a.gif"), tmp_path / "a.gif"):
        seen, notes = make_editor().read(image)
        assert (np.asarray(seen) == np.asarray(frames[0])).all()
        assert notes[0] == "of 3 frames, the first is changed"


def test_a_files_notes_are_told_by_a_fresh_process_too(tmp_path):
    square((60, 30)).convert("RGBA").save(tmp_path / "a.png")
    program = "import sys; from kdlib.models.edit.editor import notes_of; print(notes_of(sys.argv[1], 12))"
    told = subprocess.run([sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, text=True)
    assert "what is transparent becomes white" in told.stdout and "60 x 30 px" in told.stdout, told.stderr


@pytest.mark.parametrize("image, message", [
    (Image.new("RGB", (1, 1)), "the picture is 1 x 1 px; give one of at least 8 x 8"),
    (Image.new("RGB", (400, 7)), "400 x 7 px"),
    (Image.new("RGB", (30, 30), "white"), "nothing but white"),
    (Image.new("RGBA", (30, 30), (9, 9, 9, 0)), "nothing but white")])
def test_pictures_that_show_nothing_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        make_editor().read(image)


def test_files_that_are_no_pictures_are_refused(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    for name, message in [("a.png", "a.png can't be read: no picture"), ("b.png", "b.png can't be read: No such file")]:
        with pytest.raises(ValueError, match=message):
            make_editor().read(tmp_path / name)


# --- what is told --------------------------------------------------------------------------------------------------

def test_the_query_is_the_text_less_a_share_of_the_picture():
    editor, encoder = make_editor(), ColourEncoder()
    text, picture = encoder.encode_texts(["a blue thing"]), encoder.encode_images([square()])
    told = lambda **settings: editor.condition([square()], ["a blue thing"], None, EditSettings(**settings))[0]
    np.testing.assert_array_equal(told().query, text)
    wanted = text - 0.5 * picture
    np.testing.assert_allclose(told(minus=0.5).query, wanted / np.linalg.norm(wanted), rtol=1e-6)
    assert told().neighbours.shape == (1, 3, 5) and not told().neighbours.any()


def test_neighbours_are_the_texts():
    index = Index(sticker_embeddings())
    condition, near = make_editor().condition([square()], ["blue"], index, EditSettings(k=2, minus=1.0))
    found = index.search(ColourEncoder().encode_texts(["blue"]), 2)
    assert near.ids.tolist() == found.ids.tolist()
    np.testing.assert_array_equal(condition.neighbours, found.vectors)


def test_texts_and_indexes_that_dont_fit_are_refused():
    editor, embeddings = make_editor(), sticker_embeddings()
    foreign = Index(Embeddings(embeddings.vectors, embeddings.ids, "another"))
    for text, index, message in [("  ", None, "say in words"), ("blue", foreign, "built by encoder another"),
                                 ("blue", None, "k = 2 neighbours need an index")]:
        with pytest.raises(ValueError, match=message):
            editor.condition([square()], [text], index, EditSettings(k=2))
    with pytest.raises(ValueError, match="trained with encoder colours, but this is encoder another"):
        Editor(ColourEncoder("another"), GreyTokenizer(), EditDenoiser(make_denoiser()))
    with pytest.raises(ValueError, match="trained with tokenizer others, but this is tokenizer greys"):
        Editor(ColourEncoder(), GreyTokenizer(), EditDenoiser(make_denoiser(tokenizer_id="others")))


# --- drawing -------------------------------------------------------------------------------------------------------

def test_detail_stays_where_the_codes_say_the_same_and_goes_where_they_differ():
    given, rebuilt = torch.full((1, 3, 2, 2), 0.3), torch.full((1, 3, 2, 2), 0.2)
    drawn = rebuilt.clone()
    drawn[0, 0, 0, 0] = 0.9               # quite another colour, in one channel
    drawn[0, :, 1, 1] = 0.2 + AGREE / 2   # half way
    found = with_detail(drawn, rebuilt, given)
    torch.testing.assert_close(found[0, :, 0, 1], torch.full((3,), 0.3))
    torch.testing.assert_close(found[0, :, 0, 0], drawn[0, :, 0, 0])
    torch.testing.assert_close(found[0, :, 1, 1], torch.full((3,), 0.2 + AGREE / 2 + 0.05))


def test_a_drawing_is_the_samplers_and_repeats_itself():
    editor, settings = make_editor(), EditSettings(strength=0.5, num_steps=4)
    condition = editor.condition([square()] * 2, ["blue", "red"], None, settings)[0]
    drawn = editor.draw([square()] * 2, condition, settings, seed=3)
    pixels = torch.from_numpy(np.stack([np.asarray(square())] * 2)).permute(0, 3, 1, 2) / 127.5 - 1
    codes = editor.tokenizer.encode(pixels)
    found = sample_edits(editor.denoiser, condition, codes, settings, torch.Generator().manual_seed(3))
    wanted = to_pil(with_detail(editor.tokenizer.decode(found), editor.tokenizer.decode(codes), pixels))
    again = editor.draw([square()] * 2, condition, settings, seed=3)
    other = editor.draw([square()] * 2, condition, settings, seed=4)
    same = lambda first, second: all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(first, second, strict=True))
    assert same(drawn, wanted) and same(drawn, again) and not same(drawn, other)


def test_an_edit_tells_what_it_was_made_from(root):
    pipe = load_pipeline("quick", root)
    out = pipe.edit(square((30, 30)), "a blue thing", seed=5, k=2, strength=0.5, num_steps=4)
    assert out.image.size == out.source.size == (SIZE, SIZE) and out.text == "a blue thing"
    assert [one.id for one in out.neighbours] == ["b:blue", "b:pink"] and out.neighbours[0].licence == "MIT"
    assert out.settings == EditSettings(k=2, strength=0.5, num_steps=4) and out.seed == 5
    assert out.notes == ["30 x 30 px are answered at 12 x 12, the model's size"]
    again = pipe.edit(square((30, 30)), "a blue thing", seed=5, k=2, strength=0.5, num_steps=4)
    assert (np.asarray(again.image) == np.asarray(out.image)).all()
    assert pipe.edit(square(), "blue").neighbours == []


def test_bad_requests_are_clear_errors(root):
    pipe = load_pipeline("quick", root)
    embeddings = sticker_embeddings()
    foreign = Index(Embeddings(embeddings.vectors, embeddings.ids, "another"))
    for arguments, message in [(dict(text=""), "say in words"), (dict(text="blue", strength=2.0), "strength = 2.0"),
                               (dict(text="blue", k=9), "k = 9 is more than the index can give"),
                               (dict(text="blue", num_steps=99), "num_steps = 99 must lie in 1 .. 20"),
                               (dict(text="blue", seed=-1), "seed = -1"),
                               (dict(text="blue", index=foreign, k=1), "built by encoder another"),
                               (dict(text="blue", index=foreign), "built by encoder another"),
                               (dict(text="blue", index=pipe.index), "k = 0 neighbours are asked for")]:
        with pytest.raises(ValueError, match=message):
            pipe.edit(square(), **arguments)


def test_a_saved_pipeline_keeps_its_editor(root, tmp_path):
    pipe = load_pipeline("quick", root)
    pipe.save_pretrained(tmp_path / "saved")
    pipe.save_pretrained(tmp_path / "saved")  # what we wrote, we may replace
    saved = load_pipeline(tmp_path / "saved")
    first, second = (one.edit(square(), "blue", seed=1).image for one in (pipe, saved))
    assert (np.asarray(first) == np.asarray(second)).all()


def test_without_an_editor_it_is_said_how_to_get_one():
    with pytest.raises(FileNotFoundError, match="has no editor; train one with `dvc repro edits@PRESET`"):
        make_pipe().edit(square(), "blue")
