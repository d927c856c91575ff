"""What `kd info` says: which presets and weights are here, what they are made of, and whose pictures they draw from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from kdlib.artifacts import BACKBONES, find_backbone, find_parts, is_saved, load_retrieval
from kdlib.console import printable
from kdlib.files import read_json
from kdlib.params import find_root, load_params, load_preset, preset_names
from kdlib.printing import aligned
from kdlib.weights import load_tensors


def model_facts(preset_or_folder: str | None = None, root: str | Path | None = None) -> dict:
    """All that `kd info` says, as --json prints it.

    preset_or_folder  what to describe; None is cpu if its weights are here, else the first preset whose weights are

    Returns presets, [{"name", "weights": the backbones whose parts are all here}], and model, what `describe_model`
    says, or None where nothing was asked for and nothing is here. Raises as `load_retrieval` does.
    """
    root = Path(root or find_root())
    presets = [{"name": name, "weights": complete_backbones(name, root)} for name in preset_names(load_params(root))]
    here = sorted((one["name"] for one in presets if one["weights"]), key=lambda name: name != "cpu")
    asked = [preset_or_folder] if preset_or_folder is not None else here
    return {"presets": presets, "model": describe_model(asked[0], root) if asked else None}


def complete_backbones(preset: str, root: Path) -> list[str]:
    """The backbones of a preset of which every part is here."""
    return [kind for kind, parts in BACKBONES.items()
            if all((root / "reports" / preset / path).is_dir() for path in parts.values())]


def describe_model(preset_or_folder: str, root: Path) -> dict:
    """One preset or saved pipeline: k, and of each part identity and size; raises as `load_retrieval` does."""
    saved = is_saved(preset_or_folder)
    kinds = [find_backbone(preset_or_folder)] if saved else complete_backbones(preset_or_folder, root)
    encoder, index, catalogue = load_retrieval(preset_or_folder, root=root)
    folder = find_parts(preset_or_folder, ("encoder",), root)["encoder"]
    k = read_json(Path(preset_or_folder, "pipeline.json"))["settings"]["k"] if saved else \
        load_preset(preset_or_folder, root)["k"]
    licences = Counter(catalogue.describe(id).licence for id in index.ids.tolist())
    return {"preset": str(preset_or_folder), "k": k,
            "index": {"pictures": len(index), "dim": index.dim, "licences": dict(licences.most_common())},
            "encoder": {"identity": encoder.identity, "parameters": num_parameters(folder)},
            "generators": [describe_generator(find_parts(preset_or_folder, root=root, backbone=kind), kind)
                           for kind in kinds]}


def describe_generator(parts: dict[str, Path], kind: str) -> dict:
    """A backbone's name and size, and its tokenizer's, if it has one."""
    told = {"backbone": kind, "parameters": num_parameters(parts["denoiser"])}
    if "tokenizer" not in parts:
        return told
    from kdlib.models.discrete.tokenizer import Tokenizer

    return told | {"tokenizer": {"identity": Tokenizer.load(parts["tokenizer"]).identity,
                                 "parameters": num_parameters(parts["tokenizer"])}}


def num_parameters(folder: Path) -> int:
    """Of a saved model; raises ValueError naming a damaged file."""
    return sum(tensor.numel() for tensor in load_tensors(folder / "model.safetensors").values())


def as_text(facts: dict) -> str:
    """The same for people."""
    presets = [("preset", "weights here")]
    presets += [(one["name"], ", ".join(one["weights"]) or f"none; `make reproduce PRESET={one['name']}` makes them")
                for one in facts["presets"]]
    model = facts["model"]
    if model is None:
        return aligned(presets)
    index, sized = model["index"], lambda part: f"{part['identity']}, {part['parameters']:,} parameters"
    lines = [("described", printable(model["preset"])), ("k", str(model["k"])),
             ("index", f"{index['pictures']:,} pictures, {index['dim']} wide"), ("encoder", sized(model["encoder"]))]
    for generator in model["generators"]:
        lines.append(("generator", f"{generator['backbone']}, {generator['parameters']:,} parameters"))
        if "tokenizer" in generator:
            lines.append(("tokenizer", sized(generator["tokenizer"])))
    lines += [("licence", printable(f"{name}: {count:,} pictures")) for name, count in index["licences"].items()]
    return aligned(presets) + "\n\n" + aligned(lines)
