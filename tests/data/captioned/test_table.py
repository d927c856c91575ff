"""The reader of tables against those that are published, made here, whole and with every kind of fault."""

import gzip

import numpy as np
import pytest

from kdlib.data.captioned import Tally, read_table
from tests.data.captioned.sets import COLOURS, looks, save_jpeg, told


def save_table(path, rows, num_pictures=3):
    for row in range(num_pictures):
        save_jpeg(path.parent / "files" / "00000" / f"{row:09}.jpg", COLOURS[row])
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", errors="surrogateescape") as file:
        file.write("".join(row + "\n" for row in rows))
    return path, path.parent / "files"


WIT = ("language\tpage_url\timage_url\tpage_title\tsection_title\thierarchical_section_title\t"
       "caption_reference_description\tcaption_attribution_description\tcaption_alt_text_description")


@pytest.mark.parametrize("name, rows, options", [
    ("Train_GCC-training.tsv", ['a "red" thing\thttp://x/0', "a lime thing\thttp://x/1"],
     {"columns": ("caption", "url")}),
    ("cc12m.tsv", ['http://x/0\ta "red" thing', "http://x/1\ta lime thing"], {"columns": ("url", "caption")}),
    ("cc3m.tsv", ["caption\turl", 'a "red" thing\thttp://x/0', "a lime thing\thttp://x/1"], {}),
    ("wit_v1.train.all-00000-of-00010.tsv.gz",
     [WIT, 'en\tp\ti\tt\t\t\ta "red" thing\tx\t', "de\tp\ti\tt\t\t\ta lime thing\t\t"],
     {"caption": "caption_reference_description"})])
def test_tables_as_they_are_published(tmp_path, name, rows, options):
    tally = Tally()
    found = list(read_table(*save_table(tmp_path / name, rows), tally, **options))
    assert told(found) == [("0", 'a "red" thing', "unknown"), ("1", "a lime thing", "unknown")]
    assert looks(found[0].picture, "red") and looks(found[1].picture, "lime") and tally.num_read == 2


def test_the_10001st_row_is_in_the_second_folder(tmp_path):
    table, pictures = save_table(tmp_path / "x.tsv", ["caption\turl"] + ["\tx"] * 10_000 + ["here\tx"])
    save_jpeg(pictures / "00001" / "000010000.jpg", "blue")
    tally = Tally()
    (found,) = read_table(table, pictures, tally)
    assert found.id == "10000" and looks(found.picture, "blue") and tally.num_broken == {"there is no caption": 10_000}


def test_what_is_broken_in_a_table_is_listed(tmp_path):
    rows = ["caption\turl", "a", "a\tb\tc", "", "\udcff thing\thttp://x", "no picture\thttp://x"]
    table, pictures = save_table(tmp_path / "x.tsv", rows, num_pictures=4)
    tally = Tally()
    assert [one.caption for one in read_table(table, pictures, tally)] == ["\ufffd thing"]
    assert tally.num_broken == {"the row has another number of columns": 3, "the picture is missing": 1}


def test_a_table_that_is_cut_short_is_given_as_far_as_it_goes(tmp_path):
    random = np.random.default_rng(0)
    rows = ["caption\turl"] + [f"thing {random.integers(10 ** 9)}\thttp://x" for _ in range(3000)]
    table, pictures = save_table(tmp_path / "x.tsv.gz", rows)
    table.write_bytes(table.read_bytes()[:10_000])
    tally = Tally()
    assert [one.id for one in read_table(table, pictures, tally)] == ["0", "1", "2"]
    assert tally.num_broken["the table is cut short or damaged"] == 1 and tally.num_broken.total() > 1000


@pytest.mark.parametrize("content, message", [
    (b"", "has no column 'caption', but none at all"), (b"a\tb\n", "has no column 'caption', but a, b; name another"),
    (gzip.compress(b"caption\turl\n", mtime=0)[:12], "x.tsv.gz can't be read"), (b"<html>", "x.tsv.gz can't be read")])
def test_a_file_that_is_no_table(tmp_path, content, message):
    table, pictures = save_table(tmp_path / ("x.tsv.gz" if "can't" in message else "x.tsv"), [])
    table.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(table, pictures, Tally())
