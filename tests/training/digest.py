"""Run by test_processors: what the stage `views` makes of a folder's models, in a process of its own."""

import hashlib
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import nn

from kdlib.encoder.encoder import Encoder, StickerClip, StickerPreprocess
from kdlib.encoder.image_tower import ImageTower
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.training.views import make_views

SIZE = 16


class Sight(nn.Module):
    """The image side of a `StickerClip`."""

    encode_image = StickerClip.encode_image

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual


class Eyes(Encoder):
    """An encoder without its text side."""

    def __init__(self, tower: ImageTower):
        self.model, self.preprocess, self.dim = Sight(tower).eval(), StickerPreprocess(SIZE), 5


def digest(folder: Path) -> str:
    tower = ImageTower(5)
    tower.load_state_dict(load_file(folder / "tower.safetensors"))
    encoder = Eyes(tower)
    pictures = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    views = make_views(Tokenizer.load(folder / "tokenizer"), encoder, pictures, 2, seed=3)
    return hashlib.sha256(views.codes.tobytes() + views.vectors.tobytes()).hexdigest()


if __name__ == "__main__":
    print(digest(Path(sys.argv[1])))
