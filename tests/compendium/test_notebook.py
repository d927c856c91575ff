"""The notebook runner: same bytes at every run, errors kept to look at, wrong parameters refused."""

import base64
import io
import signal
import subprocess
import sys

import nbformat
import numpy as np
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output, new_raw_cell
from PIL import Image

from kdlib.compendium import figures
from kdlib.compendium.declared import declared_parameters, read_notebook
from kdlib.compendium.notebook import main, normalise, parse_item, run_notebook, stage_parameters, write_notebook

PARAMS = """
compendium: kdlib
toy: {seed: 3, k: 5, noise: {rate: 1.0e-3, name: pink}}
odd: {seed: 3, k: 5, noise: {rate: 1.0e-3, nome: pink}}
bare: {seed: 3}
"""
CELLS = """
import sys, time
from tqdm.auto import tqdm
print("one", seed, rate, name); print("bar", file=sys.stderr); print("two")
for _ in tqdm(range(3)): time.sleep(0.001)
object()
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_notebook(root, *sources):
    parameters = new_code_cell('preset: str = "toy"\nseed: int = 0\nrate: float = 0.5\nname: str = ""')
    parameters.metadata["tags"] = ["parameters"]
    stage = new_raw_cell("stage: noise\npart: Toys", metadata={"tags": ["stage"]})
    path = root / "notebooks" / "07_noise.ipynb"
    nbformat.write(new_notebook(cells=[parameters, *map(new_code_cell, sources), stage]), path)
    return path


def test_two_runs_are_equal_and_hold_only_what_is_the_same_everywhere(root):
    notebook = make_notebook(root, CELLS, "print(preset, sys.executable)")
    first = run_notebook(notebook, "toy", root).read_bytes()
    target = run_notebook(notebook, "toy", root)
    assert target.read_bytes() == first
    assert target == root / "reports" / "toy" / "notebooks" / "07_noise.ipynb"
    ran = read_notebook(target)
    text, value = ran.cells[2].outputs
    assert text.text == "one 3 0.001 pink\ntwo\n"
    assert value.data["text/plain"] == "<object at 0x…>"
    assert ran.cells[3].outputs[0].text == f"toy {sys.executable}\n"
    assert not ({"papermill", "widgets"} & set(ran.metadata)) and all(set(c.metadata) <= {"tags"} for c in ran.cells)


def test_a_failing_cell_fails_the_stage_and_leaves_the_notebook(root, monkeypatch, capsys):
    notebook = make_notebook(root, "print('before')", "1 / 0", "print('never')")
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), "toy"])
    assert main() == 1
    target = root / "reports" / "toy" / "notebooks" / "07_noise.ipynb"
    assert str(target) in capsys.readouterr().err
    ran = read_notebook(target)
    assert "ZeroDivisionError" in str([cell.get("outputs") for cell in ran.cells])
    assert not [cell for cell in ran.cells if "never" in cell.source and cell.outputs]


@pytest.mark.parametrize("preset, words", [("odd", "does not declare nome"), ("bare", "no group 'noise'"),
                                           ("big", "there is no preset 'big'")])
def test_wrong_parameters_are_refused_before_anything_runs(root, monkeypatch, capsys, preset, words):
    notebook = make_notebook(root, "open('ran', 'w')")
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), preset])
    assert main() == 1
    assert words in capsys.readouterr().err
    assert not (root / "ran").exists()


def test_an_item_of_the_matrix_comes_before_the_group_and_names_the_result(root, monkeypatch):
    notebook = make_notebook(root, "print(seed, rate, name, type(rate).__name__)")
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), "toy", "name=blue", "rate=2"])
    assert main() == 0
    target = root / "reports" / "toy" / "notebooks" / "07_noise-blue-2.ipynb"
    assert read_notebook(target).cells[2].outputs[0].text == "3 2.0 blue float\n"
    assert [path.name for path in target.parent.glob("[!.]*")] == [target.name]


@pytest.mark.parametrize("texts, words", [
    (["hue=3"], "'hue=3' is no item.*declares: preset, seed, rate, name, sizes"), (["rate"], "'rate' is no item"),
    (["preset=odd"], "'preset=odd' is no item"), (["rate=1", "rate=2"], "'rate=2' is no item"),
    (["rate=fast"], "rate is declared float, and 'fast' is none"), (["sizes=3"], "sizes is declared list"),
    (["name=a/b"], "'name=a/b' can't be an item"), (["name="], "'name=' can't be an item")])
def test_items_that_do_not_fit_are_refused(texts, words):
    declared = {"preset": ("str", "toy"), "seed": ("int", 0), "rate": ("float", 0.5), "name": ("str", ""),
                "sizes": ("list", [1])}
    assert parse_item(["seed=3", "rate=3", "name=3"], declared) == {"seed": 3, "rate": 3.0, "name": "3"}
    with pytest.raises(ValueError, match=words):
        parse_item(texts, declared)


def test_a_wrong_item_is_refused_before_anything_runs(root, monkeypatch, capsys):
    notebook = make_notebook(root, "open('ran', 'w')")
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), "toy", "hue=3"])
    assert main() == 1
    assert "'hue=3' is no item" in capsys.readouterr().err and not (root / "ran").exists()


def test_parameters_are_the_stage_group_and_the_shared_scalars_that_are_declared():
    values = {"seed": 3, "k": 5, "noise": {"rate": 0.001}, "other": {"width": 7}}
    expected = {"preset": "toy", "k": 5, "rate": 0.001}
    assert stage_parameters("toy", values, "noise", {"preset", "k", "rate"}) == expected
    with pytest.raises(ValueError, match="has no depth in toy.noise"):
        stage_parameters("toy", values, "noise", {"preset", "rate", "depth"})


def test_parameters_cells_that_are_not_plain_are_refused():
    cell = new_code_cell("seed = 0")
    with pytest.raises(ValueError, match="has 0"):
        declared_parameters(new_notebook(cells=[cell]))
    cell.metadata["tags"] = ["parameters"]
    with pytest.raises(ValueError, match="not as `seed = 0`"):
        declared_parameters(new_notebook(cells=[cell]))
    cell.source = "seed: int = -3  # any\nsize: int | None = None"
    assert declared_parameters(new_notebook(cells=[cell])) == {"seed": ("int", -3), "size": ("int | None", None)}


def test_normalising_drops_progress_and_joins_what_timing_cut(tmp_path):
    outputs = [new_output("stream", name="stdout", text="a"), new_output("stream", name="stderr", text="3 it/s"),
               new_output("stream", name="stdout", text="b\n"),
               new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar"}),
               new_output("display_data", {"text/html": "<b>at 0x7f0123456789</b>", "image/jpeg": "0x7f0123456789"})]
    cell = new_code_cell("x", outputs=outputs, metadata={"execution": {"start": "1"}, "tags": ["injected-parameters"]})
    notebook = normalise(new_notebook(cells=[cell], metadata={"papermill": {"duration": 1}}))
    text, figure = notebook.cells[0].outputs
    assert text.text == "ab\n"
    assert figure.data == {"text/html": "<b>at 0x…</b>", "image/jpeg": "0x7f0123456789"}
    assert notebook.cells[0].id == "injected-parameters"
    assert notebook.cells[0].metadata == {"tags": ["injected-parameters"]}
    write_notebook(notebook, tmp_path / "a.ipynb")
    write_notebook(normalise(read_notebook(tmp_path / "a.ipynb")), tmp_path / "b.ipynb")
    assert (tmp_path / "a.ipynb").read_bytes() == (tmp_path / "b.ipynb").read_bytes()


def test_code_that_is_to_be_folded_is_so_in_jupyterlab_and_stays_so():
    cells = [new_code_cell("import x", metadata={"tags": ["hide-input"], "jupyter": {"outputs_hidden": True}}),
             new_code_cell("y = 1", metadata={"jupyter": {"source_hidden": True}})]
    folded, plain = normalise(normalise(new_notebook(cells=cells))).cells
    assert folded.metadata == {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}
    assert plain.metadata == {}


def test_a_png_becomes_small_once_and_keeps_its_few_colours():
    random = np.random.default_rng(7)
    few, many = (random.integers(0, 256, (colours, 3)).astype(np.uint8)[random.integers(0, colours, (40, 50))]
                 for colours in (5, 1000))
    for pixels, most in ((few, 0), (many, 64)):
        encoded = base64.b64encode(figures.as_picture(Image.fromarray(pixels), "noise").data).decode()
        cell = new_code_cell("x", outputs=[new_output("display_data", {"image/png": encoded})])
        once = normalise(new_notebook(cells=[cell])).cells[0].outputs[0].data["image/png"]
        small = Image.open(io.BytesIO(base64.b64decode(once)))
        assert small.mode == "P" and len(once) < len(encoded)
        assert np.abs(np.asarray(small.convert("RGB")).astype(int) - pixels).max() <= most
        assert normalise(new_notebook(cells=[cell])).cells[0].outputs[0].data["image/png"] == once


def test_cleaning_leaves_sources_and_tags(root, monkeypatch):
    notebook = make_notebook(root, "print(seed)")
    before = notebook.read_bytes()
    target = run_notebook(notebook, "toy", root)
    monkeypatch.setattr(sys, "argv", ["notebook", "--clean", str(target)])
    assert main() == 0
    cleaned = read_notebook(target)
    assert not any(cell.outputs or cell.execution_count for cell in cleaned.cells)
    assert [cell.source for cell in cleaned.cells if "injected-parameters" not in cell.metadata.get("tags", [])] == [
        cell.source for cell in read_notebook(notebook).cells if cell.cell_type != "raw"]
    assert notebook.read_bytes() == before


def test_a_stage_that_still_runs_is_not_run_beside_itself(root, monkeypatch, capsys):
    """Its runner killed, the next one goes ahead: the lock ends with the process."""
    notebook = make_notebook(root, "import time; print('in'); time.sleep(60)")
    running = subprocess.Popen([sys.executable, "-m", "kdlib.compendium.notebook", str(notebook), "toy"],
                               stderr=subprocess.PIPE)
    assert any(line.strip() == b"in" for line in running.stderr)
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), "toy"])
    assert main() == 1
    assert f"process {running.pid} is still at it" in capsys.readouterr().err
    running.kill()
    running.communicate()
    make_notebook(root, "print(seed)")
    run_notebook(notebook, "toy", root)


def test_ctrl_c_ends_a_stage_with_one_line(root):
    notebook = make_notebook(root, "import time; print('in'); time.sleep(60)")
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests in the background may ignore it
    running = subprocess.Popen([sys.executable, "-m", "kdlib.compendium.notebook", str(notebook), "toy"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heard)
    assert any(line.strip() == "in" for line in running.stderr)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1]
    assert running.returncode == 130 and "Traceback" not in said
    assert said.splitlines()[-1] == f"{notebook}: interrupted; run it again, and a training goes on from its checkpoint"
    make_notebook(root, "print(seed)")
    run_notebook(notebook, "toy", root)


def test_a_kernel_that_is_killed_is_told_of(root, monkeypatch, capsys):
    notebook = make_notebook(root, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), "toy"])
    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{notebook}: its kernel was killed, most likely since memory ran out")
    assert said.count("\n") == 1


def test_a_full_disk_is_told_of(root, monkeypatch, capsys):
    notebook = make_notebook(root)
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space")))
    monkeypatch.setattr(sys, "argv", ["notebook", str(notebook), "toy"])
    assert main() == 1 and capsys.readouterr().err == f"{notebook}: [Errno 28] No space\n"


def test_notebook_and_kernel_meet_at_no_port(root):
    """A kernel's free TCP ports may be taken before it opens them, and others could try to connect to them."""
    source = "from ipykernel.connect import get_connection_info\nprint(get_connection_info(unpack=True)['transport'])"
    ran = read_notebook(run_notebook(make_notebook(root, source), "toy", root))
    assert ran.cells[-1].outputs[0]["text"] == "ipc\n"


def test_the_kernel_is_free_of_the_users_settings(root, tmp_path, monkeypatch):
    long = tmp_path / ("t" * 160)
    long.mkdir()
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 40\n", encoding="utf-8")
    for name, value in {"TMPDIR": str(long), "PYTHONOPTIMIZE": "2", "PYTHONUTF8": "0", "LC_ALL": "C",
                        "MPLBACKEND": "nosuch", "MATPLOTLIBRC": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    asked = """import sys, tempfile, matplotlib
from kdlib.compendium import figures
print(sys.flags.optimize, sys.flags.utf8_mode, len(tempfile.gettempdir()) < 80, matplotlib.rcParams["font.size"])"""
    ran = read_notebook(run_notebook(make_notebook(root, asked), "toy", root))
    assert ran.cells[2].outputs[0].text == "0 1 True 10.0\n"


def test_a_file_beside_a_notebook_is_not_taken_for_a_half_written_one(tmp_path):
    (tmp_path / "a.partial").write_text("mine")
    write_notebook(nbformat.v4.new_notebook(), tmp_path / "a.ipynb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ipynb", "a.partial"]
    assert (tmp_path / "a.partial").read_text() == "mine"
