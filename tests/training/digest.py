"""Run by test_processors: what the stage `views` makes of a folder's models, in a process of its own."""

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from safetensors.torch import load_file

from kdlib.encoder.encoder import Encoder, StickerClip, StickerPreprocess
from kdlib.encoder.image_tower import ImageTower
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.training.views import make_views

SIZE = 16


class Eyes(SimpleNamespace):
    """An encoder without its text side."""

    encode_images_exactly = Encoder.encode_images_exactly


def digest(folder: Path) -> str:
    tower = ImageTower(5)
    tower.load_state_dict(load_file(folder / "tower.safetensors"))
    encoder = Eyes(model=StickerClip(tower, None).eval(), preprocess=StickerPreprocess(SIZE), dim=5)
    pictures = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    views = make_views(Tokenizer.load(folder / "tokenizer"), encoder, pictures, 2, seed=3)
    return hashlib.sha256(views.codes.tobytes() + views.vectors.tobytes()).hexdigest()


if __name__ == "__main__":
    print(digest(Path(sys.argv[1])))
