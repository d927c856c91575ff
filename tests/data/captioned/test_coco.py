"""The reader of MS-COCO against a set in its format, made here, whole and with every kind of fault."""

import itertools
import json
import tracemalloc

import pytest
from PIL import Image

from kdlib.data.captioned import Tally, read_coco
from kdlib.data.captioned.tally import MAX_LISTED
from tests.data.captioned.sets import COLOURS, looks, save_jpeg, told

LICENCES = [{"url": "http://creativecommons.org/licenses/by-nc-sa/2.0/", "id": 1,
             "name": "Attribution-NonCommercial-ShareAlike License"},
            {"url": "http://flickr.com/commons/usage/", "id": 7, "name": "No known copyright restrictions"}]


def coco_image(id, licence=1):
    name = f"COCO_val2014_{id:012}.jpg"
    return {"license": licence, "file_name": name, "coco_url": f"http://images.cocodataset.org/val2014/{name}",
            "height": 360, "width": 640, "date_captured": "2013-11-14 11:18:45",
            "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg", "id": id}


def save_coco(root, images=None, annotations=None, **others):
    """A set of four pictures with two captions each, annotations before images as in no file that is published."""
    root.mkdir(exist_ok=True)
    for id, colour in enumerate(COLOURS, 100):
        save_jpeg(root / "val2014" / f"COCO_val2014_{id:012}.jpg", colour)
    whole = {"info": {"description": "COCO 2014 Dataset", "year": 2014},
             "images": [coco_image(id, 7 if id == 103 else 1) for id in range(100, 104)], "licenses": LICENCES,
             "annotations": [{"image_id": 100 + n % 4, "id": n, "caption": f"A thing of {COLOURS[n % 4]}.\n"}
                             for n in range(8)]}
    whole |= {name: value for name, value in (("images", images), ("annotations", annotations)) if value is not None}
    (root / "captions_val2014.json").write_text(json.dumps(whole | others))
    return root / "captions_val2014.json", root / "val2014"


def test_coco(tmp_path):
    tally = Tally()
    found = list(read_coco(*save_coco(tmp_path), tally))
    assert told(found) == [(f"{100 + n % 4}-{n}", f"A thing of {COLOURS[n % 4]}.",
                            "http://flickr.com/commons/usage/" if n % 4 == 3 else "CC-BY-NC-SA-2.0") for n in range(8)]
    assert all(looks(one.picture, COLOURS[n % 4]) for n, one in enumerate(found))
    assert tally.num_read == 8 and not tally.num_broken and not tally.broken


def test_the_lists_of_coco_come_in_any_order(tmp_path):
    captions, pictures = save_coco(tmp_path)
    whole = json.loads(captions.read_text())
    wanted = told(read_coco(captions, pictures, Tally()))
    for order in itertools.permutations(["images", "licenses", "annotations"]):
        captions.write_text(json.dumps({name: whole[name] for name in order}))
        assert told(read_coco(captions, pictures, Tally())) == wanted


def test_what_is_broken_in_coco_is_listed_and_the_rest_is_given(tmp_path):
    faults = {"its image has no name in the file": [{}] + [{"image_id": n} for n in (999, "100", 104, 105, 10 ** 30)],
              "there is no caption": [{"image_id": 100, "caption": caption} for caption in (None, " \n", ["x"])],
              "the picture is missing": [{"image_id": 106}, {"image_id": 107}],
              "the picture can't be read": [{"image_id": 101}, {"image_id": 102}]}
    broken = [{"id": n, "caption": "x"} | entry for n, entry in enumerate(itertools.chain(*faults.values()))]
    whole = [{"image_id": 100, "id": 20, "caption": "half \ud800 a pair"}, 7,
             {"image_id": 103, "id": 21, "caption": "y"}]
    names = [coco_image(104) | {"file_name": "../captions_val2014.json"}, coco_image(105) | {"file_name": ["x"]},
             coco_image(106), coco_image(107) | {"file_name": "x" * 300}, {"id": []}, {"license": [], "id": 108}]
    images = [coco_image(id, licence) for id, licence in ((100, 1), (101, 1), (102, 1), (103, 99))] + names
    captions, pictures = save_coco(tmp_path, images, broken + whole)
    (pictures / "COCO_val2014_000000000101.jpg").write_text("no picture")
    path = pictures / "COCO_val2014_000000000102.jpg"
    path.write_bytes(path.read_bytes()[:400])
    tally = Tally()
    found = list(read_coco(captions, pictures, tally))
    assert told(found) == [("100-20", "half ? a pair", "CC-BY-NC-SA-2.0"), ("103-21", "y", "unknown")]
    assert tally.num_read == 2 and tally.num_broken == {kind: len(of) for kind, of in faults.items()}
    assert [one.path.rpartition("-")[2] for one in tally.broken] == list(map(str, range(13)))


@pytest.mark.parametrize("text, message", [
    ("{", "is not valid JSON"), ("", "is not valid JSON"), ("{} x", "is not valid JSON"),
    ('{"images": []}', "lists no images, so it holds no captions of COCO"), ("[]", "lists no images"),
    ('{"annotations": [{"image_id": 1, "caption": "x"}], "type": "instances"}', "lists no images"),
    ('{"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [{"image', "is not valid JSON")])
def test_a_file_that_is_no_coco(tmp_path, text, message):
    captions, pictures = save_coco(tmp_path)
    captions.write_text(text)
    with pytest.raises(ValueError, match=f"captions_val2014.json {message}"):
        next(read_coco(captions, pictures, Tally()))


def peak_bytes(captions, pictures, num_rows):
    """The most memory that Python holds while it reads."""
    tally = Tally()
    tracemalloc.start()
    try:
        for _ in read_coco(captions, pictures, tally):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assert tally.num_read == num_rows


def test_coco_of_eight_times_the_size_takes_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.data.captioned.tally.read_raster", lambda *_: Image.new("RGB", (16, 12)))  # for speed
    peaks = []
    for num in (1000, 1000, 8000):  # what is imported late counts in the first
        root = tmp_path / str(num)
        annotations = [{"image_id": 100, "id": n, "caption": f"caption {n} " * 9} for n in range(num)]
        files = save_coco(root, [coco_image(id) for id in range(100, 100 + num)], annotations)
        peaks.append(peak_bytes(*files, num))
    assert peaks[2] < 1.2 * peaks[1] and files[0].stat().st_size > 3 * peaks[2]


def test_a_set_without_its_pictures_fills_no_list(tmp_path):
    num = MAX_LISTED + 50
    annotations = [{"image_id": 200, "id": n, "caption": "x"} for n in range(num)]
    tally = Tally()
    assert not list(read_coco(*save_coco(tmp_path, [coco_image(200)], annotations), tally))
    assert tally.num_broken == {"the picture is missing": num} and len(tally.broken) == MAX_LISTED
