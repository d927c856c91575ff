"""What `kd edit` does between its arguments and its picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from kdlib.console import printable
from kdlib.models.edit.editor import Edited
from kdlib.pipeline import load_pipeline
from kdlib.printing import as_json, neighbour_rows
from kdlib.retrieval import open_index


def edit_file(picture: Path, text: str, preset: str, index: Path | None, seed: int, settings: dict) -> Edited:
    """The picture in a file, changed by a preset's editor; raises as `Pipeline.edit` does."""
    pipe = load_pipeline(preset, backbone="discrete")
    database = open_index(index, pipe.encoder.identity) if index else None
    return pipe.edit(picture, text, seed=seed, index=database, **settings)


def report_edit(made: Edited, picture: Path, path: Path, preset: str, json: bool) -> str:
    """What was made, for people in a few lines, or as one JSON document."""
    if json:
        return as_json({"picture": str(picture), "text": made.text, "settings": {"preset": preset, "seed": made.seed,
                                                                                 **asdict(made.settings)},
                        "notes": made.notes, "neighbours": neighbour_rows(made.neighbours), "files": [str(path)]})
    told = [f"written: {path} (preset {preset}, seed {made.seed})", *(f"note: {note}" for note in made.notes)]
    return "\n".join(map(printable, told))
