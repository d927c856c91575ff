"""kdlib.params: one table, found from anywhere inside a clone."""

import pytest

from kdlib import params


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text("compendium: kdlib\npresets: [quick]\n"
                                          "quick: {seed: 3, training: {learning_rate: 1.0e-3}}\n"
                                          "cpu: {seed: 5}\nablations: {k_5: {k: 5}}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    return tmp_path


def test_root_is_found_from_inside(root, monkeypatch):
    assert params.find_root(root / "notebooks" / "deep") == root
    monkeypatch.chdir(root / "notebooks")
    assert params.find_root() == root
    assert params.load_params()["presets"] == ["quick"]


def test_no_root_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "__file__", str(tmp_path / "lib" / "kdlib" / "params.py"))
    with pytest.raises(FileNotFoundError, match="no params.yaml with `compendium: kdlib` at or above"):
        params.find_root(tmp_path)


def test_outside_a_clone_the_editable_installs_root_serves(root, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(params, "__file__", str(root / "kdlib" / "params.py"))
    assert params.find_root(tmp_path_factory.mktemp("elsewhere")) == root


@pytest.mark.parametrize("text", ["", "[", "train: {lr: 1}\n", "- 1\n", "x: [\ncompendium: other\n", "\0"])
def test_another_projects_params_are_passed_by(root, tmp_path_factory, monkeypatch, text):
    other = tmp_path_factory.mktemp("other")
    (other / "params.yaml").write_text(text)
    (other / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setattr(params, "__file__", str(root / "kdlib" / "params.py"))
    monkeypatch.chdir(other)
    assert params.find_root() == root and params.load_preset("cpu") == {"seed": 5}


@pytest.mark.parametrize("text, message", [("a: [", "params.yaml is not valid YAML"), ("- 1", "no table of parameters"),
                                           ("", "is empty"), ("\0", "is not valid YAML"), ("[" * 9999, "YAML")])
def test_our_own_damaged_params_are_named(root, text, message):
    (root / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        params.load_params(root)


def test_presets(root):
    table = params.load_params(root)
    assert params.preset_names(table) == ["quick", "cpu"]
    assert params.load_preset("quick", root) == {"seed": 3, "training": {"learning_rate": 0.001}}
    assert params.stage_folder("cpu", "index", root) == root / "reports" / "cpu" / "index"


@pytest.mark.parametrize("preset", ["qiuck", "presets", "ablations", ""])
def test_a_wrong_preset_lists_the_right_ones(root, preset):
    with pytest.raises(ValueError, match=f"there is no preset {preset!r}; choose one of quick, cpu"):
        params.load_preset(preset, root)


def test_the_real_table_has_no_number_that_yaml_reads_as_text():
    """1e-4 without a point is a string in YAML 1.1 and would reach an optimiser as such."""
    def walk(value):
        if isinstance(value, dict):
            for inner in value.values():
                yield from walk(inner)
        else:
            yield value

    path = params.Path(params.__file__).parents[1] / "params.yaml"
    values = list(walk(params.yaml.safe_load(path.read_text())))
    assert values
    for value in values:
        if isinstance(value, str):
            with pytest.raises(ValueError, match="could not convert"):
                float(value)
