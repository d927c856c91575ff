"""kdlib.models.edit.sampler: guidance by hand, where a schedule starts, what a fixed network draws, bad settings."""

import pytest
import torch

from kdlib.models.edit.denoiser import EditDenoiser
from kdlib.models.edit.sampler import EditSettings, edit_times, guided, sample_edits
from tests.models.edit.test_denoiser import POSITIONS, V, inputs, make_generator


def make_editor(**changes):
    editor = EditDenoiser(make_generator(**changes))
    torch.nn.init.normal_(editor.denoiser.transformer.codes.source.weight)
    return editor


@torch.no_grad()
def test_guidance_is_the_published_formula():
    x_t, t, condition, source = inputs()
    editor, where = make_editor(), x_t == V
    log_p = lambda *told: editor(x_t, t, *told)[where].log_softmax(-1)
    none, null = editor.no_source(source), condition.null()
    neither, picture, both = log_p(null, none), log_p(null, source), log_p(condition, source)
    wanted = (neither + 1.7 * (picture - neither) + 4.0 * (both - picture)).log_softmax(-1)
    found = guided(editor, x_t, t, condition, source, where, EditSettings(text_scale=4.0, picture_scale=1.7))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert found.exp().sum(-1).allclose(torch.ones(len(found)))


@torch.no_grad()
@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 1.0001)])
def test_without_guidance_it_is_one_plain_prediction(scales):
    x_t, t, condition, source = inputs()
    editor, where = make_editor(), x_t == V
    settings = EditSettings(text_scale=scales[0], picture_scale=scales[1])
    torch.testing.assert_close(guided(editor, x_t, t, condition, source, where, settings),
                               editor(x_t, t, condition, source)[where].log_softmax(-1), rtol=1e-2, atol=1e-2)


def test_times():
    assert edit_times(100, 4, 1.0) == [100, 75, 50, 25, 0]
    assert edit_times(100, 4, 0.5) == [50, 25, 0]
    assert edit_times(100, 4, 0.01) == [1, 0]
    for strength in (0.1, 0.37, 0.9):
        times = edit_times(100, 16, strength)
        assert times[0] == round(100 * strength) and times[-1] == 0 and (torch.tensor(times).diff() < 0).all()
    with pytest.raises(ValueError, match="num_steps = 101 must lie in 1 .. 100"):
        edit_times(100, 101, 1.0)


class Sure(EditDenoiser):
    """Draws the code that the picture has there, plus one."""

    def forward(self, x_t, t, condition, source):
        return 100.0 * torch.nn.functional.one_hot((source + 1) % V, V).float()


def test_from_masks_every_position_is_drawn_from_the_network():
    _, _, condition, source = inputs()
    source = source % V
    drawn = sample_edits(Sure(make_generator()), condition, source, EditSettings(text_scale=1.0, picture_scale=1.0))
    assert torch.equal(drawn, (source + 1) % V)


def test_at_half_strength_about_half_of_the_picture_stays():
    source = torch.arange(200 * POSITIONS).reshape(200, POSITIONS) % V
    condition = inputs()[2][:1].expand(200)
    settings = EditSettings(strength=0.5, text_scale=1.0, picture_scale=1.0)
    drawn = sample_edits(Sure(make_generator()), condition, source, settings, torch.Generator().manual_seed(0))
    stayed = (drawn == source).float().mean()
    assert abs(stayed - 0.5) < 0.05 and torch.equal(drawn[drawn != source], ((source + 1) % V)[drawn != source])


def test_seeds_decide():
    _, _, condition, source = inputs()
    draw = lambda seed: sample_edits(make_editor(), condition, source % V, EditSettings(strength=0.7),
                                     torch.Generator().manual_seed(seed))
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


def test_other_schedules_are_refused():
    with pytest.raises(ValueError, match="needs pure masking"):
        sample_edits(make_editor(uniform_share=0.1), inputs()[2], inputs()[3] % V, EditSettings())


@pytest.mark.parametrize("name, value", [
    ("k", -1), ("num_steps", 0), ("num_steps", True), ("minus", 1.5), ("strength", 0.0), ("strength", -0.1),
    ("strength", float("nan")), ("text_scale", float("inf")), ("picture_scale", 1e9)])
def test_settings_without_sense_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} = "):
        EditSettings(**{name: value})
