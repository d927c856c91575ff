"""The whole road at preset quick, twice from nothing in copies of the tree: it runs, it repeats, it rests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdlib.compendium.declared import read_notebook, read_stages
from kdlib.files import read_json
from kdlib.params import load_params

ROOT = Path(__file__).resolve().parents[1]
TARGET = "report@quick"
pytestmark = pytest.mark.pipeline


def list_files(*arguments: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def copy_tree(target: Path) -> None:
    """What a clone of this tree would hold, new files included; a repository of its own; no stage has run."""
    for name in list_files("--cached", "--others", "--exclude-standard") - list_files("-ci", "--exclude-standard"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]  # DVCLive wants a commit to start from
    subprocess.run(["git", *author, "commit", "--quiet", "--allow-empty", "-m", "start"], cwd=target, check=True)


def start(root: Path, command: str) -> subprocess.Popen:
    """A shell command in a copy, with this environment's tools, the copy's kdlib, and half of the cores."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)), "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(root.with_name(f"{root.name}-cache")), "HF_HUB_OFFLINE": "1"}
    with output_of(root).open("w") as output:  # a pipe would be full, and hold a copy up while the other is waited for
        return subprocess.Popen(command, cwd=root, env=environment, shell=True, stdout=output, stderr=subprocess.STDOUT)


def output_of(root: Path) -> Path:
    return root.with_name(f"{root.name}.log")


def finish(root: Path, process: subprocess.Popen) -> str:
    process.wait()
    output = output_of(root).read_text(encoding="utf-8", errors="replace")
    assert process.returncode == 0, output[-8000:]
    return output


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Two copies in which everything was made from nothing, at the same time."""
    roots = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for root in roots:
        copy_tree(root)
    running = [start(root, f"dvc pull --quiet data.dvc && dvc repro {TARGET}") for root in roots]
    for root, process in zip(roots, running, strict=True):
        finish(root, process)
    return roots


def stages(root: Path) -> dict:
    return yaml.safe_load((root / "dvc.lock").read_text())["stages"]


def test_every_stage_ran_and_left_a_report(copies):
    root = copies[0]
    params = load_params(root)
    run_here = [stage for stage in read_stages(root).values() if "quick" in stage.presets(params)]
    runs = [(stage, item) for stage in run_here for item in stage.items(params)]
    assert set(stages(root)) == {"report@quick"} | {"-".join([f"{stage.stage}@quick", *item.values()])
                                                    for stage, item in runs}
    results = root / "reports" / "quick"
    assert (results / "index.html").is_file() and (results / "site" / "index.html").is_file()
    for stage, item in runs:
        executed = read_notebook(results / "notebooks" / f"{stage.executed(item)}.ipynb")
        cells = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells)
        assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs), stage.notebook
    samples = read_json(results / "generation" / "samples.json")
    assert samples and all(neighbour["licence"] for sample in samples for neighbour in sample["neighbours"])


def test_two_cold_runs_make_the_same_bytes(copies):
    first, second = (stages(root) for root in copies)
    differing = [(name, out["path"]) for name in first for out, other in
                 zip(first[name]["outs"], second[name]["outs"], strict=True) if out != other]
    assert not differing
    assert first == second


def test_a_second_run_does_nothing(copies):
    before = (copies[0] / "dvc.lock").read_bytes()
    output = finish(copies[0], start(copies[0], f"dvc repro {TARGET}"))
    assert "Running stage" not in output and "up to date" in output
    assert (copies[0] / "dvc.lock").read_bytes() == before
