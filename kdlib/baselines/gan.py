"""LAFITE (Zhou et al., 2021), small: a GAN that is told an embedding, and draws in one pass.

It learns without text, as KNN-Diffusion does, but closes the gap between texts and pictures in another way: what it is
told of a picture is that picture's embedding with noise (`perturb`), so that a text's, which is never quite where its
pictures are, is nothing unheard of. How it learns: `kdlib.baselines.gan_training`.

The network is StyleGAN2's in small (Karras et al., 2020): a learned constant, convolutions whose input channels are
scaled by a style and whose output has unit variance again, pictures added up over the resolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from kdlib.data.pixels import to_pil
from kdlib.weights import fitting, load_model, save_model

KIND = "gan"
LEVEL = 0.75     # xi, the published code's share of noise
FIRST_PX = 4     # side of the learned constant
MAPPING_WIDTH = 256


def perturb(embeddings: Float[Tensor, "batch dim"], generator: torch.Generator,
            level: float = LEVEL) -> Float[Tensor, "batch dim"]:
    """LAFITE's language-free condition h' = norm((1 - level) f + level e / |e|) of unit vectors f, e normal.

    That is the published code; the paper writes norm(f + xi |f| e / |e|), the same at xi = level / (1 - level) = 3. In
    many dimensions e is at right angles to f, so that the cosine of f and h' is 1 - level over
    sqrt((1 - level)^2 + level^2), 0.32 at 0.75. Raises ValueError for a level that is no share.
    """
    if not 0 <= level <= 1:
        raise ValueError(f"level = {level} must lie in 0 .. 1, the share of noise")
    noise = F.normalize(torch.randn(embeddings.shape, generator=generator), dim=-1).to(embeddings)
    return F.normalize((1 - level) * embeddings + level * noise, dim=-1)


@dataclass(frozen=True)
class GanConfig:
    """What a generator is built from.

    widths         channels at 4, 8, 16, ... px: as many as it takes to get to the pictures' side
    noise_dim      width of z, what differs between pictures of one condition
    embedding_dim  width of the conditions
    encoder_id     whose embeddings they are
    """

    widths: Sequence[int]
    noise_dim: int
    embedding_dim: int
    encoder_id: str

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        if not self.widths or min(*self.widths, self.noise_dim, self.embedding_dim) < 1:
            raise ValueError(f"widths = {self.widths}, noise_dim = {self.noise_dim} and embedding_dim = "
                             f"{self.embedding_dim} must be at least 1")

    @property
    def size_px(self) -> int:
        """Side of the pictures."""
        return FIRST_PX * 2 ** (len(self.widths) - 1)


class Generator(nn.Module):
    """(z, h) to a picture: z through a mapping network, then with h into the style of each convolution."""

    def __init__(self, config: GanConfig):
        super().__init__()
        self.config = config
        self.mapping = nn.Sequential(nn.Linear(config.noise_dim, MAPPING_WIDTH), nn.LeakyReLU(0.2),
                                     nn.Linear(MAPPING_WIDTH, MAPPING_WIDTH), nn.LeakyReLU(0.2))
        told = MAPPING_WIDTH + config.embedding_dim
        self.constant = nn.Parameter(torch.randn(config.widths[0], FIRST_PX, FIRST_PX))
        self.layers = nn.ModuleList(StyledConv(told, before, after) for before, after in
                                    zip((config.widths[0], *config.widths), config.widths, strict=False))
        self.pixels = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in config.widths)

    def forward(self, noise: Float[Tensor, "batch noise_dim"],
                embeddings: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in about [-1, 1], not clipped."""
        scaled = embeddings * self.config.embedding_dim ** 0.5  # each value has about unit variance, as z's have
        told = torch.cat([self.mapping(F.normalize(noise, dim=-1) * noise.shape[-1] ** 0.5), scaled], -1)
        x, images = self.constant.expand(len(noise), -1, -1, -1), None
        for number, (layer, to_pixels) in enumerate(zip(self.layers, self.pixels, strict=True)):
            x = layer(twice(x) if number else x, told)
            images = to_pixels(x) + (twice(images) if number else 0)
        return images

    @torch.no_grad()
    def draw(self, embeddings: Float[Tensor, "batch dim"], generator: torch.Generator,
             batch_size: int = 64) -> list[Image.Image]:
        """A picture for each embedding (a text's, say); noise comes from the generator alone."""
        device, pictures = self.constant.device, []
        noise = torch.randn(len(embeddings), self.config.noise_dim, generator=generator)
        for rows in torch.arange(len(embeddings)).split(batch_size):
            pictures += to_pil(self(noise[rows].to(device), embeddings[rows].to(device)).clamp(-1, 1))
        return pictures

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        save_model(folder, {"kind": KIND, **asdict(self.config)},
                   {name: tensor.half() for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Generator:
        """A saved generator in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, KIND)
        with fitting(folder, config):
            network = cls(GanConfig(**{name: value for name, value in config.items() if name != "kind"}))
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return network.eval().requires_grad_(False)


class StyledConv(nn.Module):
    """StyleGAN2's modulated convolution, 3 x 3: equal to scaling the weights for each picture, and cheaper on a CPU."""

    def __init__(self, told: int, before: int, after: int):
        super().__init__()
        self.style = nn.Linear(told, before)
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(after, before, 3, 3) / (9 * before) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: Float[Tensor, "batch before size size"],
                told: Float[Tensor, "batch told"]) -> Float[Tensor, "batch after size size"]:
        style = self.style(told)
        power = style.square() @ self.weight.square().sum((2, 3)).T  # (batch, after): of each picture's scaled weights
        y = F.conv2d(x * style[:, :, None, None], self.weight, padding=1)
        y = y * (power + 1e-8).rsqrt()[:, :, None, None] + self.bias[:, None, None]
        return F.leaky_relu(y, 0.2) * 2 ** 0.5


class Discriminator(nn.Module):
    """Pictures to a score and to a vector in the conditions' space: LAFITE's f_d and f_s, over one trunk.

    Its answer to "is this a real picture, and of h?" is f_d(x) + <h, f_s(x)>.
    """

    def __init__(self, size_px: int, width: int, embedding_dim: int):
        super().__init__()
        channels, blocks, size = 3, [], size_px
        while size > FIRST_PX:
            after = width * min(8, 2 ** (len(blocks) // 2))
            blocks += [nn.Conv2d(channels, after, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels, size = after, size // 2
        self.trunk = nn.Sequential(*blocks)
        self.mixed = nn.Sequential(nn.Conv2d(channels + 1, channels, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
                                   nn.Linear(channels * FIRST_PX ** 2, MAPPING_WIDTH), nn.LeakyReLU(0.2))
        self.score, self.features = nn.Linear(MAPPING_WIDTH, 1), nn.Linear(MAPPING_WIDTH, embedding_dim)

    def forward(self, images: Float[Tensor, "batch 3 size size"], embeddings: Float[Tensor, "batch dim"]
                ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch dim"]]:
        """(scores, f_s)."""
        x = self.trunk(images)
        x = self.mixed(torch.cat([x, spread(x).expand(len(x), 1, *x.shape[2:])], 1))
        features = self.features(x)
        return self.score(x)[:, 0] + (features * embeddings).sum(-1), features


def spread(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "1 1 1 1"]:
    """The mean standard deviation over the batch (Karras et al., 2018), by which sameness of pictures shows."""
    return (x.float().var(0, correction=0) + 1e-8).sqrt().mean().view(1, 1, 1, 1).to(x)


def twice(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels _ _"]:
    """Twice as large."""
    return F.interpolate(x, scale_factor=2, mode="bilinear")
