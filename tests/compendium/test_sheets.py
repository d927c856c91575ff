"""kdlib.compendium.sheets: every picture in its cell, found by its prompt."""

import json

import numpy as np
import pytest
from PIL import Image

from kdlib.compendium.sheets import open_sheet, save_sheet


def flat(number: int, size_px: int = 4) -> Image.Image:
    return Image.new("RGB", (size_px, size_px), (3 * number, 255 - 3 * number, 7))


@pytest.mark.parametrize("count, rows", [(1, 1), (8, 1), (9, 2), (64, 8)])
def test_pictures_lie_row_by_row_in_cells_of_their_size(tmp_path, count, rows):
    prompts = [f"prompt {number}" for number in range(count)]
    save_sheet(tmp_path, [flat(number) for number in range(count)], prompts)
    with Image.open(tmp_path / "pictures.png") as file:
        page = np.asarray(file.convert("RGB"))
    assert page.shape == (rows * 4, 8 * 4, 3)
    for number in range(count):
        cell = page[number // 8 * 4:number // 8 * 4 + 4, number % 8 * 4:number % 8 * 4 + 4]
        assert (cell == [3 * number, 255 - 3 * number, 7]).all()  # so few colours that the palette holds them all
    assert json.loads((tmp_path / "pictures.json").read_text()) == {"size_px": 4, "columns": 8, "prompts": prompts}
    opened = open_sheet(tmp_path)
    assert list(opened) == prompts
    for number, picture in enumerate(opened.values()):
        np.testing.assert_array_equal(picture, flat(number))


def test_a_sheet_keeps_the_first_64(tmp_path):
    save_sheet(tmp_path, [flat(number) for number in range(70)], [str(number) for number in range(70)])
    assert list(open_sheet(tmp_path)) == [str(number) for number in range(64)]


def test_the_palette_errs_little(tmp_path):
    """Smooth pictures of many colours, about as hard as drawn ones: an error of a few levels of 255."""
    ramp = np.linspace(0, 255, 32)
    pictures = [np.stack([np.broadcast_to(ramp, (32, 32)), np.broadcast_to(ramp[:, None], (32, 32)),
                          np.full((32, 32), 80.0 * number)], axis=-1).astype(np.uint8) for number in range(3)]
    save_sheet(tmp_path, [Image.fromarray(picture) for picture in pictures], list("abc"))
    errors = np.stack([*open_sheet(tmp_path).values()]).astype(float) - pictures
    assert 0 < np.sqrt(np.mean(np.square(errors))) < 8


@pytest.mark.parametrize("pictures, prompts, message", [
    ([], [], "0 pictures for 0 prompts"), ([flat(1)], ["a", "b"], "1 pictures for 2 prompts"),
    ([flat(1), flat(2, 5)], ["a", "b"], r"measure \[\(4, 4\), \(5, 5\)\]"),
    ([Image.new("RGB", (4, 5))], ["a"], r"measure \[\(4, 5\)\]")])
def test_what_is_no_sheet_is_refused(tmp_path, pictures, prompts, message):
    with pytest.raises(ValueError, match=message):
        save_sheet(tmp_path, pictures, prompts)
