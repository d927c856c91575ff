"""Choosing captions: which, in how little memory, what is opened; and sets by name in the folders they unpack to."""

import pytest

from kdlib.data.captioned import Tally, read_coco
from kdlib.data.captioned.choose import Chosen, Listing, choose
from kdlib.data.captioned.published import SETS, picture_of, read_set
from tests.data.captioned.sets import save_jpeg
from tests.data.captioned.test_coco import save_coco


def ids(found):
    return [one.id for one in found]


def test_the_choice_depends_on_ids_and_seed_alone(tmp_path):
    files = save_coco(tmp_path)
    listed = list(read_coco(*files, Listing()))
    assert ids(listed) == ids(read_coco(*files, Tally())) and {one.picture.size for one in listed} == {(1, 1)}
    chosen = choose(iter(listed), 3, 0)
    assert len(chosen) == 3 and chosen == choose(iter(listed[::-1]), 3, 0)
    assert choose(iter(listed), 99, 0) == set(ids(listed))
    assert len({frozenset(choose(iter(listed), 3, seed)) for seed in range(9)}) > 3
    nested = [choose(iter(listed), num, 5) for num in range(1, 9)]
    assert all(small < large for small, large in zip(nested[:-1], nested[1:], strict=True))
    with pytest.raises(ValueError, match="num = 0 captions can't be chosen"):
        choose(iter(listed), 0, 0)


def test_every_caption_is_chosen_equally_often(tmp_path):
    listed = list(read_coco(*save_coco(tmp_path), Listing()))
    counts = [sum(one.id in choose(iter(listed), 2, seed) for seed in range(400)) for one in listed]
    assert all(70 < count < 130 for count in counts)  # 100 expected, standard deviation 8.7


def test_only_chosen_captions_are_opened_and_those_done_are_passed_by(tmp_path):
    captions, pictures = save_coco(tmp_path)
    wanted = ids(read_coco(captions, pictures, Tally()))[1::2]
    (pictures / "COCO_val2014_000000000100.jpg").write_text("broken, of captions that aren't chosen")
    tally = Chosen(set(wanted))
    assert ids(read_coco(captions, pictures, tally)) == wanted and not tally.num_broken and tally.num_met == 4
    later = Chosen(set(wanted), num_passed=3)
    assert ids(read_coco(captions, pictures, later)) == wanted[3:]
    assert later.passed == wanted[:3] and later.num_met == 4


def test_a_listing_counts_what_is_not_there(tmp_path):
    captions, pictures = save_coco(tmp_path, annotations=[
        {"image_id": 100, "id": 1, "caption": " "}, {"image_id": 101, "id": 2, "caption": "x"},
        {"image_id": 102, "id": 3, "caption": "y"}])
    (pictures / "COCO_val2014_000000000101.jpg").unlink()
    tally = Listing()
    assert ids(read_coco(captions, pictures, tally)) == ["102-3"]
    assert tally.num_broken == {"there is no caption": 1, "the picture is missing": 1}


def test_sets_are_found_by_name(tmp_path):
    captions, _ = save_coco(tmp_path)
    found = ids(read_set("coco", tmp_path, Tally()))
    (tmp_path / "annotations").mkdir()
    captions.rename(tmp_path / "annotations" / captions.name)
    assert ids(read_set("coco", tmp_path, Tally())) == found and len(found) == 8
    save_jpeg(tmp_path / "00000" / "000000000.jpg", "red")
    (tmp_path / "cc12m.tsv").write_text("http://pictures.example/0.jpg\ta red thing\n")
    assert [(one.id, one.caption) for one in read_set("cc12m", tmp_path, Tally())] == [("0", "a red thing")]


@pytest.mark.parametrize("name", sorted(SETS))
def test_what_a_folder_lacks_is_said(name, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=f"; for {name}, .* should hold ") as error:
        list(read_set(name, tmp_path, Tally()))
    assert SETS[name].holds in str(error.value)


def test_another_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no reader of 'flickr'; choose one of coco, ln-coco, cub"):
        read_set("flickr", tmp_path, Tally())


@pytest.mark.parametrize("name, id, picture", [
    ("coco", "100-7", "100"), ("cub", "001.Albatross/A_0046_18-3", "001.Albatross/A_0046_18"),
    ("webdataset", "cc3m-train-0000/000000012", "cc3m-train-0000/000000012"), ("cc12m", "3", "3")])
def test_captions_belong_to_pictures(name, id, picture):
    assert picture_of(name, id) == picture
