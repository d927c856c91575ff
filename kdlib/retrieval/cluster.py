"""Beyond one machine: embedding and index building as Ray jobs, a shard at a time (extra `cluster`).

All machines see the same folders. What is finished lies there under its own name, whole or not at all, so that neither
a killed worker nor a killed job loses more than the shards it was at.
"""

from __future__ import annotations

import logging
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdlib.data.folder import Skipped, read_pictures
from kdlib.files import atomic_file, atomic_folder
from kdlib.retrieval import inverted
from kdlib.retrieval.embeddings import INDEX, STRUCTURE, check_embeddings, check_encoder, write_embeddings
from kdlib.retrieval.own_pictures import save_report
from kdlib.types import Embeddings

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
try:
    import ray
except ImportError as error:
    raise ImportError("kdlib.retrieval.cluster needs Ray: install kdlib[cluster]") from error

KINDS = (".parquet", ".tar")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".svg")
PICTURES_AT_ONCE = 256
ENCODER = b"encoder_id"  # in the metadata of a shard of vectors

log = logging.getLogger(__name__)


# --- embedding -----------------------------------------------------------------------------------------------------

def embed_shards(shards: Sequence[str | Path], make_encoder: Callable[[], object], out: str | Path,
                 num_workers: int = 1, num_gpus: float = 0) -> None:
    """Embeds shards of pictures into `out`: for each shard a parquet file of its name with id and vector (float16).

    shards        parquet files with columns id (str) and picture (the bytes of a file), or webdataset .tar files, in
                  which an id is the path of a file with one of PICTURE_SUFFIXES up to the first dot of its name
    make_encoder  called once by each worker: `functools.partial(Encoder.load, folder)`, say
    num_workers   processes, over all machines of the cluster
    num_gpus      of each worker, if make_encoder gives an encoder that uses them

    Pictures are read as `kd index` reads them; those that can't be are listed beside the shard, in NAME.skipped.csv. A
    shard whose vectors are in `out` is not embedded again: call it again after an interruption.

    Raises ValueError for no shards, two of one name, another kind of file, and, once all others are done, naming shards
    that can't be read, hold no picture, or were embedded by another encoder; FileNotFoundError for one that is missing.
    """
    shards = check_shards(shards)
    rows = [{"shard": str(shard), "vectors": str(Path(out).absolute() / f"{shard.stem}.parquet")} for shard in shards]
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = data.map_batches(Embedder, fn_constructor_args=[make_encoder], batch_size=1, num_gpus=num_gpus,
                            compute=ray.data.ActorPoolStrategy(size=num_workers))
    if failed := sorted(row["error"] for row in done.take_all() if row["error"]):
        raise ValueError(f"{len(failed)} of {len(shards)} shards have no vectors: {'; '.join(failed[:5])}")


def check_shards(shards: Sequence[str | Path]) -> list[Path]:
    """Absolute paths of shards; raises as `embed_shards` does for what can be told from their names."""
    by_name = {}
    for shard in (Path(shard).absolute() for shard in shards):
        if shard.suffix not in KINDS:
            raise ValueError(f"{shard} is no shard of pictures; give files that end in {' or '.join(KINDS)}")
        if not shard.is_file():
            raise FileNotFoundError(f"there is no shard {shard}")
        if shard.stem in by_name:
            raise ValueError(f"{by_name[shard.stem]} and {shard} have one name, and so would their vectors; rename one")
        by_name[shard.stem] = shard
    if not by_name:
        raise ValueError("there are no shards of pictures to embed; give at least one parquet or .tar file")
    return list(by_name.values())


class Embedder:
    """A worker's process: an encoder, and the shards that come to it."""

    def __init__(self, make_encoder: Callable[[], object]):
        self.encoder = make_encoder()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """What went wrong with each shard, or nothing."""
        return {"error": [self.embed(Path(shard), Path(vectors))
                          for shard, vectors in zip(batch["shard"], batch["vectors"], strict=True)]}

    def embed(self, shard: Path, vectors: Path) -> str:
        try:
            if vectors.is_file():
                check_encoder(encoder_of(vectors), self.encoder.identity, str(vectors))
            else:
                embed_shard(shard, self.encoder, vectors)
        except (ValueError, OSError, tarfile.TarError) as error:
            return f"{shard}: {error}"
        return ""


def embed_shard(shard: Path, encoder, out: Path) -> None:
    """Writes id and vector of a shard's pictures, atomically, and before that the list of those that can't be read."""
    ids, chunks, skipped = [], [], []
    for names, contents in picture_batches(shard):
        pictures = read_contents(contents)
        skipped += [Skipped(name, picture) for name, picture in zip(names, pictures, strict=True)
                    if isinstance(picture, str)]
        readable = [n for n, picture in enumerate(pictures) if not isinstance(picture, str)]
        if readable:
            ids += [names[n] for n in readable]
            chunks.append(encoder.encode_images([pictures[n] for n in readable]).astype(np.float16))
    if not ids:
        raise ValueError(f"it holds no readable picture; {len(skipped)} skipped")
    if skipped:
        save_report(out.with_suffix(".skipped.csv"), skipped)
    vectors = np.concatenate(chunks)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.table({"id": pa.array(ids, pa.string()), "vector": column})
    with atomic_file(out) as temporary:
        pq.write_table(table.replace_schema_metadata({ENCODER: encoder.identity}), temporary)


def picture_batches(shard: Path) -> Iterator[tuple[list[str], list[bytes]]]:
    """(ids, encoded pictures) of a shard, PICTURES_AT_ONCE at a time."""
    if shard.suffix == ".parquet":
        file = pq.ParquetFile(shard)
        if missing := {"id", "picture"} - set(file.schema_arrow.names):
            raise ValueError(f"it has no column {min(missing)}; a shard has the columns id and picture")
        for batch in file.iter_batches(PICTURES_AT_ONCE, columns=["id", "picture"]):
            yield batch["id"].to_pylist(), batch["picture"].to_pylist()
        return
    with tarfile.open(shard) as archive:
        names, contents = [], []
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.suffix.lower() in PICTURE_SUFFIXES:
                names.append(path.with_name(path.name.partition(".")[0]).as_posix())
                contents.append(archive.extractfile(member).read())
            if len(names) == PICTURES_AT_ONCE:
                yield names, contents
                names, contents = [], []
        if names:
            yield names, contents


def read_contents(contents: Sequence[bytes]) -> list:
    """`kdlib.data.folder.read_pictures` of encoded pictures: each picture, or the reason why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(n)) for n in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content or b"")
        return read_pictures(paths)


# --- index ---------------------------------------------------------------------------------------------------------

def build_from_shards(vectors_folder: str | Path, out: str | Path, encoder_id: str, bytes_per_vector: int | None = None,
                      factory: str | None = None) -> None:
    """Builds the index of the vectors that `embed_shards` wrote into a folder; `open_index(out)` opens it.

    encoder_id  identity of the encoder that must have made them
    bytes_per_vector, factory
                see `kdlib.retrieval.build_index`, whose result it equals: rows in the order of the shards' names

    Structures are trained here, on a sample of all vectors, filled by a Ray task for each shard, and merged on disk. Of
    the vectors only the sample is in memory at once, ids are all. All or nothing is written.

    Raises ValueError for an empty folder, another encoder's vectors, an id that comes twice, and as `build_index` does.
    """
    if bytes_per_vector is not None and factory is not None:
        raise ValueError(f"bytes_per_vector = {bytes_per_vector} and factory = {factory!r} both say how to compress; "
                         "give one of them")
    shards = sorted(Path(vectors_folder).absolute().glob("*.parquet"))
    if not shards:
        raise ValueError(f"{vectors_folder} holds no shards of vectors; make them with embed_shards")
    for shard in shards:
        check_encoder(encoder_of(shard), encoder_id, str(shard))
    with atomic_folder(out, INDEX) as temporary:
        embeddings = gather(shards, temporary / "vectors.npy", encoder_id)
        chosen = factory or inverted.choose_factory(*embeddings.vectors.shape, bytes_per_vector)
        log.info("%d vectors of width %d in %d shards: %s", *embeddings.vectors.shape, len(shards), chosen)
        manifest = {}
        if chosen != "Flat":
            sample = embeddings.vectors[inverted.sample_rows(len(embeddings), chosen)]
            empty = inverted.train_structure(chosen, inverted.unit(sample))
            manifest[STRUCTURE] = {"num_cells": inverted.NUM_CELLS, **inverted.describe(empty)}
            fill_and_merge(empty, shards, temporary)
        write_embeddings(temporary, embeddings, manifest)


def encoder_of(shard: Path) -> str:
    """Identity of the encoder that made a shard of vectors; ValueError for a file that is none."""
    schema = pq.read_schema(shard)
    if not {"id", "vector"} <= set(schema.names) or ENCODER not in (schema.metadata or {}):
        raise ValueError(f"{shard} is no shard of vectors; make it anew with embed_shards")
    return schema.metadata[ENCODER].decode()


def gather(shards: Sequence[Path], path: Path, encoder_id: str) -> Embeddings:
    """All shards' vectors in one memory-mapped file, and their ids; ValueError where `check_embeddings` finds fault."""
    counts = [pq.read_metadata(shard).num_rows for shard in shards]
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (sum(counts), shard_vectors(shards[0]).shape[1]))
    for shard, last_row, count in zip(shards, np.cumsum(counts), counts, strict=True):
        vectors[last_row - count:last_row] = shard_vectors(shard)
    ids = np.concatenate([pq.read_table(shard, columns=["id"])["id"].to_numpy().astype(str) for shard in shards])
    embeddings = Embeddings(vectors, ids, encoder_id)
    check_embeddings(embeddings)
    return embeddings


def shard_vectors(shard: Path) -> np.ndarray:
    """Vectors (num_pictures, dim) float16 of a shard."""
    column = pq.read_table(shard, columns=["vector"])["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def fill_and_merge(empty, shards: Sequence[Path], folder: Path) -> None:
    """Fills a copy of the trained structure with each shard, on whichever machine, and merges them into `folder`."""
    counts = [pq.read_metadata(shard).num_rows for shard in shards]
    handed_out, fill = ray.put(empty), ray.remote(fill_shard)
    with tempfile.TemporaryDirectory(prefix=".filled.", dir=folder.parent) as parts:
        paths = [Path(parts).absolute() / f"{n}.faiss" for n in range(len(shards))]
        ray.get([fill.remote(handed_out, shard, int(last_row - count), path) for shard, last_row, count, path in
                 zip(shards, np.cumsum(counts), counts, paths, strict=True)])
        inverted.merge_structures(empty, paths, folder)


def fill_shard(structure, shard: Path, first_row: int, path: Path) -> None:
    """Adds a shard's vectors under their rows in the whole database, and saves the structure."""
    inverted.add_rows(structure, shard_vectors(shard), first_row)
    inverted.save_structure(path, structure)
