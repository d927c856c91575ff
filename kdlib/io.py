"""Files that are whole or not there at all: atomic writes, safetensors folders, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends without an error.

    Works for a file and for a folder (create it inside the block); an existing file or folder is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield holder / path.name
        if path.is_dir():
            path.rename(holder / "replaced")
        os.replace(holder / path.name, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_json(path: str | Path, value) -> None:
    """Writes `value` as readable JSON, atomically, ending in a newline."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path):
    """Reads a JSON file; raises ValueError naming the file when it is damaged."""
    try:
        return json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it, for example with `dvc pull`") from error


def save_array(path: str | Path, array: np.ndarray) -> None:
    """Writes a .npy file atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def save_tensors(path: str | Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Writes named tensors as safetensors, atomically; tensors are made contiguous and moved to the CPU."""
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary, metadata)


def load_tensors(path: str | Path) -> dict:
    """Reads safetensors to the CPU; raises ValueError naming the file when it is truncated or foreign."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); restore it, for example with "
                         "`dvc pull`") from error


def load_tensors_and_metadata(path: str | Path) -> tuple[dict, dict[str, str]]:
    """load_tensors, and the texts that save_tensors wrote beside the tensors."""
    tensors = load_tensors(path)
    with safe_open(path, "pt") as file:
        return tensors, file.metadata() or {}


def save_model(folder: str | Path, config: dict, tensors: dict) -> None:
    """Writes config.json and model.safetensors into `folder`, both or neither."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / "config.json", config)
        save_tensors(temporary / "model.safetensors", tensors)


def load_model(folder: str | Path, kind: str) -> tuple[dict, dict]:
    """Reads (config, tensors) written by save_model; `kind` must equal config["kind"].

    Raises FileNotFoundError or ValueError saying what is missing or foreign.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, so it is no saved {kind}")
    config = read_json(folder / "config.json")
    if config.get("kind") != kind:
        raise ValueError(f"{folder} holds a {config.get('kind')!r}, not a {kind!r}")
    return config, load_tensors(folder / "model.safetensors")


def array_hash(*arrays: np.ndarray) -> str:
    """16 hex digits of the SHA-256 over dtypes, shapes and contents of arrays (of numbers or of text)."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def tensors_hash(tensors: dict) -> str:
    """16 hex digits of the SHA-256 over names, dtypes, shapes and bytes of tensors: a model's identity."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
