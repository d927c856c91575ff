"""The reader of Localized Narratives against a file in their format, made here, whole and with every kind of fault."""

import json

from kdlib.data.captioned import Tally, read_narratives
from tests.data.captioned.sets import COLOURS, looks, save_jpeg, told


def narrative(image, source="mscoco_val2017", caption="In this image I can see a thing.", annotator=93):
    return {"dataset_id": source, "image_id": image, "annotator_id": annotator, "caption": caption,
            "timed_caption": [{"utterance": "In this", "start_time": 0.0, "end_time": 0.4}],
            "traces": [[{"x": 0.2086, "y": -0.0533, "t": 0.022}]],
            "voice_recording": f"coco_val/coco_val_{image}_93.ogg"}


def save_narratives(root, *entries):
    for id, colour in enumerate(COLOURS, 137576):
        save_jpeg(root / "pictures" / f"{id:012}.jpg", colour)
    save_jpeg(root / "pictures" / "0a1b2c.jpg", "red")
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (root / "coco_val_captions.jsonl").write_text("\n".join(lines) + "\n", errors="surrogateescape")
    return root / "coco_val_captions.jsonl", root / "pictures"


def test_localized_narratives_of_coco_and_of_open_images(tmp_path):
    tally = Tally()
    found = list(read_narratives(*save_narratives(
        tmp_path, narrative("137577"), narrative("0a1b2c", "open_images_test"), narrative("137577", annotator=4)),
        tally))
    assert told(found) == [(id, "In this image I can see a thing.", "unknown")
                           for id in ("137577-93", "0a1b2c-93", "137577-4")]
    assert looks(found[0].picture, "lime") and looks(found[1].picture, "red") and tally.num_read == 3


def test_what_is_broken_in_narratives_is_listed(tmp_path):
    tally = Tally()
    found = list(read_narratives(*save_narratives(
        tmp_path, "{", "", "\udcff", "[]", "7", {"caption": "x"}, narrative(137577), narrative("../../x", "ade20k"),
        narrative("1"), narrative("137577", caption=None), "[" * 100_000, narrative("137578")), tally))
    assert [one.id for one in found] == ["137578-93"]
    assert tally.num_broken == {"the line is not valid JSON": 4, "the line names no image": 5,
                                "the picture is missing": 1, "there is no caption": 1}
    assert [one.path for one in tally.broken][:3] == ["line 1", "line 2", "line 3"]
