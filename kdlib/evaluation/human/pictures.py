"""What a method drew for which prompt, from the folders that stages write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from kdlib.compendium.sheets import open_sheet
from kdlib.data.folder import read_raster
from kdlib.files import read_json

Pictures = dict[str, Callable[[], Image.Image]]


def pictures_by_prompt(folder: str | Path) -> Pictures:
    """Prompt -> a function that opens its picture as RGB, in the folder's own order.

    The folder is one of two that stages write:

    samples.json    a list of {"prompt": "a red apple", "picture": "000.png"}, the files being in pictures/
    pictures.json   with pictures.png, as `kdlib.compendium.sheets.save_sheet` writes them

    Of a prompt that is listed twice the first counts. Raises FileNotFoundError for another folder or a missing file,
    ValueError for a damaged list; what is called raises ValueError for a file that holds no picture.
    """
    folder = Path(folder)
    if (folder / "samples.json").is_file():
        return from_samples(folder)
    if (folder / "pictures.json").is_file():
        return from_sheet(folder)
    raise FileNotFoundError(f"{folder} holds no samples.json and no pictures.json, one of which says what was drawn "
                            "for which prompt; name a folder that has one")


def from_samples(folder: Path) -> Pictures:
    """`pictures_by_prompt` of a folder with samples.json."""
    samples, pictures = read_json(folder / "samples.json"), {}
    if not isinstance(samples, list) or not all(is_sample(sample) for sample in samples):
        raise ValueError(f'{folder}/samples.json is no list of {{"prompt": ..., "picture": ...}}; run its stage again')
    for sample in samples:
        path = folder / "pictures" / sample["picture"]
        if not path.is_file():
            raise FileNotFoundError(f"{path}, the picture for {sample['prompt']!r}, is missing; run its stage again")
        pictures.setdefault(sample["prompt"], lambda path=path: read(path))
    return pictures


def is_sample(sample: object) -> bool:
    """Whether an entry of samples.json names a prompt and a file, and no file elsewhere."""
    values = [sample.get(name) for name in ("prompt", "picture")] if isinstance(sample, dict) else [None]
    return all(isinstance(value, str) and value for value in values) and Path(values[1]).name == values[1]


def from_sheet(folder: Path) -> Pictures:
    """`pictures_by_prompt` of a folder with a sheet."""
    if not (folder / "pictures.png").is_file():
        raise FileNotFoundError(f"{folder / 'pictures.png'} is missing; run its stage again")
    try:
        cells = open_sheet(folder)
    except (Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"{folder}/pictures.png holds no sheet of pictures: {error}; run its stage again") from error
    return {prompt: lambda cell=cell: cell for prompt, cell in cells.items()}


def read(path: Path) -> Image.Image:
    """A picture of at most 512 px a side, on white; ValueError with its path for what is none."""
    try:
        return read_raster(path)
    except (ValueError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} can't be read: {error}; run its stage again") from error


def shared_prompts(drawn: dict[str, Pictures], wanted: Iterable[str] | None = None) -> list[str]:
    """The prompts for which every method has a picture, in the first one's order; or `wanted`, each once.

    Raises ValueError where a method lacks a wanted prompt, or none is shared.
    """
    if wanted is None:
        first, *others = drawn.values()
        found = [prompt for prompt in first if all(prompt in other for other in others)]
        if not found:
            raise ValueError(f"there is no prompt for which all of {', '.join(drawn)} have a picture; draw the same "
                             "prompts with each")
        return found
    wanted = list(dict.fromkeys(wanted))
    for name, pictures in drawn.items():
        if lacking := [prompt for prompt in wanted if prompt not in pictures]:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise ValueError(f"{name} has no picture for {lacking[0]!r}{more}; draw it, or leave the prompt out")
    return wanted
