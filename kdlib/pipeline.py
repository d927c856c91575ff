"""Text to picture (algorithm 2): the object that people hold."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from kdlib.artifacts import KIND, SAVED, editor_folder, find_parts, is_saved
from kdlib.data.catalogue import Catalogue, sticker_catalogue
from kdlib.encoder import Encoder
from kdlib.files import atomic_folder, read_json, write_json
from kdlib.models.backbone import Backbone, load_backbone
from kdlib.models.condition import Condition
from kdlib.params import load_preset
from kdlib.retrieval import Index, open_index
from kdlib.retrieval.embeddings import check_encoder
from kdlib.types import Generation, Neighbour, Neighbours, check_prompt, check_request

if TYPE_CHECKING:
    from kdlib.models.edit.editor import Edited, Editor

SETTINGS = ("k", "guidance_scale", "num_steps")


class Pipeline:
    """Encoder, index and a generator, joined to turn text into pictures.

    encoder    f_img and f_txt of the paper
    index      H, the pictures to retrieve from
    backbone   the generator, `kdlib.models.backbone.Backbone`
    catalogue  whose pictures those are (an index that carries its own catalogue needs none)
    settings   {"k", "guidance_scale", "num_steps"}: what a call uses where it is told nothing else

    Raises ValueError when the parts were not made for each other.
    """

    def __init__(self, encoder: Encoder, index: Index, backbone: Backbone, settings: dict,
                 catalogue: Catalogue | None = None):
        if backbone.encoder_id and backbone.encoder_id != encoder.identity:
            raise ValueError(f"the generator was trained with encoder {backbone.encoder_id}, but this is encoder "
                             f"{encoder.identity}; load parts of one preset or one saved pipeline")
        check_encoder(index.encoder_id, encoder.identity, "the index")
        if settings.keys() != set(SETTINGS):
            raise ValueError(f"settings are {sorted(settings)}; give {', '.join(SETTINGS)}")
        self.encoder, self.index, self.backbone = encoder, index, backbone
        self.catalogue, self.settings = catalogue, dict(settings)
        self.editor_folder: Path | None = None

    def to(self, device: str | torch.device) -> Pipeline:
        """Moves the generator to a device; returns the pipeline itself."""
        self.backbone.to(device)
        return self

    def __call__(self, prompt: str, k: int | None = None, num_images: int = 1, guidance_scale: float | None = None,
                 num_steps: int | None = None, seed: int = 0, index: Index | None = None,
                 num_candidates: int | None = None) -> Generation:
        """Pictures of a text: algorithm 2 (section 6.5) of the paper.

            1  input: query text t, a dataset H of image embeddings, text encoder f_txt, decoder D
            3  knn_txt(t, k) := the k of H most similar to f_txt(t)          `retrieve`
            4  y = (f_txt(t), knn_txt(t, k))                                 `retrieve`
            5  x_N <- [MASK]^(h x w)                                         `generate`
            7  while n > 0:  x_(n-1) ~ p_theta(x_(n-1) | x_n, y)             `generate`
           11  I' = D(x_0)                                                   `generate`

        prompt          what to draw, in words
        k               how many neighbours; None, here and below: the pipeline's own setting
        num_images      how many pictures
        guidance_scale  lambda of section 6.5; 1 is no guidance
        num_steps       sampling steps, at most the model's N
        seed            same seed, same arguments, same machine: same bytes. Asking for another number of pictures
                        changes each of them, since they share one stream of random numbers
        index           another database of the same encoder; nothing is trained
        num_candidates  draw so many, and keep the num_images that the encoder finds nearest to the prompt, best first
                        (not in the paper; Ramesh et al., 2021, do so with CLIP); None: all that are drawn, as drawn

        Raises ValueError naming the bad value: an empty prompt, k beyond the index, another encoder's index, ...
        """
        check_request(k, num_images, guidance_scale, num_steps, seed, num_candidates)
        num_drawn = num_images if num_candidates is None else num_candidates
        settings = {"k": self._setting("k", k), "num_images": num_images,
                    "guidance_scale": self._setting("guidance_scale", guidance_scale),
                    "num_steps": self._setting("num_steps", num_steps)}
        neighbours, condition = self.retrieve([prompt], settings["k"], index)
        images = self.generate(condition.expand(num_drawn), settings["num_steps"], settings["guidance_scale"], seed)
        if num_candidates is not None:
            settings["num_candidates"] = num_candidates
            images = self.nearest(images, condition.query[0].numpy(), num_images)
        return Generation(prompt, images, self.describe(neighbours, index)[0], seed, settings)

    def retrieve(self, prompts: list[str], k: int | None = None,
                 index: Index | None = None) -> tuple[Neighbours, Condition]:
        """Lines 3 and 4 of algorithm 2 for several texts at once: their k nearest pictures, and y of each.

        Warns of what the encoder can't read. Raises ValueError for an empty prompt or one that it can't read at all, a
        k that the index can't give, an index of another encoder.
        """
        index = self.index if index is None else index
        if isinstance(prompts, str) or not isinstance(index, Index):
            raise ValueError(f"prompts = {prompts!r} must be a list of texts, and index = {index!r} an Index, such as "
                             "kd.open_index(folder) gives")
        for prompt in prompts:
            check_prompt(prompt)
        self.encoder.check_readable(prompts)
        check_encoder(index.encoder_id, self.encoder.identity, "the index")
        queries = self.encoder.encode_texts(list(prompts))
        neighbours = index.search(queries, self._setting("k", k))
        return neighbours, Condition.from_numpy(queries, neighbours.vectors)

    def generate(self, condition: Condition, num_steps: int | None = None, guidance_scale: float | None = None,
                 seed: int = 0) -> list[Image.Image]:
        """Lines 5 to 11 of algorithm 2: one picture for each row of the condition, all in one batch.

        The random numbers are drawn on the CPU, so a seed means the same on every device; the result is the same to the
        byte only on the same machine with the same batch. Raises ValueError for num_steps beyond the model's N, and as
        `kdlib.types.check_request` does.
        """
        check_request(guidance_scale=guidance_scale, num_steps=num_steps, seed=seed)
        return self.backbone.draw(condition, self._setting("num_steps", num_steps),
                                  self._setting("guidance_scale", guidance_scale),
                                  torch.Generator().manual_seed(int(seed)))

    def nearest(self, images: list[Image.Image], query: Float[np.ndarray, " dim"], num: int) -> list[Image.Image]:
        """The `num` of some pictures whose own embeddings are nearest to a query (a unit vector), best first."""
        cosines = self.encoder.encode_images(images) @ query
        return [images[i] for i in np.argsort(-cosines, kind="stable")[:num]]

    def describe(self, neighbours: Neighbours, index: Index | None = None) -> list[list[Neighbour]]:
        """For each query its neighbours with title, style, author, licence and a small picture."""
        index = self.index if index is None else index
        catalogue = index.catalogue if index.catalogue is not None else self.catalogue
        if catalogue is None:
            catalogue = Catalogue.empty()
        return [[Neighbour(str(id), float(score), *catalogue.describe(id), catalogue.picture(id))
                 for id, score in zip(*row, strict=True)]
                for row in zip(neighbours.ids, neighbours.scores, strict=True)]

    def edit(self, image: Image.Image | str | Path, text: str, seed: int = 0, index: Index | None = None,
             **settings) -> Edited:
        """A picture changed as a text says, without a mask (section 3.1).

        image     a PIL picture or the path of one, of any size, on white or transparent ground
        text      what it should show then: "a cat wearing sunglasses"
        seed      same seed, same arguments, same machine: same bytes
        index     where the text's neighbours are found, if settings ask for k of them; None: the pipeline's own
        settings  fields of `kdlib.models.edit.sampler.EditSettings`: strength, text_scale, picture_scale, ...

        Raises ValueError naming what is wrong with picture, text, index or settings, FileNotFoundError where no
        editor was trained.
        """
        from kdlib.models.edit.editor import Edited
        from kdlib.models.edit.sampler import EditSettings

        told = EditSettings(**settings)
        check_request(seed=seed)
        check_prompt(text)
        if index is not None:
            check_encoder(index.encoder_id, self.encoder.identity, "the index")
            if not told.k:
                raise ValueError("k = 0 neighbours are asked for, so the index would not be looked at; give a k, too")
        picture, notes = self.editor.read(image)
        condition, near = self.editor.condition([picture], [text], self.index if index is None else index, told)
        drawn = self.editor.draw([picture], condition, told, seed)[0]
        neighbours = [] if near is None else self.describe(near, index)[0]
        return Edited(text, drawn, picture, notes, neighbours, seed, told)

    @cached_property
    def editor(self) -> Editor:
        """What `edit` draws with, loaded when it is first asked for; FileNotFoundError where there is none."""
        from kdlib.models.edit.editor import Editor

        if self.backbone.kind != "discrete" or self.editor_folder is None or not self.editor_folder.is_dir():
            where = "" if self.editor_folder is None else f" (looked in {self.editor_folder})"
            raise FileNotFoundError(f"this pipeline can't change pictures: it has no editor{where}; train one with "
                                    "`dvc repro edits@PRESET`, and load that preset with the discrete backbone")
        return Editor.load(self.editor_folder, self.encoder, self.backbone.tokenizer)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes all parts and the catalogue of the indexed pictures into `folder`, all or nothing; it can be moved.

        Raises ValueError or OSError where `folder` can't be written, or holds anything but an older saved pipeline.
        """
        with atomic_folder(folder, SAVED) as temporary:
            self.encoder.save(temporary / "encoder")
            self.backbone.save(temporary)
            index, catalogue = self.index, self.index.catalogue if self.index.catalogue is not None else self.catalogue
            of_index = None if catalogue is None else catalogue.subset(index.ids)
            Index(index.embeddings, of_index, index.structure, index.num_cells).save(temporary / "index")
            if self.editor_folder is not None and self.editor_folder.is_dir():
                self.editor.denoiser.save(temporary / "editor")
            write_json(temporary / "pipeline.json", {"kind": KIND, "version": 1, "backbone": self.backbone.kind,
                                                     "settings": self.settings})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Pipeline:
        """Loads what `save_pretrained` wrote, onto the GPU if there is one.

        Raises FileNotFoundError or ValueError saying what is missing, damaged or foreign.
        """
        if not is_saved(folder):
            raise FileNotFoundError(f"{folder} is no saved pipeline: it has no pipeline.json of kind {KIND}")
        settings = read_json(Path(folder) / "pipeline.json").get("settings")
        try:
            check_request(**settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder}/pipeline.json has settings that don't fit ({error}); save it again") from None
        pipe = cls._from_parts(find_parts(folder), settings, None)
        pipe.editor_folder = editor_folder(folder)
        return pipe

    @classmethod
    def _from_parts(cls, parts: dict[str, Path], settings: dict, catalogue: Catalogue | None) -> Pipeline:
        encoder = Encoder.load(parts["encoder"])
        pipe = cls(encoder, open_index(parts["index"], encoder.identity), load_backbone(parts), settings, catalogue)
        return pipe.to("cuda" if torch.cuda.is_available() else "cpu")

    def _setting(self, name: str, value):
        return self.settings[name] if value is None else value


def load_pipeline(preset_or_folder: str | Path = "cpu", root: str | Path | None = None,
                  backbone: str | None = None) -> Pipeline:
    """A ready pipeline: a preset's trained weights, or a folder written by `save_pretrained`.

    preset_or_folder  a preset of params.yaml ("cpu"), or a folder
    root              the compendium's root; found from the working directory if not given
    backbone          "discrete" or "continuous"; None is a saved pipeline's own, and a preset's discrete one

    Raises ValueError listing the choice when there is no such preset, folder or backbone, FileNotFoundError saying
    which command makes or fetches the weights when they are not there.
    """
    parts = find_parts(preset_or_folder, root=root, backbone=backbone)
    if is_saved(preset_or_folder):
        return Pipeline.from_pretrained(preset_or_folder)
    preset = load_preset(str(preset_or_folder), root)
    settings = {"k": preset["k"], **{name: preset["generation"][name] for name in ("guidance_scale", "num_steps")}}
    pipe = Pipeline._from_parts(parts, settings, sticker_catalogue(root))
    pipe.editor_folder = editor_folder(preset_or_folder, root)
    return pipe
