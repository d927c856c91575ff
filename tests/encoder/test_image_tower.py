"""kdlib.encoder.image_tower beside timm's own network, as open_clip puts it together."""

import pytest
import torch

from kdlib.encoder.encoder import EMBEDDING_DIM, OWN_TOWER, build_sticker_clip
from kdlib.encoder.image_tower import ImageTower


@pytest.fixture(scope="module")
def towers():
    """timm's with random weights and running statistics, ours with the same."""
    torch.manual_seed(0)
    theirs = build_sticker_clip(OWN_TOWER, 32).visual.eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.2)
    ours = ImageTower(EMBEDDING_DIM).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def test_the_tensors_have_the_same_names_and_shapes_in_the_same_order(towers):
    theirs, ours = (tower.state_dict() for tower in towers)
    assert [(name, t.shape) for name, t in ours.items()] == [(name, t.shape) for name, t in theirs.items()]


@pytest.mark.parametrize("size", [(3, 3, 32, 32), (2, 3, 64, 64), (1, 3, 45, 37)])
def test_the_vectors_are_equal(towers, size):
    images = torch.rand(size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for layout in (torch.contiguous_format, torch.channels_last):
        theirs, ours = (tower(images.contiguous(memory_format=layout)) for tower in towers)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        assert theirs.std() > 0.1
