"""A drawing watched: what the generator believes of the picture each time that its network is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from kdlib.data.pixels import to_pil
from kdlib.models.backbone import Backbone
from kdlib.models.condition import Condition
from kdlib.pipeline import Pipeline

VEIL = 0.6  # how much of the grey veil lies over what is a guess


class Look(NamedTuple):
    """A picture on its way, and the time t at which the network saw it: N at the beginning, 0 when it is done."""

    t: int
    picture: Image.Image


class Left(Exception):
    """Nobody watches any more."""


def watch(pipe: Pipeline, condition: Condition, num_steps: int | None = None, guidance_scale: float | None = None,
          seed: int = 0) -> Iterator[Look]:
    """Draws the picture of one condition; yields it as the network sees it in each pass, and last as `pipe.generate`
    returns it, to the same byte.

    It draws in a thread of its own, and ends that drawing when the iterator is closed. Before the end, codes that are
    still masked are shown by the network's likeliest guess under a grey veil; the continuous generator's pictures are
    its guess of the whole. Raises ValueError for more than one condition, and as `pipe.generate` does.
    """
    if len(condition) != 1:
        raise ValueError(f"{len(condition)} conditions; a drawing to watch takes one")
    scale = pipe.settings["guidance_scale"] if guidance_scale is None else guidance_scale
    seen, left = Queue(), threading.Event()

    def look(denoiser, asked: tuple[Tensor, Tensor, Condition], told: Tensor) -> None:
        if left.is_set():
            raise Left
        x_t, t, _ = asked
        seen.put((x_t[:1].clone(), t[:1], guided(told, scale)))

    hook = pipe.backbone.denoiser.register_forward_hook(look)
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(pipe.generate, condition, num_steps, guidance_scale, seed)
        drawing.add_done_callback(lambda _: seen.put(None))
        try:
            for x_t, t, told in iter(seen.get, None):
                yield Look(int(t), belief(pipe.backbone)(pipe.backbone, x_t, t, told))
            yield Look(0, drawing.result()[0])
        finally:
            left.set()
            drawing.exception()  # waits for its end
            hook.remove()


def guided(told: Tensor, guidance_scale: float) -> Tensor:
    """The prediction of one row; of two, given y and the null condition, what guidance (section 6.5) makes of them."""
    if len(told) == 1:
        return told.float()
    given, null = told.float().chunk(2)
    return null + guidance_scale * (given - null)


def belief(backbone: Backbone) -> Callable[[Backbone, Tensor, Tensor, Tensor], Image.Image]:
    """What turns x_t, t and a prediction of this kind of generator into a picture."""
    return {"discrete": from_codes, "continuous": from_pixels}[backbone.kind]


@torch.no_grad()
def from_codes(backbone: Backbone, x_t: Tensor, t: Tensor, logits: Tensor) -> Image.Image:
    """Drawn codes as they are, masked ones as the likeliest under a veil: x_t (1, p), logits (1, p, V)."""
    masked = x_t == backbone.denoiser.config.num_codes
    picture = to_pil(backbone.tokenizer.decode(torch.where(masked, logits.argmax(-1), x_t)))[0]
    side = round(masked.shape[1] ** 0.5)
    veil = Image.fromarray((masked.view(side, side).cpu().numpy() * int(255 * VEIL)).astype("uint8"))
    veil = veil.resize(picture.size, Image.Resampling.NEAREST)
    return Image.composite(Image.new("RGB", picture.size, "grey"), picture, veil)


@torch.no_grad()
def from_pixels(backbone: Backbone, x_t: Tensor, t: Tensor, prediction: Tensor) -> Image.Image:
    """The x_0 that the prediction means: x_t and prediction (1, 3, h, w)."""
    from kdlib.models.continuous.process import to_x0  # brings in diffusers, which is slow

    return to_pil(to_x0(backbone.denoiser.process, prediction, x_t.float(), t).clamp(-1, 1))[0]
