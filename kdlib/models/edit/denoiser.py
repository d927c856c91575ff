"""The editor's network: a trained generator that also sees the picture that it is to change (paper section 3.1)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from kdlib.models.condition import Condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.weights import fitting, load_model, save_model

KIND = "discrete-editor"


class PairEmbedding(nn.Module):
    """Of each position two letters at once: what the generator knows of x_t's, plus what it learns of the picture's.

    The alphabet of both is 0 .. V, where V = [MASK] stands for no picture. A pair is the number x_t (V + 1) + source.
    The new embedding starts at zero: until it has learned something, the picture changes nothing.
    """

    def __init__(self, codes: nn.Embedding):
        super().__init__()
        self.codes = codes
        self.source = nn.Embedding(*codes.weight.shape)
        nn.init.zeros_(self.source.weight)

    def forward(self, pairs: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions width"]:
        size = self.codes.num_embeddings
        return self.codes(pairs // size) + self.source(pairs % size)


class EditDenoiser(nn.Module):
    """p(x_0 | x_t, source, y): `ConditionedDenoiser` with the codes of a picture beside x_t.

    denoiser  the trained generator, which becomes a part of this
    """

    def __init__(self, denoiser: ConditionedDenoiser):
        super().__init__()
        self.config, self.schedule, self.denoiser = denoiser.config, denoiser.schedule, denoiser
        denoiser.transformer.codes = PairEmbedding(denoiser.transformer.codes)

    def forward(self, x_t: Int[Tensor, "batch positions"], t: Shaped[Tensor, " batch"], condition: Condition,
                source: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions num_codes"]:
        """x_t and source (b, p) in 0 .. V, t (b,) in 1 .. N, b conditions -> logits over x_0 (b, p, V)."""
        return self.denoiser(x_t * (self.config.num_codes + 1) + source, t, condition)

    def no_source(self, like: Int[Tensor, "batch positions"]) -> Int[Tensor, "batch positions"]:
        """What stands for no picture."""
        return torch.full_like(like, self.config.num_codes)

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        save_model(folder, {"kind": KIND, **asdict(self.config)},
                   {name: tensor.half() for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> EditDenoiser:
        """A saved one in float32 on the CPU, in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, KIND)
        with fitting(folder, config):
            settings = DenoiserConfig(**{name: value for name, value in config.items() if name != "kind"})
            model = cls(ConditionedDenoiser(settings))
            model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return model.eval()
