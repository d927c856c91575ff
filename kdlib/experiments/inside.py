"""Pictures of what goes on inside the discrete generator, for the notebook that looks there."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kdlib.compendium.figures import sheet
from kdlib.data.pixels import to_pil
from kdlib.models.discrete.inspection import Look
from kdlib.models.discrete.tokenizer import Tokenizer

COVER = (160, 160, 160)  # of what is not drawn yet


def partial_picture(tokenizer: Tokenizer, look: Look) -> Image.Image:
    """What is drawn so far: the picture of the codes that are there, each masked position covered in grey.

    The decoder needs a code everywhere, so the best guess stands under the covers and may show at their edges.
    """
    pixels = np.asarray(best_guess_picture(tokenizer, look)).copy()
    side = tokenizer.size_px // tokenizer.grid
    covered = look.masked.view(tokenizer.grid, tokenizer.grid).numpy().repeat(side, 0).repeat(side, 1)
    pixels[covered] = COVER
    return Image.fromarray(pixels)


def best_guess_picture(tokenizer: Tokenizer, look: Look) -> Image.Image:
    """What the network believes of the whole picture: the most probable code at each position."""
    return to_pil(tokenizer.decode(look.best_guess[None]))[0]


def heat_map(values: Float[Tensor, " positions"], highest: float) -> Image.Image:
    """Numbers from 0 (dark) to `highest` (bright) as a square of fields, by the colours of cividis; 64 px a side."""
    side = round(len(values) ** 0.5)
    shares = (values / max(highest, 1e-12)).clamp(0, 1).view(side, side).numpy()
    colours = (matplotlib.colormaps["cividis"](shares)[..., :3] * 255).round().astype(np.uint8)
    return Image.fromarray(colours).resize((64, 64), Image.Resampling.NEAREST)


def look_sheet(tokenizer: Tokenizer, look: Look) -> Image.Image:
    """One look as three pictures side by side: drawn so far, best guess, entropy (bright is log V, knowing nothing)."""
    unsure = heat_map(look.entropy, float(np.log(look.log_p.shape[-1])))
    return sheet([[partial_picture(tokenizer, look), best_guess_picture(tokenizer, look), unsure]],
                 column_titles=["drawn so far", "best guess", "entropy"], size_px=128)


def look_caption(look: Look) -> str:
    """The same in words."""
    hidden = look.entropy[look.masked]
    doubt = f", which hold {hidden.mean():.2f} nats of doubt each" if len(hidden) else ""
    return f"t = {look.t}: {int(look.masked.sum())} of {len(look.codes)} positions masked{doubt}"


def token_sheet(maps: Float[Tensor, "tokens positions"], sources: Sequence[Image.Image], highest_query: float,
                highest_neighbour: float) -> Image.Image:
    """The query and the neighbours in their order, and under each a map of what every position has for it.

    The query's map has a scale of its own, since it often has as much weight as all neighbours together.
    """
    tiles = [heat_map(maps[0], highest_query), *[heat_map(of, highest_neighbour) for of in maps[1:]]]
    titles = ["query", *[str(number + 1) for number in range(len(sources))]]
    return sheet([[Image.new("RGB", (64, 64), "white"), *sources], tiles], column_titles=titles, size_px=60)


def attention_caption(t: int, maps: Float[Tensor, "tokens positions"]) -> str:
    """How the weights are shared out between the query and the neighbours, in words."""
    shares = maps.mean(1)
    most = int(shares[1:].argmax()) + 1
    return (f"t = {t}: {shares[0]:.2f} of all weight on the query; most of the neighbours has number {most} "
            f"({shares[most]:.2f}); alike would be {1 / len(shares):.2f}")


def mean_attention(maps: Float[Tensor, "blocks batch heads positions tokens"]) -> Float[Tensor, "tokens positions"]:
    """Attention of the first of a batch, averaged over blocks and heads, a row for each token."""
    return torch.mean(maps[:, 0], dim=(0, 1)).T.contiguous()
