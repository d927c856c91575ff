"""kdlib.models.edit.denoiser: at first the generator to the bit; then the picture counts; saved and loaded."""

import json

import pytest
import torch

from kdlib.models.condition import Condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.process import Schedule
from kdlib.models.edit.denoiser import EditDenoiser

V, POSITIONS, DIM = 7, 9, 5


def make_generator(uniform_share=1e-6):
    torch.manual_seed(0)
    generator = ConditionedDenoiser(DenoiserConfig(
        num_codes=V, num_positions=POSITIONS, width=16, num_blocks=2, num_heads=2, embedding_dim=DIM, k=3,
        schedule=Schedule(20, uniform_share=uniform_share).to_dict(), encoder_id="enc", tokenizer_id="tok"))
    for parameter in generator.parameters():  # blocks start as identity, in which no condition can be seen
        torch.nn.init.normal_(parameter, std=0.5)
    return generator.eval()


def inputs(batch=4):
    random = torch.Generator().manual_seed(1)
    x_t, source = (torch.randint(0, V + 1, (batch, POSITIONS), generator=random) for _ in range(2))
    condition = Condition(torch.randn(batch, DIM, generator=random), torch.randn(batch, 3, DIM, generator=random))
    return x_t, torch.randint(1, 21, (batch,), generator=random), condition, source


@torch.no_grad()
def test_before_training_it_is_the_generator_to_the_bit():
    x_t, t, condition, source = inputs()
    wanted = make_generator()(x_t, t, condition)
    assert torch.equal(EditDenoiser(make_generator())(x_t, t, condition, source), wanted)


@torch.no_grad()
def test_each_position_has_the_sum_of_both_letters():
    x_t, t, condition, source = inputs()
    editor = EditDenoiser(make_generator())
    pairs = editor.denoiser.transformer.codes
    torch.nn.init.normal_(pairs.source.weight)
    expected = pairs.codes.weight[x_t] + pairs.source.weight[source]
    torch.testing.assert_close(pairs(x_t * (V + 1) + source), expected, rtol=0, atol=0)
    assert not torch.allclose(editor(x_t, t, condition, source), editor(x_t, t, condition, editor.no_source(source)))
    assert (editor.no_source(source) == V).all()


def test_gradients_reach_the_picture_from_the_first_step():
    x_t, t, condition, source = inputs()
    editor = EditDenoiser(make_generator())
    editor(x_t, t, condition, source).square().sum().backward()
    gradient = editor.denoiser.transformer.codes.source.weight.grad
    assert (gradient[source.unique()].abs().sum(1) > 0).all()


@torch.no_grad()
def test_a_saved_editor_is_the_same_one(tmp_path):
    editor = EditDenoiser(make_generator())
    torch.nn.init.normal_(editor.denoiser.transformer.codes.source.weight)
    for parameter in editor.parameters():
        parameter.copy_(parameter.half())
    editor.save(tmp_path / "model")
    loaded = EditDenoiser.load(tmp_path / "model")
    assert torch.equal(loaded(*inputs()), editor(*inputs())) and not loaded.training
    assert loaded.config == editor.config


def test_a_generator_is_no_editor(tmp_path):
    make_generator().save(tmp_path / "model")
    with pytest.raises(ValueError, match="'discrete-denoiser', not a 'discrete-editor'"):
        EditDenoiser.load(tmp_path / "model")
    EditDenoiser(make_generator()).save(tmp_path / "editor")
    config = json.loads((tmp_path / "editor" / "config.json").read_text())
    (tmp_path / "editor" / "config.json").write_text(json.dumps(config | {"width": 32}))
    with pytest.raises(ValueError, match="does not fit this kdlib"):
        EditDenoiser.load(tmp_path / "editor")
