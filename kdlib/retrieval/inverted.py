"""The compressed index of section 6.4: an inverted file over Voronoi cells, codes by optimised product quantisation."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import faiss
import numpy as np
from faiss.contrib.ondisk import merge_ondisk
from jaxtyping import Float, Int

from kdlib.files import atomic_file

NUM_CELLS = 20             # the query's own cell and 19 others
EXACT_UP_TO = 100_000      # so many vectors are searched exhaustively in a few milliseconds
POINTS_A_CELL = 39         # what faiss wants at least to place a centroid
POINTS_A_CODE = 39 * 256   # the same for 256 centroids of a product quantiser
HNSW_FROM = 1024           # cells; fewer are compared with one by one
SAMPLE_AT_LEAST = 65_536   # vectors to train on, or POINTS_A_CELL for each cell if that is more
TRAINED_A_CODE = 40        # of them for each of a product quantiser's 256 centroids
CODE_ROUNDS, OPQ_ROUNDS, OPQ_FIRST_ROUNDS = 8, 4, 5  # k-means in 2 dimensions is slow; faiss's defaults take an hour
CHUNK_ROWS = 65_536
STRUCTURE_FILE, LISTS_FILE = "structure.faiss", "lists.ivfdata"

log = logging.getLogger(__name__)


# --- choosing ------------------------------------------------------------------------------------------------------

def choose_factory(count: int, dim: int, bytes_per_vector: int | None = None) -> str:
    """The faiss factory string for so many vectors of a width, in a budget.

    bytes_per_vector  of code, beside 8 bytes of id; None, or 4 * dim and more, is no compression

    Without compression: "Flat" (exhaustive) up to EXACT_UP_TO vectors, then an inverted file of whole vectors. With it,
    optimised product quantisation of the largest number of bytes within the budget that divides the width; fewer than
    POINTS_A_CODE vectors can't train that, and stay "Flat". Cells are the power of two nearest to 8 sqrt(count), as
    long as each has POINTS_A_CELL vectors: 65,536 for the 69 million of the paper, as its authors might have had it.

    Raises ValueError for a count, width or budget below 1.
    """
    for name, value in (("count", count), ("dim", dim), ("bytes_per_vector", bytes_per_vector)):
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value} must be at least 1")
    whole = bytes_per_vector is None or bytes_per_vector >= 4 * dim
    if count <= (EXACT_UP_TO if whole else POINTS_A_CODE):
        return "Flat"
    cells = 2 ** min(round(math.log2(8 * math.sqrt(count))), int(math.log2(count / POINTS_A_CELL)))
    inverted = f"IVF{cells}_HNSW32" if cells >= HNSW_FROM else f"IVF{cells}"
    if whole:
        return f"{inverted},Flat"
    size = next(size for size in range(min(bytes_per_vector, dim), 0, -1) if dim % size == 0)
    return f"OPQ{size}_{dim},{inverted},PQ{size}x8"


def why_whole(count: int, dim: int) -> str:
    """Why a budget of bytes doesn't make `choose_factory` compress."""
    if count <= POINTS_A_CODE:
        return f"compression is for more than {POINTS_A_CODE:,} pictures, and these are {count:,}; all stay whole"
    return f"whole vectors take {4 * dim:,} bytes each, not more"


# --- making --------------------------------------------------------------------------------------------------------

def train_structure(factory: str, sample: Float[np.ndarray, "num_sample dim"]) -> faiss.Index:
    """An empty structure for inner products whose cells and codes are fitted to a sample of unit vectors.

    Cells are placed on a GPU where faiss sees one. Faiss's seeds are fixed: the same sample on the same machine gives
    the same structure. Raises ValueError for a string that faiss can't read, or that makes no inverted file, and for
    too small a sample.
    """
    try:
        structure = faiss.index_factory(sample.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        inverted = inverted_file(structure)
    except RuntimeError as error:
        raise ValueError(f"faiss can't make {factory!r} for {sample.shape[1]} dimensions ({last_line(error)}); give "
                         "a factory string with an inverted file, such as 'OPQ64_256,IVF256,PQ64x8'") from error
    needed = max(inverted.nlist, 256 if "PQ" in factory else 1)
    if len(sample) < needed:
        raise ValueError(f"{factory!r} is trained on at least {needed} vectors, and there are {len(sample)}; "
                         "ask for fewer cells, or leave the choice to build_index")
    sample = np.ascontiguousarray(sample, dtype=np.float32)
    for transform in transforms(structure):
        transform.train(sample)
        sample = transform.apply(sample)
    cells = place_cells(sample, inverted.nlist)
    inverted.quantizer.train(cells)
    inverted.quantizer.add(cells)
    if isinstance(inverted, faiss.IndexIVFPQ):
        inverted.pq.cp.niter, inverted.pq.cp.max_points_per_centroid = CODE_ROUNDS, TRAINED_A_CODE
        inverted.do_polysemous_training = False  # minutes for a way of searching that is not used
    inverted.train(sample)
    structure.is_trained = True
    return structure


def place_cells(sample: Float[np.ndarray, "num_sample dim"], num_cells: int) -> Float[np.ndarray, "num_cells dim"]:
    """Unit vectors as the centres of cells: k-means in one level or, from HNSW_FROM cells on, in two.

    Two levels (the sample in sqrt(num_cells) parts, then as many cells in each as it has vectors) take a hundredth of
    the time of one, for tens of thousands of cells.
    """
    gpus = faiss.get_num_gpus()
    log.info("%d cells are placed on %s", num_cells, f"{gpus} GPUs" if gpus else "the CPU")

    def centres(rows: np.ndarray, num: int | np.integer) -> faiss.Kmeans:
        means = faiss.Kmeans(rows.shape[1], int(num), spherical=True, gpu=bool(gpus), min_points_per_centroid=1)
        means.train(np.ascontiguousarray(rows))
        return means

    if num_cells < HNSW_FROM:
        return centres(sample, num_cells).centroids
    coarse = centres(sample, round(math.sqrt(num_cells)))
    part = coarse.assign(sample)[1]
    sizes = np.bincount(part, minlength=coarse.k)
    ends = np.round(np.cumsum(sizes) * num_cells / len(sample)).astype(int)
    return np.concatenate([centres(sample[part == n], num).centroids
                           for n, num in enumerate(np.diff(ends, prepend=0)) if num])


def sample_rows(count: int, factory: str) -> Int[np.ndarray, " num_sample"]:
    """Which of `count` vectors to train a structure on: in order, spread at random by a fixed seed."""
    cells = int(factory.partition("IVF")[2].partition(",")[0].partition("_")[0] or 1)
    size = min(count, max(POINTS_A_CELL * cells, SAMPLE_AT_LEAST))
    return np.sort(np.random.default_rng(0).choice(count, size, replace=False))


def add_rows(structure: faiss.Index, vectors: np.ndarray, first_row: int = 0) -> None:
    """Adds vectors (num_pictures, dim) under their rows in the whole database: first_row, first_row + 1, ..."""
    for start, chunk in float_chunks(vectors):
        rows = np.arange(first_row + start, first_row + start + len(chunk), dtype=np.int64)
        structure.add_with_ids(chunk, rows)


def float_chunks(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 unit vectors) of CHUNK_ROWS at a time: a memory-mapped array is never loaded whole."""
    for start in range(0, len(vectors), CHUNK_ROWS):
        yield start, unit(vectors[start:start + CHUNK_ROWS])


def unit(vectors: np.ndarray) -> Float[np.ndarray, "num dim"]:
    """Rows as float32 of length 1."""
    rows = np.asarray(vectors, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def build_structure(vectors: np.ndarray, factory: str) -> faiss.Index:
    """The structure of all vectors (num_pictures, dim): trained on a sample, filled chunk by chunk."""
    structure = train_structure(factory, unit(vectors[sample_rows(len(vectors), factory)]))
    add_rows(structure, vectors)
    return structure


def transforms(structure: faiss.Index) -> list[faiss.VectorTransform]:
    """What vectors go through before the inverted file, with OPQ's effort set."""
    structure = faiss.downcast_index(structure)
    if not isinstance(structure, faiss.IndexPreTransform):
        return []
    chain = [faiss.downcast_VectorTransform(structure.chain.at(n)) for n in range(structure.chain.size())]
    for transform in chain:
        if isinstance(transform, faiss.OPQMatrix):
            transform.niter, transform.niter_pq_0, transform.niter_pq = OPQ_ROUNDS, OPQ_FIRST_ROUNDS, 1
            transform.max_train_points = 256 * TRAINED_A_CODE
    return chain


def inverted_file(structure: faiss.Index) -> faiss.IndexIVF:
    """The inverted file behind the transforms; RuntimeError where there is none."""
    return faiss.downcast_index(faiss.extract_index_ivf(structure))


def last_line(error: Exception) -> str:
    """What faiss says at the end of its long messages."""
    return str(error).strip().splitlines()[-1].rpartition("Error: ")[2]


# --- files ---------------------------------------------------------------------------------------------------------

def save_structure(path: str | Path, structure: faiss.Index) -> None:
    """Writes a structure into one file, atomically; lists that lie in another file are read and written with it."""
    inverted = inverted_file(structure)
    lists = faiss.downcast_InvertedLists(inverted.invlists)
    with atomic_file(path) as temporary:
        if not isinstance(lists, faiss.OnDiskInvertedLists):
            write_structure(structure, temporary)
            return
        loaded = faiss.ArrayInvertedLists(inverted.nlist, inverted.code_size)
        lists.copy_subset_to(loaded, faiss.InvertedLists.SUBSET_TYPE_ID_RANGE, 0, np.iinfo(np.int64).max)
        inverted.own_invlists = False
        inverted.replace_invlists(loaded, False)
        try:
            write_structure(structure, temporary)
        finally:
            inverted.replace_invlists(lists, True)


def write_structure(structure: faiss.Index, path: Path) -> None:
    """faiss.write_index; OSError where the disk doesn't take it."""
    try:
        faiss.write_index(structure, str(path))
    except RuntimeError as error:
        raise OSError(last_line(error)) from error


def open_structure(path: str | Path) -> faiss.Index:
    """A structure whose lists stay on disk, memory-mapped, in the same file or in LISTS_FILE beside it.

    Raises ValueError naming the file when faiss can't read it.
    """
    merged = Path(path).with_name(LISTS_FILE).is_file()
    flags = faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR if merged else faiss.IO_FLAG_MMAP
    try:
        structure = faiss.read_index(str(path), flags)
        lists = faiss.downcast_InvertedLists(inverted_file(structure).invlists)
    except RuntimeError as error:
        raise ValueError(f"{path} is no whole faiss index ({last_line(error)}); build the index again") from error
    if isinstance(lists, faiss.OnDiskInvertedLists):
        lists.prefetch_nthread = 0  # its threads read ahead after the search has ended, and crash
    return structure


def merge_structures(empty: faiss.Index, shards: Sequence[str | Path], folder: str | Path) -> None:
    """Merges saved structures, filled from copies of one trained `empty` one, into `folder` without loading them.

    Writes STRUCTURE_FILE and LISTS_FILE. Rows stay as they were given to `add_rows`. Nothing may be added afterwards.
    Raises ValueError when a row is in two shards.
    """
    folder = Path(folder)
    merged = faiss.clone_index(empty)
    merge_ondisk(merged, [str(path) for path in shards], str(folder / LISTS_FILE), shift_ids=False)
    inverted = inverted_file(merged)
    rows = np.concatenate([list_rows(inverted, cell) for cell in range(inverted.nlist)])
    if len(np.unique(rows)) < len(rows):
        raise ValueError(f"the shards {', '.join(map(str, shards))} hold some rows twice; give each its own first_row")
    with atomic_file(folder / STRUCTURE_FILE) as temporary:
        write_structure(merged, temporary)


def list_rows(inverted: faiss.IndexIVF, cell: int) -> Int[np.ndarray, " num"]:
    """The rows in a cell."""
    size = inverted.invlists.list_size(cell)
    return faiss.rev_swig_ptr(inverted.invlists.get_ids(cell), size).copy() if size else np.empty(0, np.int64)


# --- searching -----------------------------------------------------------------------------------------------------

def propose(structure: faiss.Index, queries: Float[np.ndarray, "batch dim"], num: int, num_cells: int = NUM_CELLS,
            allowed: faiss.IDSelector | None = None) -> list[Int[np.ndarray, " found"]]:
    """For each query the rows, at most `num`, that their codes put nearest to it, in the `num_cells` nearest cells."""
    inverted = inverted_file(structure)
    in_cells = faiss.SearchParametersIVF(nprobe=min(num_cells, inverted.nlist), sel=allowed)
    if isinstance(faiss.downcast_index(inverted.quantizer), faiss.IndexHNSW):
        in_cells.quantizer_params = faiss.SearchParametersHNSW(efSearch=max(2 * in_cells.nprobe, 64))
    behind = isinstance(faiss.downcast_index(structure), faiss.IndexPreTransform)
    parameters = faiss.SearchParametersPreTransform(index_params=in_cells) if behind else in_cells
    return [rows[rows >= 0] for rows in structure.search(queries, num, params=parameters)[1]]


def on_gpus(structure: faiss.Index) -> faiss.Index | None:
    """A copy of the structure on all GPUs that faiss sees; None where it sees none, or (the log says so) they can't.

    Faiss's GPU code takes at most 96 sub-quantisers, so that the paper's 256 are searched by the CPU.
    """
    if not faiss.get_num_gpus():
        return None
    try:
        return faiss.index_cpu_to_all_gpus(structure)
    except RuntimeError as error:
        log.warning("the GPU can't search this index (%s); the CPU does", last_line(error))
        return None


def propose_on_gpus(structure: faiss.Index, queries: Float[np.ndarray, "batch dim"], num: int,
                    num_cells: int = NUM_CELLS) -> list[Int[np.ndarray, " found"]]:
    """`propose` by what `on_gpus` gave, which knows no filter."""
    faiss.GpuParameterSpace().set_index_parameter(structure, "nprobe", num_cells)
    return [rows[rows >= 0] for rows in structure.search(queries, num)[1]]


def scan(vectors: np.ndarray, rows: Int[np.ndarray, " num_rows"], query: Float[np.ndarray, " dim"],
         num: int) -> Int[np.ndarray, " num"]:
    """The `num` of some rows that are nearest to a query, by looking at each of them."""
    scores = np.concatenate([unit(vectors[rows[start:start + CHUNK_ROWS]]) @ query
                             for start in range(0, len(rows), CHUNK_ROWS)])
    return rows[np.argsort(-scores, kind="stable")[:num]]


def describe(structure: faiss.Index) -> dict:
    """What a manifest says of a structure."""
    inverted = inverted_file(structure)
    return {"cells": inverted.nlist, "code_bytes": inverted.code_size, "codes": type(inverted).__name__,
            "transforms": [type(transform).__name__ for transform in transforms(structure)]}
