"""Nothing of a user's is ever lost: random trees around random targets, and the ways in which files were lost once."""

import itertools
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib import cli
from kdlib.files import save_array, write_json
from kdlib.retrieval import own_pictures
from kdlib.retrieval.own_pictures import save_report
from kdlib.training.views import Views
from kdlib.weights import save_model
from tests.retrieval.test_own_pictures import read_here
from tests.test_pipeline import make_pipe, make_root, parts_are_colours

PICTURE = Image.new("RGB", (3, 3), "red")


@pytest.fixture(scope="module")
def kd_index(tmp_path_factory):
    """The command `kd index DIR --out OUT` as a function, with tiny parts."""
    root = tmp_path_factory.mktemp("compendium")
    make_root(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        parts_are_colours(patch)
        patch.setattr(own_pictures, "read_pictures", read_here)
        OURS.update({kind: root / kind for kind in ("index", "pipeline", "model")})
        PIPE.index.save(OURS["index"])
        PIPE.save_pretrained(OURS["pipeline"])
        save_model(OURS["model"], {"kind": "thing"}, {})
        yield lambda pictures, out: cli.make_index(pictures, out, "quick", None)


# --- random trees --------------------------------------------------------------------------------------------------

FOLDERS = [".", "a", "a/b", "pics", "my.index", "my.index/encoder", "a/my.index", ".my.index.unfinished",
           ".my.index.replaced", ".my.index.abcdefg1.partial", ".my.index.abcdefg1.partial/my.index"]
NAMES = ["a", "b", "my.index", "x.png", "x-1.png", "x-2.png", "manifest.json", "config.json", "pipeline.json",
         "notes", "encoder", "index", "my.index.skipped.csv", *FOLDERS[7:10]]
TEXTS = ["", "mine", "{}", '{"kind": "thing"}', '{"kind": ["embeddings"]}', "[]", "path,size\n", "\xff"]
LINKS = ["nowhere", ".", "../a", "b", "pics", "my.index", "x.png"]
PLACES = [f"{folder}/{name}" for folder in FOLDERS for name in NAMES] + ["a", "pics", "pics/red.png", ".", "a/.."]
THINGS = st.one_of(st.tuples(st.just("file"), st.sampled_from(TEXTS)),
                   st.tuples(st.just("link"), st.sampled_from(LINKS)),
                   st.tuples(st.sampled_from(["folder", "index", "pipeline", "model"]), st.none()))


def put(path, kind, content):
    """Puts something where nothing is yet; True if it is the user's."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return False
    if kind == "file":
        path.write_text(content, encoding="latin-1")
    elif kind == "link":
        path.symlink_to(content)
    elif kind == "folder":
        path.mkdir()
    else:
        shutil.copytree(OURS[kind], path)
    return kind in ("file", "link")


def look(path):
    """What is at a path: a link's target, a file's bytes."""
    return os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None


PIPE = make_pipe()
OURS = {}  # a folder of each kind that we write; the fixture kd_index
VIEWS = Views(np.zeros((2, 3, 5), int), np.zeros((2, 3, 7), np.float16))
FILES = {  # what writes the file that a user names, if it is one
    "picture": lambda root, out: cli.save_images([PICTURE], out.with_suffix(".png")),
    "json": lambda root, out: write_json(out, {"kind": "thing"}),
    "array": lambda root, out: save_array(out, np.ones(3))}
OTHERS = {
    "kd index": lambda root, out: INDEX[0](root / "pics", out),
    "kd index of all": lambda root, out: INDEX[0](root, out),
    "index": lambda root, out: PIPE.index.save(out),
    "pipeline": lambda root, out: PIPE.save_pretrained(out),
    "model": lambda root, out: save_model(out, {"kind": "thing"}, {}),
    "views": lambda root, out: VIEWS.save(out),
    "report": lambda root, out: save_report(out, [])}
INDEX = []  # the fixture kd_index


@contextmanager
def full_disk(moment):
    """The n-th rename fails as on a full disk; none does for None."""
    count = itertools.count()

    def failing(rename):
        def renamed(*paths, **more):
            if next(count) == moment:
                raise OSError(28, "No space left on device")
            return rename(*paths, **more)
        return renamed
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(os, name, failing(getattr(os, name)))
        yield


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(things=st.lists(st.tuples(st.sampled_from(PLACES), THINGS), max_size=9), target=st.sampled_from(PLACES),
       older=st.sampled_from([None, "index", "pipeline", "model"]),
       inside=st.lists(st.sampled_from(["notes", "encoder/notes", "index/x.png", "encoder"]), max_size=2),
       command=st.sampled_from([*FILES, *OTHERS, "kd index", "index"]), moment=st.none() | st.integers(0, 6))
def test_every_file_that_we_did_not_write_is_there_equal_to_the_byte(
        kd_index, things, target, older, inside, command, moment):
    """`older`: what of ours is at the target; `inside`: what the user has put into it."""
    INDEX[:] = [kd_index]
    root = Path(tempfile.mkdtemp())
    try:
        (root / "pics").mkdir()
        PICTURE.save(root / "pics" / "red.png")
        things = [*([(target, (older, None))] if older else []),
                  *((f"{target}/{name}", ("file", "mine")) for name in inside), *things]
        users = {root / "pics" / "red.png"} | {root / place for place, thing in things if put(root / place, *thing)}
        before = {path: look(path) for path in users}
        out = root / target
        with full_disk(moment):
            try:
                {**FILES, **OTHERS}[command](root, out)
                event(f"{command}: done")
            except (ValueError, OSError, typer.Exit) as error:
                event(f"{command}: {type(error).__name__}")
        named = {"picture": out.with_suffix(".png") if out.name else out}.get(command, out)
        for path, was in before.items():
            if not (command in FILES and os.path.realpath(path) == os.path.realpath(named) and type(was) is bytes):
                assert look(path) == was, path
    finally:
        shutil.rmtree(root)
