"""What every generator offers, whatever it is made of: a condition in, pictures out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from PIL import Image

from kdlib.files import read_json
from kdlib.models.condition import Condition


@runtime_checkable
class Backbone(Protocol):
    """A generator p(image | y) of the paper's section 3.

    kind        how it is named to users: "discrete" or "continuous"
    encoder_id  identity of the encoder whose embeddings it was trained with; "" where it takes any
    size_px     side of the pictures that it draws
    """

    kind: str
    encoder_id: str
    size_px: int

    def draw(self, condition: Condition, num_steps: int, guidance_scale: float,
             generator: torch.Generator) -> list[Image.Image]:
        """A picture for each row of the condition (on any device), all in one batch.

        Random numbers come from the generator alone. Raises ValueError for num_steps that it can't take.
        """
        ...

    def to(self, device: str | torch.device) -> Backbone:
        """Moves its networks."""
        ...

    def save(self, folder: Path) -> None:
        """Writes its parts into an existing folder, each in a folder of its own: what `load_backbone` takes."""
        ...


def load_backbone(parts: dict[str, Path]) -> Backbone:
    """The generator whose parts lie in these folders; what kind it is says the config.json of the part "denoiser".

    Raises FileNotFoundError or ValueError saying what is missing, damaged or foreign.
    """
    config = parts["denoiser"] / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{parts['denoiser']} holds no config.json, so it is no saved denoiser")
    told = read_json(config)
    found = told.get("kind") if isinstance(told, dict) else None
    if found == "discrete-denoiser":
        from kdlib.models.discrete.backbone import DiscreteBackbone

        return DiscreteBackbone.load(parts)
    if found == "continuous-denoiser":
        from kdlib.models.continuous.backbone import ContinuousBackbone  # brings in diffusers, which is slow

        return ContinuousBackbone.load(parts)
    raise ValueError(f"{parts['denoiser']} holds a {found!r}; a generator's kind is one of discrete-denoiser, "
                     "continuous-denoiser")
