"""VQGAN: pictures to a small grid of codes and back (paper section 6.5, image tokenization)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from kdlib.data.pixels import normalise_pixels
from kdlib.models.discrete.vqgan import VQGAN
from kdlib.weights import fitting, load_model, save_model, tensors_hash


@dataclass(frozen=True)
class TokenizerConfig:
    """What a bundled tokenizer is built from.

    size_px   side of the pictures         num_downsamplings  halvings from the picture to the grid of codes
    num_codes size of the codebook         code_dim           width of a code's vector (of length 1)
    width     channels at half the picture's side; doubled, tripled, .. at each further halving
    """

    size_px: int
    num_codes: int
    code_dim: int
    width: int
    num_downsamplings: int


class Tokenizer(nn.Module):
    """A VQGAN with pixels folded 2 x 2 into channels and a look-up by cosine.

    The folding saves the convolutions at full resolution, which cost most and add least on flat drawings.
    Attributes: num_codes, grid (codes on a side), num_positions (grid x grid), size_px, identity (of the weights).
    """

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        levels = config.num_downsamplings
        if levels < 1 or config.size_px % 2 ** levels:
            raise ValueError(f"size_px = {config.size_px} can't be halved {levels} times; change one of them")
        self.config = config
        widths = [config.width * (i + 1) for i in range(levels)]
        self.network = VQGAN(12, widths, min(16, config.width), config.num_codes, config.code_dim)
        nn.init.normal_(self.network.quantize.embedding.weight)
        self.size_px, self.num_codes = config.size_px, config.num_codes
        self.grid = config.size_px // 2 ** levels
        self.num_positions = self.grid ** 2

    @property
    def identity(self) -> str:
        """16 hex digits over the weights; denoisers remember it and refuse another tokenizer's codes."""
        return tensors_hash(self.state_dict())

    def latents(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code_dim grid grid"]:
        """Pictures in [-1, 1] to unit vectors on the grid, before the look-up."""
        return F.normalize(self.network.encode(F.pixel_unshuffle(images, 2)).float(), dim=1)

    def codebook(self) -> Float[Tensor, "num_codes code_dim"]:
        """The codes' unit vectors."""
        return F.normalize(self.network.quantize.embedding.weight.float(), dim=-1)

    def nearest(self, latents: Float[Tensor, "batch code_dim grid grid"]) -> Int[Tensor, "batch positions"]:
        """The code of largest cosine at each position, row by row; in float32 also under autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            return (latents.float().flatten(2).transpose(1, 2) @ self.codebook().T).argmax(-1)

    def look_up(self, codes: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch code_dim grid grid"]:
        """Codes to their unit vectors on the grid."""
        return F.embedding(codes, self.codebook()).transpose(1, 2).unflatten(-1, (self.grid, self.grid))

    def reconstruct(self, quantised: Float[Tensor, "batch code_dim grid grid"]
                    ) -> Float[Tensor, "batch 3 height width"]:
        """Vectors on the grid to pictures, not clipped."""
        return F.pixel_shuffle(self.network.decode(quantised), 2)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "batch 3 height width"]) -> Int[Tensor, "batch positions"]:
        """E of algorithm 1: float pictures in [-1, 1], size_px a side, to int64 codes in 0 .. num_codes - 1.

        Raises ValueError for another size.
        """
        if images.shape[-2:] != (self.size_px, self.size_px):
            raise ValueError(f"pictures are {tuple(images.shape[-2:])}; resize them to {self.size_px} x {self.size_px}")
        return self.nearest(self.latents(images))

    @torch.no_grad()
    def decode(self, codes: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch 3 height width"]:
        """D of algorithm 2: codes to pictures in [-1, 1]. Raises ValueError for a code that does not exist."""
        if codes.numel() and (codes.min() < 0 or codes.max() >= self.num_codes):
            raise ValueError(f"codes run from {codes.min()} to {codes.max()}; this tokenizer has 0 .. "
                             f"{self.num_codes - 1}")
        return self.reconstruct(self.look_up(codes)).clamp(-1, 1)

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        tensors = {name: tensor.half() for name, tensor in self.state_dict().items()}
        save_model(folder, {"kind": "tokenizer", **asdict(self.config)}, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """A saved tokenizer in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, "tokenizer")
        with fitting(folder, config):
            tokenizer = cls(TokenizerConfig(**{name: value for name, value in config.items() if name != "kind"}))
            tokenizer.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return tokenizer.eval().requires_grad_(False)


def encode_view(tokenizer: Tokenizer, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """uint8 (num_pictures, size_px, size_px, 3) to uint16 codes (num_pictures, positions)."""
    chunks = [tokenizer.encode(normalise_pixels(torch.from_numpy(pictures[start:start + batch_size].copy())))
              for start in tqdm(range(0, len(pictures), batch_size), desc="tokenize")]
    return torch.cat(chunks).numpy().astype(np.uint16)


def encode_view_exactly(tokenizer: Tokenizer, pictures: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """`encode_view` in float64: the same codes on every processor, at a sixth of the speed.

    uint8 (num_pictures, size_px, size_px, 3) to uint16 codes (num_pictures, positions). Of a million codes some hundred
    lie so near to another that float32's last digits decide.
    """
    network = copy.deepcopy(tokenizer.network).double()
    codebook = F.normalize(network.quantize.embedding.weight, dim=-1)
    chunks = []
    for start in tqdm(range(0, len(pictures), batch_size), desc="tokenize"):
        pixels = normalise_pixels(torch.from_numpy(pictures[start:start + batch_size].copy())).double()
        with torch.no_grad():
            latents = network.encode(F.pixel_unshuffle(pixels, 2)).flatten(2).transpose(1, 2)
            chunks.append((latents @ codebook.T).argmax(-1))
    return torch.cat(chunks).numpy().astype(np.uint16)


def reconstruct_pictures(tokenizer: Tokenizer, pictures: np.ndarray,
                         batch_size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Pictures through the codes: copies (uint8, same shape) and codes (num_pictures, positions)."""
    copies, codes = [], []
    for start in range(0, len(pictures), batch_size):
        codes.append(tokenizer.encode(normalise_pixels(torch.from_numpy(pictures[start:start + batch_size]))))
        images = tokenizer.decode(codes[-1])
        copies.append(((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(copies), torch.cat(codes).numpy()
