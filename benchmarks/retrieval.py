"""The compressed index of section 6.4 at 10,000 to 3,000,000 vectors: recall, latency, bytes and time to build.

    python -m benchmarks.retrieval reports/cpu/index/embeddings --out benchmarks/retrieval.csv
    python -m benchmarks.retrieval ... --count 200000 --autofaiss PYTHON     beside autofaiss, in its own environment

The vectors are drawn from the distribution of real embeddings, see `draw_like`. Latency is that of `Index.search` for
one query at a time on one thread, ranking again from exact vectors on disk included; building uses all cores.
`bytes_per_vector` is the whole file, `in_lists_per_vector` what it grows by with each vector: code and id. Each row
goes into --out when it is there, and a count that is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from benchmarks.machine import check_machine, measured_now, write_table
from kdlib.retrieval import build_index, inverted, open_embeddings, open_index
from kdlib.types import Embeddings

COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
NUM_QUERIES, K, BYTES = 1000, 10, 256
NEAR, WIDTH = 16, 0.5  # `draw_like`: with these, drawn vectors lie as near to each other as real ones do
CHUNK = 1 << 16


class SameEncoder:
    """Whoever made the embeddings; nothing is encoded here."""

    def __init__(self, embeddings: Embeddings):
        self.identity, self.dim = embeddings.encoder_id, embeddings.vectors.shape[1]


def draw_like(real: Float[np.ndarray, "num_real dim"], count: int, seed: int, out: np.ndarray) -> None:
    """Fills `out` (count, dim) with unit vectors distributed like the real ones.

    A real vector, moved by a normal combination of the ways to its NEAR nearest: a Gaussian of local covariance around
    each real point. Uniform noise would have no clusters and give misleading recall.
    """
    near = faiss.knn(real, real, NEAR + 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 1:]
    random = np.random.default_rng(seed)
    for start in range(0, count, CHUNK // 8):
        rows = random.integers(len(real), size=min(CHUNK // 8, count - start))
        weights = random.standard_normal((len(rows), NEAR), dtype=np.float32) * (WIDTH / np.sqrt(NEAR))
        moved = real[rows] * (1 - weights.sum(1, keepdims=True)) + np.einsum("bn,bnd->bd", weights, real[near[rows]])
        out[start:start + len(rows)] = inverted.unit(moved)


def nearest_cosines(vectors: np.ndarray, num: int = 2000) -> dict[str, float]:
    """Mean cosine of `num` of the vectors to their first and tenth nearest other one: does drawn look like real?"""
    rows = np.asarray(vectors, dtype=np.float32)
    scores = faiss.knn(rows[:num], rows, 11, metric=faiss.METRIC_INNER_PRODUCT)[0]
    return {"first": round(float(scores[:, 1].mean()), 3), "tenth": round(float(scores[:, 10].mean()), 3)}


def exhaustive(vectors: np.ndarray, queries: Float[np.ndarray, "num dim"]) -> Int[np.ndarray, "num k"]:
    """Rows of the K nearest of each query, by looking at all, chunk by chunk."""
    best, rows = np.full((len(queries), K), -np.inf, np.float32), np.zeros((len(queries), K), np.int64)
    for start, chunk in inverted.float_chunks(vectors):
        scores, found = faiss.knn(queries, chunk, K, metric=faiss.METRIC_INNER_PRODUCT)
        scores, found = np.hstack([best, scores]), np.hstack([rows, found + start])
        order = np.argsort(-scores, axis=1)[:, :K]
        best, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
    return rows


def timed(search, queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Recall and latency of search(one query) -> rows, on one thread, after 50 queries to warm up."""
    threads, found, times = faiss.omp_get_max_threads(), [], []
    faiss.omp_set_num_threads(1)
    for query in [*queries[:50], *queries]:
        start = time.perf_counter()
        found.append(search(query[None]))
        times.append(1000 * (time.perf_counter() - start))
    faiss.omp_set_num_threads(threads)
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found[50:], truth, strict=True)])
    return {"recall": recall, "p50_ms": np.percentile(times[50:], 50), "p99_ms": np.percentile(times[50:], 99)}


def measure(name: str, factory: str, embeddings: Embeddings, queries: np.ndarray, truth: np.ndarray,
            folder: Path) -> dict:
    """One row of the table: built, saved, opened again memory-mapped, and searched."""
    start = time.perf_counter()
    index = build_index(embeddings, SameEncoder(embeddings), factory=factory)
    build_s = time.perf_counter() - start
    index.save(folder / "index")
    path = folder / "index" / inverted.STRUCTURE_FILE
    size = path.stat().st_size if path.is_file() else embeddings.vectors.nbytes
    cells = size_when_empty(index.structure, folder / "empty") if index.structure is not None else 0
    del index
    opened = open_index(folder / "index")
    search = lambda query: [int(id) for id in opened.search(query, K).ids[0]]
    return {"index": name, "factory": factory, "count": len(embeddings), "build_s": build_s,
            "bytes_per_vector": size / len(embeddings), "in_lists_per_vector": (size - cells) / len(embeddings),
            **timed(search, queries, truth)}


def size_when_empty(structure: faiss.Index, path: Path) -> int:
    """Bytes of a structure's file without any vector: rotation, centroids, cells and their graph. Empties it."""
    structure.reset()
    inverted.save_structure(path, structure)
    return path.stat().st_size


def measure_autofaiss(python: str, embeddings: Embeddings, queries: np.ndarray, truth: np.ndarray, folder: Path,
                      factory: str) -> dict:
    """autofaiss in another environment builds an index of the same factory; searched here, as it tuned it."""
    np.save(folder / "vectors.npy", np.asarray(embeddings.vectors, dtype=np.float32))
    code = ("import sys, json; from autofaiss import build_index; "
            "build_index(embeddings=sys.argv[1], index_path=sys.argv[2], index_infos_path=sys.argv[3], "
            "metric_type='ip', index_key=sys.argv[4], max_index_query_time_ms=1.0)")
    start = time.perf_counter()
    (folder / "in").mkdir()
    (folder / "vectors.npy").rename(folder / "in" / "vectors.npy")
    command = [python, "-c", code, folder / "in", folder / "auto.faiss", folder / "auto.json", factory]
    subprocess.run(command, check=True)
    build_s = time.perf_counter() - start
    index = faiss.read_index(str(folder / "auto.faiss"))
    parameters = json.loads((folder / "auto.json").read_text(encoding="utf-8")).get("index_param", "")
    faiss.ParameterSpace().set_index_parameters(index, parameters)
    return {"index": f"autofaiss ({parameters})", "factory": factory, "count": len(embeddings), "build_s": build_s,
            "bytes_per_vector": (folder / "auto.faiss").stat().st_size / len(embeddings),
            **timed(lambda query: index.search(query, K)[1][0].tolist(), queries, truth)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", help="a folder of real embeddings (`save_embeddings`)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, nargs="*", default=list(COUNTS))
    parser.add_argument("--autofaiss", help="a Python that has autofaiss")
    given = parser.parse_args()
    facts = measured_now("python -m benchmarks.retrieval")
    check_machine(facts, given.out)
    source = open_embeddings(given.embeddings)
    real = inverted.unit(source.vectors)
    queries = np.empty((NUM_QUERIES, real.shape[1]), np.float32)
    draw_like(real, NUM_QUERIES, 1, queries)
    done = pd.read_csv(given.out) if given.out.is_file() else pd.DataFrame(columns=["count"])
    for count in sorted(set(given.count) - set(done["count"])):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            vectors = np.lib.format.open_memmap(folder / "drawn.npy", "w+", np.float16, (count, real.shape[1]))
            draw_like(real, count, 0, vectors)
            drawn = Embeddings(vectors, np.array([f"{row:08}" for row in range(count)]), source.encoder_id)
            truth = exhaustive(vectors, queries)
            paper = inverted.choose_factory(count, real.shape[1], BYTES)
            kinds = {"IVF+OPQ": paper, "IVF": f"{paper.split(',')[1]},Flat", "exact": "Flat"}
            rows = [measure(name, factory, drawn, queries, truth, folder) for name, factory in kinds.items()
                    if not (name == "exact" and count > 300_000)]
            if given.autofaiss:
                rows.append(measure_autofaiss(given.autofaiss, drawn, queries, truth, folder, paper))
            done = pd.concat([done, pd.DataFrame(rows)]).sort_values("count", kind="stable")
            write_table(done, facts, given.out)
            print(pd.DataFrame(rows).to_string(index=False), nearest_cosines(vectors[:len(real)]), flush=True)


if __name__ == "__main__":
    main()
