"""kdlib.compendium.published: curves that a training wrote come back."""

import pandas as pd
import pytest

from kdlib.compendium.published import published_history
from kdlib.files import write_json
from kdlib.training.loop import write_curves


def test_what_a_training_wrote_comes_back(tmp_path):
    history = [{"step": 10, "loss": 2.5, "scale": 1.0}, {"step": 20, "loss": 1.25, "scale": 3.0}]
    folder = tmp_path / "reports" / "toy" / "encoder"
    write_curves(history, folder / "curves")
    write_json(folder / "metrics.json", {"precision": "bf16"})
    found = published_history("toy", "encoder", tmp_path)
    pd.testing.assert_frame_equal(found[["step", "loss", "scale"]], pd.DataFrame(history), check_dtype=False)
    assert found.attrs == {"precision": "bf16"}


def test_without_curves_it_says_where_they_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="make reproduce PRESET=toy"):
        published_history("toy", "encoder", tmp_path)
