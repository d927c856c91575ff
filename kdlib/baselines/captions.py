"""ClipCap (Mokady et al., 2021), small: a caption for an embedding, word by word.

A network maps the embedding to a prefix, a few vectors that stand where words would stand; a causal language model goes
on from there. Published: GPT-2, fine-tuned or frozen, whose weights are not here. So the language model is a small
transformer over the words of the names that it learns from.

In Table 2, pictures are captioned by it, and DALL-E 2's decoder learns from the captions' text embeddings: a model
trained with text after all, though nobody wrote any for these pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kdlib.files import array_hash
from kdlib.training.loop import TrainSettings, seed_weights, train
from kdlib.weights import fitting, load_model, save_model

KIND = "captioner"
END = 0  # the token after the last word; the others are 1 + the word's place in the vocabulary
BATCH = 512


@dataclass(frozen=True)
class CaptionerConfig:
    """What a captioner is built from.

    words       the vocabulary       max_words   longest caption
    width, num_blocks, num_heads     of the transformer
    num_prefix  vectors that an embedding becomes (published: 10)
    embedding_dim, encoder_id        of the embeddings
    """

    words: Sequence[str]
    max_words: int
    width: int
    num_blocks: int
    num_heads: int
    num_prefix: int
    embedding_dim: int
    encoder_id: str

    def __post_init__(self):
        object.__setattr__(self, "words", tuple(self.words))
        if not self.words or min(self.max_words, self.num_prefix) < 1:
            raise ValueError(f"{len(self.words)} words, max_words = {self.max_words}, num_prefix = {self.num_prefix}: "
                             "none of them may be 0")


class Captioner(nn.Module):
    """p(word | words before it, embedding)."""

    def __init__(self, config: CaptionerConfig):
        super().__init__()
        self.config = config
        hidden = config.num_prefix * config.width // 2  # ClipCap's perceptron, half as wide inside as its answer
        self.prefix = nn.Sequential(nn.Linear(config.embedding_dim, hidden), nn.Tanh(),
                                    nn.Linear(hidden, config.num_prefix * config.width))
        self.word = nn.Embedding(len(config.words) + 1, config.width)
        self.place = nn.Parameter(torch.zeros(config.num_prefix + config.max_words, config.width))
        self.blocks = nn.ModuleList(CausalBlock(config.width, config.num_heads) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.word.weight, std=0.02)

    def forward(self, embeddings: Float[Tensor, "batch dim"],
                words: Int[Tensor, "batch before"]) -> Float[Tensor, "batch before+1 tokens"]:
        """Logits of the word at each place, given all words before it: the first from the prefix alone."""
        scaled = embeddings * self.config.embedding_dim ** 0.5
        prefix = self.prefix(scaled).unflatten(-1, (self.config.num_prefix, -1))
        x = torch.cat([prefix, self.word(words)], 1)
        x = x + self.place[:x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, self.config.num_prefix - 1:]) @ self.word.weight.T

    @torch.no_grad()
    def caption(self, embeddings: Float[np.ndarray, "pictures dim"]) -> list[str]:
        """The likeliest word after word for each embedding, at least one; nothing is drawn by chance."""
        captions = []
        for start in range(0, len(embeddings), BATCH):
            captions += self.caption_batch(torch.from_numpy(embeddings[start:start + BATCH].astype(np.float32)))
        return captions

    def caption_batch(self, embeddings: Float[Tensor, "batch dim"]) -> list[str]:
        """The same for what fits into memory."""
        embeddings = embeddings.to(self.place.device)
        words = embeddings.new_empty((len(embeddings), 0), dtype=torch.int64)
        for number in range(self.config.max_words):
            logits = self(embeddings, words)[:, -1]
            if number == 0:
                logits[:, END] = -torch.inf
            words = torch.cat([words, logits.argmax(-1, keepdim=True)], 1)
        return [decode(row, self.config.words) for row in words.tolist()]

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        save_model(folder, {"kind": KIND, **asdict(self.config)},
                   {name: tensor.half() for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Captioner:
        """A saved captioner in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, KIND)
        with fitting(folder, config):
            captioner = cls(CaptionerConfig(**{name: value for name, value in config.items() if name != "kind"}))
            captioner.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return captioner.eval().requires_grad_(False)


class CausalBlock(nn.Module):
    """Self-attention to what came before, then a perceptron, each added to what came in."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} does not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "batch places width"]) -> Float[Tensor, "batch places width"]:
        parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.norms[1](x))


# --- words -----------------------------------------------------------------------------------------------------------

def vocabulary(names: Sequence[str]) -> tuple[str, ...]:
    """All words of some names, in alphabetical order."""
    return tuple(sorted({word for name in names for word in name.split()}))


def encode(names: Sequence[str], words: Sequence[str], max_words: int) -> Int[np.ndarray, "names places"]:
    """Names as tokens, (num_names, max_words + 1): the words, cut after max_words, then END to the end of the row.

    Raises ValueError for a word that is not in the vocabulary, or a name without words.
    """
    token, rows = {word: number for number, word in enumerate(words, start=1)}, []
    for name in names:
        if not name.split():
            raise ValueError(f"the name {name!r} has no words")
        if unknown := [word for word in name.split() if word not in token]:
            raise ValueError(f"the vocabulary has no word {unknown[0]!r}, of the name {name!r}")
        row = [token[word] for word in name.split()[:max_words]]
        rows.append(row + [END] * (max_words + 1 - len(row)))
    return np.array(rows, dtype=np.int64).reshape(len(names), max_words + 1)


def decode(tokens: Sequence[int], words: Sequence[str]) -> str:
    """Tokens up to the first END as a text."""
    tokens = list(tokens)
    return " ".join(words[token - 1] for token in tokens[:tokens.index(END) if END in tokens else None])


# --- training --------------------------------------------------------------------------------------------------------

class CaptionObjective(nn.Module):
    """Cross-entropy of the names' words and of the END after each, given the pictures' embeddings.

    embeddings  (num_pictures, dim) unit vectors      tokens  (num_pictures, max_words + 1), as `encode` gives them
    """

    def __init__(self, captioner: Captioner, embeddings: Float[np.ndarray, "pictures dim"],
                 tokens: Int[np.ndarray, "pictures places"]):
        super().__init__()
        self.captioner = captioner
        self.embeddings, self.tokens = torch.from_numpy(embeddings), torch.from_numpy(tokens)

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The mean over the words of the pictures of `rows`; nothing in it is random."""
        device = self.captioner.place.device
        tokens = self.tokens[rows].to(device)
        logits = self.captioner(self.embeddings[rows].float().to(device), tokens[:, :-1])
        wanted = F.pad(tokens[:, :-1] != END, (1, 0), value=True)  # the words, and one END after them
        return {"loss": F.cross_entropy(logits[wanted].float(), tokens[wanted])}


def train_captioner(embeddings: Float[np.ndarray, "pictures dim"], names: Sequence[str], encoder_id: str,
                    folder: str | Path, *, width: int, num_blocks: int, num_heads: int, num_prefix: int,
                    max_words: int, batch_size: int, num_steps: int, learning_rate: float, seed: int,
                    **training) -> pd.DataFrame:
    """Trains on pictures' embeddings and names, and saves `folder`/model (float16); returns the history.

    training  other fields of TrainSettings: precision, ema_decay, ...

    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for another number of names.
    """
    if len(embeddings) != len(names):
        raise ValueError(f"{len(embeddings)} embeddings have {len(names)} names; give one name for each")
    seed_weights(seed)
    words = vocabulary(names)
    tokens = encode(names, words, max_words)
    captioner = Captioner(CaptionerConfig(words, max_words, width, num_blocks, num_heads, num_prefix,
                                          embeddings.shape[1], encoder_id))
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=f"{encoder_id} {array_hash(embeddings, tokens, np.array(words))}", **training)
    history = train(CaptionObjective(captioner, embeddings, tokens), len(names), settings,
                    Path(folder) / "checkpoint")
    captioner.save(Path(folder) / "model")
    return history
