"""The continuous generator: a U-Net that makes a picture of noise (section 6.6)."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import nn

from kdlib.data.pixels import to_pil
from kdlib.models.condition import Condition
from kdlib.models.continuous.process import sample
from kdlib.models.continuous.unet import ConditionedUnet
from kdlib.models.precision import native_autocast


class ContinuousBackbone(nn.Module):
    """A denoiser with its process: a `kdlib.models.backbone.Backbone`.

    sampler, guidance_interval  as `kdlib.models.continuous.process.sample` takes them; they are not saved
    """

    kind = "continuous"

    def __init__(self, denoiser: ConditionedUnet, sampler: str | None = None,
                 guidance_interval: tuple[float, float] = (0.0, 1.0)):
        super().__init__()
        self.denoiser, self.sampler, self.guidance_interval = denoiser.eval(), sampler, guidance_interval
        self.encoder_id, self.size_px = denoiser.config.encoder_id, denoiser.config.size_px

    @torch.no_grad()
    def draw(self, condition: Condition, num_steps: int, guidance_scale: float,
             generator: torch.Generator) -> list[Image.Image]:
        """A picture for each condition; num_steps is at most the process' N. A bar on stderr shows the steps."""
        device = next(self.denoiser.parameters()).device
        with native_autocast(device):
            pictures = sample(self.denoiser.process, self.denoiser, condition.to(device),
                              (3, self.size_px, self.size_px), num_steps, sampler=self.sampler,
                              guidance_scale=guidance_scale, guidance_interval=self.guidance_interval,
                              generator=generator, progress=True)
        return to_pil(pictures)

    def save(self, folder: Path) -> None:
        """Writes the folder denoiser into an existing folder."""
        self.denoiser.save(folder / "denoiser")

    @classmethod
    def load(cls, parts: dict[str, Path]) -> ContinuousBackbone:
        """From the folder of the part "denoiser"; errors name what is missing or foreign."""
        return cls(ConditionedUnet.load(parts["denoiser"]))
