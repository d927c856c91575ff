"""What trainings read is the same bytes on processors that have other instructions and so round otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdlib.encoder.image_tower import ImageTower
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig
from tests.training.digest import SIZE, digest

OLD = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}


@pytest.fixture
def models(tmp_path):
    """An image tower and a tokenizer with random weights, and running means and variances as after training."""
    random = np.random.default_rng(1)
    drawn = lambda tensor: torch.from_numpy(0.1 * random.standard_normal(tensor.shape).astype(np.float32) + (
        tensor.numpy() if tensor.ndim == 1 else 0)).to(tensor.dtype)
    tower = {name: drawn(tensor) if tensor.is_floating_point() else tensor
             for name, tensor in ImageTower(5).state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in tower.items()}, tmp_path / "tower.safetensors")
    tokenizer = Tokenizer(TokenizerConfig(size_px=SIZE, num_codes=60, code_dim=4, width=8, num_downsamplings=2))
    tokenizer.load_state_dict({name: drawn(tensor) for name, tensor in tokenizer.state_dict().items()})
    tokenizer.save(tmp_path / "tokenizer")
    return tmp_path


def test_views_are_the_same_bytes_with_the_instructions_of_an_old_processor(models):
    done = subprocess.run([sys.executable, "-m", "tests.training.digest", str(models)], env=os.environ | OLD, text=True,
                          capture_output=True, check=True, cwd=Path(__file__).resolve().parents[2])
    assert done.stdout.strip() == digest(models)
