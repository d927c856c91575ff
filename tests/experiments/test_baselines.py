"""kdlib.experiments.baselines: what the GAN learns from."""

import numpy as np
import pytest

from kdlib.experiments import baselines as module
from kdlib.experiments.baselines import gan_lessons
from kdlib.training.views import Views, view_pictures
from tests.experiments.test_captioned import learned, save_views


def test_the_gan_learns_from_the_views_of_the_training_set(tmp_path, monkeypatch):
    root = save_views(tmp_path)
    monkeypatch.setattr(module, "training_set", lambda preset, root: learned("xyz"))
    pictures, queries = gan_lessons("toy", root)
    np.testing.assert_array_equal(pictures, list(view_pictures(learned("xyz").pictures, 0, 3)))
    np.testing.assert_array_equal(queries, Views.load(root / "reports/toy/views/views").vectors[:2])
    monkeypatch.setattr(module, "training_set", lambda preset, root: learned("xzy"))
    with pytest.raises(ValueError, match="has views of other pictures than the training set's"):
        gan_lessons("toy", root)


