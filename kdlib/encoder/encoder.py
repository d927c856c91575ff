"""f_img and f_txt behind one class: the bundled sticker encoder, or any open_clip pair by name (paper section 3)."""

from __future__ import annotations

import copy
import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image, ImageOps
from torch import Tensor, nn
from tqdm import tqdm

from kdlib.data.pixels import normalise_pixels
from kdlib.encoder.image_tower import ImageTower
from kdlib.encoder.text_tower import (
    TEXT_DIM,
    TEXT_MODEL,
    TextTower,
    Unread,
    load_text_tower,
    sticker_tokenizer,
    text_model_folder,
    unread_words,
)
from kdlib.weights import fitting, load_model, save_model, tensors_hash

EMBEDDING_DIM = 512  # as CLIP's, paper section 6.4
OWN_TOWER = "resnet10t"  # what `ImageTower` is
TEXT_MAP_WIDTH = 768  # hidden units between the text tower's 384 features and the joint space
MAX_TOLD, MAX_LETTERS = 5, 60  # of what wasn't read, in a warning

log = logging.getLogger(__name__)


class Encoder:
    """A frozen pair of towers into one space of unit vectors.

    name      "sticker/<vision model>" for the bundled kind, "<architecture>/<weights>" for an open_clip pair
    dim       width of the embeddings
    identity  16 hex digits over both towers' weights; embeddings and indexes carry it and refuse another's
    """

    def __init__(self, model: nn.Module, preprocess, tokenize, name: str):
        self.model = model.eval().requires_grad_(False)
        self.preprocess, self.tokenize, self.name = preprocess, tokenize, name
        self.identity = tensors_hash(model.state_dict())
        self.dim = int(self.encode_texts(["a picture"]).shape[1])

    @classmethod
    def from_open_clip(cls, architecture: str, weights: str) -> Encoder:
        """Any pair that open_clip lists, e.g. ("ViT-B-32", "laion2b_s34b_b79k"); fetches the weights when absent.

        Raises ValueError naming what exists when open_clip knows no such pair.
        """
        import open_clip  # takes seconds, as timm and transformers behind it do

        if (architecture, weights) not in open_clip.list_pretrained():
            known = open_clip.list_pretrained_tags_by_model(architecture)
            raise ValueError(f"open_clip has no weights {weights!r} for {architecture!r}; it has {known or 'none'}")
        model, _, preprocess = open_clip.create_model_and_transforms(architecture, weights)
        as_pictures = lambda images: [Image.fromarray(i) if isinstance(i, np.ndarray) else i for i in images]
        return cls(model, lambda images: torch.stack([preprocess(i) for i in as_pictures(images)]),
                   open_clip.get_tokenizer(architecture), f"{architecture}/{weights}")

    @classmethod
    def load(cls, folder: str | Path) -> Encoder:
        """The bundled kind, as `save` wrote it; the text tower's own weights come from the package.

        Raises FileNotFoundError or ValueError saying what is missing, damaged or foreign.
        """
        config, tensors = load_model(folder, "sticker-encoder")
        with fitting(folder, config):
            preprocess = StickerPreprocess(config["size_px"])
            model = empty_sticker_clip(config["vision_model"], config["size_px"])
        wanted = {name for name in model.state_dict() if not name.startswith("text.transformer.")}
        if differing := set(tensors) ^ wanted:
            raise ValueError(f"{folder} holds another make of encoder: {sorted(differing)[0]} is missing or unknown, "
                             f"of {len(differing)} such tensors; train it anew, or fetch the published one (dvc pull)")
        with fitting(folder, config):
            model.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor
                                   for name, tensor in tensors.items()}, strict=False, assign=True)
        return cls(model, preprocess, sticker_tokenizer(),
                   f"sticker/{config['vision_model']}")

    def save(self, folder: str | Path) -> None:
        """Writes the trained part (image tower, text map) as float16 safetensors + JSON; bundled kind only."""
        if not isinstance(self.preprocess, StickerPreprocess):
            raise ValueError(f"{self.name} is an open_clip pair; name it again instead of saving it")
        config = {"kind": "sticker-encoder", "vision_model": self.name.removeprefix("sticker/"),
                  "size_px": self.preprocess.size_px, "text_model": TEXT_MODEL}
        save_model(folder, config, trained_tensors(self.model))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image] | np.ndarray, batch_size: int = 256) -> np.ndarray:
        """f_img: PIL pictures, or uint8 (num_images, height, width, 3), to float32 (num_images, dim) unit vectors."""
        batches = range(0, len(images), batch_size)
        chunks = [self.model.encode_image(self.preprocess(images[start:start + batch_size]), normalize=True)
                  for start in tqdm(batches, desc="encode", disable=len(batches) < 4)]
        return torch.cat(chunks).float().numpy() if chunks else np.empty((0, self.dim), np.float32)

    @torch.inference_mode()
    def encode_images_exactly(self, images: Sequence[Image.Image] | np.ndarray, batch_size: int = 256) -> np.ndarray:
        """`encode_images` in float64, rounded: the same bytes on every processor, at a third of the speed.

        Returns float16 (num_images, dim) unit vectors. In float32 the last digits depend on the processor. What is made
        from other digits is another input to all that learns from it, and a whole pipeline would have to be run again.
        """
        model, batches = copy.deepcopy(self.model).double(), range(0, len(images), batch_size)
        chunks = [model.encode_image(self.preprocess(images[start:start + batch_size]).double(), normalize=True)
                  for start in tqdm(batches, desc="encode", disable=len(batches) < 4)]
        return torch.cat(chunks).numpy().astype(np.float16) if chunks else np.empty((0, self.dim), np.float16)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """f_txt: texts to float32 (num_texts, dim) unit vectors; ValueError for an empty one."""
        if isinstance(texts, str):
            raise ValueError(f"give a list of texts, such as [{texts!r}], not one text")
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"a text to encode must be a non-empty string, not {text!r}")
        chunks = [self.model.encode_text(self.tokenize(list(texts[start:start + batch_size])), normalize=True)
                  for start in range(0, len(texts), batch_size)]
        return torch.cat(chunks).float().numpy() if chunks else np.empty((0, self.dim), np.float32)

    def unread(self, text: str) -> Unread:
        """What `encode_texts` passes over in a text; of an open_clip pair, only the end that is cut off is told."""
        if isinstance(self.preprocess, StickerPreprocess):
            return unread_words(text)
        return Unread([], cut_off(self.tokenize, text), False)

    def check_readable(self, texts: Sequence[str]) -> None:
        """Warns, once for all texts, of what is passed over in them; ValueError for one of which nothing is known."""
        told = []
        for text in texts:
            unread = self.unread(text)
            if unread.empty:
                raise ValueError(f"the encoder knows nothing of {shorten(text)}; say it in English words, "
                                 "for example 'a red apple'")
            told += [f"{shorten(word)} (unknown; the encoder knows English words)" for word in unread.unknown]
            told += [f"{shorten(unread.cut)} (beyond the length that the encoder takes)"] if unread.cut else []
        if told:
            more = f"; and {len(told) - MAX_TOLD} more" if len(told) > MAX_TOLD else ""
            log.warning("not read: %s%s", "; ".join(told[:MAX_TOLD]), more)


class StickerPreprocess:
    """Pictures to the bundled tower's input: float32 (batch, 3, size_px, size_px) in [-1, 1]."""

    def __init__(self, size_px: int):
        if isinstance(size_px, bool) or not isinstance(size_px, int) or size_px < 1:
            raise ValueError(f"size_px = {size_px!r} must be a whole number of at least 1")
        self.size_px = size_px

    def __call__(self, images: Sequence[Image.Image] | np.ndarray) -> Tensor:
        if not isinstance(images, np.ndarray):
            size = (self.size_px, self.size_px)
            images = np.stack([np.asarray(ImageOps.pad(i.convert("RGB"), size, Image.Resampling.LANCZOS, "white"))
                               for i in images])
        pixels = normalise_pixels(torch.from_numpy(np.ascontiguousarray(images)))
        if pixels.shape[-1] != self.size_px:
            pixels = F.interpolate(pixels, (self.size_px, self.size_px), mode="bicubic", antialias=True)
        return pixels.contiguous(memory_format=torch.channels_last)


class TextMap(nn.Module):
    """From the text tower's features to the joint space: a perceptron of the features' direction, one hidden layer.

    A linear map of 384 features can't put some thousand names where their pictures are; this one can.
    """

    def __init__(self, width: int, hidden: int, dim: int):
        super().__init__()
        self.hidden = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, dim, bias=False)

    def forward(self, features: Float[Tensor, "texts width"]) -> Float[Tensor, "texts dim"]:
        scaled = F.normalize(features, dim=-1) * features.shape[-1] ** 0.5  # each feature has about unit variance
        return self.out(F.gelu(self.hidden(scaled)))


class StickerTexts(nn.Module):
    """The text side of a sticker CLIP: the frozen tower, then a map to the joint space."""

    def __init__(self, transformer: TextTower, proj: nn.Module):
        super().__init__()
        self.transformer, self.proj = transformer, proj

    def forward(self, tokens: Int[Tensor, "texts places"]) -> Float[Tensor, "texts dim"]:
        return self.proj(self.transformer(tokens))


class StickerClip(nn.Module):
    """Both towers of a trained encoder, with the interface and the names of tensors of open_clip's CustomTextCLIP."""

    def __init__(self, visual: nn.Module, text: StickerTexts):
        super().__init__()
        self.visual, self.text = visual, text
        self.logit_scale = nn.Parameter(torch.empty(()))

    def encode_image(self, images: Float[Tensor, "batch 3 height width"],
                     normalize: bool = False) -> Float[Tensor, "batch dim"]:
        features = self.visual(images)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, tokens: Int[Tensor, "texts places"], normalize: bool = False) -> Float[Tensor, "texts dim"]:
        features = self.text(tokens)
        return F.normalize(features, dim=-1) if normalize else features


def empty_sticker_clip(vision_model: str, size_px: int) -> nn.Module:
    """A trained encoder's network, its own weights still to be loaded; other image towers than OWN_TOWER by timm."""
    if vision_model != OWN_TOWER:
        model = build_sticker_clip(vision_model, size_px)
        model.text.proj = TextMap(TEXT_DIM, TEXT_MAP_WIDTH, EMBEDDING_DIM)
        return model
    with torch.device("meta"):
        visual, text_map = ImageTower(EMBEDDING_DIM), TextMap(TEXT_DIM, TEXT_MAP_WIDTH, EMBEDDING_DIM)
    return StickerClip(visual, StickerTexts(load_text_tower(), text_map))


def build_sticker_clip(vision_model: str, size_px: int) -> nn.Module:
    """An untrained image tower (any timm network) beside the frozen all-MiniLM-L6-v2, each with a linear map to 512.

    The text map starts as an isometry, so that the angles between texts are MiniLM's own before training. A trained
    encoder has a `TextMap` in its place.
    """
    import open_clip

    folder = str(text_model_folder())
    vision = {"timm_model_name": vision_model, "timm_model_pretrained": False, "timm_pool": "avg",
              "timm_proj": "linear", "image_size": size_px}
    text = {"hf_model_name": folder, "hf_tokenizer_name": folder, "hf_model_pretrained": False,
            "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler", "context_length": 32}
    model = open_clip.CustomTextCLIP(EMBEDDING_DIM, vision, text)
    model.text = StickerTexts(load_text_tower(), model.text.proj)
    nn.init.orthogonal_(model.text.proj.weight)
    return model


def cut_off(tokenize: Callable[[list[str]], Tensor], text: str) -> str:
    """The words at the end of a text that change nothing in its tokens, since there is no room for them."""
    read = tokenize([text])
    if not torch.equal(read, tokenize([f"{text} a"])):
        return ""
    words = text.split()
    same = lambda count: torch.equal(read, tokenize([" ".join(words[:count])]))
    return " ".join(words[bisect_left(range(len(words)), True, key=same):])


def shorten(text: str) -> str:
    """A text in quotation marks, with an ellipsis for what is beyond MAX_LETTERS."""
    return repr(text if len(text) <= MAX_LETTERS else text[:MAX_LETTERS] + "…")


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, in float16: all of a sticker CLIP but the frozen text transformer."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in model.state_dict().items() if not name.startswith("text.transformer.")}
