"""kdlib.baselines.captions: words and tokens, causality, a toy set learned by heart, captions that repeat."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdlib.baselines.captions import (
    END,
    Captioner,
    CaptionerConfig,
    CaptionObjective,
    decode,
    encode,
    train_captioner,
    vocabulary,
)
from kdlib.training.loop import Run, step_generator

NAMES = ["red apple", "green apple", "sad cat", "cat", "a very long name of a cat", "cat sad"]
DIM = 7


@pytest.fixture
def embeddings():
    vectors = np.random.default_rng(0).standard_normal((len(NAMES), DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def tiny(words=("apple", "cat", "red"), max_words=4):
    torch.manual_seed(0)
    captioner = Captioner(CaptionerConfig(words, max_words, 8, 2, 2, 3, DIM, "encoder-1"))
    torch.nn.init.normal_(captioner.place)
    return captioner


# --- words -----------------------------------------------------------------------------------------------------------

def test_the_vocabulary_has_each_word_once():
    assert vocabulary(["red apple", "apple pie"]) == ("apple", "pie", "red")


def test_names_become_tokens_with_ends_and_back():
    words = vocabulary(NAMES)
    rows = encode(NAMES, words, 3)
    assert rows.shape == (len(NAMES), 4) and rows.dtype == np.int64
    for name, row in zip(NAMES, rows, strict=True):
        kept = name.split()[:3]
        assert [words[token - 1] for token in row[:len(kept)]] == kept and (row[len(kept):] == END).all()
        assert decode(row.tolist(), words) == " ".join(kept)


def test_unknown_words_and_empty_names_are_refused():
    with pytest.raises(ValueError, match="has no word 'dog', of the name 'red dog'"):
        encode(["red dog"], ["red"], 3)
    with pytest.raises(ValueError, match="'  ' has no words"):
        encode(["  "], ["red"], 3)


# --- the network -----------------------------------------------------------------------------------------------------

def test_a_place_knows_the_words_before_it_and_no_other(embeddings):
    captioner, told = tiny(), torch.from_numpy(embeddings[:1])
    words = torch.tensor([[1, 2, 3]])
    logits = captioner(told, words)
    assert logits.shape == (1, 4, 4)
    for changed in range(3):
        other = words.clone()
        other[0, changed] = END
        moved = (captioner(told, other) - logits).abs().amax(-1)[0]
        assert (moved[:changed + 1] == 0).all() and (moved[changed + 1:] > 1e-6).all()
    torch.testing.assert_close(captioner(told, words[:, :1]), logits[:, :2], atol=1e-5, rtol=1e-5)


def test_the_loss_counts_the_words_and_one_end(embeddings):
    captioner = tiny()
    tokens = encode(["red apple", "cat", "red red red red"], captioner.config.words, 4)
    objective = CaptionObjective(captioner, embeddings[:3], tokens)
    found = objective(torch.arange(3), step_generator(0, 0))["loss"].item()
    costs = []
    for row, length in zip(range(3), (2, 1, 4), strict=True):
        logits = captioner(torch.from_numpy(embeddings[row:row + 1]), torch.from_numpy(tokens[row:row + 1, :-1]))
        scores = F.log_softmax(logits[0], -1)
        costs += [-scores[place, tokens[row, place]].item() for place in range(length + 1)]
    assert found == pytest.approx(np.mean(costs), rel=1e-5)


def test_captions_are_the_likeliest_words_and_never_empty(embeddings):
    captioner = tiny()
    for row, caption in enumerate(captioner.caption(embeddings)):
        words = torch.empty(1, 0, dtype=torch.int64)
        while words.shape[1] < 4:
            logits = captioner(torch.from_numpy(embeddings[row:row + 1]), words)[0, -1]
            if words.shape[1] == 0:
                logits[END] = -torch.inf
            best = int(logits.argmax())
            if best == END:
                break
            words = torch.cat([words, torch.tensor([[best]])], 1)
        assert caption == " ".join(captioner.config.words[token - 1] for token in words[0]) and caption
    assert captioner.caption(embeddings[:0]) == []


def test_sizes_that_make_no_sense_are_refused():
    for changes, message in [({"num_heads": 3}, "width 8 does not divide into 3 heads"),
                             ({"words": ()}, "0 words"), ({"max_words": 0}, "max_words = 0")]:
        settings = {"words": ("a",), "max_words": 2, "width": 8, "num_blocks": 1, "num_heads": 2, "num_prefix": 1,
                    "embedding_dim": 3, "encoder_id": ""} | changes
        with pytest.raises(ValueError, match=message):
            Captioner(CaptionerConfig(**settings))


# --- training --------------------------------------------------------------------------------------------------------

def run(embeddings, names, folder, **changes):
    return train_captioner(embeddings, names, "encoder-1", folder, **{
        "width": 16, "num_blocks": 1, "num_heads": 2, "num_prefix": 2, "max_words": 7, "batch_size": 6,
        "num_steps": 3, "learning_rate": 1e-2, "seed": 0, **changes})


def test_a_toy_set_is_learned_by_heart(embeddings, tmp_path):
    history = run(embeddings, NAMES, tmp_path, num_steps=120, warmup_steps=10, ema_decay=0.9, weight_decay=0.0)
    captioner = Captioner.load(tmp_path / "model")
    assert captioner.config.words == vocabulary(NAMES) and captioner.config.encoder_id == "encoder-1"
    assert captioner.caption(embeddings) == NAMES
    assert captioner.caption(embeddings[::-1].copy()) == NAMES[::-1]
    assert history.loss.iloc[-1] < 0.1 < history.loss.iloc[0]


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(embeddings, tmp_path, monkeypatch):
    run(embeddings, NAMES, tmp_path / "whole", num_steps=4, batch_size=4)
    advance = Run.advance

    def cut(self, logs):
        advance(self, logs)
        if self.step == 2:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "advance", cut)
    with pytest.raises(KeyboardInterrupt):
        run(embeddings, NAMES, tmp_path / "cut", num_steps=4, batch_size=4)
    monkeypatch.setattr(Run, "advance", advance)
    run(embeddings, NAMES, tmp_path / "cut", num_steps=4, batch_size=4)
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_another_number_of_names_is_refused(embeddings, tmp_path):
    with pytest.raises(ValueError, match="6 embeddings have 5 names"):
        run(embeddings, NAMES[:5], tmp_path)
