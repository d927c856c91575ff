"""The paper's Fig. 7: one model with several databases, parts of its own by a score and a search engine's too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from kdlib.evaluation.judge import Judge
from kdlib.experiments.swap import named_styles
from kdlib.models.condition import Condition
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index, by_quantile
from kdlib.retrieval.engines import ImageSearchEngine

InStyle = Callable[[list[Image.Image]], Bool[np.ndarray, " num_pictures"]]


def best_and_worst(index: Index, scores: Float[np.ndarray, " num_pictures"]) -> dict[str, Index]:
    """An index's highest and lowest fifth by a score of each picture: the paper's first and last quantile."""
    return {"highest": index.where(by_quantile(scores, 0.8, 1.0)), "lowest": index.where(by_quantile(scores, 0.0, 0.2))}


def found_by_engine(pipe: Pipeline, prompts: list[str],
                    engine: ImageSearchEngine) -> tuple[list[Image.Image], Condition]:
    """What a search for each prompt's words finds, as its database: the nearest picture of each, and the conditions.

    Of the k pictures that the engine finds first; where it finds fewer, they are repeated. Raises ValueError for a
    prompt for which it finds none, and what the engine raises.
    """
    k, nearest, neighbours = pipe.settings["k"], [], []
    queries = pipe.encoder.encode_texts(list(prompts))
    for prompt, query in zip(prompts, queries, strict=True):
        found = engine.search_images(prompt, k)
        if not found:
            raise ValueError(f"{type(engine).__name__} found no picture for {prompt!r}; say it in other words")
        vectors = pipe.encoder.encode_images([one.image for one in found]).astype(np.float32)
        order = np.argsort(-(vectors @ query), kind="stable")
        nearest.append(found[order[0]].image)
        neighbours.append(vectors[np.resize(order, k)])
    return nearest, Condition(torch.from_numpy(queries), torch.from_numpy(np.stack(neighbours)))


def in_one_of(judge: Judge, styles: list[str]) -> InStyle:
    """Whether the judge finds pictures in one of some styles."""
    return lambda pictures: np.isin(named_styles(judge, pictures), styles)


def beyond(score: Callable, limit: float, sign: int) -> InStyle:
    """Whether the score of pictures lies above a limit (sign 1), or below it (-1)."""
    return lambda pictures: sign * score(np.stack([np.asarray(one) for one in pictures])) > sign * limit
