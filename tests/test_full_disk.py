"""A full disk, or memory: one sentence names what was written, what was there before stays, nothing half is left."""

import resource
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from kdlib import console
from kdlib.data.catalogue import Catalogue
from kdlib.data.folder import Skipped
from kdlib.files import save_array, write_json
from kdlib.outputs import save_images
from kdlib.retrieval import Index, inverted
from kdlib.retrieval.engines import write_database
from kdlib.retrieval.own_pictures import save_report
from kdlib.training.views import Views
from kdlib.types import Embeddings
from kdlib.weights import fitting, save_model, save_tensors
from tests.retrieval.test_engines import table

LIMIT_BYTES = 8000
RANDOM = np.random.default_rng(3)
VECTORS = inverted.unit(RANDOM.standard_normal((400, 16)).astype(np.float32))
EMBEDDINGS = Embeddings(VECTORS, np.array([f"picture {n}" for n in range(400)]), "encoder")
CATALOGUE = Catalogue.from_rows((id, id, "s", "a", "l", RANDOM.bytes(99)) for id in EMBEDDINGS.ids.tolist())


@contextmanager
def full_disk():
    """No file can grow beyond LIMIT_BYTES: the system refuses it as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def compressed():
    return Index(EMBEDDINGS, None, inverted.build_structure(VECTORS, "IVF2,PQ4x8"))


@pytest.mark.parametrize("write, name", [
    (lambda out: write_json(out, list(range(9999))), "out"),
    (lambda out: save_array(out, VECTORS), "out"),
    (lambda out: save_tensors(out, {"a": torch.ones(9999)}), "out"),
    (lambda out: save_model(out, {"kind": "thing"}, {"a": torch.ones(9999)}), "out/model.safetensors"),
    (lambda out: CATALOGUE.save(out), "out"),
    (lambda out: Index(EMBEDDINGS).save(out), "out/vectors.npy"),
    (lambda out: Index(EMBEDDINGS, CATALOGUE).save(out), "out/catalogue.parquet"),
    (lambda out: compressed().save(out), "out/structure.faiss"),
    (lambda out: Views(np.zeros((2, 3000, 3), int), np.zeros((2, 3000, 7), np.float16)).save(out), "out/codes.npy"),
    (lambda out: write_database(out, table(), "0"), "out"),
    (lambda out: save_report(out, [Skipped(f"{n}.png", "why") for n in range(999)]), "out"),
    (lambda out: save_images([Image.effect_noise((200, 200), 99)], out.with_suffix(".png")), "out.png"),
])
def test_it_is_named_and_what_was_there_stays(tmp_path, write, name):
    write(tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with full_disk(), pytest.raises(OSError, match=rf"^{tmp_path}/{name} can't be written \(.*\); is the disk full\?$"):
        write(tmp_path / "out")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    write(tmp_path / "out")


@pytest.mark.parametrize("code", ["with console.clear_errors(): cli.typer.echo('a' * 9999)",
                                  "with console.clear_errors(): print('a')", "cli.app(['--help'])"])
def test_an_output_that_takes_nothing(code):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", f"from kdlib import cli, console\ntry:\n  {code}\n"
                               "except cli.typer.Exit as end: raise SystemExit(end.exit_code)"],
                              stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "kd: the output can't be written ([Errno 28] No space left on device)\n"


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")])
def test_memory_that_has_run_out(error, capsys):
    with pytest.raises(typer.Exit), console.clear_errors():
        raise error
    assert capsys.readouterr().err == "kd: memory has run out; ask for fewer pictures at once\n"
    with pytest.raises(RuntimeError, match="a bug"), console.clear_errors():
        raise RuntimeError("a bug")


def test_memory_that_runs_out_while_a_model_is_loaded_is_no_damage(tmp_path):
    with pytest.raises(MemoryError), fitting(tmp_path, {"kind": "tokenizer"}):
        raise MemoryError
    with pytest.raises(ValueError, match="does not fit this kdlib"), fitting(tmp_path, {"kind": "tokenizer"}):
        raise RuntimeError("size mismatch")
