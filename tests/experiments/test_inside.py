"""Pictures of one look: covered where masked, the drawing where all is there."""

import numpy as np
import pytest
import torch

from kdlib.data.pixels import to_pil
from kdlib.experiments import inside
from kdlib.models.discrete.inspection import Look
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig

V = 5


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(TokenizerConfig(size_px=16, num_codes=V, code_dim=3, width=8, num_downsamplings=2)).eval()


def look(codes, t=7):
    codes = torch.tensor(codes)
    certain = torch.full((16, V + 1), -torch.inf).scatter(1, codes[:, None], 0.0)[:, :V]
    belief = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).log()
    return Look(t, codes, torch.where((codes == V)[:, None], belief, certain))


def test_masked_positions_are_covered_and_the_others_show_the_best_guess(tokenizer):
    one = look([V, 1, 2, 3, 4, 0, V, 1, 2, 3, 4, 0, 1, 2, 3, V])
    guess, partial = (np.asarray(draw(tokenizer, one)) for draw in (inside.best_guess_picture, inside.partial_picture))
    covered = (partial == inside.COVER).all(-1)
    for position, code in enumerate(one.codes.tolist()):
        row, column = 4 * (position // 4), 4 * (position % 4)
        field = np.s_[row:row + 4, column:column + 4]
        assert covered[field].all() if code == V else np.array_equal(partial[field], guess[field])


def test_at_the_end_both_pictures_are_the_drawing(tokenizer):
    codes = [n % V for n in range(16)]
    drawing = np.asarray(to_pil(tokenizer.decode(torch.tensor([codes])))[0])
    for draw in (inside.best_guess_picture, inside.partial_picture):
        assert np.array_equal(np.asarray(draw(tokenizer, look(codes, 0))), drawing)


def test_captions_count_and_average():
    entropy = -(np.array([0.1, 0.2, 0.4, 0.2, 0.1]) * np.log([0.1, 0.2, 0.4, 0.2, 0.1])).sum()
    assert inside.look_caption(look([V] * 4 + [0] * 12)) == (
        f"t = 7: 4 of 16 positions masked, which hold {entropy:.2f} nats of doubt each")
    assert inside.look_caption(look([0] * 16, 0)) == "t = 0: 0 of 16 positions masked"
    maps = torch.tensor([[0.5, 0.3], [0.2, 0.2], [0.3, 0.5]])
    assert inside.attention_caption(3, maps) == ("t = 3: 0.40 of all weight on the query; most of the neighbours has "
                                                 "number 2 (0.40); alike would be 0.33")


def test_a_heat_map_goes_from_dark_to_bright_field_by_field():
    pixels = np.asarray(inside.heat_map(torch.tensor([0.0, 1.0, 2.0, 9.0]), highest=2.0)).astype(int).sum(-1)
    corners = pixels[10, 10], pixels[10, 50], pixels[50, 10], pixels[50, 50]
    assert corners[0] < corners[1] < corners[2] == corners[3] and pixels.shape == (64, 64)
    assert len(np.unique(np.asarray(inside.heat_map(torch.zeros(4), highest=0.0)))) <= 3


def test_sheets_have_a_column_for_each_token(tokenizer):
    source = inside.best_guess_picture(tokenizer, look([0] * 16))
    page = inside.token_sheet(torch.tensor([[0.8], [0.1], [0.2]]).expand(3, 16), [source] * 2, 0.8, 0.2)
    assert page.size == (3 * 64, 20 + 2 * 64)
    brightest, half, also = (np.asarray(page)[20 + 64 + 30, 64 * column + 30].astype(int).sum() for column in range(3))
    assert half < brightest == also, "the query and the neighbours have a scale each"
    assert inside.look_sheet(tokenizer, look([0] * 16)).size == (3 * 132, 20 + 132)


def test_the_mean_over_blocks_and_heads_keeps_sums():
    maps = torch.rand(2, 1, 3, 16, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mean = inside.mean_attention(maps)
    assert mean.shape == (5, 16)
    torch.testing.assert_close(mean.sum(0), torch.ones(16))
    assert mean[2, 7] == pytest.approx(np.mean([maps[b, 0, h, 7, 2] for b in range(2) for h in range(3)]))
