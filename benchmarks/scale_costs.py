"""What an index of 69 or 400 million pictures takes, from costs that are measured here: hours of one core, bytes.

    python -m benchmarks.scale_costs reports/cpu/index/embeddings reports/cpu/encoder/model

Prints the measured costs of one picture, and what they come to. docs/scale.md has the output of one run.
"""

from __future__ import annotations

import argparse
import io
import time

import faiss
import numpy as np
import open_clip
import pandas as pd
import torch
from PIL import Image

from benchmarks.retrieval import draw_like
from kdlib.encoder import Encoder
from kdlib.retrieval import inverted, open_embeddings

COUNTS = (69_000_000, 400_000_000)
BYTES, DIM = 256, 512
TRAINED_ON = 70_000  # vectors, for the costs of adding


def seconds_each(work, num: int) -> float:
    """Seconds of work() for each of the `num` things that it does, the better of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) / num


def measure(embeddings: str, encoder_folder: str) -> dict[str, float]:
    """Seconds of one core for each picture: decoding, embedding by the bundled encoder, by ViT-B/32, adding."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    pictures = np.random.default_rng(0).integers(0, 256, (512, 64, 64, 3), np.uint8)
    encoder = Encoder.load(encoder_folder)
    vit = open_clip.create_model("ViT-B-32").eval()  # random weights: as fast as trained ones
    batch = torch.zeros(16, 3, 224, 224)
    smooth = Image.fromarray(pictures[0]).resize((256, 256), Image.Resampling.BICUBIC)
    smooth.save(jpeg := io.BytesIO(), "JPEG", quality=90)
    decode = lambda: [np.asarray(Image.open(io.BytesIO(jpeg.getvalue())).resize((224, 224))) for _ in range(200)]
    real = inverted.unit(open_embeddings(embeddings).vectors)
    vectors = np.empty((TRAINED_ON, DIM), np.float32)
    draw_like(real, TRAINED_ON, 0, vectors)
    structure = inverted.train_structure(f"OPQ{BYTES}_{DIM},IVF1024_HNSW32,PQ{BYTES}x8", vectors)
    with torch.inference_mode():
        return {"decoding, JPEG of 256 px": seconds_each(decode, 200),
                "embedding, bundled encoder, 64 px": seconds_each(lambda: encoder.encode_images(pictures), 512),
                "embedding, ViT-B/32, 224 px": seconds_each(lambda: vit.encode_image(batch), len(batch)),
                "adding": seconds_each(lambda: inverted.add_rows(structure, vectors[:20_000]), 20_000)}


def costs(count: int, each_s: dict[str, float]) -> dict[str, float]:
    """Hours of one core, and gigabytes, of an index of `count` pictures.

    Fetching pictures is not counted: it depends on where they lie. Cells are placed by 39 vectors each in two levels
    of k-means, 2 * 25 rounds; its floating-point operations are counted at 100 GFLOP/s.
    """
    factory = inverted.choose_factory(count, DIM, BYTES)
    cells = int(factory.partition("IVF")[2].partition("_")[0])
    operations = 2 * inverted.POINTS_A_CELL * cells * np.sqrt(cells) * DIM * 50
    return {"cells": cells, **{f"{name}, core hours": count * each / 3600 for name, each in each_s.items()},
            "placing cells, core hours": operations / 100e9 / 3600,
            "codes and ids in memory, GB": count * (BYTES + 8) / 1e9,
            "cells in memory, GB": cells * (4 * DIM + 8 * 64) / 1e9,
            "names of 8 letters in memory, GB": count * 4 * 8 / 1e9,
            "exact vectors on disk (float16), GB": count * 2 * DIM / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings")
    parser.add_argument("encoder")
    given = parser.parse_args()
    each_s = measure(given.embeddings, given.encoder)
    print(pd.Series({f"{name}, ms": 1000 * each for name, each in each_s.items()}).round(3).to_string(), "\n")
    print(pd.DataFrame({f"{count:,}": costs(count, each_s) for count in COUNTS}).round(2).to_string())


if __name__ == "__main__":
    main()
