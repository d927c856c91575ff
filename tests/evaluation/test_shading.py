"""kdlib.evaluation.shading: what is counted, beside a plain loop; what is learned, beside scikit-learn."""

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from kdlib.evaluation import shading
from kdlib.evaluation.shading import PENALTY, STEPS, changes, changes_at, fit_shading, has_gradient


def by_definition(picture, scale):
    """Pair by pair, in plain Python."""
    side, wide = picture.shape[0] // scale, picture.shape[1] // scale
    mean = lambda i, j: picture[i * scale:(i + 1) * scale, j * scale:(j + 1) * scale].mean((0, 1))
    pairs = [(mean(i, j), mean(i + 1, j)) for i in range(side - 1) for j in range(wide)]
    pairs += [(mean(i, j), mean(i, j + 1)) for i in range(side) for j in range(wide - 1)]
    drawn = [max(abs(a - b)) for a, b in pairs if min(a) < 250 or min(b) < 250]
    share = lambda low, high: sum(low <= change < high for change in drawn) / max(len(drawn), 1)
    return [share(low, high) for low, high in zip(STEPS[:-1], STEPS[1:], strict=True)]


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_changes_are_counted_as_defined(scale):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 9, 13, 3)).astype(np.uint8) // 16 * 16
    pictures[0, :, :6], pictures[1, 2:] = 255, [[[7, 9, 200]]]
    found = changes_at(pictures, scale)
    assert found == pytest.approx(np.array([by_definition(picture.astype(float), scale) for picture in pictures]))
    assert found.sum(1) == pytest.approx(1)


def test_known_pictures(monkeypatch):
    white, flat = np.full((8, 8, 3), 255), np.full((8, 8, 3), 90)
    ramp = np.arange(8)[:, None, None] * 4 + np.zeros((8, 8, 3))
    found = changes_at(np.stack([white, flat, ramp]).astype(np.uint8), 1)
    wanted = np.zeros((3, len(STEPS) - 1))
    wanted[1, 0], wanted[2, 0], wanted[2, STEPS.index(3)] = 1, 0.5, 0.5  # down it changes by 4, across by 0
    assert found == pytest.approx(wanted)
    monkeypatch.setattr(shading, "BATCH", 2)
    many = np.stack([white, flat, ramp, flat, ramp]).astype(np.uint8)
    assert (changes(many)[:3] == np.hstack([changes_at(many[:3], scale) for scale in (1, 2, 4)])).all()
    assert changes(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, 24)


def drawings(num, seed):
    """Half of them rectangles of one colour, half with a gradient from it to another, in a picture with noise."""
    random = np.random.default_rng(seed)
    pictures, shaded = [], np.arange(num) % 3 == 0
    for has in shaded:
        first, second = random.integers(40, 220, (2, 3))
        way = np.linspace(0, 1, 12)[:, None, None]
        inside = first + has * way * (second - first) + np.zeros((12, 12, 3)) + random.integers(-2, 3, (12, 12, 3))
        picture = np.full((16, 16, 3), 255.0)
        picture[2:14, 2:14] = inside
        pictures.append(picture.astype(np.uint8))
    return np.stack(pictures), shaded


def test_the_fit_is_logistic_regression_with_both_kinds_counting_equally():
    pictures, shaded = drawings(90, 0)
    score = fit_shading(pictures, shaded)
    features = changes(pictures)
    rows = (features - features.mean(0)) / (features.std(0) + 1e-6)
    known = LogisticRegression(C=1 / PENALTY, class_weight="balanced", max_iter=10_000, tol=1e-10).fit(rows, shaded)
    assert score(pictures) == pytest.approx(known.decision_function(rows), abs=1e-2)


def test_it_tells_new_drawings():
    score, (pictures, shaded) = fit_shading(*drawings(90, 0)), drawings(60, 1)
    assert ((score(pictures) > 0) == shaded).mean() > 0.9


@pytest.mark.parametrize("label", [True, False])
def test_one_kind_alone_teaches_nothing(label):
    with pytest.raises(ValueError, match="of 4 pictures are shaded; give some of both kinds"):
        fit_shading(drawings(4, 0)[0], np.full(4, label))


def test_a_gradient_is_one_in_the_vectors_and_in_the_picture():
    from kdlib.data.drawings import render

    box = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{}<path d="M2 2h12v12h-12z" fill="{}"/></svg>'
    ways = '<linearGradient id="a"><stop stop-color="#f00"/><stop offset="1" stop-color="#00f"/></linearGradient>'
    svgs = [box.format("", "#f00"), box.format(ways, "url(#a)")]
    assert has_gradient(svgs).tolist() == [False, True]
    flat, shaded = changes(np.stack([np.asarray(Image.fromarray(np.asarray(render(svg, 32)))) for svg in svgs]))
    assert flat[0] > shaded[0]
