"""Aesthetic scores against PyTorch's own networks, and colourfulness against its definition."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdlib.evaluation.aesthetics import colourfulness, load_aesthetics
from kdlib.retrieval import by_quantile


def one_layer(dim):
    """LAION-AI/aesthetic-predictor's network."""
    torch.manual_seed(dim)
    return nn.Linear(dim, 1)


class FiveLayers(nn.Module):
    """improved-aesthetic-predictor's, as its repository has it."""

    def __init__(self, dim=768, relu=False):
        super().__init__()
        torch.manual_seed(1)
        between = [nn.ReLU()] if relu else []
        self.layers = nn.Sequential(nn.Linear(dim, 1024), *between, nn.Dropout(0.2), nn.Linear(1024, 128), *between,
                                    nn.Dropout(0.2), nn.Linear(128, 64), *between, nn.Dropout(0.1), nn.Linear(64, 16),
                                    *between, nn.Linear(16, 1))


def unit_vectors(num, dim):
    vectors = np.random.default_rng(0).normal(size=(num, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def said(network, vectors):
    """What the network itself says."""
    with torch.inference_mode():
        return getattr(network.eval().double(), "layers", network)(torch.from_numpy(vectors).double()).numpy()[:, 0]


NETWORKS = [(lambda: one_layer(768), 768, "ViT-L-14/openai"), (lambda: one_layer(512), 512, "ViT-B-32/openai"),
            (FiveLayers, 768, "ViT-L-14/openai")]


@pytest.mark.parametrize("make, dim, encoder", NETWORKS)
@pytest.mark.parametrize("save", [lambda tensors, path: torch.save(tensors, path.with_suffix(".pth")),
                                  lambda tensors, path: save_file(tensors, path.with_suffix(".safetensors"))])
def test_a_published_file_gives_the_networks_scores(tmp_path, make, dim, encoder, save):
    network, vectors = make(), unit_vectors(7, dim)
    save(network.state_dict(), tmp_path / "sa+0_4.x")
    (path,) = tmp_path.iterdir()
    scores = load_aesthetics(path, encoder)(vectors)
    assert scores.shape == (7,) and np.allclose(scores, said(network, vectors), atol=1e-9)
    assert by_quantile(scores, 0.0, 0.2).sum() == 2, "a filter of the index"


def test_a_file_of_another_name_and_half_precision_vectors(tmp_path):
    network, vectors = one_layer(512), unit_vectors(3, 512).astype(np.float16)
    torch.save(network.state_dict(), tmp_path / "weights")
    scores = load_aesthetics(tmp_path / "weights", "ViT-B-32/openai")(vectors)
    assert np.allclose(scores, said(network, vectors.astype(np.float32)), atol=1e-6)


def test_no_pickle_is_run(tmp_path):
    """A checkpoint whose pickle would write a file, and has the names of a predictor in it."""
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harmed",)
    network = one_layer(512)
    torch.save({"weight": network.weight.data, "bias": network.bias.data, "x": Harmful()}, tmp_path / "evil.pth")
    scores = load_aesthetics(tmp_path / "evil.pth", "ViT-B-32/openai")(unit_vectors(2, 512))
    assert np.allclose(scores, said(network, unit_vectors(2, 512)), atol=1e-6) and not (tmp_path / "harmed").exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "harmed").exists(), "it is one that harms"


def save_half(path):
    torch.save(one_layer(768).half().state_dict(), path)


def cut_short(path):
    torch.save(one_layer(768).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-300])


def without_numbers(path):
    torch.save(one_layer(768).state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith("data/1")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


def huge(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 2 ** 26 + b"weight")


def changed(name, tensor):
    return lambda path: torch.save(FiveLayers().state_dict() | {name: tensor}, path)


@pytest.mark.parametrize("write, message", [
    (lambda path: None, "there is no .*x.pth; fetch a predictor's weights"),
    (lambda path: path.write_text("<html>"), "is no whole checkpoint of PyTorch"),
    (cut_short, "is no whole checkpoint of PyTorch"), (without_numbers, "is no whole checkpoint of PyTorch"),
    (huge, "is larger than any aesthetic predictor"),
    (lambda path: zipfile.ZipFile(path, "w").close(), "no whole checkpoint of PyTorch 1.6 or later"),
    (lambda path: torch.save(one_layer(768).state_dict(), path, _use_new_zipfile_serialization=False),
     "is no whole checkpoint of PyTorch 1.6 or later"),
    (save_half, "no linear aesthetic predictor in float32"),
    (lambda path: torch.save(FiveLayers(relu=True).state_dict(), path), "no linear aesthetic predictor"),
    (lambda path: torch.save(nn.BatchNorm1d(768).state_dict(), path), "no linear aesthetic predictor"),
    (lambda path: torch.save(nn.Linear(768, 2).state_dict(), path), "gives 2 numbers a picture"),
    (lambda path: torch.save({"weight": torch.full((1, 768), torch.nan), "bias": torch.zeros(1)}, path), "fetch it"),
    (changed("layers.2.weight", torch.zeros(128, 1000)), r"layers that don't follow on each other: \(128, 1000\)"),
    (changed("layers.2.bias", torch.zeros(100)), "layers that don't follow on each other"),
    (lambda path: torch.save(one_layer(300).state_dict(), path), "scores embeddings of an unknown encoder, 300 wide"),
    (lambda path: torch.save(one_layer(512).state_dict(), path),
     "scores embeddings of ViT-B-32/openai or ViT-B-16/openai, 512 wide, and these are of ViT-L-14/openai"),
])
def test_what_is_no_predictor_is_named(tmp_path, write, message):
    write(tmp_path / "x.pth")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_aesthetics(tmp_path / "x.pth", "ViT-L-14/openai")


def test_another_encoders_vectors_of_the_same_width_are_refused(tmp_path):
    """The bundled encoder is 512 wide, too; a CLIP's head would say nonsense of its vectors."""
    torch.save(one_layer(512).state_dict(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="these are of sticker/resnet10t"):
        load_aesthetics(tmp_path / "x.pth", "sticker/resnet10t")


def test_safetensors_of_another_model(tmp_path):
    save_file({"head.weight": torch.zeros(1, 768)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="x.safetensors holds head.weight: no linear aesthetic predictor"):
        load_aesthetics(tmp_path / "x.safetensors", "ViT-L-14/openai")


# --- colourfulness -------------------------------------------------------------------------------------------------

def by_definition(picture):
    """Pixel by pixel, in plain Python."""
    pixels = [tuple(map(int, pixel)) for row in picture for pixel in row]
    red_green = [r - g for r, g, b in pixels]
    yellow_blue = [0.5 * (r + g) - b for r, g, b in pixels]
    mean = lambda values: sum(values) / len(values)
    variance = lambda values: mean([(value - mean(values)) ** 2 for value in values])
    return (math.sqrt(variance(red_green) + variance(yellow_blue))
            + 0.3 * math.sqrt(mean(red_green) ** 2 + mean(yellow_blue) ** 2))


def test_colourfulness_is_what_it_is_defined_as():
    pictures = np.random.default_rng(0).integers(0, 256, (300, 3, 5, 3), dtype=np.uint8)
    assert colourfulness(pictures)[[0, 255, 256, 299]] == pytest.approx(
        [by_definition(pictures[row]) for row in (0, 255, 256, 299)])


def test_known_pictures():
    grey = np.full((4, 4, 3), 77)
    red = np.zeros((4, 4, 3)) + [255, 0, 0]
    halves = np.concatenate([np.zeros((2, 4, 3)) + [255, 0, 0], np.zeros((2, 4, 3)) + [0, 255, 0]])
    found = colourfulness(np.stack([grey, red, halves]).astype(np.uint8))
    assert found == pytest.approx([0, 0.3 * math.hypot(255, 127.5), 255 + 0.3 * 127.5])
    assert colourfulness(np.empty((0, 4, 4, 3), np.uint8)).shape == (0,)


def test_bright_colours_are_more_colourful_than_washed_out_ones():
    pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    washed = (0.3 * pictures + 0.7 * 128).astype(np.uint8)
    assert (colourfulness(pictures) > 2 * colourfulness(washed)).all()
