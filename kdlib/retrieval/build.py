"""From pictures to an index: read, embed, index."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kdlib.data.catalogue import folder_catalogue, thumbnail
from kdlib.data.folder import Skipped, list_pictures, read_folder
from kdlib.retrieval.embeddings import check_encoder
from kdlib.retrieval.index import Index
from kdlib.types import Embeddings

log = logging.getLogger(__name__)


def build_index(source: str | Path | Embeddings, encoder, batch_size: int = 64,
                skipped: list[Skipped] | None = None) -> Index:
    """An index of a folder of pictures, or of embeddings that exist already.

    source      a folder (its pictures are found by kdlib.data.folder.read_folder) or Embeddings
    encoder     the kdlib Encoder of the model that will use the index (`pipe.encoder`)
    batch_size  pictures embedded at once
    skipped     if given, receives (path, reason) for every file that could not be read

    An index of a folder carries a catalogue: titles are the files' stems, author and licence "unknown", the pictures
    thumbnails. Save it with `index.save(folder)`. Progress goes to stderr.

    Raises ValueError when the folder holds no readable picture or the embeddings are another encoder's.
    """
    if isinstance(source, Embeddings):
        check_encoder(source.encoder_id, encoder.identity, "this set of embeddings")
        return Index(source)
    skipped = [] if skipped is None else skipped
    vectors, entries = [], []
    reader = read_folder(source, skipped)
    with tqdm(total=len(list_pictures(source)), desc="index", unit="picture") as progress:
        while pictures := list(islice(reader, batch_size)):
            vectors.append(encoder.encode_images([picture.image for picture in pictures]))
            entries += [(picture.id, thumbnail(picture.image)) for picture in pictures]
            progress.update(len(entries) + len(skipped) - progress.n)
    if skipped:
        log.warning("%d files skipped; the first: %s (%s)", len(skipped), *skipped[0])
    if not entries:
        raise ValueError(f"{source} holds no readable picture (png, jpeg, webp or gif); {len(skipped)} files skipped")
    ids = np.array([id for id, _ in entries])
    return Index(Embeddings(np.concatenate(vectors), ids, encoder.identity), folder_catalogue(entries))
