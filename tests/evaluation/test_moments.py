"""kdlib.evaluation.moments beside the same of all rows at once; Inception's features beside a stand-in's."""

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.evaluation.inception import inception_features
from kdlib.evaluation.metrics import fit_gaussian, frechet_distance
from kdlib.evaluation.moments import Moments


def rows(num, seed):
    random = np.random.default_rng(seed)
    return (random.normal(size=(num, 7)) @ random.normal(size=(7, 7)) + 3).astype(np.float32)


@pytest.mark.parametrize("num", [4, 60])
def test_batches_make_the_gaussian_of_all_rows(num):
    all_rows, moments = rows(num, 0), Moments(7)
    for batch in np.array_split(all_rows, [1, 1, 3]):
        moments.add(batch)
    found, wanted = Moments.restored(moments.state()).gaussian(), fit_gaussian(all_rows)
    assert found.mean == pytest.approx(wanted.mean)
    assert found.factor.T @ found.factor == pytest.approx(np.cov(all_rows.T), abs=1e-8)
    other = fit_gaussian(rows(50, 1))
    assert frechet_distance(found, other) == pytest.approx(frechet_distance(wanted, other), rel=1e-6)


def test_what_makes_no_gaussian():
    moments = Moments(7)
    moments.add(rows(1, 0))
    with pytest.raises(ValueError, match="1 pictures are too few"):
        moments.gaussian()
    with pytest.raises(ValueError, match="no finite numbers"):
        moments.add(np.full((2, 7), np.nan, np.float32))


class Extractor(torch.nn.Module):
    """In the place of torch-fidelity's: reads its weights with torch.load, and gives mean colours."""

    def __init__(self, name, features, feature_extractor_weights_path):
        super().__init__()
        assert (name, features) == ("inception", ["2048"])
        self.scale = torch.load(feature_extractor_weights_path)["scale"]

    def forward(self, pixels):
        assert pixels.dtype == torch.uint8 and pixels.shape[1:] == (3, 4, 6)
        return (pixels.float().mean((2, 3)) * self.scale,)


@pytest.fixture
def fidelity(monkeypatch):
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was run')",)


def test_inception_is_torch_fidelitys_with_the_named_weights_and_runs_no_pickle(fidelity, tmp_path):
    torch.save({"scale": torch.tensor(2.0)}, tmp_path / "weights.pth")
    features = inception_features(tmp_path / "weights.pth")([Image.new("RGB", (6, 4), (n, 0, 7)) for n in range(40)])
    assert features == pytest.approx(np.array([[2 * n, 0, 14] for n in range(40)]))
    torch.save({"scale": Harmful()}, tmp_path / "evil.pth")
    load = torch.load
    with pytest.raises(Exception, match="[Ww]eights"):
        inception_features(tmp_path / "evil.pth")
    assert torch.load is load


def test_without_weights_or_the_package_it_says_so(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="fetch Inception's weights"):
        inception_features(tmp_path / "weights.pth")
    (tmp_path / "weights.pth").touch()
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match="need the package torch-fidelity"):
        inception_features(tmp_path / "weights.pth")
