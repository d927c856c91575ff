"""What encoders pass over in a text: unknown words and signs, and the end for which there is no room."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data.stickers import load_stickers
from kdlib.encoder import Encoder
from kdlib.encoder.encoder import StickerPreprocess, cut_off
from kdlib.encoder.text_tower import mend, sticker_tokenizer, unread_words
from kdlib.params import find_root

THAI, GREEK, HINDI, CHINESE = "แอปเปิ้ล", "μήλο", "सेब", "苹果"
RUSSIAN = "красное яблоко"


@pytest.fixture(scope="module")
def tokenize():
    return sticker_tokenizer()


@pytest.fixture
def bundled():
    """The bundled encoder without its networks."""
    encoder = object.__new__(Encoder)
    encoder.preprocess, encoder.name = StickerPreprocess(8), "sticker/none"
    return encoder


@pytest.mark.parametrize("text, unknown, cut, empty", [
    ("a red apple", [], "", False), ("Café, 7 o'clock!", [], "", False), ("ａｐｐｌｅ", [], "", False),
    ("fish &amp; chips", [], "", False),
    ("🍎", ["🍎"], "", True), ("apple 🍎", ["🍎"], "", False), ("apple🍎", ["apple🍎"], "", True),
    (THAI, [THAI], "", True), (GREEK, [GREEK], "", True), (HINDI, [HINDI], "", True),
    (CHINESE, list(CHINESE), "", True), (RUSSIAN, RUSSIAN.split(), "", True), ("!?!", [], "", True),
    (f"red {GREEK}", [GREEK], "", False), ("x" * 101, ["x" * 101], "", True),
    ("word " * 31 + "red apple", [], "word red apple", False), ("word " * 30, [], "", False),
    (f"{GREEK} " * 8 + "red apple", [GREEK] * 7, f"{GREEK} red apple", True)])
def test_what_the_bundled_tower_passes_over(text, unknown, cut, empty):
    assert unread_words(text) == (unknown, cut, empty)


def test_one_endless_word_is_read_in_part():
    found = unread_words("x" * 90)
    assert 0 < len(found.cut) < 90 and set(found.cut) == {"x"} and not found.unknown and not found.empty


def test_texts_that_differ_beyond_the_limit_are_one_text(tokenize):
    red, blue = ("word " * 33 + end for end in ("red apple", "blue car"))
    assert torch.equal(tokenize([red]), tokenize([blue]))
    assert unread_words(red).cut == "word word word red apple" and unread_words(blue).cut == "word word word blue car"


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.text(max_size=8) | st.sampled_from(["red", "apple", "🍎", GREEK, "[SEP]", "&lt;"]),
                     max_size=50).map(" ".join))
def test_what_is_cut_changes_no_token_and_what_is_before_it_does(tokenize, text):
    text = text.encode(errors="ignore").decode()
    found, mended = unread_words(text), mend(text)
    assert all(word and word in mended for word in found.unknown)
    if found.cut:
        assert mended.endswith(found.cut)
        kept = tokenize([mended[:-len(found.cut)]])[0]
        whole = tokenize([mended])[0]
        same = int((kept[1:-1] != 0).sum()) - 1  # tokens kept, without the mark at their end
        assert (whole != 0).all() and torch.equal(kept[:same], whole[:same])
    elif mended:
        longer = tokenize([f"{mended} red"])[0]
        assert (tokenize([mended])[0] == 0).any() or torch.equal(tokenize([mended])[0], longer)


def test_every_bundled_title_and_concept_is_read():
    stickers = load_stickers(find_root())
    texts = sorted({*stickers.title, *stickers.concept.dropna()})
    assert len(texts) > 4000 and [text for text in texts if unread_words(text) != ([], "", False)] == []


@pytest.mark.parametrize("num_words", [0, 1, 40, 75, 76, 100, 300])
def test_what_an_open_clip_pair_cuts_off(num_words):
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    words = [f"{number}" for number in range(100, 100 + num_words)]
    pieces = [len(tokenizer.encode(word)) for word in words]  # the count of each: no limit there
    room, kept = tokenizer.context_length - 2, 0
    while kept < num_words and sum(pieces[:kept]) < room:
        kept += 1
    assert cut_off(tokenizer, " ".join(words)) == " ".join(words[kept:])


def test_one_warning_says_what_was_not_read(bundled, caplog):
    bundled.check_readable(["a red apple"])
    assert not caplog.records
    bundled.check_readable(["apple 🍎", "word " * 30 + "red " * 50])
    [record] = caplog.records
    assert record.getMessage() == ("not read: '🍎' (unknown; the encoder knows English words); "
                                   f"'{('red ' * 50)[:60]}…' (beyond the length that the encoder takes)")
    caplog.clear()
    bundled.check_readable([f"a {'🍎 ' * 9}"])
    assert caplog.records[0].getMessage().endswith("; and 4 more")


@pytest.mark.parametrize("text", ["🍎", THAI, GREEK, HINDI, CHINESE, RUSSIAN, "?!"])
def test_a_text_of_which_nothing_is_known_is_an_error(bundled, text):
    with pytest.raises(ValueError, match="the encoder knows nothing of .*; say it in English words, for example"):
        bundled.check_readable(["a red apple", text])
