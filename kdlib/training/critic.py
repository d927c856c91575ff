"""What judges pictures while a network learns to make them: a critic that learns, too, and features that don't."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from kdlib.encoder.image_tower import Trunk


class EarlyFeatures(nn.Module):
    """Stem and first stage of an untrained image tower, always the same: a perceptual distance without a download.

    So early, edges and patches of colour are all that features tell, and random filters tell them as well as trained
    ones: after 250 steps of the tokenizer, what was rebuilt differed by less than 0.12 dB and half a point of concepts.
    """

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            trunk = Trunk()
        self.stages = nn.ModuleList([nn.Sequential(trunk.conv1, trunk.bn1, trunk.act1, trunk.maxpool), trunk.layer1])
        self.stages.requires_grad_(False)

    def distance(self, copies: Float[Tensor, "batch 3 height width"],
                 images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, ""]:
        """Mean squared difference of channel-normalised features (as LPIPS does, unweighted)."""
        self.stages.eval()
        total = copies.new_zeros(())
        ours, theirs = copies, images
        for stage in self.stages:
            ours = stage(ours)
            with torch.no_grad():
                theirs = stage(theirs)
            total = total + (F.normalize(ours.float(), dim=1) - F.normalize(theirs.float(), dim=1)).pow(2).sum(1).mean()
        return total


def make_critic(width: int = 32) -> nn.Sequential:
    """A small patch discriminator (Esser et al., 2021): one score for each overlapping patch."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.GroupNorm(8, 4 * width), nn.LeakyReLU(0.2),
        nn.Conv2d(4 * width, 1, 3, 1, 1))


def hinge_terms(critic: nn.Module, copies: Float[Tensor, "batch 3 height width"],
                images: Float[Tensor, "batch 3 height width"]) -> tuple[Tensor, Tensor]:
    """Hinge losses of the one who makes `copies`, and of the critic that tells them from `images`.

    Each reaches only the player that it is for: the maker's sees a critic whose weights are constants.
    """
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    maker = -functional_call(critic, frozen, copies).float().mean()
    judged = (F.relu(1 - critic(images).float()).mean() + F.relu(1 + critic(copies.detach()).float()).mean()) / 2
    return maker, judged
