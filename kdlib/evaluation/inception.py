"""Inception's features, of which the FID is made (Heusel et al., 2017): by torch-fidelity, of a named weights file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

WIDTH = 2048
BATCH = 32


def inception_features(weights: str | Path) -> Callable[[list[Image.Image]], np.ndarray]:
    """A function from pictures of one size to float32 features (num_pictures, 2048).

    weights  torch-fidelity's file, such as weights-inception-2015-12-05-6726825d.pth; nothing is fetched

    Raises FileNotFoundError where the file isn't there, ValueError where torch-fidelity isn't, or can't read it.
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"there is no {weights}; fetch Inception's weights as torch-fidelity names them")
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError("Inception's features need the package torch-fidelity; install it, or leave out --inception, "
                         "and the judge's are taken") from error
    before, torch.load = torch.load, only_weights(torch.load)
    try:
        network = FeatureExtractorInceptionV3("inception", [str(WIDTH)], feature_extractor_weights_path=str(weights))
        network.eval()
    except (RuntimeError, OSError, KeyError, EOFError, ValueError) as error:
        raise ValueError(f"{weights} holds no weights of Inception ({' '.join(str(error).split())[:200]})") from error
    finally:
        torch.load = before

    @torch.inference_mode()
    def features(pictures: list[Image.Image]) -> np.ndarray:
        pixels = torch.from_numpy(np.stack([np.asarray(one.convert("RGB")) for one in pictures])).permute(0, 3, 1, 2)
        return torch.cat([network(batch.contiguous())[0].float() for batch in pixels.split(BATCH)]).cpu().numpy()

    return features


def only_weights(load: Callable) -> Callable:
    """torch.load as it must be called here: nothing but tensors is unpickled."""
    return lambda *args, **settings: load(*args, **settings | {"weights_only": True})
