"""kdlib.baselines.textual_inversion: only the word learns, it learns to redraw, and sentences are sums."""

import numpy as np
import torch
from PIL import Image

from kdlib.baselines.textual_inversion import composed, edit_by_word, invert
from kdlib.models.condition import Condition
from kdlib.models.discrete.backbone import DiscreteBackbone
from kdlib.models.discrete.process import training_loss
from kdlib.retrieval import Index
from tests.test_pipeline import ColourEncoder, ColourTokenizer, make_denoiser, sticker_embeddings


def case():
    denoiser, random = make_denoiser(), torch.Generator().manual_seed(0)
    start = Condition(torch.nn.functional.normalize(torch.randn(2, 5, generator=random), dim=-1),
                      torch.zeros(2, 3, 5))
    return denoiser, torch.randint(0, 7, (2, 9), generator=random), start


def test_only_the_word_learns_and_the_picture_gets_likelier():
    denoiser, codes, start = case()
    before = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    words = invert(denoiser, codes, start, 150, seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in denoiser.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in denoiser.parameters())
    torch.testing.assert_close(words.norm(dim=-1), torch.ones(2))

    @torch.no_grad()
    def loss(query):
        told = Condition(query.repeat(200, 1), start.neighbours.repeat(200, 1, 1))
        return training_loss(denoiser.schedule, denoiser, codes.repeat(200, 1), told, 7,
                             generator=torch.Generator().manual_seed(1)).item()

    assert loss(words) < 0.98 * loss(start.query)
    assert torch.equal(words, invert(denoiser, codes, start, 150, seed=0))
    torch.testing.assert_close(invert(denoiser, codes, start, 0, seed=0), start.query)


def test_sentences_are_sums_of_unit_length():
    words, target, source = torch.eye(3)[None, 0], torch.eye(3)[None, 1], torch.eye(3)[None, 2]
    torch.testing.assert_close(composed(words, target, source), torch.tensor([[1.0, 1, -1]]) / 3 ** 0.5)
    torch.testing.assert_close(composed(words, target, target), words)


def test_an_edit_is_drawn_from_the_composed_word_and_its_neighbours():
    backbone, encoder, index = DiscreteBackbone(make_denoiser(), ColourTokenizer()), ColourEncoder(), Index(
        sticker_embeddings())
    pictures, codes = [Image.new("RGB", (12, 12), "red")], torch.arange(9)[None] % 7
    drawn = edit_by_word(backbone, encoder, index, pictures, codes, ["blue"], ["red"], k=2, num_steps=0,
                         sampling_steps=5, guidance_scale=2.0, seed=4)
    query = encoder.encode_texts(["blue"])  # no steps: the word is the source's text, of which nothing stays
    told = Condition.from_numpy(query, index.search(query, 2).vectors)
    wanted = backbone.draw(told, 5, 2.0, torch.Generator().manual_seed(4))
    np.testing.assert_array_equal(np.asarray(drawn[0]), np.asarray(wanted[0]))
