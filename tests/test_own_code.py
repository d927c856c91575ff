"""`kd` runs the code of the checkout that it is called in and from, or says that it would not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdlib import console, params

CODE = Path(console.__file__).parent
SCRIPT = f"#!{sys.executable}\nimport sys\nfrom kdlib.cli import app\nsys.exit(app())\n"


def make_checkout(folder):
    """What a copied clone has: its code, and an environment that still names the clone that it was made for."""
    for name in ("kdlib/cli.py", ".venv/pyvenv.cfg", ".venv/bin/kd", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text({"params.yaml": "compendium: kdlib\n", ".venv/bin/kd": SCRIPT}.get(name, ""))
    (folder / ".venv" / "bin" / "kd").chmod(0o755)
    return folder


@pytest.mark.parametrize("name", ["copy", "it's a copy"])
def test_a_copied_environment_is_told_of(tmp_path, name):
    copy = make_checkout(tmp_path / name)
    done = subprocess.run([copy / ".venv" / "bin" / "kd", "search", "apple"], cwd=tmp_path, capture_output=True,
                          text=True, env={"PYTHONPATH": str(CODE.parent)})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (f"kd: this would run the code in {CODE}, not that of {copy}; run `make environment` in "
                           f"{copy}, and call {copy}/.venv/bin/kd\n")


def test_so_is_another_checkouts_command_in_this_one(tmp_path, monkeypatch):
    checkout = make_checkout(tmp_path / "mine")
    monkeypatch.chdir(checkout / "kdlib")
    with pytest.raises(ValueError, match=f"run the code in {CODE}, not that of {checkout}; run `make environment`"):
        console.check_own_code(Path(sys.prefix, "bin", "kd"))


def test_what_fits_runs(tmp_path, monkeypatch):
    checkout = make_checkout(tmp_path / "mine")
    (tmp_path / "linked").symlink_to(checkout)
    for module in (console, params):
        monkeypatch.setattr(module, "__file__", str(checkout / "kdlib" / "cli.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "linked" / ".venv"))
    for place in (tmp_path, checkout, tmp_path / "linked"):
        monkeypatch.chdir(place)
        for script in (checkout, tmp_path / "linked"):
            console.check_own_code(script / ".venv" / "bin" / "kd")
    for script in ("-c", "/usr/bin/kd", "kdlib/cli.py"):
        console.check_own_code(Path(script))


def test_a_compendium_without_code_of_its_own_and_no_compendium_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("compendium: kdlib\n")
    console.check_own_code(Path("kd"))
    (tmp_path / "params.yaml").unlink()
    monkeypatch.setattr(params, "__file__", str(tmp_path / "lib" / "kdlib" / "params.py"))
    console.check_own_code(Path("kd"))


def test_names_are_utf_8_whatever_the_locale(tmp_path):
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
                                "PYTHONPATH": str(CODE.parent)}
    done = subprocess.run([sys.executable, "-m", "kdlib.cli", "index", "ü", "--out", "o"], cwd=tmp_path,
                          env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and done.stderr == "kd: ü is no folder of pictures\n"
