"""The ballot's two files: what the page shows, what the key says of it, and what it refuses to be made of."""

import base64
import io
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from kdlib.compendium.sheets import save_sheet
from kdlib.evaluation.human.ballot import MIN_CHECKS, QUESTIONS, make_ballot
from kdlib.evaluation.human.checks import COLOURS, SHAPES, alignment_check, draw_shape, quality_check
from kdlib.files import read_json, write_json

PROMPTS = [f"thing <{number}>" for number in range(30)]


def colour(method, row):
    """Of the picture for prompt `row`: no two pictures of all methods are equal."""
    return {"ours": (255, row, 0), "gan": (0, row, 255), "flat": (0, 255, row)}[method]


def save_samples(folder, method, prompts, size_px=8):
    """A folder as the stage `generation` writes it."""
    (folder / "pictures").mkdir(parents=True)
    for row in range(len(prompts)):
        Image.new("RGB", (size_px, size_px), colour(method, row)).save(folder / "pictures" / f"{row:03}.png")
    write_json(folder / "samples.json", [{"prompt": prompt, "picture": f"{row:03}.png", "seed": 0}
                                         for row, prompt in enumerate(prompts)])
    return folder


def save_cells(folder, method, prompts):
    """A folder with a sheet."""
    folder.mkdir()
    save_sheet(folder, [Image.new("RGB", (8, 8), colour(method, row)) for row in range(len(prompts))], prompts)
    return folder


def read_page(folder):
    """The JSON in the page: id, and passes with pairs."""
    page = (folder / "ballot.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="ballot">(.*?)</script>', page, re.DOTALL)[1])


def decoded(uri):
    """The picture of a data URI, as an array."""
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture
def methods(tmp_path):
    """Ours as samples, two others as samples and as a sheet."""
    return (save_samples(tmp_path / "ours", "ours", PROMPTS),
            {"gan": save_samples(tmp_path / "gan", "gan", PROMPTS),
             "flat": save_cells(tmp_path / "flat", "flat", PROMPTS)})


def test_the_key_says_which_picture_is_whose(methods, tmp_path):
    num_answers = make_ballot(*methods, tmp_path / "out", num_pairs=25)
    page, key = read_page(tmp_path / "out"), read_json(tmp_path / "out" / "key.json")
    assert page["id"] == key["id"] and [part["question"] for part in page["passes"]] == list(QUESTIONS)
    assert num_answers == sum(len(part["pairs"]) for part in page["passes"]) == 2 * (50 + 3)
    for part in page["passes"]:
        told = key["questions"][part["question"]]
        assert [pair["id"] for pair in part["pairs"]] == list(told)
        seen = Counter()
        for pair in part["pairs"]:
            what = told[pair["id"]]
            if "check" in what:
                continue
            row = PROMPTS.index(what["prompt"])
            theirs = "right" if what["ours"] == "left" else "left"
            assert (decoded(pair[what["ours"]]) == colour("ours", row)).all()
            near = 2 if what["against"] == "flat" else 0  # a sheet has a palette
            assert np.abs(decoded(pair[theirs]).astype(int) - colour(what["against"], row)).max() <= near
            assert pair["text"] == ("" if part["question"] == "quality" else what["prompt"])
            seen[what["against"], what["prompt"]] += 1
        assert len(seen) == 50 and set(seen.values()) == {1}
        assert len({prompt for _, prompt in seen}) == 25, "each method has the same prompts"


def test_sides_are_even_orders_differ_and_checks_lie_between_the_pairs(methods, tmp_path):
    make_ballot(*methods, tmp_path / "out", num_pairs=30)
    questions = read_json(tmp_path / "out" / "key.json")["questions"]
    orders = []
    for told in questions.values():
        pairs = [what for what in told.values() if "check" not in what]
        sides = Counter((what["against"], what["ours"]) for what in pairs)
        assert set(sides.values()) == {15} and len(sides) == 4
        assert 20 < len([1 for one, two in zip(pairs, pairs[1:], strict=False) if one["ours"] != two["ours"]]) < 45
        checks = [place for place, what in enumerate(told.values()) if "check" in what]
        assert len(checks) == MIN_CHECKS and 0 not in checks
        assert [place // 21 for place in checks] == [0, 1, 2], "one in each third"
        orders.append([(what["against"], what["prompt"]) for what in pairs])
    assert orders[0] != orders[1] and set(orders[0]) == set(orders[1])


def test_the_same_seed_is_the_same_page_and_another_one_another(methods, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_ballot(*methods, tmp_path / name, num_pairs=7, seed=seed)
    same, again, other = ((tmp_path / name / "ballot.html").read_bytes() for name in "abc")
    assert same == again != other
    assert read_page(tmp_path / "a")["id"] != read_page(tmp_path / "c")["id"]


def test_the_page_names_no_method(methods, tmp_path):
    make_ballot(*methods, tmp_path / "out", num_pairs=7)
    page = re.sub(r"base64,[\w+/=]+", "", (tmp_path / "out" / "ballot.html").read_text())
    assert not re.search(r"\b(ours|theirs|gan|flat|against|check)\b", page)
    assert "thing \\u003c" in page and "thing <" not in page, "a prompt closes no element of the page"


def test_only_the_prompts_that_are_asked_for(methods, tmp_path):
    make_ballot(*methods, tmp_path / "out", num_pairs=2, prompts=[PROMPTS[4], PROMPTS[9], PROMPTS[4]])
    told = read_json(tmp_path / "out" / "key.json")["questions"]["quality"].values()
    assert {what["prompt"] for what in told if "prompt" in what} == {PROMPTS[4], PROMPTS[9]}


def test_prompts_that_not_all_have_drawn_are_left_out(methods, tmp_path):
    few = save_samples(tmp_path / "few", "gan", PROMPTS[3:9])
    make_ballot(methods[0], {"few": few}, tmp_path / "out", num_pairs=6)
    told = read_json(tmp_path / "out" / "key.json")["questions"]["quality"].values()
    assert {what["prompt"] for what in told if "prompt" in what} == set(PROMPTS[3:9])
    with pytest.raises(ValueError, match="num_pairs = 7 must be from 1 to 6: there are 6 prompts for which all"):
        make_ballot(methods[0], {"few": few}, tmp_path / "out2", num_pairs=7)
    with pytest.raises(ValueError, match="few has no picture for 'thing <0>' and 2 more; draw it"):
        make_ballot(methods[0], {"few": few}, tmp_path / "out2", num_pairs=1, prompts=PROMPTS[:4])


def test_a_ballot_is_never_replaced(methods, tmp_path):
    make_ballot(*methods, tmp_path / "out", num_pairs=3)
    before = (tmp_path / "out" / "key.json").read_bytes()
    with pytest.raises(ValueError, match="out exists, and a ballot's key is never replaced"):
        make_ballot(*methods, tmp_path / "out", num_pairs=3, seed=1)
    assert (tmp_path / "out" / "key.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    make_ballot(*methods, tmp_path / "empty", num_pairs=3)


def damage(folder, text):
    (folder / "samples.json").write_text(text)


@pytest.mark.parametrize("harm, message", [
    (lambda gan: (gan / "pictures" / "002.png").unlink(), r"002.png, the picture for 'thing <2>', is missing"),
    (lambda gan: (gan / "pictures" / "002.png").write_text("x"), r"002.png can't be read: no picture"),
    (lambda gan: damage(gan, "{}"), r"samples.json is no list of {\"prompt\": ..., \"picture\": ...}"),
    (lambda gan: damage(gan, "["), r"samples.json is not valid JSON"),
    (lambda gan: damage(gan, '[{"prompt": "a", "picture": "../../key.png"}]'), r"samples.json is no list of"),
    (lambda gan: damage(gan, '[{"prompt": "a", "picture": null}]'), r"samples.json is no list of"),
    (lambda gan: damage(gan, "[]"), r"there is no prompt for which all of ours, gan, flat have a picture"),
    (lambda gan: (gan / "samples.json").unlink(), r"gan holds no samples.json and no pictures.json"),
    (lambda gan: (gan.parent / "flat" / "pictures.png").unlink(), r"flat/pictures.png is missing"),
    (lambda gan: (gan.parent / "flat" / "pictures.png").write_text("x"), r"flat/pictures.png holds no sheet"),
    (lambda gan: Image.new("RGB", (64, 24)).save(gan.parent / "flat" / "pictures.png"),
     r"flat/pictures.png, 64 x 24 px, has no room for 30 cells of 8 px in 8 columns"),
    (lambda gan: (gan.parent / "flat" / "pictures.json").write_text("{}"),
     r"flat/pictures.json doesn't say size_px, columns and prompts"),
])
def test_what_is_missing_or_damaged_is_named(methods, tmp_path, harm, message):
    harm(methods[1]["gan"])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_ballot(*methods, tmp_path / "out", num_pairs=30)
    assert not (tmp_path / "out").exists()


def test_names_of_methods_are_told_apart(methods, tmp_path):
    for theirs, message in (({}, "nothing to compare"), ({"ours": methods[0]}, "'ours'"), ({" ": methods[0]}, "''")):
        with pytest.raises(ValueError, match=message):
            make_ballot(methods[0], theirs, tmp_path / "out", num_pairs=3)


def test_a_page_too_large_for_browsers_is_refused(methods, tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.evaluation.human.ballot.MAX_PAGE_BYTES", 9000)
    with pytest.raises(ValueError, match="the page would have 0 MB, more than browsers open .* ask for fewer pairs"):
        make_ballot(*methods, tmp_path / "out", num_pairs=30)


# --- attention checks ----------------------------------------------------------------------------------------------

def test_checks_have_one_right_answer():
    random = np.random.default_rng(0)
    for _ in range(40):
        check = alignment_check(64, random)
        word, shape = re.fullmatch(r"a (\w+) (\w+)", check.text).groups()
        right, wrong = np.asarray(check.right), np.asarray(check.wrong)
        wanted = np.asarray(Image.new("RGB", (1, 1), COLOURS[word]))[0, 0]
        assert (right[32, 32] == wanted).all() and (wrong[32, 32] != wanted).any(), "the middle has the colour"
        assert (right == np.asarray(draw_shape(word, shape, 64))).all()
        ink = lambda picture: picture.min(2) < 128
        assert (ink(right) != ink(wrong)).mean() > 0.05, "another shape"


def test_the_shapes_cover_what_geometry_says():
    area = {"circle": np.pi * 0.38 ** 2, "square": 0.7 ** 2, "triangle": 0.5 * 0.8 * 0.73,
            "cross": 2 * 0.2 * 0.8 - 0.2 ** 2}
    assert area.keys() == SHAPES.keys()
    for shape, wanted in area.items():
        drawn = 255 - np.asarray(draw_shape("blue", shape, 200).convert("L"), float)
        assert drawn.mean() / drawn[100, 100] == pytest.approx(wanted, rel=0.02)


def test_a_check_of_quality_spoils_seven_of_ten_pixels():
    picture = Image.new("RGB", (100, 100), "white")
    check = quality_check(picture, np.random.default_rng(0))
    assert check.right is picture and check.text == ""
    assert (np.asarray(check.wrong) != 255).any(2).mean() == pytest.approx(0.7, abs=0.02)
