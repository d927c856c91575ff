"""LAFITE's protocol (section 4, Table 1): a picture for each of 30,000 captions of a set, and their distance to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from kdlib.data.captioned.choose import Chosen, Listing, choose
from kdlib.data.captioned.published import picture_of, read_set
from kdlib.data.captioned.tally import Captioned
from kdlib.evaluation.metrics import frechet_distance
from kdlib.evaluation.moments import Moments
from kdlib.models.condition import Condition
from kdlib.pipeline import Pipeline
from kdlib.weights import load_tensors_and_metadata, save_tensors

NUM_CAPTIONS, SIZE_PX, BATCH = 30_000, 256, 50
PROGRESS = "progress.safetensors"
UNREAD = "the encoder knows nothing of the caption"
OPENED = (UNREAD, "the picture can't be read")  # what only shows when a caption is drawn for


class Features(NamedTuple):
    """What pictures are compared by: whose features, and a function from pictures to (num_pictures, width)."""

    name: str
    of: Callable[[list[Image.Image]], np.ndarray]


class Measured(NamedTuple):
    """What was measured: two distributions, how many captions were met, the side of what is drawn, what was broken."""

    real: Moments
    drawn: Moments
    num_met: int
    drawn_px: int
    broken: Counter


def draw_captions(pipe: Pipeline, features: Features, name: str, source: str | Path, folder: Path, num: int,
                  num_steps: int | None, seed: int) -> Measured:
    """Draws for `num` captions of a set, chosen by hash, and measures them and the pictures that they belong to.

    name, source  of `read_set`
    folder        keeps what was measured after each batch: called again with the same arguments, this goes on there

    Raises ValueError where `folder` holds another measurement, or the set no whole caption, and what `read_set` does.
    """
    request = {"set": name, "source": str(Path(source).resolve()), "num": num, "seed": seed, "num_steps": num_steps,
               "features": features.name, "encoder": pipe.encoder.identity, "settings": pipe.settings}
    found, listing, seen = resumed(folder / PROGRESS, request), Listing(), set()
    ids = choose(read_set(name, source, listing), num, seed)
    if not ids:
        raise ValueError(f"{source} holds no caption with a picture; is it unpacked?")
    tally = Chosen(ids, found.num_met if found else 0)
    broken = Counter(found.broken if found else listing.num_broken)
    captions = read_set(name, source, tally)
    with tqdm(total=len(ids), initial=tally.num_passed, unit=" captions") as bar:
        while batch := list(islice(captions, BATCH)):
            seen.update(picture_of(name, id) for id in tally.passed)
            new = unseen(name, batch, seen)
            pictures = draw(pipe, readable(pipe, batch, tally), num_steps, seed + tally.num_met)
            rows = features.of([squared(picture) for picture in [*new, *pictures]])
            found = found or Measured(Moments(rows.shape[1]), Moments(rows.shape[1]), 0, 0, Counter())
            found.real.add(rows[:len(new)])
            found.drawn.add(rows[len(new):])
            drawn_px = max([found.drawn_px, *(picture.width for picture in pictures)])
            found = found._replace(num_met=tally.num_met, drawn_px=drawn_px, broken=broken + opened(tally))
            save(folder / PROGRESS, found, request)
            bar.update(tally.num_met - bar.n)
    if found is None:
        raise ValueError(f"{source} holds no whole picture for any caption that was chosen: {dict(opened(tally))}")
    return found._replace(num_met=tally.num_met, broken=broken + opened(tally))


def opened(tally: Chosen) -> Counter:
    """What was broken beyond what a listing tells."""
    return Counter({kind: tally.num_broken[kind] for kind in OPENED})


def unseen(name: str, batch: list[Captioned], seen: set[str]) -> list[Image.Image]:
    """The batch's pictures that weren't `seen`, each once; they are added to `seen`."""
    new = {picture_of(name, one.id): one.picture for one in batch if picture_of(name, one.id) not in seen}
    seen.update(new)
    return list(new.values())


def readable(pipe: Pipeline, batch: list[Captioned], tally: Chosen) -> list[str]:
    """The batch's captions of which the encoder knows anything; the others are counted as broken."""
    captions = []
    for one in batch:
        if pipe.encoder.unread(one.caption).empty:
            tally.skip(one.id, UNREAD)
        else:
            captions.append(one.caption)
    return captions


def draw(pipe: Pipeline, captions: list[str], num_steps: int | None, seed: int) -> list[Image.Image]:
    """A picture of each caption; words that the encoder doesn't know are passed over in silence."""
    if not captions:
        return []
    queries = pipe.encoder.encode_texts(captions)
    found = pipe.index.search(queries, pipe.settings["k"])
    return pipe.generate(Condition.from_numpy(queries, found.vectors), num_steps, seed=seed)


def squared(picture: Image.Image) -> Image.Image:
    """The picture's middle at SIZE_PX a side, as LAFITE crops and scales the set's; a smaller one is enlarged."""
    return ImageOps.fit(picture.convert("RGB"), (SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)


# --- what is kept ----------------------------------------------------------------------------------------------------

def save(path: Path, found: Measured, request: dict) -> None:
    """Writes what was measured so far, atomically."""
    tensors = {f"{of}.{name}": torch.from_numpy(np.asarray(array, np.float64))
               for of in ("real", "drawn") for name, array in getattr(found, of).state().items()}
    save_tensors(path, tensors, {"request": json.dumps(request), "num_met": str(found.num_met),
                                 "drawn_px": str(found.drawn_px), "broken": json.dumps(found.broken)})


def resumed(path: Path, request: dict) -> Measured | None:
    """What an earlier call measured; None where there is nothing. ValueError where it is something else."""
    if not path.is_file():
        return None
    tensors, told = load_tensors_and_metadata(path)
    if told.get("request") != json.dumps(request):
        raise ValueError(f"{path.parent} holds a measurement of another set, model or choice; name another folder")
    state = {of: {name.partition(".")[2]: tensor.numpy() for name, tensor in tensors.items() if name.startswith(of)}
             for of in ("real", "drawn")}
    return Measured(*(Moments.restored(state[of]) for of in ("real", "drawn")), int(told["num_met"]),
                    int(told["drawn_px"]), Counter(json.loads(told["broken"])))


# --- what is told ----------------------------------------------------------------------------------------------------

def result(found: Measured, features: str, name: str) -> dict:
    """The measurement as JSON; the distance is called "fid" by Inception's features, else "fd_judge": two columns."""
    key = "fid" if features == "inception" else "fd_judge"
    return {"set": name, "num_captions": found.drawn.count, "num_pictures": found.real.count, "features": features,
            key: round(frechet_distance(found.drawn.gaussian(), found.real.gaussian()), 4), "size_px": SIZE_PX,
            "drawn_px": found.drawn_px, "broken": dict(+found.broken),
            "missing": list(missing(found, features, name))}


def missing(found: Measured, features: str, name: str) -> Iterator[str]:
    """What keeps the number from being one of the paper's Table 1."""
    if name not in ("coco", "cub", "ln-coco"):
        yield f"the paper measures on coco, cub and ln-coco, not on {name}"
    if found.drawn.count < NUM_CAPTIONS:
        yield f"{found.drawn.count:,} captions instead of {NUM_CAPTIONS:,}: a distance of fewer pictures is too long"
    if features != "inception":
        yield "the judge's features instead of Inception's: this is no FID, and compares with none"
    if found.drawn_px < SIZE_PX:
        yield f"pictures are drawn at {found.drawn_px} px and enlarged to {SIZE_PX}"
    yield "a model trained on photographs, and an index of them: the bundled ones know stickers alone"
