"""kdlib.retrieval.own_pictures: what comes out, what is left out, and that a killed run goes on to the same bytes."""

import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdlib.data.credits import read_credits
from kdlib.data.folder import Skipped, read_picture
from kdlib.retrieval import build_index, open_index, own_pictures
from kdlib.retrieval.own_pictures import embed_folder, look_ahead, own_workspace, save_report
from tests import processes

COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta", "black", "white", "orange", "purple", "brown"]


class MeanEncoder:
    """Mean colours as unit vectors; says which pictures it was shown."""

    identity = "means"

    def __init__(self, fails_after=None):
        self.batches, self.fails_after = [], fails_after

    def encode_images(self, images):
        if len(self.batches) == self.fails_after:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        rows = np.array([[*np.asarray(image).mean((0, 1)), 9] for image in images], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def paint(folder, colours=COLOURS):
    """A PNG for each colour, in two folders, in the order of their names."""
    for number, colour in enumerate(colours):
        path = folder / ("a" if number < 5 else "b") / f"{number:02}-{colour}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (13 + number, 7), colour).save(path)
    return folder


def read_here(paths):
    """`read_pictures` without its process."""
    pictures = []
    for path in paths:
        try:
            pictures.append(read_picture(path))
        except (ValueError, OSError) as error:
            pictures.append(str(error))
    return pictures


@pytest.fixture
def reads_here(monkeypatch):
    monkeypatch.setattr(own_pictures, "read_pictures", read_here)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_vectors_ids_and_catalogue_belong_together(tmp_path):
    encoder, skipped = MeanEncoder(), []
    embeddings, catalogue = embed_folder(paint(tmp_path / "mine"), encoder, batch_size=3, skipped=skipped)
    assert encoder.batches == [3, 3, 3, 2] and not skipped and embeddings.encoder_id == "means"
    expected = MeanEncoder().encode_images([Image.new("RGB", (5, 5), colour) for colour in COLOURS])
    assert embeddings.vectors.dtype == np.float32 and np.abs(embeddings.vectors - expected).max() < 1e-6
    names = [f"{number:02}-{colour}.png" for number, colour in enumerate(COLOURS)]
    assert embeddings.ids.tolist() == [f"a/{name}" for name in names[:5]] + [f"b/{name}" for name in names[5:]]
    assert catalogue.table["id"].to_pylist() == embeddings.ids.tolist()
    assert catalogue.describe("b/07-white.png") == ("07-white", "unknown", "unknown", "unknown")
    for id, colour in zip(embeddings.ids, COLOURS, strict=True):
        middle = np.array(catalogue.picture(id, 8).getpixel((4, 4)), int)
        assert np.abs(middle - Image.new("RGB", (1, 1), colour).getpixel((0, 0))).max() < 9


def test_duplicates_are_left_out_whatever_their_format(tmp_path):
    image = Image.effect_noise((31, 17), 90).convert("RGB")
    for name in ("b.png", "c.png", "d.webp", "e.gif.png"):
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "a.svg").write_text("no drawing")
    (tmp_path / "e.txt").write_text("a note")
    (tmp_path / ".hidden").write_text("passed by")
    (tmp_path / "credits.csv").write_text("path\n")
    (tmp_path / "way").symlink_to(tmp_path)
    image.rotate(180).save(tmp_path / "f.png")
    see_through = image.convert("RGBA")
    see_through.putpixel((0, 0), (1, 2, 3, 254))
    see_through.save(tmp_path / "g.png")
    skipped = []
    embeddings, catalogue = embed_folder(tmp_path, MeanEncoder(), batch_size=2, skipped=skipped)
    assert embeddings.ids.tolist() == catalogue.table["id"].to_pylist() == ["b.png", "f.png", "g.png"]
    assert [entry.path for entry in skipped] == ["a.svg", "c.png", "d.webp", "e.gif.png", "e.txt", "way"]
    assert {entry.reason for entry in skipped[1:4]} == {"the same picture as b.png"}
    assert skipped[4].reason.startswith("no picture of a kind that is read: png, jpeg,")
    assert skipped[5].reason == "a folder that is not read: a link to a folder; it is not followed"


def test_a_run_that_was_broken_off_goes_on_to_the_same_bytes(tmp_path, reads_here):
    paint(tmp_path / "mine")
    (tmp_path / "mine" / "a" / "00.gif").write_text("nothing")
    build_index(tmp_path / "mine", MeanEncoder(), batch_size=2).save(tmp_path / "whole")
    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "mine", MeanEncoder(fails_after=2), batch_size=2, workspace=work)
    assert len(list(work.iterdir())) == 2
    next(work.iterdir()).write_bytes(b"PAR1 and then the power failed")
    again = MeanEncoder()
    build_index(tmp_path / "mine", again, batch_size=2, workspace=work).save(tmp_path / "resumed")
    assert len(again.batches) == 5
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    third = MeanEncoder()
    build_index(tmp_path / "mine", third, batch_size=2, workspace=work).save(tmp_path / "third")
    assert third.batches == [] and contents(tmp_path / "third") == contents(tmp_path / "whole")


def test_what_changed_is_embedded_anew(tmp_path, reads_here):
    mine, work = paint(tmp_path / "mine", COLOURS[:7]), tmp_path / "work"
    embed_folder(mine, MeanEncoder(), 3, workspace=work)
    Image.new("RGB", (17, 7), "navy").save(mine / "a" / "04-cyan.png")
    encoder = MeanEncoder()
    embeddings, _ = embed_folder(mine, encoder, 3, workspace=work)
    assert encoder.batches == [3]
    fresh, _ = embed_folder(mine, MeanEncoder(), 3)
    assert (embeddings.vectors == fresh.vectors).all()
    encoder = MeanEncoder()
    encoder.identity = "other"
    embed_folder(mine, encoder, 3, workspace=work)
    assert encoder.batches == [3, 3, 1]
    (mine / "a" / "00-red.png").unlink()
    assert len(embed_folder(mine, MeanEncoder(), 3, workspace=work)[0]) == 6


class SlowEncoder(MeanEncoder):
    def encode_images(self, images):
        time.sleep(0.2)
        return super().encode_images(images)


def embed_slowly(folder, work):
    own_pictures.read_pictures = read_here
    embed_folder(folder, SlowEncoder(), 4, workspace=work)


def test_kill_9_in_the_middle(tmp_path, reads_here):
    paint(tmp_path / "mine", [f"#{n:02x}8040" for n in range(24)])
    build_index(tmp_path / "mine", MeanEncoder(), batch_size=4).save(tmp_path / "whole")
    work = tmp_path / "work"
    process = processes.start(embed_slowly, tmp_path / "mine", work)
    while process.is_alive() and len(list(work.glob("*.parquet"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    encoder = MeanEncoder()
    build_index(tmp_path / "mine", encoder, batch_size=4, workspace=work).save(tmp_path / "resumed")
    assert 0 < len(encoder.batches) <= 4 and contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_credits_say_whose_pictures_they_are(tmp_path, caplog):
    mine = paint(tmp_path / "mine", COLOURS[:2])
    (mine / "credits.csv").write_text('\ufefflicence,id,author\nCC0-1.0,a/01-lime.png,"Li, Me"\n,a/00-red.png,\n'
                                      "MIT,x.png,X\n")
    build_index(mine, MeanEncoder()).save(tmp_path / "my.index")
    catalogue = open_index(tmp_path / "my.index").catalogue
    assert catalogue.describe("a/01-lime.png") == ("01-lime", "unknown", "Li, Me", "CC0-1.0")
    assert catalogue.describe("a/00-red.png") == ("00-red", "unknown", "unknown", "unknown")
    assert "credits.csv names 1 pictures that the index lacks; the first: x.png" in caplog.text


ROWS = [("path", "title", "author", "license"), ("./a/00-red.png", "Rot", "M\xfcller, A.", "CC0-1.0"),
        ("a\\01-lime.png", "Lime; green", "", "MIT")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be with mark"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_credits_as_spreadsheets_write_them(tmp_path, encoding, separator, end):
    lines = [separator.join(f'"{cell}"' if set(cell) & set(",;") else cell for cell in row) for row in ROWS]
    text = end.join([*(line + 2 * separator for line in lines), 5 * separator, ""])
    content = text.encode(encoding) if "mark" not in encoding else ("\ufeff" + text).encode("utf-16-be")
    (tmp_path / "credits.csv").write_bytes(content)
    assert read_credits(tmp_path) == {
        "a/00-red.png": {"title": "Rot", "author": "M\xfcller, A.", "licence": "CC0-1.0"},
        "a/01-lime.png": {"title": "Lime; green", "author": "", "licence": "MIT"}}


def test_a_file_whose_name_has_a_backslash_keeps_its_credit(tmp_path):
    for name, colour in (("a\\b.png", "red"), ("a/b.png", "blue")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 5), colour).save(tmp_path / name)
    (tmp_path / "credits.csv").write_text("Path,Title\na\\b.png,red\na/b.png,blue\n")
    assert read_credits(tmp_path) == {"a\\b.png": {"title": "red"}, "a/b.png": {"title": "blue"}}


@pytest.mark.parametrize("bytes_per_vector, message", [
    (8, "bytes_per_vector = 8 has no effect: compression is for more than 9,984 pictures, and these are 2; all stay"),
    (None, "")])
def test_a_budget_without_effect_is_told(tmp_path, caplog, bytes_per_vector, message):
    build_index(paint(tmp_path, COLOURS[:2]), MeanEncoder(), bytes_per_vector)
    assert (message in caplog.text) if message else not caplog.text


@pytest.mark.parametrize("text, message", [
    ("", "No columns to parse"),
    ("path,Copyright\na,b\n", "its column 'copyright' is none of path .or id., title, author, licence .or license."),
    ("path,license,licence\na,b,c\n", "it has two columns licence"),
    ("path,\na.png,b\n", "its column 'unnamed: 1' is none of"),
    ("title,author\na,b\n", "it needs one column path"),
    ("path,title\na.png,Tom, the cat\n", "more cells than columns"),
    ("path,title\na.png,Tom\nb.png,Tom, the cat\n", "Expected 2 fields in line 3, saw 3"),
    ("path,title\na.png,x\na.png,y\n", "it names a.png twice"),
    ("path,title\na/b.png,x\n.\\\\a\\\\b.png,y\n".replace("\\\\", "\\"), "it names a/b.png twice"),
    ("path,id\na.png,a.png\n", "it needs one column path"),
    (b"path,title\na.png,\xff\xfe\n", "can't decode byte 0xff .*; save it as UTF-8 .Excel: .CSV UTF-8"),
    ("path,title\na.png,M\xfcller\n".encode("cp1252"), "can't decode byte 0xfc .*; save it as UTF-8"),
    ("path\n\"a.png\n", "EOF inside string"),
])
def test_a_faulty_credits_file_is_refused_before_any_work(tmp_path, text, message):
    paint(tmp_path, COLOURS[:1])
    (tmp_path / "credits.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    encoder = MeanEncoder()
    with pytest.raises(ValueError, match=f"(?s)credits.csv is no table of credits: .*{message}"):
        embed_folder(tmp_path, encoder)
    assert not encoder.batches


def test_folders_without_pictures_and_other_refusals(tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no readable picture \(png, jpeg, .*\); 0 files skipped$"):
        embed_folder(tmp_path / "empty", MeanEncoder())
    (tmp_path / "empty" / "a.gif").write_text("nothing")
    with pytest.raises(ValueError, match="1 files skipped; the first: a.gif .no picture of a kind that is read"):
        embed_folder(tmp_path / "empty", MeanEncoder())
    with pytest.raises(NotADirectoryError, match="absent is no folder of pictures"):
        embed_folder(tmp_path / "absent", MeanEncoder())
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size = {size} must be at least 1"):
            embed_folder(tmp_path / "empty", MeanEncoder(), batch_size=size)


def test_names_that_are_no_text(tmp_path, caplog):
    paint(tmp_path / "mine", COLOURS[:2])
    Image.new("RGB", (3, 5), "green").save(tmp_path / "green.png")
    (tmp_path / "green.png").rename(tmp_path / "mine" / os.fsdecode(b"caf\xe9.png"))
    Image.new("RGB", (5, 3), "navy").save(tmp_path / "mine" / "a line\nand \x1b[31m\"quotes\".png")
    embeddings, _ = embed_folder(tmp_path / "mine", MeanEncoder())
    assert embeddings.ids.tolist() == ["a/00-red.png", "a/01-lime.png", "a line\nand \x1b[31m\"quotes\".png"]
    assert "1 files skipped; the first: caf?.png (its name is not UTF-8; rename it)" in caplog.text


def test_the_report_is_a_table(tmp_path):
    for skipped in ([], [Skipped("a,b\n.png", 'a "reason"'), Skipped("ö.svg", "another")]):
        save_report(tmp_path / "r.csv", skipped)
        table = pd.read_csv(tmp_path / "r.csv")
        assert list(table.columns) == ["path", "reason"] and list(table.itertuples(index=False, name=None)) == skipped


@pytest.mark.parametrize("num_items", [0, 1, 2, 3, 7])
def test_looking_ahead_is_map_and_bounded(num_items):
    taken = []
    results = look_ahead(lambda item: -item, (taken.append(n) or n for n in range(num_items)), 2)
    for count, result in enumerate(results):
        assert result == -count and len(taken) <= count + 3
    assert taken == list(range(num_items))


def test_a_folder_that_only_looks_like_a_half_written_batch_is_refused(tmp_path):
    batch = f".{'0' * 64}.parquet.abcdefgh.partial"
    (tmp_path / "work" / batch).mkdir(parents=True)
    (tmp_path / "work" / batch / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="work is to be kept in it; move"), own_workspace(tmp_path / "work"):
        pass
    assert (tmp_path / "work" / batch / "mine.txt").read_text() == "mine"
