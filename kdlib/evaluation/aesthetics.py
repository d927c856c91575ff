"""Scores to filter a database by (the paper's Fig. 7 and 9): LAION's aesthetic predictors, and colourfulness."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from kdlib.weights import load_tensors

ENCODERS = {768: ("ViT-L-14/openai", "ViT-L-14-quickgelu/openai"),  # what the predictors were trained on
            512: ("ViT-B-32/openai", "ViT-B-32-quickgelu/openai", "ViT-B-16/openai", "ViT-B-16-quickgelu/openai")}
ONE_LAYER = ["weight", "bias"]
FIVE_LAYERS = [f"layers.{layer}.{part}" for layer in (0, 2, 4, 6, 7) for part in ("weight", "bias")]
MAX_BYTES = 2 ** 26  # of all weights of a predictor; the largest published one has 3.7 million
BATCH = 256


# --- LAION's predictors --------------------------------------------------------------------------------------------

class LinearScore(NamedTuple):
    """A score that is an affine function of CLIP's unit vectors: about 1 (ugly) to 10 (beautiful)."""

    weight: Float[np.ndarray, " dim"]
    bias: float

    def __call__(self, vectors: Float[np.ndarray, "num_pictures dim"]) -> Float[np.ndarray, " num_pictures"]:
        """The scores of embeddings, float64."""
        return vectors.astype(np.float64) @ self.weight + self.bias


def load_aesthetics(path: str | Path, encoder: str) -> LinearScore:
    """An aesthetic predictor from a file: LAION-AI/aesthetic-predictor (2022), the paper's, which has one linear layer.

    Or christophschuhmann/improved-aesthetic-predictor's "linearMSE": five with nothing between them, so one map, too.

    path     the published .pth, of which no pickle is opened, or .safetensors with the same names
    encoder  `Encoder.name` of what made the embeddings, such as "ViT-L-14/openai"

    Raises FileNotFoundError, or ValueError for another content, another network, or embeddings of another encoder.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; fetch a predictor's weights, such as sa_0_4_vit_l_14_linear.pth "
                                "of LAION-AI/aesthetic-predictor, and name that file")
    if path.suffix == ".safetensors":
        layers = layers_of({name: tensor.double().numpy() for name, tensor in load_tensors(path).items()}, path)
    else:
        layers = layers_of_checkpoint(path)
    score = composed(layers, path)
    known = ENCODERS.get(len(score.weight), ())
    if encoder not in known:
        raise ValueError(f"{path} scores embeddings of {' or '.join(known[::2]) or 'an unknown encoder'}, "
                         f"{len(score.weight)} wide, and these are of {encoder}; use that encoder")
    return score


def layers_of(tensors: dict[str, np.ndarray], path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of each layer, first to last."""
    names = next((names for names in (ONE_LAYER, FIVE_LAYERS) if set(names) == set(tensors)), None)
    if names is None:
        raise ValueError(f"{path} holds {', '.join(sorted(tensors)[:4]) or 'nothing'}: no linear aesthetic predictor")
    return [(tensors[weight], tensors[bias]) for weight, bias in zip(names[::2], names[1::2], strict=True)]


def layers_of_checkpoint(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same of a file that torch.save wrote, a zip: names from the pickle's bytes, numbers from the files beside it.

    The pickle is searched, never run. Shapes follow from sizes: a layer has as many outputs as biases.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"{path} is larger than any aesthetic predictor; name another file")
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            pickled = archive.read(f"{root}data.pkl")
            names = [name.decode() for name in re.findall(rb"(?:layers\.\d+\.)?(?:weight|bias)", pickled)]
            if names not in (ONE_LAYER, FIVE_LAYERS) or set(re.findall(rb"(\w+)Storage", pickled)) != {b"Float"}:
                raise ValueError(f"{path} holds {', '.join(names[:4]) or 'nothing'}: no linear aesthetic predictor in "
                                 "float32")
            flat = [np.frombuffer(archive.read(f"{root}data/{number}"), "<f4") for number in range(len(names))]
    except (zipfile.BadZipFile, StopIteration, KeyError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path} is no whole checkpoint of PyTorch 1.6 or later ({str(error) or 'no data.pkl'}); "
                         "fetch it again, or save its tensors as safetensors") from error
    return [(weight.reshape(len(bias), -1) if len(bias) and len(weight) % len(bias) == 0 else weight, bias)
            for weight, bias in zip(flat[::2], flat[1::2], strict=True)]


def composed(layers: list[tuple[np.ndarray, np.ndarray]], path: Path) -> LinearScore:
    """Linear layers as the one affine map that they are, in float64."""
    weight, bias = None, None
    for matrix, shift in layers:
        matrix, shift = matrix.astype(np.float64), shift.astype(np.float64)
        follows = matrix.ndim == 2 and (weight is None or len(weight) == matrix.shape[1])
        if not follows or shift.shape != matrix.shape[:1]:
            raise ValueError(f"{path} has layers that don't follow on each other: {matrix.shape}, {shift.shape}; fetch "
                             "it again")
        weight = matrix if weight is None else matrix @ weight
        bias = shift if bias is None else matrix @ bias + shift
    if len(weight) != 1 or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError(f"{path} gives {len(weight)} numbers a picture, or some that are none; fetch it again")
    return LinearScore(weight[0], float(bias[0]))


# --- colourfulness -------------------------------------------------------------------------------------------------

def colourfulness(pictures: UInt8[np.ndarray, "num_pictures height width 3"]) -> Float[np.ndarray, " num_pictures"]:
    """How colourful people find pictures (Hasler and Suesstrunk, 2003, M3): 0 for greys; 33 is moderate, 109 extreme.

    sigma + 0.3 mu, where sigma and mu are the lengths of (deviation, mean) over the pixels of the opponent colours
    red - green and (red + green) / 2 - blue, in sRGB from 0 to 255.
    """
    chunks = [colourfulness_of(pictures[start:start + BATCH]) for start in range(0, len(pictures), BATCH)]
    return np.concatenate(chunks) if chunks else np.empty(0)


def colourfulness_of(pictures: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, " batch"]:
    """`colourfulness` of pictures that fit into memory as float64."""
    red, green, blue = np.moveaxis(pictures.astype(np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    sigma, mean = opponents.std((2, 3)), opponents.mean((2, 3))
    return np.hypot(*sigma) + 0.3 * np.hypot(*mean)
