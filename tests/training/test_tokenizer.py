"""kdlib.training.tokenizer: which player each term reaches, revived codes, augmentation by enumeration, measures."""

import itertools
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdlib.data.augment import shift_and_mirror
from kdlib.data.pixels import normalise_pixels
from kdlib.evaluation.metrics import psnr_db
from kdlib.models.discrete.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    encode_view,
    encode_view_exactly,
    reconstruct_pictures,
)
from kdlib.training.critic import EarlyFeatures
from kdlib.training.loop import step_generator
from kdlib.training.tokenizer import (
    ADVERSARIAL,
    COMMITMENT,
    PERCEPTUAL,
    SQUARED,
    TokenizerObjective,
    train_tokenizer,
)

NUM_CODES, CODE_DIM = 11, 5


@pytest.fixture(scope="module")
def pictures():
    """Eight flat drawings of 16 px: a coloured block on white."""
    random, pictures = np.random.default_rng(0), np.full((8, 16, 16, 3), 255, np.uint8)
    for picture in pictures:
        top, left = random.integers(1, 7, 2)
        picture[top:top + 8, left:left + 8] = random.integers(0, 200, 3)
    return pictures


@pytest.fixture
def objective(pictures):
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(16, NUM_CODES, CODE_DIM, 4, 2))
    return TokenizerObjective(tokenizer, pictures, gan_start=0, num_steps=20)


def gradients(module):
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


# --- terms and players ---------------------------------------------------------------------------------------------

def test_adversarial_terms_reach_their_own_player(objective):
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    copies = (torch.rand(3, 3, 16, 16) * 2 - 1).requires_grad_()
    objective.adversarial(copies, images)["tokenizer"].backward()
    assert copies.grad.abs().max() > 0 and gradients(objective.critic) == set()
    copies.grad = None
    objective.adversarial(copies, images)["critic"].backward()
    weights = {name for name, _ in objective.critic.named_parameters() if name.endswith("weight")}
    assert copies.grad is None and gradients(objective.critic) >= weights


def test_adversarial_terms_are_hinge_losses(objective):
    images, copies = torch.rand(3, 3, 16, 16) * 2 - 1, torch.rand(3, 3, 16, 16) * 2 - 1
    terms = objective.adversarial(copies, images)
    real, fake = (objective.critic(x).detach().double().numpy() for x in (images, copies))
    assert terms["critic"].item() == pytest.approx(
        (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()) / 2, rel=1e-5)
    assert terms["tokenizer"].item() == pytest.approx(-ADVERSARIAL * fake.mean(), rel=1e-4)


def test_the_critic_learns_from_its_own_term_alone(objective):
    """Without the critic's term the whole loss leaves the critic untouched; frozen features always stay so."""
    objective.gan_start = 1
    objective(torch.arange(5), step_generator(0, 0))["loss"].backward()
    assert objective.step == 1 and gradients(objective.critic) == set()
    objective(torch.arange(5), step_generator(0, 1))["loss"].backward()
    assert gradients(objective.critic) and gradients(objective.features) == set()


def test_the_loss_is_the_sum_of_its_terms_and_only_the_codebook_term_moves_codes(objective):
    """All terms but the codebook's see the codes as constants (straight through), the encoder all but that one."""
    objective.step += 10  # codes are not revived any more
    objective.gan_start = 99
    rows, tokenizer = torch.tensor([4, 0, 7]), objective.tokenizer
    book = tokenizer.network.quantize.embedding.weight
    logs = objective(rows, step_generator(0, 3))
    logs["loss"].backward()
    told, told_encoder = book.grad.clone(), tokenizer.network.encoder.conv_in.weight.grad.clone()
    tokenizer.zero_grad()

    images = shift_and_mirror(normalise_pixels(objective.pictures[rows]), step_generator(0, 3))
    latents = tokenizer.latents(images)
    codes = tokenizer.look_up(tokenizer.nearest(latents))
    (codes - latents.detach()).pow(2).mean().backward(retain_graph=True)
    torch.testing.assert_close(told, book.grad)

    copies = tokenizer.reconstruct(codes.detach())
    copies = copies.detach().requires_grad_()
    terms = [(copies - images).abs().mean(), SQUARED * (copies - images).pow(2).mean(),
             PERCEPTUAL * objective.features.distance(copies, images)]
    sum(terms).backward()
    spots = codes.detach().requires_grad_()
    tokenizer.reconstruct(spots).backward(copies.grad)  # straight through: the latents' gradient is the codes'
    commitment = COMMITMENT * (latents - codes.detach()).pow(2).mean()
    tokenizer.zero_grad()
    (commitment + (latents * spots.grad).sum()).backward()
    torch.testing.assert_close(told_encoder, tokenizer.network.encoder.conv_in.weight.grad, rtol=1e-3, atol=1e-6)
    total = sum(terms) + (1 + COMMITMENT) * (latents - codes).pow(2).mean()
    assert logs["loss"].item() == pytest.approx(total.item(), rel=1e-5)
    assert logs["psnr_db"].item() == pytest.approx(10 * np.log10(4 / (copies - images).pow(2).mean().item()), rel=1e-5)


def test_perceptual_distance(objective):
    images, others = torch.rand(3, 3, 16, 16) * 2 - 1, torch.rand(3, 3, 16, 16) * 2 - 1
    distance = objective.features.distance
    assert distance(images, images).item() == 0
    assert distance(others, images).item() == pytest.approx(distance(images, others).item(), rel=1e-5) and \
        0 < distance(others, images).item() <= 8  # two stages, squared distance of unit vectors


# --- dead codes ----------------------------------------------------------------------------------------------------

def test_revive_moves_dead_codes_only(objective):
    fair = 1 / NUM_CODES
    usage = torch.full((NUM_CODES,), fair)
    usage[[2, 5, 9]], usage[4] = 0.0, 0.2 * fair
    objective.usage.copy_(usage)
    latents = F.normalize(torch.randn(3, CODE_DIM, 4, 4), dim=1)
    codes = torch.tensor([0, 1, 3, 6] * 12).reshape(3, 16)
    weight = objective.tokenizer.network.quantize.embedding.weight
    before = weight.detach().clone()
    objective.revive(latents, codes, step_generator(0, 0))
    moved = (weight != before).any(1).nonzero()[:, 0].tolist()
    assert moved == [2, 5, 9]
    spots = latents.permute(0, 2, 3, 1).reshape(-1, CODE_DIM)
    origins = [(spots == weight[code]).all(1).nonzero()[:, 0].tolist() for code in moved]
    assert all(len(origin) == 1 for origin in origins) and len({origin[0] for origin in origins}) == 3
    shares = torch.tensor([12 / 48 if code in (0, 1, 3, 6) else 0.0 for code in range(NUM_CODES)])
    expected = usage + 0.02 * (shares - usage)
    expected[moved] = fair
    torch.testing.assert_close(objective.usage, expected)


def test_revive_copes_with_more_dead_codes_than_latents(objective):
    objective.usage.zero_()
    weight = objective.tokenizer.network.quantize.embedding.weight
    before = weight.detach().clone()
    latents = F.normalize(torch.randn(1, CODE_DIM, 2, 2), dim=1)
    objective.revive(latents, torch.tensor([[0, 0, 0, 0]]), step_generator(0, 0))
    moved = (weight != before).any(1).nonzero()[:, 0].tolist()
    assert len(moved) == 4 and 0 not in moved


def test_codes_rest_in_the_second_half_of_the_run(objective):
    objective.usage.zero_()
    objective.step += 10
    weight = objective.tokenizer.network.quantize.embedding.weight
    before = weight.detach().clone()
    objective.revive(torch.randn(1, CODE_DIM, 4, 4), torch.zeros(1, 16, dtype=torch.int64), step_generator(0, 0))
    assert torch.equal(weight, before)


# --- augmentation --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [15, 16, 32])
def test_shift_and_mirror_keeps_shape_and_repeats(size):
    images = torch.rand(5, 3, size, size) * 2 - 1
    first, again = (shift_and_mirror(images, step_generator(0, 0)) for _ in range(2))
    assert first.shape == images.shape and torch.equal(first, again)
    white = torch.ones(5, 3, size, size)
    assert torch.equal(shift_and_mirror(white, step_generator(0, 1)), white)


def test_shift_and_mirror_does_nothing_else():
    """Each result is one of the 2 x 6 x 25 pictures that a mirror, a swap of channels and a shift can make."""
    image = torch.rand(3, 32, 32) * 2 - 1
    made = {}
    for mirror, swap, down, right in itertools.product((0, 1), itertools.permutations(range(3)), *[range(-2, 3)] * 2):
        moved = torch.ones(3, 32, 32)
        source = (image.flip(-1) if mirror else image)[list(swap)]
        for y, x in itertools.product((0, 31), (0, 31)):
            if 0 <= y + down < 32 and 0 <= x + right < 32:
                moved[:, y, x] = source[:, y + down, x + right]
        rows, columns = slice(2, 30), slice(2, 30)
        moved[:, rows, columns] = source[:, 2 + down:30 + down, 2 + right:30 + right]
        made[mirror, swap, down, right] = moved
    seen = []
    for step in range(30):
        for result in shift_and_mirror(image[None].repeat(4, 1, 1, 1), step_generator(0, step)):
            matches = [key for key, moved in made.items() if torch.equal(moved[:, 2:30, 2:30], result[:, 2:30, 2:30])
                       and torch.equal(moved[:, ::31, ::31], result[:, ::31, ::31])]
            assert len(matches) == 1
            seen += matches
    mirrored = np.mean([key[0] for key in seen])
    swapped = np.mean([key[1] != (0, 1, 2) for key in seen])
    assert 0.35 < mirrored < 0.65 and 0.05 < swapped < 0.3 and len({key[2:] for key in seen}) > 10


# --- measures ------------------------------------------------------------------------------------------------------

def test_reconstruction_is_measured_in_decibels(objective, pictures):
    tokenizer = objective.tokenizer.eval()
    copies, codes = reconstruct_pictures(tokenizer, pictures, batch_size=3)
    psnr = psnr_db(copies, pictures)
    assert copies.shape == pictures.shape and copies.dtype == np.uint8 and codes.shape == (8, 16) and psnr.shape == (8,)
    images = tokenizer.decode(torch.from_numpy(codes)).permute(0, 2, 3, 1).numpy().astype(np.float64)
    assert np.abs(copies - (images + 1) * 127.5).max() <= 0.5 + 1e-3
    for picture, copy, told in zip(pictures.astype(int), copies.astype(int), psnr, strict=True):
        assert told == pytest.approx(20 * np.log10(255) - 10 * np.log10(np.mean((picture - copy) ** 2)))


def test_a_perfect_copy_has_a_finite_psnr(objective, pictures):
    tokenizer = objective.tokenizer.eval()
    copies, _ = reconstruct_pictures(tokenizer, pictures[:1])
    codes = torch.zeros(1, 16, dtype=torch.int64)
    tokenizer.encode = lambda images: codes
    tokenizer.decode = lambda codes: normalise_pixels(torch.from_numpy(copies))
    again, _ = reconstruct_pictures(tokenizer, copies)
    psnr = psnr_db(again, copies)
    assert np.array_equal(again, copies) and psnr[0] == pytest.approx(10 * np.log10(255 ** 2 / 1e-3))


def test_pictures_are_encoded_in_batches_as_at_once(objective, pictures):
    tokenizer = objective.tokenizer.eval()
    codes = encode_view(tokenizer, pictures, batch_size=3)
    assert codes.shape == (8, 16) and codes.dtype == np.uint16
    np.testing.assert_array_equal(codes, tokenizer.encode(normalise_pixels(torch.from_numpy(pictures))))


def test_codes_in_double_precision_are_the_same_where_no_two_are_as_near(objective, pictures):
    tokenizer = objective.tokenizer.eval()
    codes = encode_view_exactly(tokenizer, pictures, batch_size=3)
    assert codes.shape == (8, 16) and codes.dtype == np.uint16
    assert (codes == encode_view(tokenizer, pictures)).mean() > 0.99
    assert {tensor.dtype for tensor in tokenizer.state_dict().values()} == {torch.float32}


def test_codes_in_double_precision_tell_apart_what_single_precision_cannot(objective, pictures):
    """Of two codes whose cosines with a latent differ by less than float32 resolves, the nearer one wins, whichever."""
    tokenizer = objective.tokenizer.eval()
    network = deepcopy(tokenizer.network).double()
    pixels = normalise_pixels(torch.from_numpy(pictures[:1])).double()
    with torch.no_grad():
        latent = F.normalize(network.encode(F.pixel_unshuffle(pixels, 2)), dim=1)[0, :, 0, 0]
        away = torch.zeros_like(latent)
        away[latent.abs().argmin()] = 3e-5  # a cosine of 1 - 5e-10
        for near, far in ((0, 1), (1, 0)):
            weight = -latent.repeat(tokenizer.num_codes, 1)
            weight[near], weight[far] = latent, latent + away
            tokenizer.network.quantize.embedding.weight.copy_(weight)
            rounded = F.normalize(tokenizer.network.quantize.embedding.weight.double(), dim=-1) @ latent
            assert encode_view_exactly(tokenizer, pictures[:1])[0, 0] == rounded.argmax()


def test_early_features_are_the_same_at_every_call_and_leave_the_random_numbers_alone():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    torch.manual_seed(5)
    first, drawn = EarlyFeatures().distance(images, images.flip(0)), torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, EarlyFeatures().distance(images, images.flip(0))) and first > 0
    assert EarlyFeatures().distance(images, images) == 0


# --- tiny runs -----------------------------------------------------------------------------------------------------

def run(pictures, folder, **changes):
    return train_tokenizer(pictures, folder, **{
        "num_codes": 16, "code_dim": 4, "width": 8, "num_downsamplings": 2, "batch_size": 8, "num_steps": 15,
        "learning_rate": 2e-2, "gan_start": 99, "seed": 0, **changes})


def test_training_lowers_the_loss(pictures, tmp_path):
    history = run(pictures, tmp_path)
    assert list(history.columns) == ["step", "images", "learning_rate", "loss", "reconstruction", "psnr_db"]
    assert history.loss[-4:].mean() < 0.9 * history.loss[:3].mean()
    assert history.psnr_db[-4:].mean() > history.psnr_db[:3].mean()


def test_a_run_with_the_critic_is_deterministic(pictures, tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        history = run(pictures, tmp_path / name, num_steps=3, gan_start=1, seed=seed)
        assert np.isfinite(history.loss).all()
    first, second, other = (Tokenizer.load(tmp_path / name / "model").identity for name in "abc")
    assert first == second != other
