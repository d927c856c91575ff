"""kdlib.files, kdlib.weights and kdlib.types: files are whole or not there, damage is named, hashes see every byte."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kdlib import files, weights
from kdlib.types import Embeddings, Generation


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_path_writes_and_replaces_files_and_folders(tmp_path):
    for content in ("one", "two"):
        with files.atomic_path(tmp_path / "deep" / "a.txt") as path:
            path.write_text(content)
        with files.atomic_path(tmp_path / "folder") as path:
            path.mkdir()
            (path / content).write_text(content)
    assert (tmp_path / "deep" / "a.txt").read_text() == "two"
    assert names(tmp_path / "folder") == ["two"] and names(tmp_path) == ["deep", "folder"]


def test_atomic_path_leaves_the_old_content_when_the_block_fails(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    for name in ("a.txt", "folder"):
        with pytest.raises(RuntimeError, match="half"), files.atomic_path(tmp_path / name) as path:
            path.write_text("new")
            raise RuntimeError("half way")
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path / "folder") == ["old"]
    assert names(tmp_path) == ["a.txt", "folder"]


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                           lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9)


@given(value=json_values)
def test_json_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert path.read_bytes().endswith(b"\n")


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"half": ')
    with pytest.raises(ValueError, match="a.json is not valid JSON"):
        files.read_json(tmp_path / "a.json")


def test_arrays_come_back_and_objects_are_refused(tmp_path):
    array = np.arange(15, dtype=np.float16).reshape(3, 5)
    files.save_array(tmp_path / "a.npy", array)
    assert (np.load(tmp_path / "a.npy", mmap_mode="r") == array).all()
    with pytest.raises(ValueError, match="[Oo]bject arrays"):
        files.save_array(tmp_path / "b.npy", np.array([object()]))
    assert names(tmp_path) == ["a.npy"]


def test_tensors_come_back_even_when_shared_or_strided(tmp_path):
    weight = torch.arange(15.0).reshape(3, 5)
    tensors = {"a": weight, "b": weight.t(), "c": weight[1], "d": torch.tensor(3)}
    weights.save_tensors(tmp_path / "t.safetensors", tensors)
    back = weights.load_tensors(tmp_path / "t.safetensors")
    assert back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"", lambda data: b"pickle" * 9])
def test_damaged_tensors_are_named(tmp_path, damage):
    path = tmp_path / "t.safetensors"
    weights.save_tensors(path, {"a": torch.ones(3)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="t.safetensors is not a whole safetensors file"):
        weights.load_tensors(path)


def test_models_come_back_only_as_their_kind(tmp_path):
    weights.save_model(tmp_path / "m", {"kind": "thing", "width": 7}, {"w": torch.ones(3)})
    config, tensors = weights.load_model(tmp_path / "m", "thing")
    assert config == {"kind": "thing", "width": 7} and torch.equal(tensors["w"], torch.ones(3))
    with pytest.raises(ValueError, match="holds a 'thing', not a 'stuff'"):
        weights.load_model(tmp_path / "m", "stuff")
    with pytest.raises(FileNotFoundError, match="holds no config.json, so it is no saved thing"):
        weights.load_model(tmp_path / "absent", "thing")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="model.safetensors is not a whole"):
        weights.load_model(tmp_path / "m", "thing")


def test_hash_sees_names_shapes_types_and_bytes_but_not_order():
    a, b = torch.arange(6.0), torch.ones(2)
    base = weights.tensors_hash({"a": a, "b": b})
    assert weights.tensors_hash({"b": b, "a": a}) == base and len(base) == 16
    others = [{"a": a}, {"a": b, "b": a}, {"a": a.reshape(2, 3), "b": b}, {"a": a.double(), "b": b},
              {"a": a + torch.eye(6)[5] * 1e-6, "b": b}, {"a": a.to(torch.bfloat16), "b": b}]
    assert len({base, *(weights.tensors_hash(other) for other in others)}) == len(others) + 1


def test_embeddings_must_fit_their_ids():
    with pytest.raises(ValueError, match=r"shape \(3, 5\) do not fit 2 ids"):
        Embeddings(np.ones((3, 5)), np.array(["a", "b"]), "enc")


def test_a_generation_is_only_what_it_was_given():
    out = Generation("a cat", [Image.new("RGB", (2, 2))], [], seed=3)
    assert out.settings == {} and json.dumps(out.settings) == "{}"
