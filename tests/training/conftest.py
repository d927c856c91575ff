"""What several trainings are tested with."""

import pytest
import torch

from kdlib.encoder import Encoder
from kdlib.encoder.encoder import StickerPreprocess, build_sticker_clip
from kdlib.encoder.text_tower import sticker_tokenizer


@pytest.fixture(scope="module")
def encoder():
    """An untrained one for 32 px."""
    torch.manual_seed(0)
    return Encoder(build_sticker_clip("resnet10t", 32), StickerPreprocess(32), sticker_tokenizer(), "sticker/resnet10t")
