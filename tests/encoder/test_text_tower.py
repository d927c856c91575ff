"""kdlib.encoder.text_tower beside transformers' own BERT and open_clip's tokenizer of it."""

import open_clip
import pytest
import torch
from transformers import AutoModel

from kdlib.encoder.text_tower import CONTEXT_LENGTH, load_text_tower, sticker_tokenizer, text_model_folder

TEXTS = ["a red apple", "Na\u00efve caf\u00e9 \u4e2d\u6587 \U0001f34e", "fish &amp; chips", "it\u2019s  a\tcat",
         "[MASK] of [SEP]", "don't", "a very long text about nothing at all, " * 9,
         "\ufb01ve \u00c5ngstr\u00f6m sch\u00c3\u00b6n", "unaffable-quasiperiodicity"]


@pytest.fixture(scope="module")
def towers():
    own, published = load_text_tower(), AutoModel.from_pretrained(text_model_folder(), add_pooling_layer=False)
    return own, published.eval()


def test_tokens_are_those_of_open_clip():
    truth = open_clip.tokenizer.HFTokenizer(str(text_model_folder()), context_length=CONTEXT_LENGTH)(TEXTS)
    tokens = sticker_tokenizer()(TEXTS)
    assert tokens.dtype == truth.dtype and tokens.tolist() == truth.tolist()
    assert (tokens == 0).any() and (tokens != 0).all(1).any()  # both padded and cut ones


def test_tensors_have_the_published_names(towers):
    own, published = (tower.state_dict() for tower in towers)
    assert own.keys() == published.keys()
    assert all(torch.equal(own[name], published[name]) for name in own)


@pytest.mark.parametrize("rows", [slice(0, 5), slice(6, 7)])  # the second fills its context: there is no mask
def test_the_tower_is_transformers_bert(towers, rows):
    own, published = towers
    tokens = sticker_tokenizer()(TEXTS)[rows]
    mask = (tokens != 0).long()
    with torch.no_grad():
        hidden = published(input_ids=tokens, attention_mask=mask).last_hidden_state
        truth = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(own(tokens), truth, atol=1e-6, rtol=0)


def test_loading_draws_no_random_number():
    before = torch.get_rng_state()
    load_text_tower()
    assert torch.equal(torch.get_rng_state(), before)
