"""KNN-Diffusion (Sheynin et al., 2022): text to image with a diffusion model trained on pictures alone.

    import kdlib as kd
    pipe = kd.load_pipeline("cpu")
    out = pipe("a red apple")
    out.images, out.neighbours
"""

import importlib
from typing import TYPE_CHECKING

# ruff: noqa: F401  (the names are used by editors, and by whoever asks what `import kdlib` can bring in)
if TYPE_CHECKING:
    from kdlib.data.catalogue import Catalogue
    from kdlib.encoder import Encoder
    from kdlib.models.condition import Condition
    from kdlib.models.discrete.tokenizer import Tokenizer
    from kdlib.pipeline import Pipeline, load_pipeline
    from kdlib.retrieval import Index, build_index, by_column, by_quantile, by_score, open_index
    from kdlib.types import Embeddings, Generation, Neighbour, Neighbours

_PUBLIC = {
    "Catalogue": "kdlib.data.catalogue",
    "Encoder": "kdlib.encoder",
    "Condition": "kdlib.models.condition",
    "Tokenizer": "kdlib.models.discrete.tokenizer",
    "Pipeline": "kdlib.pipeline", "load_pipeline": "kdlib.pipeline",
    "Index": "kdlib.retrieval", "build_index": "kdlib.retrieval", "by_column": "kdlib.retrieval",
    "by_quantile": "kdlib.retrieval", "by_score": "kdlib.retrieval", "open_index": "kdlib.retrieval",
    "Embeddings": "kdlib.types", "Generation": "kdlib.types", "Neighbour": "kdlib.types",
    "Neighbours": "kdlib.types",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    """Imports a public name when it is first asked for: `import kdlib` itself takes no time."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("kdlib")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdlib' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
