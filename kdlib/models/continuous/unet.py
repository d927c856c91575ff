"""The continuous model: conditioner and U-Net as one network that is saved and loaded (paper section 6.6).

The U-Net is diffusers', conditioned as DALL-E 2's decoder (Ramesh et al., 2022) with several embeddings: each is a
token to attend to, and the query's projection is added to the timestep's embedding, too. One thing differs: there the
tokens join the keys of the self-attention, here they have an attention of their own, without bias. So the null
condition adds exactly nothing, whatever the number of neighbours (section 6.5 wants that of cross-attention).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from kdlib.models.condition import Condition
from kdlib.models.conditioning import make_conditioner
from kdlib.models.continuous.process import Process
from kdlib.weights import fitting, load_model, save_model

KIND = "continuous-denoiser"

# The paper follows GLIDE and DALL-E 2 and gives no sizes. These are GLIDE's at 64 px: 3 blocks a level, attention at
# 32, 16 and 8 px. They make 420M parameters, about as many as its discrete model has.
PAPER_SIZES = {"size_px": 64, "widths": (192, 384, 576, 768), "num_blocks": 3, "num_attending": 3, "head_width": 64,
               "embedding_dim": 512, "context_dim": 512}


@dataclass(frozen=True)
class UnetConfig:
    """Everything that a ConditionedUnet is built from; `asdict` of it is what config.json holds.

    size_px        side of the pictures                      process       `asdict` of a Process
    widths         channels of each level, the finest first  folding       side of the blocks of pixels that become
    num_blocks     residual blocks of a level                              channels: it works at size_px / folding
    num_attending  how many levels attend, from the last up  k             neighbours in training
    head_width     of the attention, or a little more        context_dim   of the tokens; None is the last width
    embedding_dim  length of the encoder's vectors           encoder_id    identity of the encoder of y

    Raises ValueError for sizes that don't fit each other.
    """

    size_px: int
    widths: Sequence[int]
    num_blocks: int
    num_attending: int
    process: dict
    folding: int = 1
    head_width: int = 64
    embedding_dim: int = 512
    k: int = 10
    conditioning: str = "ours"
    context_dim: int | None = None
    encoder_id: str = ""

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list
        halvings = 2 ** (len(self.widths) - 1)
        if self.size_px % (self.folding * halvings):
            raise ValueError(f"size_px = {self.size_px} is no multiple of folding x {halvings} = "
                             f"{self.folding * halvings}, as {len(self.widths)} levels need")
        if not 1 <= self.num_attending <= len(self.widths):
            raise ValueError(f"num_attending = {self.num_attending} must lie in 1 .. {len(self.widths)}, the levels")
        for width, heads in zip(self.widths, self.num_heads, strict=True):
            if width % heads:
                raise ValueError(f"a width of {width} does not divide into {heads} heads; choose another head_width")

    @property
    def num_heads(self) -> tuple[int, ...]:
        """Of each level."""
        return tuple(max(1, width // self.head_width) for width in self.widths)


class ConditionedUnet(nn.Module):
    """Conditioner and U-Net: the callable `denoise(x_t, t, condition)` that the process wants."""

    def __init__(self, config: UnetConfig):
        super().__init__()
        self.config = config
        self.process = Process(**config.process)
        context_dim = config.widths[-1] if config.context_dim is None else config.context_dim
        self.conditioner = make_conditioner(config.conditioning, config.embedding_dim, context_dim, config.k)
        self.unet = make_unet(config, context_dim)
        self.query = nn.Linear(config.embedding_dim, 4 * config.widths[0], bias=False)

    def forward(self, x_t: Float[Tensor, "batch 3 height width"], t: Shaped[Tensor, " batch"],
                condition: Condition) -> Float[Tensor, "batch 3 height width"]:
        """x_t (b, 3, size_px, size_px), t (b,) in 1 .. N, b conditions -> what the process predicts, in x_t's shape."""
        query = self.query(condition.query * self.config.embedding_dim ** 0.5)
        folded = F.pixel_unshuffle(x_t, self.config.folding)
        out = self.unet(folded, t, self.conditioner(condition), class_labels=query, return_dict=False)[0]
        return F.pixel_shuffle(out, self.config.folding)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes config.json and model.safetensors (weights as `dtype`; float16 halves the file), both or neither."""
        tensors = {name: tensor.to(dtype) for name, tensor in self.state_dict().items()}
        save_model(folder, {"kind": KIND, **asdict(self.config)}, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> ConditionedUnet:
        """A saved network in float32 on the CPU, in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, KIND)
        with fitting(folder, config):
            model = cls(UnetConfig(**{name: value for name, value in config.items() if name != "kind"}))
            model.load_state_dict(tensors)
        return model.eval()


def make_unet(config: UnetConfig, context_dim: int) -> UNet2DConditionModel:
    """diffusers' U-Net; its "class embedding" is whatever is to be added to the timestep's (4 x the first width)."""
    num_plain = len(config.widths) - config.num_attending
    down = ["DownBlock2D"] * num_plain + ["CrossAttnDownBlock2D"] * config.num_attending
    up = ["CrossAttnUpBlock2D"] * config.num_attending + ["UpBlock2D"] * num_plain
    channels = 3 * config.folding ** 2
    unet = UNet2DConditionModel(
        sample_size=config.size_px // config.folding, in_channels=channels, out_channels=channels,
        block_out_channels=config.widths, layers_per_block=config.num_blocks, down_block_types=down, up_block_types=up,
        attention_head_dim=config.num_heads,  # this is what diffusers means by it
        cross_attention_dim=context_dim, norm_num_groups=math.gcd(32, *config.widths), class_embed_type="identity",
        resnet_time_scale_shift="scale_shift")
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            module.to_out[0].register_parameter("bias", None)  # the null condition is to add nothing
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet
