"""From pictures to an index: read, embed, index."""

from __future__ import annotations

import logging
from pathlib import Path

from kdlib.data.folder import Skipped
from kdlib.retrieval import inverted
from kdlib.retrieval.embeddings import check_encoder
from kdlib.retrieval.index import Index
from kdlib.types import Embeddings

log = logging.getLogger(__name__)


def build_index(source: str | Path | Embeddings, encoder, bytes_per_vector: int | None = None,
                *, factory: str | None = None, num_cells: int = inverted.NUM_CELLS, batch_size: int = 64,
                skipped: list[Skipped] | None = None, workspace: str | Path | None = None) -> Index:
    """An index of a folder of pictures, or of embeddings that exist already.

    source            a folder or Embeddings (memory-mapped ones stay on disk)
    encoder           the kdlib Encoder of the model that will use the index (`pipe.encoder`)
    bytes_per_vector  of code that each picture may take in memory, beside 8 bytes of id; None: no compression
    factory           or the very structure, in faiss's words: "OPQ256_512,IVF8192_HNSW32,PQ256x8"; "Flat" is exhaustive
    num_cells         cells that a search looks into, the query's own and its neighbours (faiss's nprobe)
    batch_size, skipped, workspace
                      for a folder, see `kdlib.retrieval.own_pictures.embed_folder`, which also says what is read

    Without a factory, `kdlib.retrieval.inverted.choose_factory` chooses exhaustive search, an inverted file, or one
    with compressed codes, from the number of pictures and the budget; the log says which, and warns of a budget without
    effect. An index of a folder carries
    a catalogue with thumbnails of its pictures. Save it with `index.save(folder)`.

    Raises ValueError when the folder holds no readable picture, the embeddings are another encoder's, both a budget and
    a factory are given, or the factory can't be had.
    """
    if bytes_per_vector is not None and factory is not None:
        raise ValueError(f"bytes_per_vector = {bytes_per_vector} and factory = {factory!r} both say how to compress; "
                         "give one of them")
    if isinstance(source, Embeddings):
        check_encoder(source.encoder_id, encoder.identity, "this set of embeddings")
        embeddings, catalogue = source, None
    else:
        from kdlib.retrieval.own_pictures import embed_folder  # a search, which imports this, needs no pandas

        embeddings, catalogue = embed_folder(source, encoder, batch_size, skipped, workspace)
    count, dim = embeddings.vectors.shape
    chosen = factory or inverted.choose_factory(count, dim, bytes_per_vector)
    log.info("%d vectors of width %d: %s", count, dim, chosen)
    if bytes_per_vector is not None and "PQ" not in chosen:
        log.warning("bytes_per_vector = %d has no effect: %s", bytes_per_vector, inverted.why_whole(count, dim))
    structure = None if chosen == "Flat" else inverted.build_structure(embeddings.vectors, chosen)
    return Index(embeddings, catalogue, structure, num_cells)
