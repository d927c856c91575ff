"""The discrete generator: a denoiser of codes, and the tokenizer that makes pictures of them (section 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from kdlib.data.pixels import to_pil
from kdlib.models.condition import Condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.process import sample_ancestral
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.models.precision import native_autocast


class DiscreteBackbone(nn.Module):
    """p(x_0 | x_t, y) with its schedule, and D of algorithm 2: a `kdlib.models.backbone.Backbone`.

    sampler  `sample_ancestral`, or one of `kdlib.models.discrete.samplers`; it is not saved

    Raises ValueError for a denoiser that learned another tokenizer's codes.
    """

    kind = "discrete"

    def __init__(self, denoiser: ConditionedDenoiser, tokenizer: Tokenizer, sampler: Callable = sample_ancestral):
        super().__init__()
        wanted, found = denoiser.config.tokenizer_id, tokenizer.identity
        if wanted and wanted != found:
            raise ValueError(f"the denoiser was trained with tokenizer {wanted}, but this is tokenizer {found}; "
                             "load parts of one preset or one saved pipeline")
        self.denoiser, self.tokenizer, self.sampler = denoiser.eval(), tokenizer.eval(), sampler
        self.encoder_id = denoiser.config.encoder_id

    @property
    def size_px(self) -> int:
        """Side of the pictures."""
        return self.tokenizer.size_px

    @torch.no_grad()
    def draw(self, condition: Condition, num_steps: int, guidance_scale: float,
             generator: torch.Generator) -> list[Image.Image]:
        """Lines 5 to 11 of algorithm 2; num_steps is at most the denoiser's N. A bar on stderr shows the steps."""
        config, device = self.denoiser.config, next(self.denoiser.parameters()).device
        with native_autocast(device):
            codes = self.sampler(self.denoiser, self.denoiser.schedule, condition.to(device), config.num_codes,
                                 config.num_positions, num_steps, guidance_scale=guidance_scale, generator=generator,
                                 progress=True)
        return to_pil(self.tokenizer.decode(codes))

    def save(self, folder: Path) -> None:
        """Writes the folders denoiser and tokenizer into an existing folder."""
        self.denoiser.save(folder / "denoiser")
        self.tokenizer.save(folder / "tokenizer")

    @classmethod
    def load(cls, parts: dict[str, Path]) -> DiscreteBackbone:
        """From the folders of the parts "denoiser" and "tokenizer"; errors name what is missing or foreign."""
        return cls(ConditionedDenoiser.load(parts["denoiser"]), Tokenizer.load(parts["tokenizer"]))
