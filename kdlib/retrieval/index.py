"""The database H of the paper (section 3): exact search for the k pictures nearest to a query, by cosine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float

from kdlib.data.catalogue import Catalogue
from kdlib.io import atomic_path
from kdlib.retrieval.embeddings import check_embeddings, open_embeddings, write_embeddings
from kdlib.types import Embeddings, Neighbours

MARGIN = 8          # candidates fetched beyond k, so that near-ties are settled by exact scores
TIE = 1e-4          # a float32 inner product of unit vectors (dim <= 1024) errs by less
BATCH_QUERIES = 1024


class Index:
    """Exact nearest neighbours of unit vectors.

    embeddings   the vectors (often memory-mapped), ids and encoder that the index was made from
    catalogue    who made these pictures, if the index carries its own catalogue, else None

    FAISS (IndexFlatIP) proposes candidates; their cosines are then computed in double precision, so that a result
    depends neither on the batch a query came in nor on the number of threads or the order of the rows.
    """

    def __init__(self, embeddings: Embeddings, catalogue: Catalogue | None = None):
        check_embeddings(embeddings)
        self.embeddings = embeddings
        self.catalogue = catalogue
        self._row_of = {str(id): row for row, id in enumerate(embeddings.ids)}
        self._ids = np.asarray(embeddings.ids, dtype=str)
        rows = np.asarray(embeddings.vectors, dtype=np.float32)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        self._flat = faiss.IndexFlatIP(rows.shape[1])
        self._flat.add(rows)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.embeddings.vectors.shape[1]

    @property
    def encoder_id(self) -> str:
        """Identity of the encoder that made the vectors."""
        return self.embeddings.encoder_id

    def search(self, queries: Float[np.ndarray, "batch dim"], k: int,
               exclude: Sequence[str | Collection[str] | None] | np.ndarray | None = None) -> Neighbours:
        """The k nearest pictures of each query, best first; equal scores in the order of their ids.

        queries  (batch, dim) real numbers; their length does not matter
        k        how many, from 1 to what remains after exclusion
        exclude  for each query an id, a collection of ids, or None; ids that the index lacks are ignored

        Returns Neighbours: ids (batch, k) str, scores (batch, k) float32 cosines in descending order, vectors
        (batch, k, dim) float32 of length 1. Raises ValueError naming what is wrong with the arguments.
        """
        queries = self._checked_queries(queries)
        excluded = self._excluded_rows(exclude, len(queries))
        self._check_k(k, max((len(rows) for rows in excluded), default=0))
        found = [self._rank(query, candidates, k, rows)
                 for query, candidates, rows in zip(queries, self._candidates(queries, k, excluded), excluded,
                                                    strict=True)]
        rows = np.array([row for row, _ in found], dtype=np.int64).reshape(-1, k)
        scores = np.array([score for _, score in found], dtype=np.float32).reshape(-1, k)
        vectors = self._flat.reconstruct_batch(rows.reshape(-1)).reshape(*rows.shape, self.dim)
        return Neighbours(self._ids[rows], scores, vectors)

    def save(self, folder: str | Path) -> None:
        """Writes the embeddings, and the catalogue if there is one, into `folder`, all or nothing."""
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_embeddings(temporary, self.embeddings)
            if self.catalogue is not None:
                self.catalogue.save(temporary / "catalogue.parquet")

    def _candidates(self, queries: np.ndarray, k: int, excluded: list[set[int]]) -> list[np.ndarray]:
        """Rows that surely hold the k nearest allowed ones, for each query."""
        fetch = min(len(self), k + max((len(rows) for rows in excluded), default=0) + MARGIN)
        candidates = []
        for start in range(0, len(queries), BATCH_QUERIES):
            batch = queries[start:start + BATCH_QUERIES]
            scores, rows = self._flat.search(batch, fetch)
            candidates += [self._widen(query, k + len(drop), row, score) for query, drop, row, score in
                           zip(batch, excluded[start:start + BATCH_QUERIES], rows, scores, strict=True)]
        return candidates

    def _widen(self, query: np.ndarray, needed: int, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Fetches more candidates while the last one may still tie with the last that is needed."""
        while len(rows) < len(self) and scores[needed - 1] - scores[-1] < TIE:
            scores, rows = (found[0] for found in self._flat.search(query[None], min(len(self), 4 * len(rows))))
        return rows

    def _rank(self, query: np.ndarray, candidates: np.ndarray, k: int, excluded: set[int]):
        """(rows, scores) of the k best allowed candidates by exact cosine, ties by id."""
        rows = np.array([row for row in candidates.tolist() if row not in excluded], dtype=np.int64)
        products = self._flat.reconstruct_batch(rows).astype(np.float64) * query.astype(np.float64)
        scores = products.sum(axis=1).clip(-1, 1).astype(np.float32)
        order = np.lexsort((self._ids[rows], -scores))[:k]
        return rows[order], scores[order]

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
        if exclude is None:
            return [set()] * num_queries
        if isinstance(exclude, str) or len(exclude) != num_queries:
            raise ValueError(f"exclude = {str(exclude)[:60]!r} must have one entry for each of the {num_queries} "
                             "queries: an id, a collection of ids or None")
        groups = [() if entry is None else (entry,) if isinstance(entry, str) else entry for entry in exclude]
        return [{self._row_of[str(id)] for id in group if str(id) in self._row_of} for group in groups]

    def _check_k(self, k: int, num_excluded: int) -> None:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k = {k!r} must be a whole number of at least 1")
        if k > len(self) - num_excluded:
            left_out = f", of which {num_excluded} are excluded" if num_excluded else ""
            raise ValueError(f"k = {k} is more than the index can give: it has {len(self)} pictures{left_out}; "
                             f"choose k <= {len(self) - num_excluded}")


def open_index(folder: str | Path, encoder_id: str | None = None) -> Index:
    """Opens an index that `Index.save`, `save_embeddings` or `kd index` wrote.

    folder      the index's folder
    encoder_id  if given, the identity of the encoder that must have built it (`encoder.identity`)

    Raises FileNotFoundError when files are missing; ValueError when they are damaged or another encoder built them.
    """
    embeddings = open_embeddings(folder, encoder_id)
    path = Path(folder) / "catalogue.parquet"
    return Index(embeddings, Catalogue.load(path) if path.is_file() else None)
