"""The database H of the paper (sections 3 and 6.4): the k pictures nearest to a query, by exact cosine."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float

from kdlib.data.catalogue import Catalogue
from kdlib.files import atomic_folder
from kdlib.retrieval import inverted
from kdlib.retrieval.embeddings import (
    INDEX,
    STRUCTURE,
    check_embeddings,
    open_embeddings,
    read_manifest,
    write_embeddings,
)
from kdlib.types import Embeddings, Neighbours

MARGIN = 8          # candidates fetched beyond k, so that near-ties are settled by exact scores
TIE = 1e-4          # a float32 inner product of unit vectors (dim <= 1024) errs by less
RANKED_AGAIN = 50   # candidates whose exact cosines are computed where codes are compressed, or 2 k if that is more
BATCH_QUERIES = 1024


class Index:
    """Nearest neighbours of unit vectors.

    embeddings   the vectors (often memory-mapped), ids and encoder that the index was made from
    catalogue    who made these pictures, if the index carries its own catalogue, else None
    structure    a faiss index with an inverted file over the rows (`kdlib.retrieval.inverted`); None: exhaustive search
    num_cells    how many of its cells a search looks into (faiss's nprobe; section 6.4: the query's own and 19 others)

    FAISS proposes candidates; their cosines are then computed in double precision from the exact vectors, so that a
    result depends neither on the batch a query came in nor on the number of threads or the order of the rows. Without a
    structure the result is exact; with one, a near picture can be missed, but every score is exact.
    """

    def __init__(self, embeddings: Embeddings, catalogue: Catalogue | None = None,
                 structure: faiss.Index | None = None, num_cells: int = inverted.NUM_CELLS):
        check_embeddings(embeddings)
        if structure is not None and (structure.d, structure.ntotal) != embeddings.vectors.shape[::-1]:
            raise ValueError(f"the structure holds {structure.ntotal} vectors of width {structure.d}, the embeddings "
                             f"are {embeddings.vectors.shape}; build the index again")
        if isinstance(num_cells, bool) or not isinstance(num_cells, int) or num_cells < 1:
            raise ValueError(f"num_cells = {num_cells!r} must be a whole number of at least 1")
        self.embeddings, self.catalogue = embeddings, catalogue
        self.structure, self.num_cells = structure, num_cells
        self.allowed: np.ndarray | None = None  # by `where`
        self._ids = np.asarray(embeddings.ids, dtype=str)
        self._num = len(self._ids)
        if structure is None:
            self._flat = faiss.IndexFlatIP(self.dim)
            self._flat.add(inverted.unit(embeddings.vectors))
        self._gpus = None if structure is None else inverted.on_gpus(structure)

    def __len__(self) -> int:
        return self._num

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.embeddings.vectors.shape[1]

    @property
    def encoder_id(self) -> str:
        """Identity of the encoder that made the vectors."""
        return self.embeddings.encoder_id

    @property
    def ids(self) -> np.ndarray:
        """Ids of all rows (num_pictures,), what `where` leaves out among them."""
        return self._ids

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self._ids.tolist())}

    def where(self, mask: np.ndarray) -> Index:
        """The same index, in which only pictures with True are found (and only those allowed before).

        mask  (num_pictures,) bool, one value for each of `ids`, as `kdlib.retrieval.filters` makes them

        Vectors and structure are shared. Raises ValueError for a mask of another length or kind, or that leaves none.
        """
        mask = np.asarray(mask)
        if mask.shape != self._ids.shape or mask.dtype != bool:
            raise ValueError(f"the filter is {mask.dtype} of shape {mask.shape}; it must be bool, one value for each "
                             f"of the {len(self._ids)} pictures")
        view = copy.copy(self)
        view.allowed = mask.copy() if self.allowed is None else mask & self.allowed
        view._num = int(view.allowed.sum())
        if not view._num:
            raise ValueError("the filter leaves no picture; allow more")
        return view

    def search(self, queries: Float[np.ndarray, "batch dim"], k: int,
               exclude: Sequence[str | Collection[str] | None] | np.ndarray | None = None) -> Neighbours:
        """The k nearest pictures of each query, best first; equal scores in the order of their ids.

        queries  (batch, dim) real numbers; their length does not matter
        k        how many, from 1 to what remains after exclusion
        exclude  for each query an id, a collection of ids (see `filters.same_group`), or None; ids that the index
                 lacks are ignored

        Returns Neighbours: ids (batch, k) str, scores (batch, k) float32 cosines in descending order, vectors
        (batch, k, dim) float32 of length 1. Raises ValueError naming what is wrong with the arguments.
        """
        queries = self._checked_queries(queries)
        excluded = self._excluded_rows(exclude, len(queries))
        self._check_k(k, excluded)
        k = int(k)  # faiss takes no NumPy integer
        candidates = self._exact_candidates if self.structure is None else self._near_candidates
        found = [self._rank(query, rows, k, drop) for query, rows, drop in
                 zip(queries, candidates(queries, k, excluded), excluded, strict=True)]
        rows = np.array([row for row, _ in found], dtype=np.int64).reshape(-1, k)
        scores = np.array([score for _, score in found], dtype=np.float32).reshape(-1, k)
        return Neighbours(self._ids[rows], scores, self._vectors(rows.reshape(-1)).reshape(*rows.shape, self.dim))

    def save(self, folder: str | Path) -> None:
        """Writes embeddings, structure and catalogue, as far as there are any, into `folder`, all or nothing.

        Raises ValueError for a view that `where` made: it would save what it leaves out; and where `folder` holds
        anything but an older index.
        """
        if self.allowed is not None:
            raise ValueError("this index is filtered; save the whole one, and filter it after opening")
        with atomic_folder(folder, INDEX) as temporary:
            if self.structure is not None:
                inverted.save_structure(temporary / inverted.STRUCTURE_FILE, self.structure)
            if self.catalogue is not None:
                self.catalogue.save(temporary / "catalogue.parquet")
            write_embeddings(temporary, self.embeddings, self._manifest())

    def _manifest(self) -> dict:
        """What the manifest says beside what it says of embeddings."""
        manifest = {}
        if self.structure is not None:
            manifest[STRUCTURE] = {"num_cells": self.num_cells, **inverted.describe(self.structure)}
        if self.catalogue is not None:
            manifest["licences"] = dict(sorted(Counter(self.catalogue.column("licence").values()).items()))
        return manifest

    # --- candidates ------------------------------------------------------------------------------------------------

    def _exact_candidates(self, queries: np.ndarray, k: int, excluded: list[set[int]]) -> list[np.ndarray]:
        """Rows that surely hold the k nearest allowed ones, for each query."""
        fetch = min(len(self), k + max((len(rows) for rows in excluded), default=0) + MARGIN)
        parameters = None if self.allowed is None else faiss.SearchParameters(sel=self._selector())
        candidates = []
        for start in range(0, len(queries), BATCH_QUERIES):
            batch = queries[start:start + BATCH_QUERIES]
            scores, rows = self._flat.search(batch, fetch, params=parameters)
            candidates += [self._widen(query, k + len(drop), row, score, parameters) for query, drop, row, score in
                           zip(batch, excluded[start:start + BATCH_QUERIES], rows, scores, strict=True)]
        return candidates

    def _widen(self, query: np.ndarray, needed: int, rows: np.ndarray, scores: np.ndarray, parameters) -> np.ndarray:
        """Fetches more candidates while the last one may still tie with the last that is needed."""
        while len(rows) < len(self) and scores[needed - 1] - scores[-1] < TIE:
            scores, rows = (found[0] for found in
                            self._flat.search(query[None], min(len(self), 4 * len(rows)), params=parameters))
        return rows

    def _near_candidates(self, queries: np.ndarray, k: int, excluded: list[set[int]]) -> list[np.ndarray]:
        """Rows that probably hold the k nearest allowed ones, never fewer: more cells where there are too few."""
        fetch = min(len(self), max(RANKED_AGAIN, 2 * k) + max((len(rows) for rows in excluded), default=0))
        selector = None if self.allowed is None else self._selector()
        num_cells, most = self.num_cells, inverted.inverted_file(self.structure).nlist
        if self._gpus is not None and selector is None:
            candidates = inverted.propose_on_gpus(self._gpus, queries, fetch, num_cells)
        else:
            candidates = inverted.propose(self.structure, queries, fetch, num_cells, selector)
        short = lambda: [n for n, rows in enumerate(candidates) if len(rows) < k + len(excluded[n])]
        while short() and num_cells < most:
            num_cells *= 4
            for n in short():
                candidates[n] = inverted.propose(self.structure, queries[n:n + 1], fetch, num_cells, selector)[0]
        for n in short():  # cells that the quantizer does not reach
            everything = np.arange(len(self._ids)) if self.allowed is None else np.flatnonzero(self.allowed)
            candidates[n] = inverted.scan(self.embeddings.vectors, everything, queries[n], fetch)
        return candidates

    def _selector(self) -> faiss.IDSelector:
        """The filter as faiss takes it: a bit a row."""
        return faiss.IDSelectorBitmap(np.packbits(self.allowed, bitorder="little"))

    def _vectors(self, rows: np.ndarray) -> Float[np.ndarray, "num dim"]:
        """Exact float32 unit vectors of some rows."""
        if self.structure is None:
            return self._flat.reconstruct_batch(rows)
        return inverted.unit(self.embeddings.vectors[rows])

    def _rank(self, query: np.ndarray, candidates: np.ndarray, k: int, excluded: set[int]):
        """(rows, scores) of the k best allowed candidates by exact cosine, ties by id."""
        rows = np.array([row for row in candidates.tolist() if row not in excluded], dtype=np.int64)
        products = self._vectors(rows).astype(np.float64) * query.astype(np.float64)
        scores = products.sum(axis=1).clip(-1, 1).astype(np.float32)
        order = np.lexsort((self._ids[rows], -scores))[:k]
        return rows[order], scores[order]

    # --- checks ----------------------------------------------------------------------------------------------------

    def _checked_queries(self, queries: np.ndarray) -> np.ndarray:
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries have shape {queries.shape}; this index takes (batch, {self.dim})")
        queries = queries.astype(np.float64)
        norms = np.linalg.norm(queries, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
        if len(bad):
            raise ValueError(f"query {bad[0]} has length {norms[bad[0], 0]}; queries must be finite and not zero")
        return np.ascontiguousarray(queries / norms, dtype=np.float32)

    def _excluded_rows(self, exclude, num_queries: int) -> list[set[int]]:
        """For each query the rows to leave out, of those that can be found at all."""
        if exclude is None:
            return [set()] * num_queries
        if isinstance(exclude, str) or len(exclude) != num_queries:
            raise ValueError(f"exclude = {str(exclude)[:60]!r} must have one entry for each of the {num_queries} "
                             "queries: an id, a collection of ids or None")
        groups = [() if entry is None else (entry,) if isinstance(entry, str) else entry for entry in exclude]
        rows = [{self._row_of[str(id)] for id in group if str(id) in self._row_of} for group in groups]
        return rows if self.allowed is None else [{row for row in of if self.allowed[row]} for of in rows]

    def _check_k(self, k: int, excluded: list[set[int]]) -> None:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k = {k!r} must be a whole number of at least 1")
        most = max((len(rows) for rows in excluded), default=0)
        if k > len(self) - most:
            left_out = f", of which {most} are excluded" if most else ""
            filtered = "" if self.allowed is None else " that the filter allows"
            raise ValueError(f"k = {k} is more than the index can give: it has {len(self)} pictures{filtered}"
                             f"{left_out}; choose k <= {len(self) - most}")


def open_index(folder: str | Path, encoder_id: str | None = None) -> Index:
    """Opens an index that `Index.save`, `save_embeddings` or `kd index` wrote; vectors and lists are memory-mapped.

    folder      the index's folder
    encoder_id  if given, the identity of the encoder that must have built it (`encoder.identity`)

    All checksums are compared. Raises FileNotFoundError when files are missing; ValueError when they are damaged or
    another encoder built them.
    """
    folder = Path(folder)
    embeddings, manifest = open_embeddings(folder, encoder_id), read_manifest(folder)
    catalogue = Catalogue.load(folder / "catalogue.parquet") if (folder / "catalogue.parquet").is_file() else None
    if STRUCTURE not in manifest:
        return Index(embeddings, catalogue)
    structure = inverted.open_structure(folder / inverted.STRUCTURE_FILE)
    return Index(embeddings, catalogue, structure, manifest[STRUCTURE].get("num_cells"))
