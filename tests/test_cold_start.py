"""What is imported for a search and for a drawing: nothing that takes seconds and isn't used."""

import subprocess
import sys

import pytest

PACKAGES = ["open_clip", "timm", "torchvision", "transformers", "diffusers"]  # each takes seconds
PROGRAM = f"""
import sys
def told(step):
    slow = set({PACKAGES}) & set(sys.modules)
    print(step, sorted(slow), [name for name in ("process", "continuous") if any(
        name in module for module in sys.modules if module.startswith("kdlib.models."))], sep="|")
import kdlib.artifacts
told("search")
import kdlib.pipeline
told("pipeline")
from kdlib.encoder.encoder import OWN_TOWER, empty_sticker_clip
empty_sticker_clip(OWN_TOWER, 32)
told("encoder")
import kdlib.models.discrete.backbone
told("drawing")
"""


@pytest.fixture(scope="module")
def said():
    """What was there after each step of one fresh process: slow packages, and rooms of kdlib.models."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return {step: (slow, rooms) for step, slow, rooms in (line.split("|") for line in done.stdout.splitlines())}


@pytest.mark.parametrize("step", ["search", "pipeline", "encoder", "drawing"])
def test_what_searches_and_draws_imports_no_package_of_training(said, step):
    assert said[step][0] == "[]"


@pytest.mark.parametrize("step", ["search", "pipeline", "encoder"])
def test_a_search_imports_nothing_that_draws(said, step):
    assert said[step][1] == "[]"


def test_the_discrete_path_imports_nothing_of_the_continuous_one(said):
    """A U-Net and its schedulers take seconds to import."""
    assert said["drawing"][1] == "['process']"
