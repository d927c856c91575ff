"""The compendium agrees with itself: parameters, dependencies, layers, notebooks, environments."""

import ast
import itertools
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from kdlib.compendium import figures
from kdlib.compendium.contents import notebook_order, with_list, with_next
from kdlib.compendium.declared import Stage, declared_parameters, read_notebook, read_stage, read_stages
from kdlib.compendium.notebook import clean_notebook, parse_item, stage_parameters
from kdlib.compendium.stages import all_imported_files, code, imported_files, pipeline, report_entry, stage_presets
from kdlib.experiments.paper import PAPER_FID
from kdlib.models.conditioning import CONDITIONERS
from kdlib.params import load_params, preset_names

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted((ROOT / "kdlib").rglob("*.py"))
ORDER = ["types", "params", "files", "weights", "data", "compendium", "encoder", "retrieval", "evaluation", "models",
         "training", "baselines", "artifacts", "pipeline", "experiments", "exercises", "console", "printing", "outputs",
         "info", "ballot", "editing", "evaluate", "demo", "cli", "__main__", "__init__"]
LEFT_TO_RIGHT = {name: place for place, name in enumerate(ORDER)}
PARAMS = load_params(ROOT)
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DECLARED = read_stages(ROOT)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def items(stage):
    """The items of a stage's matrix for one preset, as the runner gets them: [["conditioning=ours"], ...]."""
    return [[f"{name}={value}" for name, value in item.items()] for item in DECLARED[stage].items(PARAMS)]


def room(path):
    """The room that a module belongs to: kdlib/retrieval/build.py -> retrieval."""
    return path.relative_to(ROOT / "kdlib").parts[0].removesuffix(".py")


# --- parameters ----------------------------------------------------------------------------------------------------

@each_notebook
def test_parameters_have_the_names_and_types_of_params_yaml(path):
    declared, stage = declared_parameters(read_notebook(path)), read_stage(path).stage
    for preset, item in itertools.product(DECLARED[stage].presets(PARAMS), items(stage)):
        item = parse_item(item, declared)
        assert not item.keys() & PARAMS[preset][stage].keys(), "the matrix says it; the group would be ignored"
        given = stage_parameters(preset, PARAMS[preset], stage, set(declared), item)
        for name, (annotation, default) in declared.items():
            wanted = eval(annotation, {}, {})  # noqa: S307  (our own annotations: int, float, str, int | None)
            for value in (default, given[name]):
                fits = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
                assert fits, f"{path.name}: {name} is declared {annotation}, {preset} has {value!r}"


@each_notebook
def test_every_parameter_is_used(path):
    names = [node for node in ast.walk(code(path)) if isinstance(node, ast.Name)]
    loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    assert set(declared_parameters(read_notebook(path))) <= loaded


def test_every_group_of_a_preset_is_a_stages_and_quick_has_one_for_each():
    """What continuous integration runs is `quick`; a stage that another preset lacks is not run there."""
    assert set(PARAMS["presets"]) <= set(preset_names(PARAMS))
    for preset in PARAMS["presets"]:
        groups = {name for name, value in PARAMS[preset].items() if isinstance(value, dict)}
        assert groups <= set(STAGES), preset
    assert set(STAGES) - {"report"} <= set(PARAMS["quick"])


def test_a_stage_runs_for_the_presets_that_have_a_group_for_it():
    params = {"presets": ["small", "large"], "small": {"a": {}, "b": {}, "c": {}}, "large": {"a": {}, "c": {}}}
    stages = {name: Stage("01_x", name, "The road", reads=reads) for name, reads in
              {"a": (), "b": ("a/model",), "c": ("b/model",), "d": ("data/stickers.parquet",)}.items()}
    assert stages["a"].presets(params) == ["small", "large"]
    assert stage_presets(stages["a"], stages, params) == "${presets}"
    assert stage_presets(stages["b"], stages, params) == ["small"]
    with pytest.raises(ValueError, match="c reads what b writes, for which preset large has no group"):
        stage_presets(stages["c"], stages, params)
    with pytest.raises(ValueError, match="no preset of params.yaml has a group 'd'"):
        stage_presets(stages["d"], stages, params)


def test_the_report_names_files_of_no_stage_that_a_preset_lacks():
    """DVC takes the same deps for every preset, and one that isn't there is an error."""
    fewer = {**PARAMS, "cpu": {name: value for name, value in PARAMS["cpu"].items() if name != "geometry"}}
    before, after = (set(report_entry(DECLARED, ROOT, params)["deps"]) for params in (PARAMS, fewer))
    assert before - after == {f"reports/${{item.preset}}/geometry/{name}" for name in DECLARED["geometry"].writes
                              if name.endswith((".csv", ".json"))}
    assert after < before and "reports/${item.preset}/notebooks" in after


def test_the_variants_have_the_network_of_the_training_and_differ_in_the_conditioning_only():
    for preset in PARAMS["presets"]:
        variant, training = PARAMS[preset]["variant"], PARAMS[preset]["training"]
        own = {"num_steps", "num_prompts", "num_seeds", "sampling_steps", "guidance_scale", "num_draws"}
        assert {name: value for name, value in variant.items() if name not in own} == {
            name: value for name, value in training.items() if name not in {"num_steps", "conditioning"}}
    assert set(STAGES["variant"]["matrix"]["conditioning"]) == set(CONDITIONERS) == set(PAPER_FID)


def test_the_u_nets_of_the_comparison_have_the_network_of_the_shipped_one():
    for preset in DECLARED["backbones"].presets(PARAMS):
        compared, shipped = PARAMS[preset]["backbones"], PARAMS[preset]["unet"]
        assert {name: value for name, value in compared.items() if name not in {"num_steps", "num_draws"}} == {
            name: value for name, value in shipped.items() if name not in {"num_steps", "conditioning"}}


# --- stages --------------------------------------------------------------------------------------------------------

WRITE = "run `make stages`, which writes it anew from the notebooks"
STICKERS = {"data/stickers.parquet", "images/pictures.npy", "images/ids.json"}
WORLD = {"world/world.parquet", "world/pictures.npy"}
LOADED = {"stickers": STICKERS, "world": WORLD}
PIPELINE = {"k", "generation", "encoder/model", "index/training", "tokenizer/model", "training/model"}
NEEDS = {  # what a notebook reads that calls this, or asks its session for it
    "load_pipeline": PIPELINE, "plain_settings": {"k", "variant"}, "load_stickers": {"data/stickers.parquet"},
    "tokenizer_set": STICKERS | WORLD, "training_set": STICKERS,
    "train_variant": STICKERS | {"k", "views/training_set", "tokenizer/model", "views/views", "views/neighbours.npy"},
    "load_prompts": {"data/prompts.csv"},
    "draw_variant": {"encoder/model", "index/training", "tokenizer/model"},
    "train_unet_variant": STICKERS | {"views/training_set", "views/views", "views/neighbours.npy"},
    "unet_pipeline": {"encoder/model", "index/training"},
    "session.asked": {"data/prompts.csv"}, "session.prompts": {"data/prompts.csv"},
    "session.concepts": {"data/prompts.csv"}, "session.stickers": STICKERS, "session.judge": {"judge/model"},
    "session.reference": STICKERS | {"judge/model"}, "session.judged": {"data/prompts.csv", "judge/model"},
    "session.statistics": STICKERS | {"data/prompts.csv", "judge/model"}}


def test_dvc_yaml_is_what_the_notebooks_declare():
    assert (ROOT / "dvc.yaml").read_text() == pipeline(ROOT), WRITE


def test_the_list_of_notebooks_and_their_links_are_in_their_order():
    readme = (ROOT / "README.md").read_text()
    assert with_list(readme, DECLARED, ROOT) == readme and readme.count("](notebooks/") >= len(NOTEBOOKS), WRITE
    for path, after in notebook_order(DECLARED, ROOT):
        assert with_next(read_notebook(path), after) == read_notebook(path), WRITE


def names_and_texts(tree):
    """All that is called, with the texts among its arguments: ("stage_folder", {"index"}), ("session.judge", set())."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "session":
            yield ast.unparse(node), set()
        if isinstance(node, ast.Call):
            texts = {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
            yield ast.unparse(node.func).rpartition(".")[2], texts


@each_notebook
def test_a_stage_declares_what_its_notebook_reads_and_where_it_writes(path):
    stage = read_stage(path)
    told = {stage.stage, *stage.reads, *stage.params, *declared_parameters(read_notebook(path))}
    folders = {name.partition("/")[0] for name in stage.reads}
    for name, texts in names_and_texts(code(path)):
        loaded = set().union(*(LOADED.get(text, set()) for text in texts)) if name == "load" else set()
        missing = NEEDS.get(name, loaded) - told
        assert not missing, f"{path.name} has {name}, which needs {missing}: let its last cell say so"
        if name in ("stage_folder", "folder"):
            unsaid = {text.partition("/")[0] for text in texts} - folders - {stage.stage}  # its own: what was published
            assert not unsaid, f"{path.name} opens {unsaid}: let its last cell say so"
        if name in ("output_folder", "Session"):
            assert texts <= {stage.stage, f"{stage.stage}_training"}, f"{path.name} is the stage {stage.stage!r}"


@each_notebook
def test_a_stage_watches_its_parameters(path):
    stage = STAGES[read_stage(path).stage]
    shared = {name for name in declared_parameters(read_notebook(path))
              if not isinstance(PARAMS["quick"].get(name, {}), dict)}
    assert {f"${{item.preset}}.{name}" for name in shared | {read_stage(path).stage}} <= set(stage["params"])
    if "${ablations}" in stage["matrix"].values():
        assert "ablations.${item.ablation}" in stage["params"]


def test_what_stages_read_is_what_others_write():
    written = {out for stage in STAGES.values() for out in outs_of(stage)}
    for name in set(STAGES) - {"report"}:
        for dep in STAGES[name]["deps"]:
            made = re.sub("/variant/[^/]+/", "/variant/${item.conditioning}/", dep)
            assert made in written if dep.startswith("reports/") else (ROOT / dep).exists(), f"{name}: {dep}"


def test_the_report_depends_on_all_that_the_stages_made_for_it():
    """Every metrics.json, CSV and sheet of pictures, of every item of a matrix; all notebooks; its own assets.

    Of the ablations, whose number dvc.yaml doesn't know, the folder that holds them. Not of stages that a preset lacks.
    """
    wanted = {f"reports/${{item.preset}}/{name}" for name in ("generation/samples.json", "generation/pictures",
                                                              "notebooks", "ablation")}
    everywhere = {name for name, stage in DECLARED.items() if stage.presets(PARAMS) == PARAMS["presets"]}
    for name in everywhere - {"ablation"}:
        for item, made in itertools.product(items(name), outs_of(STAGES[name])):
            for key, _, value in (text.partition("=") for text in item):
                made = made.replace(f"${{item.{key}}}", value)
            if made.endswith(("metrics.json", ".csv", "/pictures.png", "/pictures.json")):
                wanted.add(made)
    deps = STAGES["report"]["deps"]
    assert wanted == {dep for dep in deps if dep.startswith("reports/${item.preset}/")}
    for out in outs_of(STAGES["ablation"]):
        assert any(out.startswith(f"{dep}/") for dep in deps), f"the report depends on no folder that holds {out}"
    assert "ablations" in STAGES["report"]["params"] and "notebooks" in deps
    folder = ROOT / "kdlib" / "compendium" / "report" / "assets"
    assert {path.relative_to(ROOT).as_posix() for path in folder.iterdir()} <= set(deps)


def outs_of(stage):
    """All that a stage writes, as dvc.yaml has it."""
    return [next(iter(out)) if isinstance(out, dict) else out
            for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]


def test_stages_write_under_reports_only_and_have_a_notebook_each():
    for name, stage in STAGES.items():
        outs = outs_of(stage)
        assert all(out.startswith("reports/${item.preset}/") for out in outs), name
        wanted = PARAMS["presets"] if name == "report" else DECLARED[name].presets(PARAMS)
        assert stage["matrix"]["preset"] == ("${presets}" if wanted == PARAMS["presets"] else wanted), name
        own = [f"{{item.{key}}}" for key in stage["matrix"]]  # two items that write one file would overwrite each other
        assert all(key in out for out in outs for key in own), name
    assert {read_stage(path).stage for path in NOTEBOOKS} == set(STAGES) - {"report"}


# --- code ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_left(path):
    here = room(path)
    assert here in LEFT_TO_RIGHT, f"give {here} its place in ORDER"
    for other in map(room, imported_files(ast.parse(path.read_text()), ROOT)):
        left = LEFT_TO_RIGHT[other] < LEFT_TO_RIGHT[here]
        assert other == here or left, f"{here} imports {other}, which is not to its left in:\n{' '.join(ORDER)}"


def test_the_processes_know_no_network_and_only_retrieval_knows_faiss():
    for path in (ROOT / "kdlib" / "models").glob("*/process.py"):
        known = {ROOT / file for file in all_imported_files(ast.parse(path.read_text()), ROOT)}
        assert {file.stem for file in known} <= {"__init__", "types", "condition"}, path
    importers = {room(path) for path in MODULES if re.search(r"^\s*(import|from) faiss\b", path.read_text(), re.M)}
    assert importers <= {"retrieval"}


# --- notebooks -----------------------------------------------------------------------------------------------------

@each_notebook
def test_notebooks_are_kept_clean(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    clean_notebook(copy)
    command = f"python -m kdlib.compendium.notebook --clean notebooks/{path.name}"
    assert copy.read_bytes() == path.read_bytes(), f"run `{command}`"
    for number, cell in enumerate(read_notebook(path).cells):
        assert cell.source.strip() and cell.source.count("\n") < 25, f"{path.name}: cell {number} is empty or long"


@each_notebook
def test_notebooks_narrate_and_call(path):
    first = read_notebook(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    tree = code(path)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    answers = sum(cell.source.count("def ") for cell in read_notebook(path).cells  # of exercises, which ask for them
                  if cell.cell_type == "code" and "solution" in cell.metadata.get("tags", []))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(functions) <= 1 + answers, "logic belongs in kdlib"
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "*" not in {alias.name for node in imports for alias in node.names}


# --- environments --------------------------------------------------------------------------------------------------

def requirement_names(lines):
    return {re.split(r"[\s<>=\[;]", line.strip())[0].lower().replace("_", "-") for line in lines}


def test_the_lock_pins_every_requirement_with_hashes_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = requirement_names(re.findall(r"^[^\s#-][^\s]*==.*", lock, re.M))
    extras = project["optional-dependencies"]
    assert requirement_names(project["dependencies"] + extras["cpu"] + extras["dev"]) <= pinned
    blocks = re.split(r"\n(?=\S)", lock[lock.index("=="):])
    assert all("--hash=sha256:" in block for block in blocks if block.strip()) and "://" not in lock


@pytest.mark.parametrize("file, faiss", [("environment.yml", "faiss-gpu"), ("binder/environment.yml", "faiss-cpu")])
def test_the_conda_twins_hold_every_requirement(file, faiss):
    listed = yaml.safe_load((ROOT / file).read_text())["dependencies"]
    plain = [line for line in listed if isinstance(line, str)]
    names = requirement_names(plain + [line for part in listed if isinstance(part, dict) for line in part["pip"]])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {"torch" if name.startswith("pytorch") else name for name in names}
    assert not requirement_names(project["dependencies"]) - names
    assert faiss in names and len({name for name in names if name.startswith("faiss")}) == 1


def test_make_help_explains_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (help .*)$", makefile, re.M)[1].split()
    assert all(re.search(rf"^{target}:.* ## ", makefile, re.M) for target in targets)


# --- what the README shows -----------------------------------------------------------------------------------------

def published_pictures(stage, folder):
    """The pictures of a folder in the bundled remote, in their order, as dvc.lock has it."""
    outs = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"][stage]["outs"]
    store = lambda md5: ROOT / "artifacts" / "files" / "md5" / md5[:2] / md5[2:]
    listed = json.loads(store(next(out["md5"] for out in outs if out["path"] == folder)).read_text())
    return [Image.open(store(one["md5"])).convert("RGB") for one in sorted(listed, key=lambda one: one["relpath"])]


def test_the_readme_shows_the_published_pictures_in_their_order():
    """docs/unpicked.avif is the page of notebook 6: four columns of a title of 150 px and a picture of 48."""
    assert "docs/unpicked.avif" in (ROOT / "README.md").read_text()
    pictures = published_pictures("generation@cpu", "reports/cpu/generation/pictures")
    page = Image.open(ROOT / "docs" / "unpicked.avif")
    size, rows = 48, -(-len(pictures) // 4)
    step = size + figures.GAP_PX
    assert page.size == (4 * (150 + step), rows * step)
    for number, picture in enumerate(pictures):
        left, top = 150 + number // rows * (150 + step), number % rows * step
        shown = np.asarray(page.crop((left, top, left + size, top + size)), float)
        scaled = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), float)
        assert np.abs(shown - scaled).mean() < 12, f"picture {number} of docs/unpicked.avif is another one"
