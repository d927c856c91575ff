"""kdlib.training.cleanup: what a training wrote goes, all else stays."""

import pytest

from kdlib.training.cleanup import remove_trained

OURS = ["checkpoint/training.safetensors", "model/config.json", "model/model.safetensors", "curves/metrics.json",
        "curves/plots/metrics/loss.tsv"]


@pytest.fixture
def folder(tmp_path):
    for name in OURS:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("ours")
    return tmp_path / "run"


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_all_of_a_training_goes_and_its_folder_with_it(folder):
    remove_trained(folder, "checkpoint", "model", "curves")
    assert not folder.exists()


def test_a_part_alone(folder):
    remove_trained(folder, "checkpoint")
    assert files(folder) == sorted(OURS[1:]) and not (folder / "checkpoint").exists()


def test_what_a_user_put_there_stays(folder):
    mine = ["checkpoint/notes.txt", "model/sub/config.json", "curves/plots/mine.tsv", "mine/model.safetensors"]
    for name in mine:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    remove_trained(folder, "checkpoint", "model", "curves")
    assert files(folder) == sorted(mine)


def test_nothing_there_is_no_error(tmp_path):
    remove_trained(tmp_path / "absent", "checkpoint")
