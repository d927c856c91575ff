"""The reader of CUB against folders in its format, made here, whole and with every kind of fault."""

from kdlib.data.captioned import Tally, read_cub
from tests.data.captioned.sets import COLOURS, looks, save_jpeg, told

BIRDS = ["001.Black_footed_Albatross/Black_Footed_Albatross_0046_18",
         "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34", "002.Laysan_Albatross/Laysan_Albatross_0002_1027"]


def save_cub(root, lines=None):
    folder, captions = root / "CUB_200_2011", root / "text_c10"
    for name, colour in zip(BIRDS, COLOURS, strict=False):
        save_jpeg(folder / "images" / f"{name}.jpg", colour)
        (captions / name).parent.mkdir(parents=True, exist_ok=True)
        (captions / f"{name}.txt").write_text("".join(f"this bird is {colour}, {n}.\n" for n in range(10)))
    lines = lines or [f"{number} {name}.jpg" for number, name in enumerate(BIRDS, 1)]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder, captions


def test_cub_has_ten_captions_a_picture(tmp_path):
    tally = Tally()
    found = list(read_cub(*save_cub(tmp_path), tally))
    assert told(found) == [(f"{name}-{n}", f"this bird is {colour}, {n}.", "unknown")
                           for name, colour in zip(BIRDS, COLOURS, strict=False) for n in range(10)]
    assert all(looks(one.picture, COLOURS[row // 10]) for row, one in enumerate(found)) and tally.num_read == 30


def test_what_is_broken_in_cub_is_listed(tmp_path):
    folder, captions = save_cub(tmp_path, ["", "1", "2 ../../x.jpg", f"3 {BIRDS[0]}.png", f"4 {BIRDS[0]}.jpg",
                                           f"5 {BIRDS[1]}.jpg", f"6 {BIRDS[2]}.jpg", "7 003.New/None_1.jpg"])
    (captions / f"{BIRDS[0]}.txt").write_text("one\n\ntwo\n\n")
    (captions / f"{BIRDS[1]}.txt").write_bytes(b"\xff" * 9)
    (folder / "images" / f"{BIRDS[2]}.jpg").unlink()
    tally = Tally()
    assert [one.id for one in read_cub(folder, captions, tally)] == [f"{BIRDS[0]}-0", f"{BIRDS[0]}-2"]
    assert tally.num_broken == {"the line of images.txt names no picture": 4, "there are not ten captions": 1,
                                "there is no caption": 1, "the file of captions can't be read": 2,
                                "the picture is missing": 10}
