"""kdlib.experiments.captions and `kd evaluate`: the protocol on made-up sets, cut off and gone on with."""

import json

import numpy as np
import pytest
from PIL import Image

from kdlib import pipeline
from kdlib.evaluation.judge import Judge
from kdlib.evaluation.metrics import fit_gaussian, frechet_distance
from kdlib.experiments import captions as module
from kdlib.experiments.captions import Features, draw_captions, result, squared
from tests.data.captioned.test_coco import coco_image, save_coco


class Eye:
    """Mean and spread of the colours as features; remembers the pictures, and may break."""

    def __init__(self, breaks_at=None):
        self.met, self.breaks_at = [], breaks_at

    def __call__(self, pictures):
        self.met.append(pictures)
        if len(self.met) == self.breaks_at:
            raise OSError("the machine was switched off")
        rows = [np.asarray(picture, np.float32) / 255 for picture in pictures]
        return np.array([[*row.mean((0, 1)), *row.std((0, 1))] for row in rows], np.float32).reshape(-1, 6)


@pytest.fixture
def coco(kd, tmp_path):
    """Eight captions of four pictures in a compendium of toy parts; the captions name their pictures' colours."""
    save_coco(tmp_path / "coco")
    return tmp_path / "coco"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)


def evaluated(coco, folder, eye, num=8):
    return draw_captions(pipeline.load_pipeline("quick"), Features("judge", eye), "coco", coco, folder, num, 2, 0)


def test_each_picture_counts_once_and_each_caption_is_drawn_for(coco, tmp_path):
    eye = Eye()
    found = evaluated(coco, tmp_path / "m", eye)
    told = result(found, "judge", "coco")
    assert (told["num_captions"], told["num_pictures"], told["drawn_px"]) == (8, 4, 12)
    assert [len(batch) for batch in eye.met] == [3 + 3, 1 + 3, 2], "pictures not seen before, then drawings"
    assert all(picture.size == (256, 256) for batch in eye.met for picture in batch)
    real = [picture for batch, num in zip(eye.met, (3, 1, 0), strict=True) for picture in batch[:num]]
    drawn = [picture for batch, num in zip(eye.met, (3, 1, 0), strict=True) for picture in batch[num:]]
    reds = [picture.getpixel((9, 9))[0] > 128 for picture in real]
    assert reds == [True, False, False, True], "red, lime, blue, yellow"
    wanted = frechet_distance(fit_gaussian(Eye()(drawn)), fit_gaussian(Eye()(real)))
    assert told["fd_judge"] == pytest.approx(wanted, abs=2e-4) and "fid" not in told


def test_what_was_cut_off_goes_on_to_the_same_result(coco, tmp_path):
    whole = result(evaluated(coco, tmp_path / "whole", Eye(), 7), "judge", "coco")
    with pytest.raises(OSError, match="switched off"):
        evaluated(coco, tmp_path / "m", Eye(breaks_at=3), 7)
    eye = Eye()
    assert result(evaluated(coco, tmp_path / "m", eye, 7), "judge", "coco") == whole
    assert len(eye.met) == 1, "two of three batches were there"
    assert result(evaluated(coco, tmp_path / "m", Eye(breaks_at=1), 7), "judge", "coco") == whole, "nothing is left"


def test_another_measurement_is_not_gone_on_with(coco, tmp_path):
    evaluated(coco, tmp_path / "m", Eye(), 4)
    with pytest.raises(ValueError, match="m holds a measurement of another set, model or choice"):
        evaluated(coco, tmp_path / "m", Eye(), 5)


def test_what_is_broken_is_counted_once_whenever_it_shows(coco, tmp_path):
    (coco / "val2014" / "COCO_val2014_000000000101.jpg").write_text("no picture")
    (coco / "val2014" / "COCO_val2014_000000000102.jpg").unlink()
    wanted = {"the picture can't be read": 2, "the picture is missing": 2}
    for _ in range(2):
        found = evaluated(coco, tmp_path / "m", Eye())
        assert result(found, "judge", "coco")["broken"] == wanted and found.drawn.count == 4 and found.real.count == 2


def test_a_set_without_whole_pictures(coco, tmp_path):
    for path in (coco / "val2014").iterdir():
        path.write_text("no picture")
    with pytest.raises(ValueError, match="holds no whole picture for any caption"):
        evaluated(coco, tmp_path / "m", Eye())
    for path in (coco / "val2014").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="holds no caption with a picture; is it unpacked"):
        evaluated(coco, tmp_path / "n", Eye())


def test_the_middle_is_taken():
    picture = Image.new("RGB", (400, 200), "red")
    picture.paste("blue", (100, 0, 300, 200))
    assert squared(picture).size == (256, 256) and squared(picture).getpixel((2, 2)) == (0, 0, 255)


def test_what_is_missing_for_the_papers_number(coco, tmp_path):
    found = evaluated(coco, tmp_path / "m", Eye())
    assert [one.split(":")[0] for one in result(found, "judge", "webdataset")["missing"]][:3] == [
        "the paper measures on coco, cub and ln-coco, not on webdataset", "8 captions instead of 30,000",
        "the judge's features instead of Inception's"]
    as_in_the_paper = found._replace(drawn_px=256)
    as_in_the_paper.drawn.count = 30_000
    by_inception = result(as_in_the_paper, "inception", "coco")
    assert len(by_inception["missing"]) == 1 and "fid" in by_inception and "fd_judge" not in by_inception


# --- the command -----------------------------------------------------------------------------------------------------

class Stub(Judge):
    def __init__(self):
        pass

    features = staticmethod(Eye())


def test_the_command(kd, coco, monkeypatch, tmp_path):
    monkeypatch.setattr(Judge, "load", lambda folder: Stub())
    printed = kd("evaluate", "coco", coco, "--out", "m", "--num-steps", 2, "--num", 5, "--json")
    assert printed.exit_code == 0, printed.output
    told = json.loads(printed.stdout)
    assert told == json.loads((tmp_path / "m" / "result.json").read_text())
    assert (told["preset"], told["num_captions"], told["features"]) == ("quick", 5, "judge") and told["fd_judge"] > 0
    lines = kd("evaluate", "coco", coco, "--out", "m", "--num-steps", 2, "--num", 5).stdout.splitlines()
    assert f"fd_judge      {told['fd_judge']}" in lines and "missing for a number of the paper's:" in lines
    assert "- 5 captions instead of 30,000: a distance of fewer pictures is too long" in lines


@pytest.mark.parametrize("words, message", [
    (["flickr", "x", "--out", "m"], "there is no reader of 'flickr'; choose one of coco"),
    (["coco", "nowhere", "--out", "m"], "for coco, nowhere should hold annotations/captions_val2014.json and val2014/"),
    (["coco", "coco", "--out", "m", "--num", 1], "--num 1 captions are too few"),
    (["coco", "coco", "--out", "m", "--inception", "x.pth"], "there is no x.pth; fetch Inception's weights"),
    (["coco", "coco", "--out", "m", "--seed", -1], "--seed = -1 must be a whole number"),
    (["coco", "coco", "--out", "m", "--preset", "none"], "there is no preset 'none'")])
def test_the_command_fails_in_one_line(kd, coco, monkeypatch, words, message):
    monkeypatch.setattr(Judge, "load", lambda folder: Stub())
    printed = kd("evaluate", *words)
    assert printed.exit_code == 2 and message in printed.stderr and printed.stderr.count("\n") == 1


def test_a_set_of_eight_times_the_size_takes_no_more_memory(coco, tmp_path, monkeypatch):
    """Of all that is listed only what is chosen is held."""
    import tracemalloc

    from kdlib.data.captioned.choose import Listing, choose
    from kdlib.data.captioned.published import read_set

    peaks = []
    for num in (500, 500, 4000):
        root = tmp_path / str(num)
        annotations = [{"image_id": 100 + n % 4, "id": n, "caption": f"caption {n} " * 9} for n in range(num)]
        save_coco(root, [coco_image(id) for id in range(100, 104)], annotations)
        tracemalloc.start()
        assert len(choose(read_set("coco", root, Listing()), 50, 0)) == 50
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]
