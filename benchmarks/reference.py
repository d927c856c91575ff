"""microsoft/VQ-Diffusion itself, from a checkout that the reader has: its transformer and its diffusion, on a CPU.

Nothing of it is changed or copied. For a machine without CUDA `.cuda()` does nothing while it runs, and einops, of
which it needs one transposition, is stood in for where it is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.shapes import Shape

DIFFUSION = "image_synthesis.modeling.transformers.diffusion_transformer"


def rearrange(x: Tensor, pattern: str) -> Tensor:
    """The one use of einops.rearrange on our road."""
    if pattern != "b l c -> b c l":
        raise NotImplementedError(f"the stand-in for einops does not know {pattern!r}; install einops")
    return x.transpose(1, 2)


def load(folder: str | Path) -> ModuleType:
    """The checkout's module of the diffusion. Raises FileNotFoundError where `folder` is no checkout."""
    if not (Path(folder) / (DIFFUSION.replace(".", "/") + ".py")).is_file():
        raise FileNotFoundError(f"{folder} is no checkout of microsoft/VQ-Diffusion: it has no {DIFFUSION}; clone that "
                                "repository and name its folder, or leave the reference out")
    if "einops" not in sys.modules and importlib.util.find_spec("einops") is None:
        sys.modules["einops"] = ModuleType("einops")
        sys.modules["einops"].rearrange = rearrange
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module(DIFFUSION)


@contextmanager
def without_cuda():
    """`.cuda()` leaves a tensor where it is, unless there is CUDA."""
    if torch.cuda.is_available():
        yield
        return
    with mock.patch.object(torch.Tensor, "cuda", lambda self, *args, **kwargs: self):
        yield


def build_model(diffusion: ModuleType, shape: Shape, num_timesteps: int) -> nn.Module:
    """Its DiffusionTransformer with the settings of its text-to-image models, at our shape."""
    side = round(shape.num_positions ** 0.5)
    embedding = {"target": "image_synthesis.modeling.embeddings.dalle_mask_image_embedding.DalleMaskImageEmbedding",
                 "params": {"num_embed": shape.num_codes, "spatial_size": [side, side], "embed_dim": shape.width}}
    transformer = {"target": "image_synthesis.modeling.transformers.transformer_utils.Text2ImageTransformer",
                   "params": {"n_layer": shape.num_blocks, "n_embd": shape.width, "n_head": shape.num_heads,
                              "content_seq_len": shape.num_positions, "content_spatial_size": [side, side],
                              "condition_seq_len": shape.k + 1, "condition_dim": shape.width, "mlp_hidden_times": 4,
                              "block_activate": "GELU2", "timestep_type": "adalayernorm"}}
    return diffusion.DiffusionTransformer(
        content_emb_config=embedding, transformer_config=transformer, diffusion_step=num_timesteps,
        alpha_init_type="alpha1", auxiliary_loss_weight=5e-4, adaptive_auxiliary_loss=True)


def build(shape: Shape, num_timesteps: int, guidance_scale: float,
          folder: str | Path) -> tuple[nn.Module, Callable[[], Tensor], Callable[[int], None]]:
    """Its model, the loss of a training batch, and its first n sampling steps with guidance, without truncation."""
    diffusion = load(folder)
    model = build_model(diffusion, shape, num_timesteps)
    codes = torch.randint(shape.num_codes, (shape.batch, shape.num_positions))
    condition = torch.randn(shape.batch, shape.k + 1, shape.width)

    def guided(log_x_t: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Two passes, as its generation does; it has this as a closure, out of reach."""
        given = model.predict_start(log_x_t, condition, t)[:, :-1]
        null = model.predict_start(log_x_t, torch.zeros_like(condition), t)[:, :-1]
        mixed = null + guidance_scale * (given - null)
        mixed -= mixed.logsumexp(1, keepdim=True)
        return torch.cat([mixed.clamp(-70, 0), model.zero_vector], dim=1)

    model.cf_predict_start = guided

    def loss() -> Tensor:
        with without_cuda():
            return model({"content_token": codes, "condition_embed_token": condition}, return_loss=True)["loss"]

    def sample(num_steps: int) -> None:
        log_x = diffusion.index_to_log_onehot(torch.full_like(codes, shape.num_codes), shape.num_codes + 1)
        with without_cuda():
            for t in range(num_timesteps - 1, num_timesteps - 1 - num_steps, -1):
                log_x = model.p_sample(log_x, condition, torch.full((shape.batch,), t))

    return model, loss, sample
