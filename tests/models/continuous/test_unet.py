"""The U-Net: what reaches it, what the null condition adds, its folder, the paper's size."""

import json
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F

from kdlib.models.condition import Condition
from kdlib.models.conditioning import CONDITIONERS
from kdlib.models.continuous.process import Process, sample, training_loss
from kdlib.models.continuous.unet import PAPER_SIZES, ConditionedUnet, UnetConfig

TIMES = torch.tensor([1, 500, 1000])


def condition(batch=3, k=5, dim=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(batch, k + 1, dim, generator=generator), dim=-1)
    return Condition(vectors[:, 0], vectors[:, 1:])


def pictures(batch=3, size=8):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(9))


def config(**changes):
    sizes = dict(size_px=8, widths=(8, 12), num_blocks=1, num_attending=1, head_width=4, embedding_dim=7, k=5,
                 process=asdict(Process()), encoder_id="an encoder")
    return UnetConfig(**sizes | changes)


def unet(**changes):
    """A small U-Net whose last convolution is open, as after training, and whose biases are not zero."""
    torch.manual_seed(0)
    model = ConditionedUnet(config(**changes))
    for parameter in model.parameters():
        if parameter.ndim == 1 or parameter is model.unet.conv_out.weight:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("conditioning", CONDITIONERS)
@pytest.mark.parametrize("folding", [1, 2, 4])
def test_a_prediction_has_the_pictures_shape_for_every_conditioning_and_folding(conditioning, folding):
    model = unet(conditioning=conditioning, folding=folding)
    out = model(pictures(), TIMES, condition())
    assert out.shape == (3, 3, 8, 8) and out.isfinite().all()
    assert not torch.allclose(out, model(pictures(), TIMES, condition(seed=1)))
    assert not torch.allclose(out, model(pictures(), TIMES.flip(0), condition()))


@pytest.mark.parametrize("folding", [2, 4])
def test_folding_puts_blocks_of_pixels_into_channels_and_takes_them_out_again(folding):
    model, seen = ConditionedUnet(config(folding=folding)), []
    x = pictures()

    def identity(folded, *others, **named):
        seen.append(folded)
        return (folded,)

    model.unet.forward = identity
    assert torch.equal(model(x, TIMES, condition()), x)
    assert seen[0].shape == (3, 3 * folding ** 2, 8 // folding, 8 // folding)
    block = x[1, 2, folding:2 * folding, :folding].flatten()
    assert torch.equal(seen[0][1, 2 * folding ** 2:, 1, 0], block)


def test_an_untrained_network_predicts_zero():
    torch.manual_seed(0)
    assert not ConditionedUnet(config())(pictures(), TIMES, condition()).any()


@pytest.mark.parametrize("conditioning", CONDITIONERS)
def test_the_null_condition_is_no_cross_attention_and_nothing_added_to_the_time(conditioning):
    model, y = unet(conditioning=conditioning), condition()
    null = model(pictures(), TIMES, y.null())
    assert not torch.equal(null, model(pictures(), TIMES, y))
    crossing = [module for name, module in model.unet.named_modules() if name.endswith("attn2")]
    assert len(crossing) == 1 + 2 + 1  # down, up, middle
    for module in crossing:
        module.forward = lambda x, *others, **named: torch.zeros_like(x)
    torch.nn.init.zeros_(model.query.weight)
    assert torch.equal(null, model(pictures(), TIMES, y))


@pytest.mark.parametrize("k", [0, 1, 40])
def test_the_null_condition_is_the_same_for_any_number_of_neighbours(k):
    model = unet()
    torch.testing.assert_close(model(pictures(), TIMES, condition(k=k).null()),
                               model(pictures(), TIMES, condition().null()))
    assert model(pictures(), TIMES, condition(k=k)).isfinite().all()


def test_the_query_is_added_to_the_time_and_is_a_token_too():
    model, y = unet(), condition()
    out = model(pictures(), TIMES, y)
    torch.nn.init.zeros_(model.query.weight)
    without = model(pictures(), TIMES, y)
    assert not torch.allclose(out, without)
    other = Condition(y.query.flip(0), y.neighbours)
    assert not torch.allclose(without, model(pictures(), TIMES, other))


def test_features_have_about_unit_variance_at_the_start():
    torch.manual_seed(0)
    model = ConditionedUnet(config(embedding_dim=512, widths=(64, 128)))
    added = model.query(condition(dim=512).query * 512 ** 0.5)
    assert 0.3 < added.std() < 1.5 and added.shape == (3, 256)


def test_a_few_steps_of_training_teach_which_picture_goes_with_which_condition():
    torch.manual_seed(0)
    process = Process(50, prediction="x0")
    model = ConditionedUnet(config(widths=(16, 24), process=asdict(process)))
    generator, y = torch.Generator().manual_seed(0), condition(batch=4)
    colours = torch.tensor([[1, 1, -1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1.0]])
    truth = colours[:, :, None, None].expand(-1, -1, 8, 8)
    optimizer, losses = torch.optim.AdamW(model.parameters(), 4e-3), []
    for _ in range(60):
        rows = torch.randint(0, 4, (16,), generator=generator)
        loss = training_loss(process, model, truth[rows], y[rows], generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    drawn = sample(process, model.eval(), y, (3, 8, 8), 5, generator=generator)
    assert (drawn.sign() == truth).float().mean() > 0.9


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 0), (torch.float16, 2e-2)])
def test_saved_and_loaded_it_predicts_the_same(tmp_path, dtype, tolerance):
    model, y = unet(conditioning="self_attention", folding=2), condition()
    model.save(tmp_path / "model", dtype)
    loaded = ConditionedUnet.load(tmp_path / "model")
    assert loaded.config == model.config and loaded.process == model.process and not loaded.training
    assert next(loaded.parameters()).dtype == torch.float32
    told = [network(pictures(), TIMES, y) for network in (loaded, model)]
    torch.testing.assert_close(*told, atol=tolerance, rtol=tolerance)
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    assert told == {"kind": "continuous-denoiser", **asdict(model.config), "widths": [8, 12]}


def test_a_foreign_folder_is_refused(tmp_path):
    unet().save(tmp_path / "model")
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(told | {"kind": "discrete-denoiser"}))
    with pytest.raises(ValueError, match="'discrete-denoiser', not a 'continuous-denoiser'"):
        ConditionedUnet.load(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(told | {"widths": [8, 16]}))
    with pytest.raises(ValueError, match="does not fit"):
        ConditionedUnet.load(tmp_path / "model")


@pytest.mark.parametrize("changes, message", [
    ({"size_px": 10, "folding": 4}, "size_px = 10 is no multiple of folding x 2 = 8"),
    ({"size_px": 6, "widths": (8, 8, 8)}, "no multiple of folding x 4 = 4, as 3 levels need"),
    ({"num_attending": 3}, r"num_attending = 3 must lie in 1 .. 2"), ({"num_attending": 0}, "num_attending = 0"),
    ({"widths": (8, 14)}, "a width of 14 does not divide into 3 heads")])
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_the_papers_size_is_that_of_its_discrete_model_within_6_percent():
    with torch.device("meta"):
        model = ConditionedUnet(UnetConfig(**PAPER_SIZES, process=asdict(Process())))
        out = model(torch.zeros(2, 3, 64, 64), torch.ones(2), condition(2, 10, 512))
    assert out.shape == (2, 3, 64, 64)
    assert abs(sum(p.numel() for p in model.parameters()) / 400e6 - 1) < 0.06
    down = [name for name, _ in model.unet.named_modules() if name.startswith("down_blocks")]
    attending = {name.split(".")[1] for name in down if "attn2" in name}
    assert attending == {"1", "2", "3"}  # at 32, 16 and 8 px


def test_the_papers_network_trains_a_step_and_draws_at_a_reduced_size():
    """Same levels, blocks and attention; an eighth of the widths and of the pixels."""
    small = PAPER_SIZES | {"size_px": 8, "widths": (24, 48, 72, 96), "head_width": 8, "embedding_dim": 7}
    model = ConditionedUnet(UnetConfig(**small, process=asdict(Process())))
    loss = training_loss(model.process, model, pictures(), condition(), torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=0.2)  # the noise's own variance, since it predicts zero
    assert model.unet.conv_out.weight.grad.abs().sum() > 0
    drawn = sample(model.process, model, condition(), (3, 8, 8), 1, guidance_scale=8.0)
    assert drawn.shape == (3, 3, 8, 8) and drawn.isfinite().all()
