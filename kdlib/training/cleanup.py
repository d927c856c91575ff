"""What a finished training leaves that nobody needs again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kdlib.training.loop import CHECKPOINT_FILE
from kdlib.weights import MODEL_FILES

WRITTEN = {"checkpoint": [CHECKPOINT_FILE], "model": sorted(MODEL_FILES),
           "curves": ["metrics.json", "plots/metrics/*.tsv"]}


def remove_trained(folder: str | Path, *parts: str) -> None:
    """Removes "checkpoint", "model" or "curves" of a training in `folder`, then the folder itself if it is empty.

    Only files that a training writes there go. A folder in which anything else lies stays, with that.
    """
    for part in parts:
        for pattern in WRITTEN[part]:
            for path in Path(folder, part).glob(pattern):
                path.unlink()
        for path in Path(folder, part, "plots", "metrics"), Path(folder, part, "plots"), Path(folder, part):
            with suppress(OSError):
                path.rmdir()
    with suppress(OSError):
        Path(folder).rmdir()
