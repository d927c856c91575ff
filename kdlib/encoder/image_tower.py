"""The bundled encoder's image tower: timm's `resnet10t` (a ResNet with four blocks; He et al., 2016) and a linear map.

Trained through open_clip and timm, used through this, whose tensors have the same names: what draws or searches need
not wait for two packages to be imported.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STEM, WIDTHS = (24, 32), (64, 128, 256, 512)


class ImageTower(nn.Module):
    """Pictures in [-1, 1] to vectors of width `dim`. Made without initial weights of its own: load them."""

    def __init__(self, dim: int):
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.ModuleDict({"proj": nn.Linear(WIDTHS[-1], dim, bias=False)})

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        return self.head["proj"](self.trunk(images))


class Trunk(nn.Module):
    """Stem of three convolutions, four blocks, the mean over all places."""

    def __init__(self):
        super().__init__()
        channels, layers = (3, *STEM, WIDTHS[0]), []
        for number, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            layers += [nn.Conv2d(before, after, 3, stride=2 if number == 0 else 1, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()] if number < len(STEM) else []
        self.conv1, self.bn1 = nn.Sequential(*layers), nn.BatchNorm2d(WIDTHS[0])
        self.act1, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        for number, (before, after) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False), start=1):
            setattr(self, f"layer{number}", nn.Sequential(Block(before, after)))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class Block(nn.Module):
    """Two convolutions with their input added; where the width changes, at half the resolution."""

    def __init__(self, before: int, after: int):
        super().__init__()
        halved = before != after
        self.conv1 = nn.Conv2d(before, after, 3, stride=2 if halved else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), nn.Conv2d(before, after, 1, bias=False),
            nn.BatchNorm2d(after)) if halved else nn.Identity()

    def forward(self, x: Float[Tensor, "batch before height width"]) -> Float[Tensor, "batch after *size"]:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))
