"""Codes that are near and frequent: entropy-constrained vector quantisation (Chou, Lookabaugh and Gray, 1989).

A codebook trained to be used evenly has many codes that look nearly alike; which of them stands at a position is then
as good as noise, and noise is what a generator can't learn. Where a rarer code would be hardly nearer, the frequent one
is taken: argmax_v cos(latent, v) + w log p(v), a bit of picture for many bits of surprise. The decoder stays as it is.
`benchmarks.lessons` measures what a generator makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from kdlib.data.pixels import normalise_pixels
from kdlib.models.discrete.tokenizer import Tokenizer


def choose_codes(latents: Float[Tensor, "*batch code_dim"], codebook: Float[Tensor, "num_codes code_dim"],
                 log_share: Float[Tensor, " num_codes"], rate_weight: float) -> Int[Tensor, "*batch"]:
    """argmax_v <latent, v> + rate_weight log p(v), for unit vectors; at weight 0 the nearest code."""
    return (latents @ codebook.T + rate_weight * log_share).argmax(-1)


def log_shares(codes: Int[Tensor, "*batch"], num_codes: int) -> Float[Tensor, " num_codes"]:
    """log p(v): how often each code stands among `codes`; one that doesn't counts as half a time."""
    counts = torch.bincount(codes.flatten(), minlength=num_codes).clamp(min=0.5)
    return (counts / counts.sum()).log()


def settle(latents: Float[Tensor, "pictures positions code_dim"], codebook: Float[Tensor, "num_codes code_dim"],
           rate_weight: float, num_rounds: int) -> Float[Tensor, " num_codes"]:
    """log p(v) under which the codes chosen have these shares: choosing and counting in turns, from equal shares."""
    shares = torch.full((len(codebook),), -float(np.log(len(codebook))))
    for _ in range(num_rounds):
        chosen = torch.cat([choose_codes(part, codebook, shares, rate_weight) for part in latents.split(64)])
        shares = log_shares(chosen, len(codebook))
    return shares


class FrequentCodes:
    """E of algorithm 1 with codes that are near and frequent; how frequent, is settled on the given pictures.

    rate_weight  w, what a nat of surprise may cost in cosine; 0 chooses the nearest code, as the tokenizer does
    """

    def __init__(self, tokenizer: Tokenizer, pictures: UInt8[np.ndarray, "pictures height width 3"],
                 rate_weight: float, num_rounds: int = 8):
        if rate_weight < 0:
            raise ValueError(f"rate_weight = {rate_weight} must not be negative; 0 chooses the nearest code")
        self.tokenizer, self.rate_weight = tokenizer, rate_weight
        latents = torch.cat(list(picture_latents(tokenizer, pictures)))
        self.log_share = settle(latents, tokenizer.codebook(), rate_weight, num_rounds)

    def encode(self, pictures: UInt8[np.ndarray, "pictures height width 3"]) -> np.ndarray:
        """uint16 codes (num_pictures, positions)."""
        codebook = self.tokenizer.codebook()
        codes = [choose_codes(latents, codebook, self.log_share, self.rate_weight)
                 for latents in picture_latents(self.tokenizer, pictures)]
        return torch.cat(codes).numpy().astype(np.uint16)


@torch.no_grad()
def picture_latents(tokenizer: Tokenizer, pictures: UInt8[np.ndarray, "pictures height width 3"],
                    batch_size: int = 128) -> Iterator[Float[Tensor, "batch positions code_dim"]]:
    """The unit vectors before the look-up, batch by batch."""
    for start in tqdm(range(0, len(pictures), batch_size), desc="tokenize"):
        images = normalise_pixels(torch.from_numpy(pictures[start:start + batch_size].copy()))
        yield tokenizer.latents(images).flatten(2).transpose(1, 2)
