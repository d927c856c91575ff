"""kdlib.retrieval.engines: the stickers' engine against BM25 written out, and indexes made of what engines find."""

import logging
import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib.retrieval import Index
from kdlib.retrieval import engines as image_search
from kdlib.retrieval.engines import (
    FoundPicture,
    ImageSearchEngine,
    StickerEngine,
    index_from_engine,
    query_words,
)
from tests.test_pipeline import ColourEncoder, make_pipe

ROWS = [  # style, name, title, keywords, concept, skin_tone, split, colour
    ("a", "red-apple", "red apple", "red apple, redapple", "red-apple", "", "train", "ff0000"),
    ("b", "apple", "red apple", "red apple, apple", "red-apple", "", "train", "ee0000"),
    ("c", "redapple", "red apple", "red apple, redapple", "red-apple", "", "train", "dd0000"),
    ("a", "green-apple", "green apple", "green apple", "green-apple", "", "test", "00ff00"),
    ("b", "waving-hand", "waving hand", "waving hand", "waving-hand", "", "train", "ffff00"),
    ("b", "waving-hand-dark", "waving hand", "waving hand", "waving-hand", "dark", "train", "663300"),
    ("b", "waving-hand-light", "waving hand", "waving hand", "waving-hand", "light", "train", "ffcc99"),
    ("c", "kiss-dark", "kiss", "kiss", "kiss", "dark", "train", "663300"),
    ("c", "kiss-light", "kiss", "kiss", "kiss", "light", "train", "ffcc99"),
    ("a", "night", "dark blue", "dark blue, night", "night", "", "test", "000080"),
    ("a", "horns", "sign of the horns", "sign of the horns", "horns", "", "train", "808080"),
]


def table(rows=ROWS):
    columns = ["style", "name", "title", "keywords", "concept", "skin_tone", "split", "svg"]
    stickers = pd.DataFrame(rows, columns=columns)
    svg = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path fill="#', '" d="M0 0H1V1H0z"/></svg>')
    return stickers.assign(id=stickers["style"] + ":" + stickers.name, author="author of " + stickers["style"],
                           licence="MIT", svg=svg[0] + stickers.svg + svg[1]).sample(frac=1, random_state=3)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    table().to_parquet(tmp_path / "data" / "stickers.parquet")
    return tmp_path


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    (root / "data").mkdir()
    table().to_parquet(root / "data" / "stickers.parquet")
    return StickerEngine(root)


def ids(pictures):
    return [picture.id for picture in pictures]


def bm25(query, documents):
    """Each document's score as FTS5 defines it: k1 = 1.2, b = 0.75, idf at least 1e-6, all columns as one text."""
    length = {id: sum(words.values()) for id, words in documents.items()}
    mean = sum(length.values()) / len(documents)
    score = dict.fromkeys(documents, 0.0)
    for word in query:
        having = sum(word in words for words in documents.values())
        idf = max(1e-6, math.log((len(documents) - having + 0.5) / (having + 0.5)))
        for id, words in documents.items():
            score[id] += idf * words[word] * 2.2 / (words[word] + 1.2 * (0.25 + 0.75 * length[id] / mean))
    return score


def test_a_picture_comes_with_what_must_be_told(engine):
    assert isinstance(engine, ImageSearchEngine)
    [first] = engine.search_images("green apple", 5)
    assert first[0] == "a:green-apple" and first[2:] == ("green apple", "author of a", "MIT", "a")
    assert first.image.size == (128, 128) and first.image.getpixel((64, 64)) == (0, 255, 0)


@pytest.mark.parametrize("text", ["apple", "apple horns", "green night", "waving apple sign", "hand"])
def test_the_order_is_bm25s_then_the_ids(engine, text):
    drawn = table().query("skin_tone == '' or name == 'kiss-dark'")
    texts = (drawn.title + " " + drawn.name + " " + drawn.keywords).str.replace("waving", "wave")
    documents = {id: Counter(re.findall(r"\w+", words.replace("-", " "))) for id, words in zip(drawn.id, texts,
                                                                                              strict=True)}
    query = text.replace("waving", "wave").split()
    score = bm25(query, documents)
    expected = sorted((id for id in documents if score[id] > 0), key=lambda id: (-round(score[id], 9), id))
    for n in (1, 3, 11):
        assert ids(engine.search_images(text, n)) == expected[:n]


def test_all_words_before_any_word(engine):
    assert set(ids(engine.search_images("red apple", 9))) == {"a:red-apple", "c:redapple", "b:apple"}
    assert set(ids(engine.search_images("green apple at night", 9))) == {"a:green-apple", "a:night", "a:red-apple",
                                                                         "b:apple", "c:redapple"}


@pytest.mark.parametrize("text, same", [
    ("a red apple", "red apple"), ("RED  Apple!", "red apple"), ("red red apples", "red apple"),
    ("réd apple", "red apple"), ("re\u0301d apple", "red apple"), ("the apple's", "apple"),
    ("on the horns of a sign", "sign of the horns")])
def test_case_stems_accents_and_stop_words_do_not_matter(engine, text, same):
    assert ids(engine.search_images(text, 5)) == ids(engine.search_images(same, 5)) != []


def test_stop_words_alone_are_words(engine):
    assert query_words("of the") == ["of", "the"] and ids(engine.search_images("of the", 5)) == ["a:horns"]


def test_a_drawing_comes_in_one_skin_tone(engine):
    assert ids(engine.search_images("waving hand", 5)) == ["b:waving-hand"]
    [kiss] = engine.search_images("kiss", 5)  # there is no plain one
    assert kiss.id in ("c:kiss-dark", "c:kiss-light")


def test_styles_and_splits(root):
    assert ids(StickerEngine(root, styles=["b", "c"]).search_images("apple", 5)) == ["b:apple", "c:redapple"]
    assert ids(StickerEngine(root, splits=["test"]).search_images("apple", 5)) == ["a:green-apple"]
    assert StickerEngine(root, styles=["b"], splits=["test"]).search_images("apple", 5) == []
    for wanted, message in [({"styles": ["a", "z"]}, "no style 'z'; choose from a, b, c"),
                            ({"splits": ["dev"]}, "no split 'dev'; choose from test, train")]:
        with pytest.raises(ValueError, match=message):
            StickerEngine(root, **wanted)


@pytest.mark.parametrize("text, n, message", [
    ("", 3, "the text to search for is ''; say in words"), (" \n", 3, r"the text to search for is ' \\n'"),
    ("apple", 0, "n = 0 pictures can't be searched for; n must be at least 1"), ("apple", -2, "n = -2 pictures"),
    ("🍎 !?", 3, "'🍎 !.' has no word to search for")])
def test_bad_questions(engine, text, n, message):
    with pytest.raises(ValueError, match=message):
        engine.search_images(text, n)


@pytest.mark.parametrize("text", [
    'apple"', '"', "apple AND", "NOT apple", "NEAR(apple red, 2)", "title:apple", "apple*", "^apple",
    "{title name}:apple",
    "-apple", "apple + red", "'; DROP TABLE stickers; --", "apple\0red", "(((", "_", "apple " * 3000,
    " ".join(f"w{i}" for i in range(3000)), "\ud800 apple"])
def test_the_syntax_of_queries_is_only_text(engine, text):
    try:
        found = engine.search_images(text, 3)
    except ValueError as error:
        assert "has no word" in str(error)
    else:
        assert bool(found) == ("apple" in text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_safe(engine, text):
    try:
        found = engine.search_images(text, 3)
    except ValueError as error:
        assert re.search("has no word|the text to search for", str(error))
    else:
        assert len(found) <= 3


# --- the database --------------------------------------------------------------------------------------------------

def test_the_database_is_made_once_and_again_for_other_stickers(root, monkeypatch):
    path = StickerEngine(root).database
    assert path == root / "reports" / "cache" / "stickers.sqlite" and len(list(path.parent.iterdir())) == 1
    made = path.stat().st_mtime_ns
    assert StickerEngine(root).database.stat().st_mtime_ns == made
    table(ROWS[3:]).to_parquet(root / "data" / "stickers.parquet")
    assert ids(StickerEngine(root).search_images("apple", 5)) == ["a:green-apple"]


def test_a_damaged_database_is_made_again(root):
    path = StickerEngine(root, cache=root / "elsewhere").database
    assert path == root / "elsewhere" / "stickers.sqlite"
    for content in (b"", b"nothing", path.read_bytes()[:5000]):
        path.write_bytes(content)
        assert len(StickerEngine(root, cache=root / "elsewhere").search_images("apple", 9)) == 4


def test_a_database_that_breaks_later_is_named(root):
    engine = StickerEngine(root)
    content = bytearray(engine.database.read_bytes())
    content[4096:] = b"\xff" * len(content[4096:])
    engine.database.write_bytes(content)
    with pytest.raises(ValueError, match="stickers.sqlite can't be read .*; delete it"):
        engine.search_images("apple", 3)


def test_a_build_that_fails_leaves_nothing(root, monkeypatch):
    monkeypatch.setattr(image_search, "load_stickers", lambda root: table().drop(columns="author"))
    with pytest.raises(KeyError):
        StickerEngine(root)
    assert list((root / "reports" / "cache").iterdir()) == []


def test_without_the_stickers(tmp_path):
    with pytest.raises(FileNotFoundError, match="stickers.parquet is not there; fetch it with `dvc pull data.dvc`"):
        StickerEngine(tmp_path)


# --- indexes -------------------------------------------------------------------------------------------------------

class Colours:
    """An engine that finds as many pictures as it has."""

    def __init__(self, *colours):
        self.colours = colours

    def search_images(self, text, n):
        return [FoundPicture(f"x{i}", Image.new("RGB", (30 + i, 20), colour), f"a {colour} thing", "who", "CC0-1.0",
                             f"https://pictures.example/{i}") for i, colour in enumerate(self.colours)][:n]


def test_an_index_of_what_an_engine_finds(caplog):
    index = index_from_engine("red", Colours("blue", "red", "lime"), ColourEncoder(), 3)
    assert isinstance(index, Index) and len(index) == 3 and index.encoder_id == "colours" and not caplog.records
    found = index.search(ColourEncoder().encode_texts(["red"]), 3)
    assert found.ids[0, 0] == "x1" and found.scores[0, 0] == pytest.approx(1, abs=1e-3)
    assert index.catalogue.describe("x2") == ("a lime thing", "https://pictures.example/2", "who", "CC0-1.0")
    assert np.allclose(index.catalogue.picture("x1").getpixel((64, 64)), (255, 0, 0), atol=3)


def test_the_pipeline_draws_from_it(engine):
    pipe = make_pipe()
    out = pipe("a red apple", k=2, index=index_from_engine("a red apple", engine, pipe.encoder, 3))
    assert {n.id for n in out.neighbours} <= {"a:red-apple", "b:apple", "c:redapple"} and len(out.images) == 1
    first = out.neighbours[0]
    assert (first.title, first.style, first.licence) == ("red apple", first.id[0], "MIT")
    assert first.author == f"author of {first.style}"


def test_fewer_pictures_than_asked_for_and_than_k(caplog):
    pipe = make_pipe()
    with caplog.at_level(logging.WARNING):
        index = index_from_engine("red", Colours("red", "blue"), pipe.encoder, 7)
    assert "Colours found 2 pictures for 'red', of 7 asked for" in caplog.text
    assert len(pipe("red", k=2, index=index).neighbours) == 2
    with pytest.raises(ValueError, match="k = 3 is more than the index can give: it has 2 pictures"):
        pipe("red", k=3, index=index)


def test_nothing_found(engine):
    with pytest.raises(ValueError, match="StickerEngine found no picture for 'xylophone'; say it in other words"):
        index_from_engine("xylophone", engine, ColourEncoder(), 3)


def test_an_engine_that_repeats_itself_is_refused():
    engine = Colours("red")
    engine.search_images = lambda text, n: Colours.search_images(engine, text, n) * 2
    with pytest.raises(ValueError, match="'x0' occurs 2 times|'x0' comes twice"):
        index_from_engine("red", engine, ColourEncoder(), 3)
