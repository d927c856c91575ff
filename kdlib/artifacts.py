"""What stages and `save_pretrained` wrote: where it lies, and whether it is all there."""

from __future__ import annotations

from pathlib import Path

from kdlib.data.catalogue import Catalogue, sticker_credits
from kdlib.encoder import Encoder
from kdlib.files import Kind, read_json
from kdlib.params import find_root, load_params, load_preset, preset_names
from kdlib.retrieval import Index, open_index
from kdlib.retrieval.embeddings import INDEX
from kdlib.weights import MODEL_FILES

KIND = "knn-diffusion-pipeline"
PRESET_PARTS = {"encoder": "encoder/model", "index": "index/training", "tokenizer": "tokenizer/model",
                "denoiser": "training/model"}
CONTINUOUS_PARTS = {"encoder": "encoder/model", "index": "index/training", "denoiser": "unet/model"}
BACKBONES = {"discrete": PRESET_PARTS, "continuous": CONTINUOUS_PARTS}
EDITOR = "edits/model"  # of a preset; a saved pipeline may have the part "editor", too
SAVED = Kind("saved pipeline", "pipeline.json", KIND, frozenset({"pipeline.json", *(
    f"{part}/{name}" for part in (*PRESET_PARTS, "editor")
    for name in (INDEX.files if part == "index" else MODEL_FILES))}))


def load_retrieval(preset_or_folder: str | Path, index: str | Path | None = None,
                   root: str | Path | None = None) -> tuple[Encoder, Index, Catalogue]:
    """Only what a search needs: the encoder, its index (or the one in the folder `index`) and whose pictures it holds.

    Raises as `load_pipeline` does.
    """
    parts = find_parts(preset_or_folder, ("encoder", "index"), root)
    encoder = Encoder.load(parts["encoder"])
    opened = open_index(index or parts["index"], encoder.identity)
    if opened.catalogue is not None:
        return encoder, opened, opened.catalogue
    return encoder, opened, Catalogue.empty() if is_saved(preset_or_folder) else sticker_credits(root)


def is_saved(folder: str | Path) -> bool:
    """Whether `save_pretrained` wrote this folder."""
    path = Path(folder) / "pipeline.json"
    content = read_json(path) if path.is_file() else None
    return isinstance(content, dict) and content.get("kind") == KIND


def find_backbone(preset_or_folder: str | Path, backbone: str | None = None) -> str:
    """Which backbone is meant: the one asked for, else a saved pipeline's own, else "discrete".

    Raises ValueError for one that there isn't, or that isn't the saved pipeline's.
    """
    saved = is_saved(preset_or_folder)
    own = read_json(Path(preset_or_folder) / "pipeline.json").get("backbone", "discrete") if saved else "discrete"
    asked = own if backbone is None else backbone
    for name in (own, asked):
        if not isinstance(name, str) or name not in BACKBONES:
            raise ValueError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    if saved and backbone not in (None, own):
        raise ValueError(f"{preset_or_folder} was saved with the {own} backbone; it has no {backbone} one")
    return asked


def find_parts(preset_or_folder: str | Path, names: tuple[str, ...] | None = None, root: str | Path | None = None,
               backbone: str | None = None) -> dict[str, Path]:
    """Where the named parts (None: all) of a preset or of a saved pipeline lie; raises as `load_pipeline` does."""
    kind = find_backbone(preset_or_folder, backbone)
    names = tuple(BACKBONES[kind]) if names is None else names
    if is_saved(preset_or_folder):
        folder = Path(preset_or_folder)
        parts = {name: folder / name for name in names}
        advice = "save the pipeline again with save_pretrained"
    else:
        preset = str(preset_or_folder)
        try:
            load_preset(preset, root)
        except ValueError as error:
            raise ValueError(f"{error}; nor is it a folder written by save_pretrained") from None
        folder = Path(root or find_root()) / "reports" / preset
        parts = {name: folder / BACKBONES[kind][name] for name in names}
        advice = f"make it with `make reproduce PRESET={preset}` or fetch published results with `dvc pull`"
    missing = [name for name, path in parts.items() if not path.is_dir()]
    if missing == ["denoiser"] and kind == "continuous" and not is_saved(preset_or_folder):
        raise FileNotFoundError(f"preset {preset_or_folder} has no continuous model (looked in {folder}); train it "
                                f"with `dvc repro unet@{preset_or_folder}`")
    if missing:
        raise FileNotFoundError(f"{preset_or_folder} has no {', '.join(missing)} (looked in {folder}); {advice}")
    return parts


def editor_folder(preset_or_folder: str | Path, root: str | Path | None = None) -> Path:
    """Where the trained editor of a preset or of a saved pipeline lies, if it has one."""
    if is_saved(preset_or_folder):
        return Path(preset_or_folder) / "editor"
    return Path(root or find_root()) / "reports" / str(preset_or_folder) / EDITOR


def default_preset(root: str | Path | None = None, backbone: str | None = None) -> str:
    """The preset to use when none is named: "cpu" if its weights are here, else the first whose weights are.

    backbone  whose weights; None is the discrete one
    """
    parts = BACKBONES.get(backbone or "discrete", PRESET_PARTS)
    reports = Path(root or find_root()) / "reports"
    for name in ("cpu", *preset_names(load_params(root))):
        if all((reports / name / path).is_dir() for path in parts.values()):
            return name
    return "cpu"
