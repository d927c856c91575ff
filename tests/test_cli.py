"""kdlib.cli: what it writes and says, and how it fails."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kdlib import pipeline
from kdlib.data.catalogue import folder_catalogue, thumbnail
from kdlib.encoder import Encoder
from kdlib.encoder.text_tower import Unread
from kdlib.retrieval import Index, openverse
from kdlib.retrieval.own_pictures import own_workspace
from tests.retrieval.test_engines import Colours, table
from tests.test_pipeline import ColourEncoder, make_root, parts_are_colours


def test_generate_writes_a_picture_and_says_what_it_was_made_from(kd, tmp_path):
    result = kd("generate", "a red apple", "--out", "deep/a.png")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "deep" / "a.png").size == (12, 12)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]
    lines = result.stdout.splitlines()
    assert lines[0] == '"a red apple" was made from these 2 pictures:'
    assert lines[2].split() == ["score", "title", "style", "author", "licence"]
    assert lines[3].split() == ["1.000", "red", "apple", "a", "author", "of", "a", "MIT"]
    assert lines[-1] == "written: deep/a.png (preset quick, seed 0)"


def test_generate_is_the_pipelines_call(kd, tmp_path):
    kd("generate", "red", "--out", "a.png", "--num-images", 2, "--k", 3, "--guidance-scale", 3, "--num-steps", 7,
       "--seed", 5)
    out = pipeline.load_pipeline("quick")("red", k=3, num_images=2, guidance_scale=3.0, num_steps=7, seed=5)
    for n in range(2):
        assert (np.asarray(Image.open(tmp_path / f"a-{n + 1}.png")) == np.asarray(out.images[n])).all()
    assert not (tmp_path / "a.png").exists()


def test_generate_keeps_the_best_of_its_candidates(kd, tmp_path):
    kd("generate", "dark", "--out", "a.png", "--num-candidates", 3, "--k", 3)
    out = pipeline.load_pipeline("quick")("dark", k=3, num_candidates=3)
    drawn, first = np.asarray(Image.open(tmp_path / "a.png")), pipeline.load_pipeline("quick")("dark", k=3).images[0]
    assert (drawn == np.asarray(out.images[0])).all() and (drawn != np.asarray(first)).any()
    assert kd("generate", "dark", "--out", "b.png", "--num-candidates", 0).exit_code == 2


def test_search_lists_whose_pictures_they_are(kd):
    lines = kd("search", "something green", "-n", 3).stdout.splitlines()
    assert len(lines) == 4 and lines[1].split()[1:3] == ["frog", "a"]


def test_an_own_index_is_made_searched_and_drawn_from(kd, tmp_path):
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "mine" / "rose.png")
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "mine" / "night.jpg")
    (tmp_path / "mine" / "broken.gif").write_text("nothing")
    for _ in range(2):
        result = kd("index", "mine", "--out", "my.index")
        assert result.exit_code == 0, result.output
    assert result.stdout == "my.index: 2 pictures, 1 files skipped (listed in my.index.skipped.csv)\n"
    assert "skipped broken.gif: no picture of a kind that is read" in result.stderr
    assert (tmp_path / "my.index.skipped.csv").read_text().startswith("path,reason\nbroken.gif,\"no picture of a kind")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert kd("search", "blue", "-n", 1, "--index", "my.index").stdout.splitlines()[1].split()[1] == "night"
    result = kd("generate", "red", "--out", "a.png", "--index", "my.index", "--preset", "quick")
    assert "rose" in result.stdout and (tmp_path / "a.png").is_file()


def test_a_search_engine_serves_as_database(kd, tmp_path):
    table().to_parquet(tmp_path / "data" / "stickers.parquet")
    result = kd("generate", "a green apple", "--out", "a.png", "--engine", "stickers")
    assert result.exit_code == 0, result.output
    assert '"a green apple" was made from these 1 pictures:' in result.stdout  # the preset's k is 2; it found 1
    assert result.stdout.splitlines()[3].split() == ["1.000", "green", "apple", "a", "author", "of", "a", "MIT"]
    assert "kd: --k = 3 is more than the index can give: it has 1 pictures" in kd(
        "generate", "a green apple", "--out", "b.png", "--engine", "stickers", "--k", 3).stderr
    assert "kd: StickerEngine found no picture for 'xylophone'" in kd(
        "generate", "xylophone", "--out", "b.png", "--engine", "stickers").stderr
    assert not (tmp_path / "b.png").exists()


def test_of_what_an_engine_finds_a_licence_may_leave_fewer_than_k(kd, tmp_path):
    """Three red apples are found, one of them under this licence; the preset's k is 2."""
    stickers = table()
    stickers.loc[stickers["id"] != "b:apple", "licence"] = "CC0-1.0"
    stickers.to_parquet(tmp_path / "data" / "stickers.parquet")
    found = ["generate", "a red apple", "--out", "a.png", "--engine", "stickers", "--licence"]
    result = kd(*found, "MIT")
    assert result.exit_code == 0 and '"a red apple" was made from these 1 pictures:' in result.stdout
    assert "author of b" in result.stdout
    assert '"a red apple" was made from these 2 pictures:' in kd(*found, "CC0-1.0").stdout
    assert "--k = 2 is more than the index can give: it has 1 pictures" in kd(*found, "MIT", "--k", 2).stderr


def test_the_engine_on_the_network_only_when_asked_for(kd, tmp_path, monkeypatch):
    monkeypatch.setattr(openverse, "OpenverseEngine", lambda: Colours("red", "lime", "blue"))
    result = kd("generate", "red", "--out", "a.png", "--engine", "openverse", "--k", 3)
    assert result.exit_code == 0 and "https://pictures.example/0" in result.stdout and "CC0-1.0" in result.stdout
    monkeypatch.setattr(openverse, "OpenverseEngine", None)
    assert kd("generate", "red", "--out", "a.png").exit_code == 0


def test_an_interrupted_index_goes_on_and_names_are_harmless_to_a_terminal(kd, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    for number in range(7):
        (mine / f"{number}\x1b[31m\n.gif").write_text("nothing")
    Image.new("RGB", (9, 9), "red").save(mine / "rose.png")
    with monkeypatch.context() as broken:
        broken.setattr(Index, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        result = kd("index", "mine", "--out", "deep/my.index")
    assert result.exit_code == 2 and "No space left" in result.stderr
    assert [path.suffix for path in (tmp_path / "deep" / ".my.index.unfinished").iterdir()] == [".parquet"]
    monkeypatch.setattr(ColourEncoder, "encode_images", None)  # there is nothing left to encode
    result = kd("index", "mine", "--out", "deep/my.index")
    assert result.exit_code == 0 and "\x1b" not in result.stderr
    assert result.stderr.count("skipped ") == 5 and "7 files skipped" in result.stdout
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["my.index", "my.index.skipped.csv"]


def test_a_saved_pipeline_serves_as_preset(kd, tmp_path):
    pipeline.load_pipeline("quick").save_pretrained(tmp_path / "saved")
    for command in (["generate", "red", "--out", "a.png"], ["search", "red", "-n", 1]):
        result = kd(*command, "--preset", "saved")
        assert result.exit_code == 0 and "red apple" in result.stdout


@pytest.mark.parametrize("words, message", [
    (["generate", "", "--out", "a.png"], "the prompt is ''; say in words"),
    (["generate", " ", "--out", "a.png"], "the prompt is ' '; say in words"),
    (["generate", "\u200b\x07", "--out", "a.png"], r"the prompt is '\\u200b\\x07'; say in words"),
    (["search", "\u2060"], r"the prompt is '\\u2060'; say in words"),
    (["generate", "red", "--out", "a.exe"], "--out a.exe must end in .png"),
    (["generate", "red", "--out", "data.png"], "--out data.png is a folder"),
    (["generate", "red", "--out", "a.png", "--preset", "best"], "no preset 'best'; choose one of quick, cpu"),
    (["search", "red", "--preset", ""], "no preset ''; choose one of quick, cpu"),
    (["generate", "red", "--out", "a.png", "--backbone", ""], "no backbone ''; choose one of discrete, continuous"),
    (["index", "empty", "--out", "caf\udce9"], "--out 'caf.udce9' is no name .* it is not UTF-8"),
    (["generate", "red", "--out", "a.png", "--preset", "data"], "no preset 'data'; .* nor is it a folder"),
    (["generate", "red", "--out", "a.png", "--preset", "cpu"], "make reproduce PRESET=cpu"),
    (["generate", "red", "--out", "a.png", "--k", "0"], "--k = 0 must be a whole number of at least 1"),
    (["generate", "red", "--out", "a.png", "--k", "9"], "k = 9 is more than the index can give: it has 4 pictures"),
    (["generate", "red", "--out", "a.png", "--num-images", "0"], "--num-images = 0 must be"),
    (["generate", "red", "--out", "a.png", "--num-steps", "99"], "--num-steps is 99; it must lie in 1 .. 20"),
    (["generate", "red", "--out", "a.png", "--index", "data"], "data is no index: it has no manifest.json"),
    (["generate", "red", "--out", "a.png", "--engine", "bing"], "--engine bing is not known; choose stickers"),
    (["generate", "red", "--out", "a.png", "--engine", "stickers", "--index", "x"], "--engine and --index both say"),
    (["search", ""], "the prompt is ''; say in words"),
    (["search", "red", "-n", "0"], "--num = 0 must be"),
    (["search", "red", "--index", "absent"], "absent is no index: it has no manifest.json"),
    (["generate", "red", "--out", "a.png", "--guidance-scale", "1e38"], "--guidance-scale = 1e.38 must be a finite"),
    (["generate", "red", "--out", "a.png", "--guidance-scale", "nan"], "--guidance-scale = nan must be a finite"),
    (["generate", "red", "--out", "a.png", "--seed", str(2 ** 64)], f"--seed = {2 ** 64} must be a whole number of at"),
    (["generate", "red", "--out", "a.png", "--num-images", "1000001"], "--num-images = 1000001 .* at most 1000"),
    (["generate", "red", "--out", "a.png", "--num-steps", "-1"], "--num-steps = -1 must be a whole number of at least"),
    (["generate", "caf\udce9", "--out", "a.png"], "the prompt 'caf.*' is not valid Unicode"),
    (["search", "red", "-n", "9"], "--num = 9 is more than the index can give: it has 4 pictures; choose --num <= 4"),
    (["index", "empty", "--out", "my.index", "--bytes-per-vector", "0"], "--bytes-per-vector = 0 must be at least 1"),
    (["index", "absent", "--out", "my.index"], "absent is no folder of pictures"),
    (["index", "empty", "--out", "my.index"], "empty holds no readable picture"),
    (["index", "empty", "--out", "data"], "data exists and is no index"),
    (["index", "a.txt", "--out", "my.index"], "a.txt is no folder of pictures"),
    (["index", "empty", "--out", "a.txt"], "a.txt exists and is no index"),
    (["index", "empty", "--out", "a.txt/my.index"], "--out a.txt/my.index can't be written: .*a.txt is no folder"),
    (["index", "faulty", "--out", "my.index"], "faulty/credits.csv is no table of credits: its column 'x' is none of"),
])
def test_errors_are_one_line_on_stderr_and_status_2(kd, tmp_path, words, message):
    for name in ("empty", "data.png"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "credits.csv").write_text("x\n")
    result = kd(*words)
    errors = [line for line in result.stderr.splitlines() if line.startswith("kd: ")]
    assert result.exit_code == 2 and len(errors) == 1 and re.search(message, errors[0])
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert not (tmp_path / "a.png").exists() and not (tmp_path / "my.index").exists()


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else path.is_symlink() for path in folder.rglob("*")}


@pytest.mark.parametrize("words, message", [
    (["index", "mine", "--out", "site"], "--out site exists and is no index; choose another name"),
    (["index", "icons", "--out", "icons"], "--out icons is, contains or lies in the pictures' folder icons"),
    (["index", "icons", "--out", "icons/my.index"], "--out icons/my.index is, contains or lies in"),
    (["index", "up/mine", "--out", "up"], "--out up is, contains or lies in the pictures' folder up/mine"),
    (["index", "mine", "--out", "link"], "--out link is, contains or lies in"),
    (["index", "mine", "--out", "my.index"], "--out my.index holds notes.txt, which is no part of its index; move it"),
    (["index", "mine", "--out", "nowhere"], "--out nowhere is a symbolic link"),
    (["index", "mine", "--out", "new"], "--out new.skipped.csv is no list of skipped files"),
    (["index", "mine", "--out", "fresh"], "--out .fresh.unfinished holds notes.txt, and work is to be kept in it"),
    (["generate", "red", "--out", "g.png", "--num-images", "2"], "--out g-1.png is a folder"),
    (["generate", "red", "--out", "nowhere.png"], "--out nowhere.png is a symbolic link"),
])
def test_what_is_a_users_is_never_replaced(kd, tmp_path, monkeypatch, words, message):
    for folder in ("mine", "icons", "up/mine"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (9, 9), "red").save(tmp_path / folder / "rose.png")
    assert kd("index", "mine", "--out", "my.index").exit_code == 0
    for path, text in {"site/manifest.json": "{}", "site/index.html": "x", "icons/manifest.json": "{}",
                       "up/manifest.json": "{}", "my.index/notes.txt": "x", "new.skipped.csv": "x", "g-1.png/d": "x",
                       ".fresh.unfinished/notes.txt": "x"}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    for name, target in {"link": "mine", "nowhere": "absent", "nowhere.png": "absent.png"}.items():
        (tmp_path / name).symlink_to(target)
    before = tree(tmp_path)
    monkeypatch.setattr(ColourEncoder, "encode_images", None)  # refused before the work
    monkeypatch.setattr(ColourEncoder, "encode_texts", None)
    result = kd(*words)
    assert result.exit_code == 2 and result.stderr.startswith(f"kd: {message}") and result.stderr.count("\n") == 1
    assert tree(tmp_path) == before


def test_two_processes_on_one_index_folder(kd, tmp_path):
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "mine" / "rose.png")
    with own_workspace(tmp_path / ".my.index.unfinished"):
        result = kd("index", "mine", "--out", "my.index")
    assert result.exit_code == 2 and "kd: another process works in .my.index.unfinished; wait for" in result.stderr
    assert kd("index", "mine", "--out", "my.index").exit_code == 0


def test_another_encoders_index_is_refused(kd, tmp_path, monkeypatch):
    kd("index", "data", "--out", "x")  # nothing readable: writes nothing
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "mine" / "rose.png")
    monkeypatch.setattr(Encoder, "load", lambda folder: ColourEncoder("foreign"))
    assert kd("index", "mine", "--out", "foreign.index").exit_code == 0
    monkeypatch.undo()
    parts_are_colours(monkeypatch)
    monkeypatch.chdir(tmp_path)
    result = kd("generate", "red", "--out", "a.png", "--index", "foreign.index")
    assert result.exit_code == 2 and "built by encoder foreign, but this model uses encoder colours" in result.stderr


def test_what_the_encoder_cannot_read_is_told_once(kd, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ColourEncoder, "unread", lambda self, text: Unread(["μῆλον"], "blue car", "red" not in text))
    for words in (["search", "red μῆλον", "-n", 1], ["generate", "red μῆλον", "--out", "a.png", "--num-images", 2]):
        caplog.clear()
        assert kd(*words).exit_code == 0
        assert [record.getMessage() for record in caplog.records] == [
            "not read: 'μῆλον' (unknown; the encoder knows English words); "
            "'blue car' (beyond the length that the encoder takes)"]
    for words in (["search", "μῆλον"], ["generate", "μῆλον", "--out", "b.png"]):
        result = kd(*words)
        assert result.exit_code == 2 and not (tmp_path / "b.png").exists()
        assert "kd: the encoder knows nothing of 'μῆλον'; say it in English words" in result.stderr


EVIL = "rose\x1b[31m\nfake\t\x9b2J\u202e\udc80\x07"


def harmless(text):
    return all(letter.isprintable() for line in text.split("\n") for letter in line)


def test_nothing_that_is_printed_moves_the_cursor(kd, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for number, colour in enumerate(("red", "maroon", "pink")):
        Image.new("RGB", (9, 9), colour).save(mine / f"{number}{EVIL.replace(chr(0xdc80), '')}.png")
    Image.new("RGB", (9, 9), "blue").save(mine / "night.png")
    (mine / "credits.csv").write_text('path,title,author,licence\nnight.png,"ni\nght\x1b[2J","\x1b]0;me\x07",M\x08IT\n'
                                      'gone\x1b[2J.png,,,\n')
    out = "my\x1b[2J.index"
    results = [kd("index", "mine", "--out", out), kd("search", "red", "-n", 4, "--index", out),
               kd("generate", "red\x1b[2J\napple", "--out", "a\x1b[2J.png", "--index", out, "--k", 4),
               kd("generate", "red", "--out", "a.png", "--preset", EVIL), kd("search", "red", "--index", EVIL),
               kd("search", "red", "--index", out, "--licence", "\x1b[2J"), kd("generate", "red", "--out", EVIL)]
    assert [result.exit_code for result in results] == [0, 0, 0, 2, 2, 2, 2]
    for result in results:
        assert harmless(result.stdout) and harmless(result.stderr.rpartition("\r")[2])
    rows = results[1].stdout.splitlines()
    assert len(rows) == 5 and "ni?ght?[2J" in rows[4] and "?]0;me?" in rows[4] and "M?IT" in rows[4]
    assert len(results[2].stdout.splitlines()) == 9


def test_warnings_are_harmless_lines():
    """In a process of its own, where nobody but the command listens to warnings."""
    code = ("import logging; from kdlib.cli import clear_errors\n"
            "with clear_errors(): logging.getLogger('kdlib').warning('the first: %s', 'gone\\n\\x1b[2J.png')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == "the first: gone ?[2J.png\n"


@pytest.mark.parametrize("module", ["kdlib.artifacts", "kdlib.pipeline", "kdlib.models.discrete.backbone"])
def test_what_searches_and_draws_imports_no_package_of_training(module):
    """open_clip, timm, diffusers and torchvision take seconds, pandas half a one; a search does without what draws."""
    code = (f"import sys, {module}\n"
            "slow = {'open_clip', 'timm', 'torchvision', 'transformers', 'diffusers', 'pandas'} & set(sys.modules)\n"
            "print(slow, 'kdlib.models.discrete.process' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"set() {module == 'kdlib.models.discrete.backbone'}"


def test_pictures_are_named_and_shown_without_pandas(tmp_path):
    """It takes half a second to import, and pyarrow imports it on many occasions."""
    make_root(tmp_path)
    folder_catalogue([("a.png", thumbnail(Image.new("RGB", (9, 9))))]).save(tmp_path / "c.parquet")
    code = ("import sys; from kdlib.data.catalogue import Catalogue, sticker_catalogue, sticker_credits\n"
            f"known = [sticker_credits({str(tmp_path)!r}), sticker_catalogue({str(tmp_path)!r}),\n"
            f"         Catalogue.load({str(tmp_path / 'c.parquet')!r})]\n"
            "from kdlib.retrieval import by_column\n"
            "for one in known:\n"
            "    id, *_ = licence_of = one.column('licence')\n"
            "    by_column([id], one, 'licence', [licence_of[id]]), one.picture(id)\n"
            "    print(one.describe(id).title, 'pandas' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["red apple False", "red apple False", "a False"]


def test_the_command_starts_without_heavy_imports():
    """`kd --help` and an empty prompt answer at once: neither torch nor faiss nor transformers is imported."""
    code = ("import sys; from kdlib.cli import app\n"
            "heavy = {'torch', 'faiss', 'transformers', 'diffusers', 'pandas'}\n"
            "try: app(['generate', '', '--out', 'a.png'])\n"
            "except SystemExit as end: print(end.code, heavy & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 set()\n" and done.stderr.count("\n") == 1
