"""Retrieval: store embeddings, build an index, search it (paper sections 3 and 6.4). The only importer of faiss."""

from kdlib.retrieval.build import build_index
from kdlib.retrieval.embeddings import open_embeddings, save_embeddings
from kdlib.retrieval.filters import by_column, by_quantile, by_score, same_group
from kdlib.retrieval.index import Index, open_index

__all__ = ["Index", "build_index", "by_column", "by_quantile", "by_score", "open_embeddings", "open_index",
           "same_group", "save_embeddings"]
