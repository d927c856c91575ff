"""What the commands write: where it goes, that nothing of the user's is replaced, and the writing of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


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
            image.save(temporary)
    return paths
