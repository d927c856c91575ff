"""Embeddings on disk: a folder with memory-mapped vectors, their ids and a manifest that vouches for both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdlib.files import Kind, atomic_folder, file_hash, read_json, save_array, write_json
from kdlib.types import Embeddings

KIND = "embeddings"
METRIC = "cosine"
FILES = ("vectors.npy", "ids.json")
STRUCTURE = "structure"  # the manifest's part on an inverted file, where there is one
DTYPES = ("float16", "float32")
INDEX = Kind("index", "manifest.json", KIND,
             frozenset({"manifest.json", *FILES, "catalogue.parquet", "structure.faiss", "lists.ivfdata"}))
NORM_TOLERANCE = 1e-2  # float16 rounds a unit vector's length by far less
CHUNK_ROWS = 65_536


def save_embeddings(folder: str | Path, embeddings: Embeddings) -> None:
    """Writes vectors.npy (float16 or float32, as given), ids.json and manifest.json into `folder`, all or nothing.

    The manifest names the encoder, the count, the dimension, the metric and the SHA-256 of the two other files.
    Raises ValueError as `check_embeddings` does, and where `folder` holds anything but an older index.
    """
    check_embeddings(embeddings)
    with atomic_folder(folder, INDEX) as temporary:
        write_embeddings(temporary, embeddings)


def write_embeddings(folder: Path, embeddings: Embeddings, more: dict | None = None) -> None:
    """The files of `save_embeddings` into an existing folder that the caller is making atomically.

    The manifest also says what `more` holds, and vouches for all other files that the folder has by now.
    """
    save_array(folder / "vectors.npy", embeddings.vectors)
    write_json(folder / "ids.json", [str(id) for id in embeddings.ids])
    others = sorted({path.name for path in folder.iterdir()} - set(FILES))
    count, dim = embeddings.vectors.shape
    write_json(folder / "manifest.json", {
        "kind": KIND, "version": 1, "encoder_id": embeddings.encoder_id, "count": count, "dim": dim, "metric": METRIC,
        "dtype": str(embeddings.vectors.dtype),
        "sha256": {name: file_hash(folder / name) for name in (*FILES, *others)}, **(more or {})})


def open_embeddings(folder: str | Path, encoder_id: str | None = None) -> Embeddings:
    """Opens what `save_embeddings` wrote, checksums verified, the vectors memory-mapped.

    folder      the folder
    encoder_id  if given, the identity that the embeddings must carry

    Raises FileNotFoundError when files are missing, ValueError when the files are damaged or another encoder made them.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_encoder(manifest["encoder_id"], encoder_id, f"the index in {folder}")
    for name, sha256 in manifest["sha256"].items():
        if sha256 != file_hash(folder / name):
            raise ValueError(f"{folder / name} is damaged (its SHA-256 is not the manifest's); restore or rebuild it")
    vectors, ids = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False), read_json(folder / "ids.json")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise ValueError(f"{folder / 'ids.json'} is no list of ids; rebuild the index")
    if vectors.shape != (manifest["count"], manifest["dim"]):
        raise ValueError(f"{folder / 'vectors.npy'} is {vectors.shape}, but its manifest says "
                         f"({manifest['count']}, {manifest['dim']}); rebuild it")
    return Embeddings(vectors, np.array(ids, dtype=str), manifest["encoder_id"])


def read_manifest(folder: Path) -> dict:
    """What an index says of itself; FileNotFoundError or ValueError for a folder that is no index, or lacks a file."""
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"{folder} is no index: it has no manifest.json; make one with `kd index`")
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or (manifest.get("kind"), manifest.get("metric")) != (KIND, METRIC):
        raise ValueError(f"{folder / 'manifest.json'} describes no {METRIC} index; make one with `kd index`")
    if missing := {"encoder_id", "count", "dim", "sha256"} - manifest.keys():
        raise ValueError(f"{folder / 'manifest.json'} lacks {', '.join(sorted(missing))}; rebuild the index")
    for name, kind in {"encoder_id": str, "count": int, "dim": int, "sha256": dict, STRUCTURE: dict}.items():
        if not isinstance(manifest.get(name, kind()), kind):
            raise ValueError(f"{folder / 'manifest.json'} says {name} = {str(manifest[name])[:40]}; rebuild the index")
    if missing := set(FILES) - manifest["sha256"].keys():
        raise ValueError(f"{folder / 'manifest.json'} vouches for no {min(missing)}; rebuild the index")
    for name in manifest["sha256"]:
        if Path(name).name != name or not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no whole index: it has no {name}; make one with `kd index`")
    return manifest


def check_encoder(found: str, wanted: str | None, what: str) -> None:
    """Raises ValueError naming both encoders when `what` was made by another one; `wanted` None accepts any."""
    if wanted is not None and found != wanted:
        raise ValueError(f"{what} was built by encoder {found}, but this model uses encoder {wanted}; "
                         "build it again with this model's encoder: build_index(source, encoder=pipe.encoder)")


def check_embeddings(embeddings: Embeddings) -> None:
    """Raises ValueError unless there are rows, of a known dtype, finite, of length 1, under ids that are unique."""
    vectors, ids = embeddings.vectors, embeddings.ids
    if len(ids) == 0:
        raise ValueError("there are no embeddings: an index needs at least one picture")
    if str(vectors.dtype) not in DTYPES:
        raise ValueError(f"embeddings are {vectors.dtype}; convert them to {' or '.join(DTYPES)}")
    unique, counts = np.unique(np.asarray(ids), return_counts=True)
    if len(unique) < len(ids):
        raise ValueError(f"ids must be unique; {str(unique[counts.argmax()])!r} occurs {counts.max()} times")
    for start in range(0, len(vectors), CHUNK_ROWS):
        norms = np.linalg.norm(vectors[start:start + CHUNK_ROWS].astype(np.float32), axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # catches NaN too
        if len(bad):
            raise ValueError(f"row {start + bad[0]} ({str(ids[start + bad[0]])!r}) has length {norms[bad[0]]:.4g}; "
                             "embeddings are unit vectors, divide each row by its norm")


def nested_subsets(embeddings: Embeddings, shares: Sequence[float], seed: int) -> dict[float, Embeddings]:
    """For each share a random part of that size (section 6.3), in the rows' order; the smaller lie in the larger ones.

    Raises ValueError for a share that is not above 0 and at most 1, or that is less than half a picture.
    """
    sizes = {share: round(share * len(embeddings)) for share in shares}
    if bad := [share for share, size in sizes.items() if not 0 < size <= len(embeddings)]:
        raise ValueError(f"share {bad[0]} of {len(embeddings)} pictures can't be taken; give shares above 0, at most 1")
    order = np.random.default_rng(seed).permutation(len(embeddings))
    rows = {share: np.sort(order[:size]) for share, size in sizes.items()}
    return {share: Embeddings(embeddings.vectors[kept], embeddings.ids[kept], embeddings.encoder_id)
            for share, kept in rows.items()}
