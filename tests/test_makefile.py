"""The Makefile with stand-ins for dvc and kd: any prompt arrives as typed, wrong settings are told of at once."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
KD = '#!/bin/sh\nprintf "%s\\0" "$@" > arguments\n'
prompts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with the Makefile, its name as awkward as a prompt, where kd writes its arguments to a file."""
    folder = tmp_path_factory.mktemp("it's a \"kd\"")
    for name in ("Makefile", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "pyvenv.cfg").write_text(f"command = python3 -m venv {folder}/.venv\n", encoding="utf-8")
    for name, script in {"kd": KD, "dvc": "#!/bin/sh\necho up to date\n"}.items():
        (folder / ".venv" / "bin" / name).write_text(script, encoding="utf-8")
        (folder / ".venv" / "bin" / name).chmod(0o755)
    return folder


def make(folder, *arguments):
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, encoding="utf-8", timeout=60)


@settings(max_examples=60, deadline=None)
@given(prompt=prompts)
@example(prompt="an \"apple\" at it's $5 $(shell touch pwned) `touch pwned` $$(touch pwned); touch pwned # 100% \\")
@example(prompt="--help")
@example(prompt="one\ntwo")
@example(prompt="../../up")
@example(prompt="apple " * 400)
def test_the_prompt_reaches_kd_as_one_word(checkout, prompt):
    done = make(checkout, "-o", "environment", "reproduce", f"PROMPT={prompt}")
    assert done.returncode == 0, done.stderr
    *options, given_prompt = (checkout / "arguments").read_bytes().decode().split("\0")[:-1]
    assert given_prompt == prompt.lstrip(" \t\n\r\v\f")  # make itself drops what comes before a value
    assert options[:3] == ["generate", "--preset", "cpu"] and options[-1] == "--"
    picture = Path(options[4])
    assert picture.parent == Path("reports/cpu") and len(picture.name) <= 80 and not (checkout / "pwned").exists()


def test_pictures_of_different_prompts_have_different_names(checkout):
    names = set()
    for prompt in ("a red apple", "a-red-apple", "a red apple!", "a" * 99, "a" * 100):
        make(checkout, "-o", "environment", "reproduce", f"PROMPT={prompt}")
        names.add((checkout / "arguments").read_bytes().decode().split("\0")[4])
    assert len(names) == 5 and "reports/cpu/a-red-apple.png" in names


@pytest.mark.parametrize("preset", ["nosuch", "", "quick cpu", "cpu;touch pwned", "$(shell touch pwned)", "%"])
def test_a_wrong_preset_is_told_which_there_are(checkout, preset):
    done = make(checkout, "reproduce", f"PRESET={preset}")
    assert done.returncode == 2 and "choose one of params.yaml: quick cpu" in done.stderr
    assert not (checkout / "pwned").exists()


def test_a_download_without_git_is_told_what_to_do(checkout):
    done = make(checkout, "environment")
    assert done.returncode == 2 and "clone the project" in done.stderr and "git init" in done.stderr


def test_the_environment_of_another_folder_is_made_anew(checkout, tmp_path):
    subprocess.run(["git", "init", "-q", checkout], check=True)
    for name in ("requirements.lock", "pyproject.toml", ".venv/bin/uv", ".venv/.packages", ".venv/.kdlib"):
        (checkout / name).touch()
    assert "venv .venv" not in make(checkout, "-n", "environment").stdout
    copy = shutil.copytree(checkout, tmp_path / "copy", copy_function=shutil.copy2)
    assert "rm -rf .venv\npython3 -m venv .venv" in make(copy, "-n", "environment", "PYTHON=python3").stdout
    shutil.rmtree(checkout / ".git")
