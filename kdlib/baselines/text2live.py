"""Text2LIVE (Bar-Tal et al., 2022), small: an edit layer with opacity, optimised for one picture against the encoder.

A network maps the picture to colours C and an opacity alpha, and alpha C + (1 - alpha) I is the edit. It starts anew
for every picture, and learns from the encoder alone. The losses and their weights are the published code's; what is
other here: the encoder and its maps (a small ResNet for a ViT), a U-Net of three levels, and where the edit belongs at
first (there: the ViT's attention; here: the gradient of the picture's likeness to its own name).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kdlib.data.augment import augment
from kdlib.encoder import Encoder
from kdlib.training.loop import step_generator

STRUCTURE, SCREEN, SPARSITY, BOOTSTRAP = 2.0, 1.0, 6.0, 10.0
L1, PSEUDO_L0 = 0.01, 0.01      # of alpha, within the sparsity
NUM_VIEWS = 16                  # augmented ones of the edit, for the encoder
LEARNING_RATE = 2.5e-3
GREEN = (-1.0, 1.0, -1.0)

Images = Float[Tensor, "batch 3 height width"]


class Layer(NamedTuple):
    """An edit layer: the edit itself, and what it is composed of; pixels in [-1, 1], opacity in [0, 1]."""

    edited: Images
    colours: Images
    opacity: Float[Tensor, "batch 1 height width"]


class EditNetwork(nn.Module):
    """A U-Net of three levels from a picture to its edit layer. At first the layer is half transparent."""

    def __init__(self, width: int = 32):
        super().__init__()
        block = lambda before, after: nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after),
                                                    nn.LeakyReLU(0.2))
        self.down = nn.ModuleList([block(3, width), block(width, width), block(width, width)])
        self.up = nn.ModuleList([block(2 * width, width), block(2 * width, width)])
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, images: Images) -> Layer:
        maps, x = [], images
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            maps.append(x)
        for block, skipped in zip(self.up, maps[1::-1], strict=True):
            larger = F.interpolate(x, skipped.shape[-2:], mode="bilinear")
            x = block(torch.cat([larger, skipped], 1))
        colours, opacity = self.last(x).tensor_split([3], 1)
        colours, opacity = colours.tanh(), opacity.sigmoid()
        return Layer(opacity * colours + (1 - opacity) * images, colours, opacity)


class Text2Live:
    """The losses of one edit.

    picture           (1, 3, height, width) in [-1, 1]
    text, source_text what the edit should show, and what the picture shows
    """

    def __init__(self, encoder: Encoder, picture: Float[Tensor, "1 3 height width"], text: str, source_text: str):
        self.encoder, self.picture = encoder, picture
        told = torch.from_numpy(encoder.encode_texts([text, f"{text} over a green screen", source_text]))
        self.text, self.screen_text, self.source_text = told[:, None]
        self.direction = self.text - self.source_text
        self.similarities = self_similarities(self.maps(picture))
        self.relevance = self.find_relevance()

    def embed(self, images: Images) -> Float[Tensor, "batch dim"]:
        """f_img, with gradients."""
        return self.encoder.model.encode_image(images, normalize=True)

    def maps(self, images: Images) -> Float[Tensor, "batch channels rows columns"]:
        """What the tower sees at each place, two blocks deep."""
        kept = []
        hook = self.encoder.model.visual.trunk.layer2.register_forward_hook(lambda *told: kept.append(told[2]))
        try:
            self.embed(images)
        finally:
            hook.remove()
        return kept[0]

    def find_relevance(self) -> Float[Tensor, "1 1 height width"]:
        """How much each pixel's likeness to the picture's own name hangs on it; the largest is 1."""
        picture = self.picture.clone().requires_grad_()
        gradient = torch.autograd.grad((self.embed(picture) @ self.source_text.T).sum(), picture)[0]
        spread = F.avg_pool2d(gradient.abs().sum(1, keepdim=True), 5, 1, 2)
        return spread / spread.max().clamp(min=1e-12)

    def loss(self, layer: Layer, progress: float, generator: torch.Generator) -> Float[Tensor, ""]:
        """The sum of all terms; progress runs from 0 to 1 over the steps."""
        views = self.embed(augment(layer.edited.expand(NUM_VIEWS, -1, -1, -1), generator))
        moved = views - self.embed(self.picture)
        composition = (1 - views @ self.text.T).mean() + (1 - F.cosine_similarity(moved, self.direction)).mean()
        green = torch.tensor(GREEN).view(1, 3, 1, 1)
        on_green = layer.opacity * layer.colours + (1 - layer.opacity) * green
        screen = 1 - (self.embed(on_green) @ self.screen_text.T).mean()
        structure = (self_similarities(self.maps(layer.edited)) - self.similarities).square().mean().sqrt()
        first = F.mse_loss(layer.opacity, self.relevance)
        return (composition + SCREEN * screen + STRUCTURE * structure + SPARSITY * sparsity(layer.opacity)
                + BOOTSTRAP * (1 - progress) * first)


def self_similarities(maps: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch places places"]:
    """Cosines of the maps' vectors at all pairs of places."""
    vectors = F.normalize(maps.flatten(2), dim=1)
    return vectors.transpose(1, 2) @ vectors


def sparsity(opacity: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, ""]:
    """Mean |alpha|, and the mean of 2 sigmoid(5 alpha) - 1, which is nearly 1 wherever anything is opaque."""
    return L1 * opacity.mean() + PSEUDO_L0 * (2 * torch.sigmoid(5 * opacity) - 1).mean()


def edit_by_layer(encoder: Encoder, picture: Float[Tensor, "1 3 height width"], text: str, source_text: str,
                  num_steps: int, seed: int) -> Layer:
    """The layer after num_steps (published: 1,000); same seed, same machine: same bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EditNetwork()
    losses, optimizer = Text2Live(encoder, picture, text, source_text), torch.optim.Adam(network.parameters(),
                                                                                        LEARNING_RATE)
    for step in range(num_steps):
        optimizer.zero_grad()
        losses.loss(network(picture), step / num_steps, step_generator(seed, step)).backward()
        optimizer.step()
    with torch.no_grad():
        return network(picture)
