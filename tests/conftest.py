"""Shapes and types of every kdlib signature are checked while the tests run."""

import jaxtyping
import torch

_hook = jaxtyping.install_import_hook("kdlib", "beartype.beartype")
torch.set_num_threads(1)
