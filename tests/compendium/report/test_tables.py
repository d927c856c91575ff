"""kdlib.compendium.report.tables: names in words, the numbers as they were."""

from xml.etree import ElementTree

import pandas as pd
import pytest

from kdlib.compendium.report.tables import NAMES, in_words, readable_tables


def test_only_heads_change_and_they_keep_the_codes_name_as_title():
    table = pd.DataFrame({"fd_sticker": ["1.5 [1.25, 1.75]: can't be told"], "a_b": ["x_y"], "same": ["[0, 1]"]},
                         index=pd.Index(["no_knn"], name="way_to"))
    text = readable_tables(f"<div>\n{table.to_html()}\n</div>")
    cells = [[cell.text for cell in row] for row in ElementTree.fromstring(text).iter("tr")]
    assert cells[0] == [None, "FD-sticker ↓", "a b", "same"] and cells[1][0] == "way to"
    rows = [["".join(cell.itertext()) for cell in row] for row in ElementTree.fromstring(text).iter("tr")]
    assert rows[-1] == ["no knn", "1.5 [1.25, 1.75]: can't be told", "x_y", "[0, 1]"]
    assert '<th title="fd_sticker">FD-sticker ↓</th>' in text and "<th>same</th>" in text
    assert text.startswith("<div>\n<div class=\"kd-table\"") and text.endswith("</table></div>\n</div>")


def test_long_words_may_break_between_their_parts_and_numbers_may_not():
    table = pd.DataFrame({"8x256/64/512": ["OPQ256_512,IVF512", "benchmarks.sources", "1234567.123456", "a/b.c"]})
    text = readable_tables(table.to_html())
    assert "<th>8x256/<wbr>64/<wbr>512</th>" in text and "<td>OPQ256_<wbr>512,<wbr>IVF512</td>" in text
    assert "<td>benchmarks.<wbr>sources</td>" in text and "<td>1234567.123456</td>" in text and "<td>a/b.c</td>" in text


def test_names_are_escaped_as_they_were():
    text = readable_tables(pd.DataFrame({"a<b_&c": [1]}).to_html())
    assert '<th title="a&lt;b_&amp;c">a&lt;b &amp;c</th>' in text


@pytest.mark.parametrize("name, words", [("fd_sticker, ratio", "FD-sticker, ratio"), ("new_name", "new name"),
                                         ("cmmd, family_0", "CMMD, family 0"), ("other, a_b", "other, a b"),
                                         ("own styles", "own styles"), ("8 / 100", "8 / 100")])
def test_names_in_words(name, words):
    assert in_words(name) == words


def test_no_two_names_are_told_by_the_same_words():
    assert len(set(NAMES.values())) == len(NAMES) and not any("_" in words for words in NAMES.values())


def test_what_is_no_table_stays():
    assert readable_tables("<p>fd_sticker [0, 1]</p>") == "<p>fd_sticker [0, 1]</p>"
