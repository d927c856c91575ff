"""What the commands write: where it goes, that nothing of the user's is replaced, and the writing of pictures.

Pictures can be made larger before, by a preset's upsampler, and be traced: as drawings that have no size (.svg).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".svg")
UPSAMPLER = "superres/model"  # of a preset
MAX_PASSES = 2  # of the upsampler: from 64 px to 256 and to 1024


def check_out(out: Path, num_images: int) -> None:
    """Raises ValueError or OSError for picture files that could not be written."""
    from kdlib.files import check_file

    if out.suffix.lower() not in PICTURE_SUFFIXES:
        raise ValueError(f"--out {out} must end in {', '.join(PICTURE_SUFFIXES)}")
    with naming("--out"):
        for path in picture_paths(out, num_images):
            check_file(path)


def check_apart(folder: Path, out: Path) -> None:
    """Raises ValueError unless `folder` is one, and apart from `out`."""
    from kdlib.files import check_place

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of pictures")
    pictures, target = folder.resolve(), out.resolve()
    if pictures == target or pictures in target.parents or target in pictures.parents:
        raise ValueError(f"--out {out} is, contains or lies in the pictures' folder {folder}; choose another place")
    with naming("--out"):
        check_place(out)


def check_index_paths(out: Path) -> None:
    """Raises ValueError or OSError unless `out` and what is written beside it are free, or ours and older."""
    from kdlib.files import check_folder
    from kdlib.retrieval.embeddings import INDEX
    from kdlib.retrieval.own_pictures import check_report, check_workspace

    with naming("--out"):
        check_folder(out, INDEX)
        check_report(report_path(out))
        check_workspace(workspace_path(out))


def report_path(index: Path) -> Path:
    """Where `kd index` lists skipped files."""
    return index.with_name(f"{index.name}.skipped.csv")


def workspace_path(index: Path) -> Path:
    """Where `kd index` keeps unfinished work."""
    return index.with_name(f".{index.name}.unfinished")


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Puts the option before the message of an error that is about its value."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"{option} {error}") from error


def picture_paths(out: Path, num_images: int) -> list[Path]:
    """`out` itself for one picture, else NAME-1, NAME-2, ..."""
    return [out] if num_images == 1 else [out.with_stem(f"{out.stem}-{n + 1}") for n in range(num_images)]


def save_images(images: list, out: Path) -> list[Path]:
    """Writes one picture to `out`, several to NAME-1, NAME-2, ..., each atomically; returns the paths."""
    from kdlib.files import atomic_file

    paths = picture_paths(out, len(images))
    for image, path in zip(images, paths, strict=True):
        with atomic_file(path) as temporary:
            if path.suffix.lower() == ".svg":
                temporary.write_text(traced(image), encoding="utf-8")
            else:
                image.save(temporary)
    return paths


def traced(image: Image) -> str:
    """A PIL picture as SVG: smooth outlines of its patches of colour, found by vtracer."""
    import io

    import vtracer

    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return vtracer.convert_raw_image_to_svg(buffer.getvalue(), img_format="png", mode="spline", filter_speckle=4)


def find_enlarging(preset_or_folder: str, size_px: int | None, drawn_px: int
                   ) -> Callable[[list[Image]], list[Image]]:
    """What makes pictures of drawn_px as large as wanted, by no pass, one or two of the preset's upsampler.

    size_px  None: by one pass where a preset has an upsampler; else, and of a saved pipeline, as they are

    Raises ValueError for a size that can't be had, saying which can.
    """
    from kdlib.artifacts import is_saved
    from kdlib.params import find_root

    as_drawn = lambda pictures: pictures
    if size_px == drawn_px or (size_px is None and is_saved(preset_or_folder)):
        return as_drawn
    folder = find_root() / "reports" / preset_or_folder / UPSAMPLER
    if size_px is None and not folder.is_dir():
        return as_drawn
    if not folder.is_dir():
        raise ValueError(f"--size {size_px} can't be had: this generator draws {drawn_px} px, and there is no "
                         f"upsampler in {folder}; `dvc repro superres@PRESET` trains one for a preset that has that "
                         "stage")
    from kdlib.models.superres import Upsampler

    upsampler = Upsampler.load(folder)
    sizes = [drawn_px * upsampler.config.scale ** passes for passes in range(MAX_PASSES + 1)]
    if size_px is not None and size_px not in sizes:
        raise ValueError(f"--size {size_px} can't be had; choose {' or '.join(map(str, sizes))}")
    passes = 1 if size_px is None else sizes.index(size_px)
    return lambda pictures: reduce(lambda smaller, _: upsampler.upsample(smaller), range(passes), pictures)
