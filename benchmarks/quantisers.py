"""How to write a vector in 256 bytes: optimised product quantisation, as the paper does, and what came later.

    python -m benchmarks.quantisers reports/cpu/index/embeddings reports/cpu/views/views --out benchmarks/quantisers.csv

The vectors are real: the embeddings of all pictures, and those of the views that the generator is trained on (a picture
changed a little, and half of them without their style), of which `--count` are taken at random, and 1000 others as
queries. Every kind has the same cells, and looks into 20 of them for each query.

`recall_of_codes` is the share of the true ten among the ten that the codes alone find, `recall` the same where 50 that
they find are ranked again by the exact vectors, as `Index.search` does. `queries_per_s` is of the codes alone, on one
thread, as is `build_s`; both are in seconds of the processor, so that other work on the machine counts less.
`bytes_per_vector` is what a vector adds to the file, its id of 8 bytes included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from benchmarks.machine import check_machine, measured_now, write_table
from benchmarks.retrieval import NUM_QUERIES, K, exhaustive, size_when_empty
from kdlib.retrieval import inverted, open_embeddings
from kdlib.training.views import Views

RANKED_AGAIN, ROUNDS = 50, 3


def factories(dim: int, cells: int) -> dict[str, str]:
    """The kinds that are compared, of half a byte for each of `dim` numbers and others, as faiss calls them."""
    half = dim // 2
    return {"OPQ, 8 bits (the paper's)": f"OPQ{half}_{dim},IVF{cells},PQ{half}x8",
            "OPQ, 4 bits, fast scan": f"OPQ{dim}_{dim},IVF{cells},PQ{dim}x4fs",
            "scalar, 4 bits": f"IVF{cells},SQ4",
            "RaBitQ, 4 bits": f"RR{dim},IVF{cells},RaBitQ4",
            "RaBitQ, 4 bits, fast scan": f"RR{dim},IVF{cells},RaBitQfs4",
            "RaBitQ, 3 bits, fast scan": f"RR{dim},IVF{cells},RaBitQfs3",
            "whole vectors": f"IVF{cells},Flat"}


def distinct(*sets: np.ndarray) -> Float[np.ndarray, "count dim"]:
    """The rows of several sets of vectors as float32 of length 1, in their order, of equal ones the first."""
    rows = np.concatenate([np.asarray(one, dtype=np.float16) for one in sets])
    first = np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}"), return_index=True)[1]
    return inverted.unit(rows[np.sort(first)])


def processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def share_found(found: Int[np.ndarray, "num k"], truth: Int[np.ndarray, "num k"]) -> float:
    """The mean share of the true rows among those found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def ranked_again(candidates: Int[np.ndarray, "num candidates"], vectors: Float[np.ndarray, "count dim"],
                 queries: Float[np.ndarray, "num dim"], k: int) -> Int[np.ndarray, "num k"]:
    """The k candidates of each query that are nearest by the exact vectors; -1 is none."""
    rows = []
    for query, own in zip(queries, candidates, strict=True):
        own = own[own >= 0]
        best = own[np.argsort(-(vectors[own] @ query), kind="stable")[:k]]
        rows.append(np.pad(best, (0, k - len(best)), constant_values=-1))
    return np.array(rows)


def measure(name: str, factory: str, vectors: Float[np.ndarray, "count dim"], queries: Float[np.ndarray, "num dim"],
            truth: Int[np.ndarray, "num k"], folder: Path) -> dict:
    """One row of the table, on one thread."""
    k, made = truth.shape[1], []
    build_s = processor_seconds(lambda: made.append(inverted.build_structure(vectors, factory)))
    structure = made[0]
    search = lambda num: np.stack([np.pad(rows, (0, num - len(rows)), constant_values=-1)
                                   for rows in inverted.propose(structure, queries, num)])
    found, candidates = search(k), search(RANKED_AGAIN)
    seconds = min(processor_seconds(lambda: search(k)) for _ in range(ROUNDS))
    inverted.save_structure(folder / "structure", structure)
    size = (folder / "structure").stat().st_size
    return {"kind": name, "factory": factory, "count": len(vectors), "recall_of_codes": share_found(found, truth),
            "recall": share_found(ranked_again(candidates, vectors, queries, k), truth),
            "queries_per_s": len(queries) / seconds, "build_s": build_s,
            "bytes_per_vector": (size - size_when_empty(structure, folder / "empty")) / len(vectors)}


def compare(vectors: Float[np.ndarray, "count dim"], queries: Float[np.ndarray, "num dim"], cells: int,
            k: int = K) -> pd.DataFrame:
    """A row for each of `factories`; uses one thread."""
    threads, truth, rows = faiss.omp_get_max_threads(), exhaustive(vectors, queries)[:, :k], []
    faiss.omp_set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, factory in factories(vectors.shape[1], cells).items():
                rows.append(measure(name, factory, vectors, queries, truth, Path(folder)))
                print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    finally:
        faiss.omp_set_num_threads(threads)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", help="a folder of real embeddings (`save_embeddings`)")
    parser.add_argument("views", help="a folder of views of the same encoder (`Views.save`)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--cells", type=int, default=1024)
    given = parser.parse_args()
    facts = measured_now("python -m benchmarks.quantisers") | {"faiss": faiss.__version__}
    check_machine(facts, given.out)
    views = Views.load(given.views).vectors
    real = distinct(open_embeddings(given.embeddings).vectors, views.reshape(-1, views.shape[-1]))
    if len(real) < given.count + NUM_QUERIES:
        raise SystemExit(f"there are {len(real):,} distinct vectors; give a --count of at most "
                         f"{len(real) - NUM_QUERIES:,}")
    order = np.random.default_rng(0).permutation(len(real))
    table = compare(real[order[NUM_QUERIES:NUM_QUERIES + given.count]], real[order[:NUM_QUERIES]], given.cells)
    write_table(table, facts, given.out)


if __name__ == "__main__":
    main()
