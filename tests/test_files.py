"""kdlib.files, kdlib.weights and kdlib.types: files are whole or not there, damage is named, hashes see every byte."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlib import files, weights
from kdlib.types import Embeddings
from tests import processes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


THING = files.Kind("thing", "thing.json", "of ours", frozenset({"thing.json", "part/a", "part/b"}))


def write_thing(path, content="new"):
    with files.atomic_folder(path, THING) as folder:
        files.write_json(folder / "thing.json", {"kind": "of ours", "content": content})
        with files.atomic_file(folder / "part" / "a") as temporary:
            temporary.write_text(content)


def test_files_and_folders_of_ours_are_replaced(tmp_path):
    for content in ("one", "two"):
        with files.atomic_file(tmp_path / "deep" / "a.txt") as path:
            path.write_text(content)
        write_thing(tmp_path / "folder", content)
    assert (tmp_path / "deep" / "a.txt").read_text() == (tmp_path / "folder" / "part" / "a").read_text() == "two"
    assert names(tmp_path / "folder") == ["part", "thing.json"] and names(tmp_path) == ["deep", "folder"]


def test_the_old_content_stays_when_the_block_fails(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    write_thing(tmp_path / "folder", "old")
    with pytest.raises(RuntimeError, match="half"), files.atomic_file(tmp_path / "a.txt") as path:
        path.write_text("new")
        raise RuntimeError("half way")
    with pytest.raises(RuntimeError, match="half"), files.atomic_folder(tmp_path / "folder", THING) as path:
        (path / "thing.json").write_text("new")
        raise RuntimeError("half way")
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "folder" / "part" / "a").read_text() == "old"
    assert names(tmp_path) == ["a.txt", "folder"]


def spoil(folder, how):
    """An older thing with something of the user's in it, or what only looks like one."""
    write_thing(folder, "old")
    if how == "file":
        (folder / "notes.txt").write_text("mine")
    elif how == "deep":
        (folder / "part" / "c").write_text("mine")
    elif how == "empty folder":
        (folder / "drafts").mkdir()
    elif how == "link":
        (folder / "part" / "b").symlink_to(folder / "part" / "a")
    elif how == "folder":
        (folder / "part" / "b").mkdir()
        (folder / "part" / "b" / "mine").write_text("mine")
    else:
        (folder / "thing.json").write_text(how)


@pytest.mark.parametrize("how, message", [
    ("file", "folder holds notes.txt, which is no part of its thing; move it away, or"),
    ("deep", "folder holds part/c, which"), ("empty folder", "folder holds drafts, which"),
    ("link", "folder holds part/b, which"), ("folder", "folder holds part/b, which"),
    ("{}", "folder exists and is no thing; choose another name"), ("{", "is no thing"), ("[]", "is no thing"),
    ('{"kind": "of yours"}', "is no thing"), ('{"kind": ["of ours"]}', "is no thing")])
def test_a_folder_with_anything_else_in_it_is_refused_before_the_work(tmp_path, how, message):
    spoil(tmp_path / "folder", how)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message), files.atomic_folder(tmp_path / "folder", THING):
        raise AssertionError("work was done")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_comes_during_the_work_is_seen_too(tmp_path):
    write_thing(tmp_path / "folder", "old")
    with pytest.raises(ValueError, match="holds notes.txt"), files.atomic_folder(tmp_path / "folder", THING) as path:
        (path / "thing.json").write_text("new")
        (tmp_path / "folder" / "notes.txt").write_text("mine")
    assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="is a folder"), files.atomic_file(tmp_path / "a.txt") as path:
        path.write_text("new")
        (tmp_path / "a.txt").mkdir()
    assert names(tmp_path) == ["a.txt", "folder"]


def test_without_a_kind_a_folder_is_replaced_by_one_with_all_of_its_names(tmp_path):
    for number in (1, 2):
        with files.atomic_folder(tmp_path / "folder") as path:
            for name in range(number):
                (path / str(name)).write_text("")
    with pytest.raises(ValueError, match="folder holds 1, which"), files.atomic_folder(tmp_path / "folder") as path:
        (path / "0").write_text("")
    assert names(tmp_path / "folder") == ["0", "1"]


@pytest.mark.parametrize("write", [files.check_file, lambda path: files.check_folder(path, THING)])
def test_places_that_can_not_be_written(tmp_path, write):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("absent")
    for name, message in [("link", "is a symbolic link"), ("nowhere", "is a symbolic link"),
                          ("file/a/b", "file is no folder"), ("nowhere/a", "nowhere is no folder"),
                          ("a\0b", "is no name to write to"), ("..", "is no name to write to"),
                          ("\ud800", "not valid Unicode"), ("a" * 231, "at most 230 bytes"),
                          ("é" * 116, "at most 230 bytes"), ("b" * 256 + "/a", "too long"),
                          ("b/" * 2000 + "a", "too long")]:
        with pytest.raises((ValueError, OSError), match=message):
            write(tmp_path / name)
    for name in ("", "/"):
        with pytest.raises(ValueError, match="is no name to write to"):
            write(files.Path(name))
    for name in ("new", "a/b/c", "a" * 230, "café"):
        write(tmp_path / name)
    assert names(tmp_path) == ["file", "link", "nowhere"]


def test_a_folder_that_libraries_can_not_write_into_and_a_name_that_is_taken(tmp_path):
    """Parquet and faiss take names in UTF-8 only; Pillow takes any."""
    files.check_file(tmp_path / "caf\udce9")
    with pytest.raises(ValueError, match="it is not UTF-8"):
        files.check_folder(tmp_path / "caf\udce9", THING)
    (tmp_path / ".folder.replaced").mkdir()
    (tmp_path / ".folder.replaced" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=".folder.replaced is in the way"):
        files.check_folder(tmp_path / "folder", THING)
    with pytest.raises(ValueError, match="'.' is no name to write to"), files.atomic_folder(".", THING):
        raise AssertionError("work was done")


def test_a_parent_that_may_not_be_changed(tmp_path, monkeypatch):
    """As root, who may, the system's answer is played."""
    monkeypatch.setattr(files.os, "access", lambda path, how: files.Path(path) != tmp_path)
    with pytest.raises(PermissionError, match="you may not change .*; choose another place"):
        files.check_file(tmp_path / "a" / "b")


def test_names_of_230_bytes_can_be_written(tmp_path):
    for _ in range(2):
        with files.atomic_file(tmp_path / ("é" * 115)) as path:
            path.write_text("")
        write_thing(tmp_path / ("a" * 230))
    assert len(names(tmp_path)) == 2


def test_killed_between_the_renames_the_old_folder_comes_back(tmp_path):
    write_thing(tmp_path / "folder", "old")
    (tmp_path / "folder").rename(tmp_path / ".folder.replaced")
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "folder", THING):
        raise RuntimeError
    assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "part" / "a").read_text() == "old"
    write_thing(tmp_path / ".folder.replaced", "older")
    write_thing(tmp_path / "folder")
    assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "part" / "a").read_text() == "new"
    (tmp_path / ".folder.replaced").mkdir()
    (tmp_path / ".folder.replaced" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=".folder.replaced is in the way"):
        write_thing(tmp_path / "folder", "newest")
    assert (tmp_path / ".folder.replaced" / "notes.txt").read_text() == "mine"


def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch):
    write_thing(tmp_path / "folder", "old")
    rename = files.Path.rename

    def full(self, target):
        if self.name == "folder" and "partial" in str(self):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(files.Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        write_thing(tmp_path / "folder")
    assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "part" / "a").read_text() == "old"


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    left = tmp_path / ".folder.abcdefg1.partial"
    (left / "folder" / "part" / ".a.abcdefg2.partial").mkdir(parents=True)
    for name in ("a", ".tmpAbC123", "a-journal"):  # the latter two as safetensors and SQLite write them
        (left / "folder" / "part" / ".a.abcdefg2.partial" / name).write_text("half")
    mine = tmp_path / ".folder.abcdefg3.partial"
    (mine / "folder").mkdir(parents=True)
    (mine / "folder" / ".tmpAbC123").write_text("mine")
    living = tmp_path / ".folder.abcdefg4.partial"
    living.mkdir()
    with files.locked(living):
        write_thing(tmp_path / "folder")
    assert names(tmp_path) == [mine.name, living.name, "folder"]
    write_thing(tmp_path / "folder")
    assert names(tmp_path) == [mine.name, "folder"]


def write_often(path, content):
    for _ in range(40):
        write_thing(path, content)


def test_processes_that_write_one_folder_at_once_tear_nothing(tmp_path):
    writers = [processes.start(write_often, tmp_path / "folder", name) for name in "ab"]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    told = files.read_json(tmp_path / "folder" / "thing.json")["content"]
    assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "part" / "a").read_text() == told


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
