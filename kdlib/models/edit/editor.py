"""Changes a picture as a text says (paper section 3.1): the object behind `pipe.edit` and `kd edit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from kdlib.data.folder import FORMATS, on_white, read_pictures
from kdlib.data.pixels import normalise_pixels, to_pil
from kdlib.encoder import Encoder
from kdlib.models.condition import Condition
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.models.edit.denoiser import EditDenoiser
from kdlib.models.edit.pairs import drawing_area
from kdlib.models.edit.sampler import EditSettings, sample_edits
from kdlib.models.precision import native_autocast
from kdlib.retrieval import Index
from kdlib.retrieval.embeddings import check_encoder
from kdlib.types import Neighbours, check_prompt, check_request

Images = Float[torch.Tensor, "batch 3 height width"]

MIN_SIDE_PX = 8
AGREE = 0.25  # of [-1, 1]: where a drawn picture differs by this much from the given one, nothing of the latter stays


@dataclass(frozen=True)
class Edited:
    """What an edit returns.

    text, image, source  what was asked for, its result, and the picture as the model saw it
    notes       what the reader should know of how the picture was read, in sentences
    neighbours  pictures that the edit was told beside the text; of `kdlib.types.Neighbour`
    """

    text: str
    image: Image.Image
    source: Image.Image
    notes: list[str]
    neighbours: list
    seed: int
    settings: EditSettings = field(default_factory=EditSettings)


class Editor:
    """A fine-tuned generator with the encoder and the tokenizer that it was trained with.

    Raises ValueError where they don't belong together.
    """

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, denoiser: EditDenoiser):
        config = denoiser.config
        for name, wanted, found in [("encoder", config.encoder_id, encoder.identity),
                                    ("tokenizer", config.tokenizer_id, tokenizer.identity)]:
            if wanted and wanted != found:
                raise ValueError(f"the editor was trained with {name} {wanted}, but this is {name} {found}; load parts "
                                 "of one preset")
        self.encoder, self.tokenizer, self.denoiser = encoder, tokenizer, denoiser.eval()

    @property
    def size_px(self) -> int:
        """Side of the pictures that it gives back."""
        return self.tokenizer.size_px

    def read(self, image: Image.Image | str | Path) -> tuple[Image.Image, list[str]]:
        """A PIL picture or a file of one as the model sees it: RGB on white, square, `size_px` a side; and what was
        done to it. A file is opened as `kdlib.data.folder.read_pictures` does it, in another process.

        Raises ValueError for what is no picture, is too small, or shows nothing.
        """
        notes = notes_of(image, self.size_px)
        if isinstance(image, str | Path):
            path, image = image, read_pictures([Path(image)])[0]
            if isinstance(image, str):
                raise ValueError(f"{path} can't be read: {image}")
        if not isinstance(image, Image.Image):
            raise ValueError(f"image = {str(image)[:60]!r} must be a PIL picture or the path of one")
        if min(image.size) < MIN_SIDE_PX:
            raise ValueError(f"the picture is {image.width} x {image.height} px; give one of at least {MIN_SIDE_PX} "
                             f"x {MIN_SIDE_PX}")
        seen = ImageOps.pad(on_white(ImageOps.exif_transpose(image)), (self.size_px, self.size_px),
                            Image.Resampling.LANCZOS, color="white")
        if not drawing_area(np.asarray(seen)).any():
            raise ValueError("the picture shows nothing but white; there is nothing to change")
        return seen, notes

    def condition(self, pictures: Sequence[Image.Image], texts: Sequence[str], index: Index | None,
                  settings: EditSettings) -> tuple[Condition, Neighbours | None]:
        """y of each edit: the text's embedding, less a share of the picture's, and the text's neighbours if told.

        Warns of what the encoder can't read. Raises ValueError for an empty text or one that it can't read at all, an
        index of another encoder, or neighbours without an index.
        """
        for text in texts:
            check_prompt(text)
        self.encoder.check_readable(list(texts))
        queries = told = self.encoder.encode_texts(list(texts))
        if settings.minus:
            told = queries - settings.minus * self.encoder.encode_images(pictures)
            told /= np.maximum(np.linalg.norm(told, axis=1, keepdims=True), 1e-6)
        if not settings.k:
            nothing = np.zeros((len(told), self.denoiser.config.k, told.shape[1]), np.float32)
            return Condition.from_numpy(told, nothing), None
        if index is None:
            raise ValueError(f"k = {settings.k} neighbours need an index to be found in")
        check_encoder(index.encoder_id, self.encoder.identity, "the index")
        near = index.search(queries, settings.k)
        return Condition.from_numpy(told, near.vectors), near

    @torch.no_grad()
    def draw(self, pictures: Sequence[Image.Image], condition: Condition, settings: EditSettings,
             seed: int = 0) -> list[Image.Image]:
        """Edits of pictures as `read` gives them, all in one batch; same seed, batch and machine: same bytes."""
        check_request(seed=seed)
        device = next((weight.device for weight in self.tokenizer.parameters()), torch.device("cpu"))
        self.denoiser.to(device)
        given = normalise_pixels(torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))).to(device)
        codes = self.tokenizer.encode(given)
        with native_autocast(device):
            drawn = sample_edits(self.denoiser, condition.to(device), codes, settings,
                                 torch.Generator().manual_seed(int(seed)), progress=True)
        return to_pil(with_detail(self.tokenizer.decode(drawn), self.tokenizer.decode(codes), given))

    @classmethod
    def load(cls, folder: str | Path, encoder: Encoder, tokenizer: Tokenizer) -> Editor:
        """From the folder of a saved `EditDenoiser`; errors name what is missing, foreign or of other parts."""
        return cls(encoder, tokenizer, EditDenoiser.load(folder))


def notes_of(image: Image.Image | str | Path, size_px: int) -> list[str]:
    """What happens to a picture, or to what the head of its file tells of it; nothing of what Pillow can't open."""
    if isinstance(image, str | Path):
        Image.init()  # before it, Pillow knows no formats
        try:
            with Image.open(image, formats=[name for name in FORMATS if name in Image.OPEN]) as opened:
                return notes_of(opened, size_px)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return []
    if not isinstance(image, Image.Image):
        return []
    notes = [f"of {image.n_frames} frames, the first is changed"] if getattr(image, "is_animated", False) else []
    if image.has_transparency_data:
        notes.append("what is transparent becomes white")
    if image.size != (size_px, size_px):
        notes.append(f"{image.width} x {image.height} px are answered at {size_px} x {size_px}, the model's size")
    return notes


def with_detail(drawn: Images, rebuilt: Images, given: Images) -> Images:
    """What was drawn, with the given picture's own pixels where the codes still say the same.

    The tokenizer loses detail (rebuilt - given) everywhere, also where nothing was changed. It is put back in full
    where drawn = rebuilt, and fades as the two differ, up to AGREE.
    """
    kept = (1 - (drawn - rebuilt).abs().amax(1, keepdim=True) / AGREE).clamp(min=0)
    return (drawn + kept * (given - rebuilt)).clamp(-1, 1)


def as_array(pictures: Sequence[Image.Image]) -> UInt8[np.ndarray, "num_pictures height width 3"]:
    """RGB pictures of one size as numbers."""
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
