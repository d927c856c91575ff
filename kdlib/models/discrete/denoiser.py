"""The discrete model: conditioner and transformer as one network that is saved and loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from kdlib.models.condition import Condition
from kdlib.models.conditioning import make_conditioner
from kdlib.models.discrete.process import Schedule
from kdlib.models.discrete.transformer import Transformer
from kdlib.weights import fitting, load_model, save_model

PAPER_SIZES = {"num_codes": 2887, "num_positions": 1024, "width": 1024, "num_blocks": 24, "num_heads": 16,
               "embedding_dim": 512, "context_dim": 512}


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


class ConditionedDenoiser(nn.Module):
    """Conditioner and transformer: the callable `denoise(x_t, t, condition)` that the process wants."""

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
        with fitting(folder, config):
            model = cls(DenoiserConfig(**{name: value for name, value in config.items() if name != "kind"}))
            model.load_state_dict(tensors)
        return model.eval()
