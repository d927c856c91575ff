"""From the condition y = (f, knn) to the tokens that a network attends to: every way of the paper's section 6.3.

All take unit vectors, scale them by sqrt(dim) (each feature then has about unit variance) and have no bias anywhere,
so that the null condition y' = 0 becomes zero tokens, of which cross-attention makes exactly nothing (section 6.5).

What the order of the neighbours does: nothing in `ours`, `self_attention` and `cross_attention`, which treat them as a
set and take any number of them, whatever k they were trained with; `concat` depends on it, and takes exactly k.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from kdlib.discrete import Schedule
from kdlib.io import load_model, save_model
from kdlib.transformer import Attention, Transformer
from kdlib.types import Condition


class AllEmbeddings(nn.Module):
    """`ours` (section 3): all k + 1 embeddings are tokens; the query and the neighbours have a projection each."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.query = nn.Linear(dim, width, bias=False)
        self.neighbours = nn.Linear(dim, width, bias=False)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        scale = condition.query.shape[-1] ** 0.5
        query = self.query(condition.query[:, None] * scale)
        return torch.cat([query, self.neighbours(condition.neighbours * scale)], dim=1)


class SelfAttention(nn.Module):
    """Section 6.3 (i): the k + 1 embeddings through a (residual) self-attention layer, then all as tokens."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.embed = AllEmbeddings(dim, width, k)
        self.attention = Attention(width, num_heads=1, qk_norm=True)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        tokens = self.embed(condition)
        return tokens + self.attention(tokens)


class CrossAttention(nn.Module):
    """Section 6.3 (ii): one token, the query plus what it attends to among the neighbours."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.embed = AllEmbeddings(dim, width, k)
        self.attention = Attention(width, num_heads=1, context_width=width, qk_norm=True)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        query, neighbours = self.embed(condition).tensor_split([1], dim=1)
        return query + self.attention(query, neighbours) if neighbours.shape[1] else query


class Concatenation(nn.Module):
    """Section 6.3 (iii): two tokens, the query and one learned linear projection of the k neighbours in their order."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.k = k
        self.query = nn.Linear(dim, width, bias=False)
        self.neighbours = nn.Linear(k * dim, width, bias=False)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        if condition.neighbours.shape[1] != self.k:
            raise ValueError(f"conditioning 'concat' was made for exactly {self.k} neighbours and got "
                             f"{condition.neighbours.shape[1]}; retrieve {self.k}, or train another conditioning")
        scale = condition.query.shape[-1] ** 0.5
        tokens = self.query(condition.query * scale), self.neighbours(condition.neighbours.flatten(1) * scale)
        return torch.stack(tokens, dim=1)


class QueryOnly(nn.Module):
    """The no-kNN baseline (section 4.1): the query is the only token."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.query = nn.Linear(dim, width, bias=False)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        return self.query(condition.query[:, None] * condition.query.shape[-1] ** 0.5)


CONDITIONERS = {"ours": AllEmbeddings, "self_attention": SelfAttention, "cross_attention": CrossAttention,
                "concat": Concatenation, "no_knn": QueryOnly}


def make_conditioner(conditioning: str, dim: int, width: int, k: int) -> nn.Module:
    """A module Condition -> context tokens (b, m, width), by its name in section 6.3."""
    if conditioning not in CONDITIONERS:
        raise ValueError(f"there is no conditioning {conditioning!r}; choose one of {', '.join(CONDITIONERS)}")
    return CONDITIONERS[conditioning](dim, width, k)


def drop_condition(condition: Condition, probability: float, generator: torch.Generator | None = None) -> Condition:
    """Each row's condition becomes the null condition with this probability (training for guidance, section 6.6)."""
    source = generator.device if generator is not None else condition.query.device
    draw = torch.rand(len(condition), generator=generator, device=source)
    kept = (draw >= probability).to(condition.query)
    return Condition(condition.query * kept[:, None], condition.neighbours * kept[:, None, None])


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that a ConditionedDenoiser is built from; `asdict` of it is what config.json holds.

    embedding_dim  length of the encoder's vectors                 k             neighbours in training
    context_dim    width of the context tokens; None is `width`    encoder_id    identity of the encoder of y
    schedule       `Schedule.to_dict()`                            tokenizer_id  identity of the tokenizer of the codes
    """

    num_codes: int
    num_positions: int
    width: int
    num_blocks: int
    num_heads: int
    schedule: dict
    embedding_dim: int = 512
    k: int = 10
    conditioning: str = "ours"
    context_dim: int | None = None
    mlp_ratio: float = 4.0
    qk_norm: bool = False
    encoder_id: str = ""
    tokenizer_id: str = ""


PAPER_SIZES = {"num_codes": 2887, "num_positions": 1024, "width": 1024, "num_blocks": 24, "num_heads": 16,
               "embedding_dim": 512, "context_dim": 512}


class ConditionedDenoiser(nn.Module):
    """Conditioner and transformer: the callable `denoise(x_t, t, condition)` that kdlib.discrete wants."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        self.config = config
        self.schedule = Schedule(**config.schedule)
        context_dim = config.width if config.context_dim is None else config.context_dim
        self.conditioner = make_conditioner(config.conditioning, config.embedding_dim, context_dim, config.k)
        self.transformer = Transformer(config.num_codes, config.num_positions, config.width, config.num_blocks,
                                       config.num_heads, context_dim, config.mlp_ratio, config.qk_norm)

    def forward(self, x_t: Int[Tensor, "batch positions"], t: Shaped[Tensor, " batch"],
                condition: Condition) -> Float[Tensor, "batch positions num_codes"]:
        """x_t (b, p) in 0 .. V, t (b,) in 1 .. N, b conditions -> logits over x_0 (b, p, V)."""
        return self.transformer(x_t, t, self.conditioner(condition))

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes config.json and model.safetensors (weights as `dtype`; float16 halves the file), both or neither."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.state_dict().items()}
        save_model(folder, {"kind": "discrete-denoiser", **asdict(self.config)}, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> ConditionedDenoiser:
        """A saved denoiser in float32 on the CPU, in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, "discrete-denoiser")
        config.pop("kind")
        try:
            model = cls(DenoiserConfig(**config))
            model.load_state_dict(tensors)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"the denoiser in {folder} does not fit this kdlib ({error}); train it again") from error
        return model.eval()
