"""Trains the bundled encoder's image tower against the frozen text tower (locked-text tuning), then its text map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from kdlib.data.augment import augment
from kdlib.data.pixels import normalise_pixels
from kdlib.data.stickers import captions_of
from kdlib.encoder import Encoder
from kdlib.encoder.encoder import TEXT_MAP_WIDTH, StickerPreprocess, TextMap, build_sticker_clip
from kdlib.encoder.text_tower import pooled_texts, sticker_tokenizer
from kdlib.files import array_hash
from kdlib.training.loop import TrainSettings, seed_weights, train


class EncoderObjective(nn.Module):
    """Contrast of pictures with *all* training captions, of which a picture has one or several.

    pictures  uint8 (num_pictures, size_px, size_px, 3)
    groups    for each row to draw: the pictures that differ in skin tone only; one of them is taken at random
    captions  per picture: names of its concept. The loss is -log of the probability of any of them among all
              captions, mixed with a softened version in which captions close in the text tower share the credit:
              never-seen names are then placed among the seen ones that mean nearly the same.
    """

    def __init__(self, model: nn.Module, pictures: np.ndarray, groups: list[np.ndarray], captions: list[list[str]]):
        super().__init__()
        self.visual, self.text_map = model.visual, model.text.proj
        self.visual.to(memory_format=torch.channels_last)
        self.rate_scales = {"text_map.weight": 0.1}
        self.log_scale = nn.Parameter(torch.tensor(20.0).log())
        self.pictures, self.groups = torch.from_numpy(pictures), groups
        bank = sorted({caption for several in captions for caption in several})
        column = {caption: i for i, caption in enumerate(bank)}
        self.texts = pooled_texts(model.text.transformer, bank)
        self.belongs = torch.zeros(len(captions), len(bank), dtype=torch.bool)
        for row, several in enumerate(captions):
            self.belongs[row, [column[caption] for caption in several]] = True

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of the pictures of `rows` (rows of `groups`), augmented."""
        draw = torch.rand(len(rows), generator=generator)
        groups = [self.groups[row] for row in rows]
        chosen = torch.tensor([group[int(u * len(group))] for group, u in zip(groups, draw, strict=True)])
        device = self.log_scale.device
        images = augment(normalise_pixels(self.pictures[chosen]), generator).to(device)
        features, belongs = self.visual(images).float(), self.belongs[chosen]
        with torch.autocast(device.type, enabled=False):  # cosines times 30 need more than bfloat16's three digits
            vectors = F.normalize(features, dim=-1)
            texts = F.normalize(self.text_map(self.texts.to(device)), dim=-1)
            log_p = (self.log_scale.exp() * vectors @ texts.T).log_softmax(-1)
            hard = -log_p.masked_fill(~belongs.to(device), -torch.inf).logsumexp(-1).mean()
            soft = -(soft_targets(self.texts, belongs).to(device) * log_p).sum(-1).mean()
        return {"loss": (hard + soft) / 2, "contrast": hard.detach(), "scale": self.log_scale.detach().exp()}


def soft_targets(texts: Float[Tensor, "texts width"], belongs: Bool[Tensor, "batch texts"],
                 temperature: float = 0.1) -> Float[Tensor, "batch texts"]:
    """For each picture a distribution over all captions by their mean text-tower cosine with its own ones."""
    own = F.normalize(belongs.float(), p=1, dim=-1) @ texts
    return (own @ texts.T / temperature).softmax(-1)


def train_encoder(table: pd.DataFrame, pictures: np.ndarray, folder: str | Path, *, vision_model: str,
                  batch_size: int, num_steps: int, learning_rate: float, num_text_steps: int,
                  seed: int) -> pd.DataFrame:
    """Trains on `pictures`, of which `table` tells all (row i is pictures[i]), and saves `folder`/model.

    table  columns style, concept, title, keywords, as of `load_stickers`; who calls it leaves out what must not be seen

    Checkpoints to `folder`/checkpoint and goes on from there when it was cut off. After the contrast the text map is
    made anew by `fit_text_map`, `num_text_steps` long: from the captions to where the image tower puts the pictures
    that have them. Returns the history.
    """
    captions = [text.split(", ") for text in captions_of(table)]
    groups = [np.asarray(g) for g in table.reset_index().groupby(["style", "concept"], sort=True).indices.values()]
    seed_weights(seed)
    model = build_sticker_clip(vision_model, pictures.shape[1])
    objective = EncoderObjective(model, np.ascontiguousarray(pictures), groups, captions)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=array_hash(pictures, np.array(captions_of(table), dtype=str)))
    history = train(objective, len(groups), settings, Path(folder) / "checkpoint")
    encoder = Encoder(model, StickerPreprocess(pictures.shape[1]), sticker_tokenizer(), f"sticker/{vision_model}")
    bank, targets = mean_directions(captions, encoder.encode_images(pictures))
    features = pooled_texts(model.text.transformer, bank)
    model.text.proj = fit_text_map(features, targets, num_steps=num_text_steps, seed=seed)
    encoder.save(Path(folder) / "model")
    return history


def fit_text_map(texts: Float[Tensor, "texts width"], targets: Float[Tensor, "texts dim"], *, num_steps: int,
                 seed: int, batch_size: int = 512, learning_rate: float = 3e-3, noise: float = 0.5) -> TextMap:
    """A perceptron that takes each text to its target direction, by cosine; smooth, since noise is added to the texts.

    Contrast only asks that a text be nearer to its own pictures than other texts are, and leaves the two kinds of
    vectors in separate cones (the modality gap; Liang et al., 2022). A generator that was shown pictures' vectors is
    then asked with vectors such as it has never seen.

    noise  its standard deviation, where the texts' features have 1: names that mean nearly the same are to share what
           they say of pictures, or a name that is in no caption would land anywhere
    """
    seed_weights(seed)
    text_map = TextMap(texts.shape[1], TEXT_MAP_WIDTH, targets.shape[1])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(text_map.parameters(), lr=learning_rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=num_steps)
    for _ in tqdm(range(num_steps), desc="text map"):
        rows = torch.randint(len(texts), (batch_size,), generator=generator)
        shift = torch.randn(batch_size, texts.shape[1], generator=generator) * noise / texts.shape[1] ** 0.5
        loss = 1 - F.cosine_similarity(text_map(texts[rows] + shift), targets[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return text_map.requires_grad_(False)


def mean_directions(captions: Sequence[Sequence[str]],
                    vectors: Float[np.ndarray, "pictures dim"]) -> tuple[list[str], Float[Tensor, "texts dim"]]:
    """All captions in alphabetical order, and for each the mean direction of the pictures that have it."""
    bank = sorted({caption for several in captions for caption in several})
    column = {caption: i for i, caption in enumerate(bank)}
    sums = np.zeros((len(bank), vectors.shape[1]))
    for vector, several in zip(vectors, captions, strict=True):
        sums[[column[caption] for caption in several]] += vector
    return bank, F.normalize(torch.from_numpy(sums), dim=-1).float()
