"""Weights as safetensors beside a config.json, whole or not there at all; what a model is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from kdlib.files import Kind, atomic_file, atomic_folder, is_out_of_memory, read_json, write_json

MAX_SIZE = 2 ** 20  # of a number in a config
MODEL_FILES = frozenset({"config.json", "model.safetensors"})


def save_tensors(path: str | Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Writes named tensors as safetensors, atomically; tensors are made contiguous and moved to the CPU."""
    with atomic_file(path) as temporary:
        try:
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


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
    """Writes config.json and model.safetensors into `folder`, both or neither; only a model of its kind is replaced."""
    kind = Kind(config["kind"], "config.json", config["kind"], MODEL_FILES)
    with atomic_folder(folder, kind) as temporary:
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
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'} describes no model; restore it, for example with `dvc pull`")
    if config.get("kind") != kind:
        raise ValueError(f"{folder} holds a {config.get('kind')!r}, not a {kind!r}")
    return config, load_tensors(folder / "model.safetensors")


@contextmanager
def fitting(folder: str | Path, config: dict) -> Iterator[None]:
    """Around the making of a model from what `load_model` gave: a ValueError names it, unless memory runs out."""
    if large := [name for name, value in config.items() if isinstance(value, int | float) and not value < MAX_SIZE]:
        raise ValueError(f"{folder}/config.json says {large[0]} = {config[large[0]]}, which no model has; restore it")
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"the {config['kind']} in {folder} does not fit this kdlib ({why}); restore it, or train it "
                         "again") from error


def tensors_hash(tensors: dict) -> str:
    """16 hex digits of the SHA-256 over names, dtypes, shapes and bytes of tensors: a model's identity."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
