"""From pictures to an index: read, embed, index."""

from __future__ import annotations

from pathlib import Path

from kdlib.data.folder import Skipped
from kdlib.retrieval.embeddings import check_encoder
from kdlib.retrieval.index import Index
from kdlib.retrieval.own_pictures import embed_folder
from kdlib.types import Embeddings


def build_index(source: str | Path | Embeddings, encoder, batch_size: int = 64,
                skipped: list[Skipped] | None = None, workspace: str | Path | None = None) -> Index:
    """An index of a folder of pictures, or of embeddings that exist already.

    source      a folder or Embeddings
    encoder     the kdlib Encoder of the model that will use the index (`pipe.encoder`)
    batch_size, skipped, workspace
                for a folder, see `kdlib.retrieval.own_pictures.embed_folder`, which also says what is read

    An index of a folder carries a catalogue with thumbnails of its pictures. Save it with `index.save(folder)`.
    Raises ValueError when the folder holds no readable picture or the embeddings are another encoder's.
    """
    if isinstance(source, Embeddings):
        check_encoder(source.encoder_id, encoder.identity, "this set of embeddings")
        return Index(source)
    return Index(*embed_folder(source, encoder, batch_size, skipped, workspace))
