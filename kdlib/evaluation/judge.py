"""The judge: a network of another architecture and seed than the encoder, which only looks at what was made.

It learns all concepts and all styles, the held-out ones too, and is never part of a condition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from kdlib.encoder.encoder import StickerPreprocess
from kdlib.encoder.text_tower import load_text_tower, pooled_texts
from kdlib.weights import fitting, load_model, save_model

FEATURE_DIM = 128  # narrow, so that the Frechet distance of few pictures is less biased
TEXT_DIM = 384  # all-MiniLM-L6-v2's
HELD_OUT_SHARE = 0.05


class Judge(nn.Module):
    """Pictures to features, and three linear heads on these: which concept, which style, where among texts.

    backbone  name of a timm network      concepts, styles  what the heads' outputs stand for, in their order
    size_px   side of the pictures that it was trained on

    A feature has mean 0 and variance 1 over the training pictures (a BatchNorm without weights), so that a squared
    distance in FEATURE_DIM features is about 2 * FEATURE_DIM between two unrelated pictures.
    """

    def __init__(self, backbone: str, size_px: int, concepts: Sequence[str], styles: Sequence[str]):
        import timm  # takes as long as all else that an experiment imports

        super().__init__()
        self.backbone, self.size_px, self.concepts, self.styles = backbone, size_px, list(concepts), list(styles)
        self.trunk = timm.create_model(backbone, pretrained=False, num_classes=0).to(memory_format=torch.channels_last)
        self.squeeze = nn.Sequential(nn.Linear(self.trunk.head_hidden_size, FEATURE_DIM),
                                     nn.BatchNorm1d(FEATURE_DIM, affine=False))
        self.concept = nn.Linear(FEATURE_DIM, len(self.concepts))
        self.style = nn.Linear(FEATURE_DIM, len(self.styles))
        self.text = nn.Linear(FEATURE_DIM, TEXT_DIM)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch feature_dim"]:
        """Features of pictures in [-1, 1]; the last map is made in float32 also under autocast."""
        pooled = self.trunk(images).float()
        with torch.autocast(images.device.type, enabled=False):
            return self.squeeze(pooled)

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image] | np.ndarray, batch_size: int = 256) -> np.ndarray:
        """PIL pictures, or uint8 (num_pictures, height, width, 3), to float32 (num_pictures, FEATURE_DIM).

        Raises ValueError in training mode, in which a picture's features depend on its batch.
        """
        if self.training:
            raise ValueError("the judge is in training mode; call judge.eval() first")
        prepare, device = StickerPreprocess(self.size_px), self.text.weight.device
        chunks = [self(prepare(pictures[start:start + batch_size]).to(device))
                  for start in range(0, len(pictures), batch_size)]
        return torch.cat(chunks).cpu().numpy() if chunks else np.empty((0, FEATURE_DIM), np.float32)

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        config = {"kind": "judge", "backbone": self.backbone, "size_px": self.size_px, "styles": self.styles,
                  "concepts": self.concepts}
        save_model(folder, config, {name: tensor.half() if tensor.is_floating_point() else tensor
                                    for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Judge:
        """A saved judge in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, "judge")
        with fitting(folder, config):
            judge = cls(config["backbone"], config["size_px"], config["concepts"], config["styles"])
            judge.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
        return judge.eval().requires_grad_(False)


@torch.inference_mode()
def verdicts(judge: Judge, features: Float[np.ndarray, "num_pictures feature_dim"], concepts: Sequence[str],
             texts: Sequence[str]) -> pd.DataFrame:
    """What the judge says of pictures that should show `concepts` and fit `texts` (one of each a picture).

    Returns a row for each picture: top1, top5 (bool: is its concept the best, among the best five, of all?), concept
    and style (the best ones), alignment (float, the cosine with its text). Raises ValueError for a concept that the
    judge has not learned, or unequal lengths.
    """
    if not len(features) == len(concepts) == len(texts):
        raise ValueError(f"{len(features)} pictures, {len(concepts)} concepts, {len(texts)} texts: give one of each")
    column = {concept: i for i, concept in enumerate(judge.concepts)}
    if unknown := sorted(set(concepts) - column.keys()):
        raise ValueError(f"the judge knows no concept {unknown[0]!r}; train it on pictures of it")
    rows = torch.from_numpy(features.astype(np.float32)).to(judge.text.weight.device)
    scores = judge.concept(rows).cpu()
    own = scores.gather(1, torch.tensor([column[concept] for concept in concepts], dtype=torch.int64)[:, None])
    rank = (~(scores < own)).sum(1).numpy()  # ties, and what is no number, count against it
    unique, place = np.unique(np.asarray(texts, dtype=str), return_inverse=True)
    cosines = F.cosine_similarity(judge.text(rows).cpu(), text_features(unique.tolist())[place])
    return pd.DataFrame({"top1": rank <= 1, "top5": rank <= 5,
                         "concept": [judge.concepts[i] for i in scores.argmax(1)],
                         "style": [judge.styles[i] for i in judge.style(rows).cpu().argmax(1)],
                         "alignment": cosines.double().numpy()})


def text_features(texts: list[str]) -> Float[Tensor, "num_texts text_dim"]:
    """Unit vectors of texts in the frozen text tower's own space: no part of them was trained with any encoder."""
    if not texts:
        return torch.empty(0, TEXT_DIM)
    return pooled_texts(load_text_tower(), texts)


def held_out_pictures(stickers: pd.DataFrame) -> Bool[np.ndarray, " num_pictures"]:
    """Which pictures the judge does not learn from: 5% of the drawings (style, concept), by a hash of their names.

    All skin tones of a drawing stay on one side, and every concept keeps a drawing to be learned from.
    """
    drawings = stickers["style"] + ":" + stickers.concept
    place = drawings.map(lambda name: int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16 ** 12)
    return ((place < HELD_OUT_SHARE) & (place < place.groupby(stickers.concept).transform("max"))).to_numpy()
