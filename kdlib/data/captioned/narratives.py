"""Localized Narratives (Pont-Tuset et al., 2020), LN-COCO among them: JSON Lines, with the pictures of other sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from kdlib.data.captioned.tally import Captioned, Tally, check_files, inside


def read_narratives(narratives: str | Path, pictures: str | Path, tally: Tally) -> Iterator[Captioned]:
    """Each narrative, in the file's order, with its picture; its traces and times are passed over.

    narratives  coco_val_captions.jsonl, coco_train_localized_narratives-00000-of-00004.jsonl, ...: an object a line,
                with dataset_id, image_id, annotator_id and caption
    pictures    the folder of the set's files: val2017 for COCO, whose names have twelve digits

    An id is "IMAGE_ID-ANNOTATOR_ID". The licence is "unknown", as the file tells none of the pictures'; the captions'
    own is CC-BY-4.0. Raises FileNotFoundError for what isn't there.
    """
    narratives, pictures = Path(narratives), Path(pictures)
    check_files(narratives, pictures)
    return of_lines(narratives, pictures, tally)


def of_lines(narratives: Path, pictures: Path, tally: Tally) -> Iterator[Captioned]:
    """`read_narratives` of files that are there."""
    with open(narratives, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                tally.skip(f"line {number}", "the line is not valid JSON", str(error))
                continue
            path = picture_path(entry, pictures) if isinstance(entry, dict) else None
            if path is None:
                tally.skip(f"line {number}", "the line names no image")
                continue
            yield from tally.give(f"{entry['image_id']}-{entry.get('annotator_id')}", path, entry.get("caption"))


def picture_path(entry: dict, pictures: Path) -> Path | None:
    """Where the picture of a narrative is: COCO's 137576 is 000000137576.jpg, others are called as their id."""
    image, source = entry.get("image_id"), entry.get("dataset_id")
    if not isinstance(image, str) or not isinstance(source, str) or not image:
        return None
    return inside(pictures, f"{image:0>12}.jpg" if source.startswith("mscoco") else f"{image}.jpg")
