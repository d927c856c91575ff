"""kdlib.demo.watch: the last picture is the pipeline's own, those before it what the network is told to believe."""

import threading

import numpy as np
import pytest
import torch

from kdlib.demo.watch import from_codes, from_pixels, guided, watch
from tests.models.continuous.test_backbone import make_continuous_pipe
from tests.test_pipeline import make_pipe, pixels

PIPES = {"discrete": make_pipe, "continuous": make_continuous_pipe}
each_kind = pytest.mark.parametrize("kind", PIPES)


def asked(pipe, prompt="red"):
    return pipe.retrieve([prompt], 3)[1]


@each_kind
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_last_is_what_the_pipeline_draws_and_there_is_one_before_it_for_each_step(kind, scale):
    pipe = PIPES[kind]()
    looks = list(watch(pipe, asked(pipe), 4, scale, seed=5))
    drawn = pipe.generate(asked(pipe), 4, scale, seed=5)
    assert len(looks) == 5 and [look.t for look in looks] == [20, 15, 10, 5, 0]
    assert (pixels([looks[-1].picture]) == pixels(drawn)).all()
    assert len({look.picture.tobytes() for look in looks}) > 1, "one sees it change"


@each_kind
def test_who_leaves_ends_the_drawing_and_nothing_stays_hooked(kind):
    pipe = PIPES[kind]()
    looks = watch(pipe, asked(pipe), 20)
    assert next(looks).t == 20
    before = threading.active_count()
    looks.close()
    assert threading.active_count() < before and not pipe.backbone.denoiser._forward_hooks
    assert list(looks) == []


def test_what_the_pipeline_refuses_is_refused_and_nothing_stays_hooked():
    pipe = make_pipe()
    with pytest.raises(ValueError, match="num_steps is 99"):
        list(watch(pipe, asked(pipe), 99))
    with pytest.raises(ValueError, match="2 conditions"):
        list(watch(pipe, asked(pipe).expand(2)))
    assert not pipe.backbone.denoiser._forward_hooks


def test_masked_codes_are_guessed_under_a_veil_and_drawn_ones_shown_as_they_are():
    """Code c of the toy tokenizer is a square of grey level 255 c / 6; code 7 is the mask."""
    backbone = make_pipe().backbone
    x_t = torch.tensor([[6, 7, 3, 0, 7, 6, 6, 6, 6]])
    logits = torch.nn.functional.one_hot(torch.full((1, 9), 6), 7).float()
    seen = np.asarray(from_codes(backbone, x_t, torch.tensor([5]), logits))[2::4, 2::4, 0].ravel()
    veiled = 0.6 * 128 + 0.4 * 255
    assert np.abs(seen - [255, veiled, 127.5, 0, veiled, 255, 255, 255, 255]).max() <= 1


def test_the_continuous_guess_is_the_picture_where_the_network_tells_the_noise_exactly():
    backbone = make_continuous_pipe().backbone
    process, x_0, noise = backbone.denoiser.process, torch.rand(1, 3, 8, 8) * 2 - 1, torch.randn(1, 3, 8, 8)
    t = torch.tensor([7])
    alpha, sigma = process.alpha[7], process.sigma[7]
    seen = from_pixels(backbone, alpha * x_0 + sigma * noise, t, alpha * noise - sigma * x_0)  # it predicts v
    assert np.abs(np.asarray(seen) / 127.5 - 1 - x_0[0].permute(1, 2, 0).numpy()).max() < 0.005


def test_guidance_goes_on_from_the_null_through_the_given():
    told = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
    assert guided(told, 3.0).tolist() == [[3.0, -4.0]]
    assert guided(told[:1], 3.0).tolist() == [[1.0, 2.0]]
