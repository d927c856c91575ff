"""kdlib.data.openclipart and zero_shot: packages made by hand; what is read, left out, never fetched."""

import io
import tarfile

import numpy as np
import pytest

from kdlib.data import openclipart, zero_shot
from kdlib.data.openclipart import described, member, read_openclipart
from kdlib.data.zero_shot import drawn_rows, load_zero_shot, rendered
from tests.data.test_world import STICKERS, icon_set

STICKERS = STICKERS.assign(id=STICKERS["style"] + ":" + STICKERS.concept, skin_tone="", author="an artist",
                           title=STICKERS.concept.str.replace("-", " "), licence="MIT",
                           svg=[f"<svg>{n}</svg>" for n in range(len(STICKERS))])


def drawing(title, author="Ann", fill="red", more=""):
    """An SVG with its description, as Inkscape writes it."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/" viewBox="0 0 16 16">
<metadata><work><dc:title>{title}</dc:title><dc:creator><agent><dc:title>{author}</dc:title></agent></dc:creator></work>
</metadata><path d="M2 2h6v6h-6z" fill="{fill}"/>{more}</svg>"""


def package(files):
    """A Debian package: an ar archive of debian-binary, control.tar.xz and data.tar.xz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"./usr/share/openclipart/svg/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    content = b"!<arch>\n"
    for name, body in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", buffer.getvalue())):
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body
        content += b"\n" * (len(body) % 2)
    return content


PACKAGE = package({
    "food/b.svg": drawing("A Lemon half"), "food/a.svg": drawing("An Apple", "Bob"),
    "animals/x/cat.svg": drawing("Cat"), "food/again.svg": drawing("the apple"),
    "food/none.svg": drawing(""), "food/number.svg": drawing("fc 19"),
    "food/long.svg": drawing("a b c d e f g"), "food/text.txt": drawing("Pie"), "shapes/star.svg": drawing("Star"),
    "food/broken.svg": "<svg", "food/huge.svg": drawing("Soup", more="<g/>" * 60_000)})


def test_things_with_titles_of_their_own_are_read():
    table = read_openclipart(PACKAGE)
    assert table[["id", "title", "author", "licence"]].to_numpy().tolist() == [
        ["openclipart:animals/x/cat.svg", "cat", "Ann", "CC-PDDC"],
        ["openclipart:food/a.svg", "apple", "Bob", "CC-PDDC"],
        ["openclipart:food/b.svg", "lemon half", "Ann", "CC-PDDC"]]
    assert set(table["style"]) == {"openclipart"}


@pytest.mark.parametrize("title, words", [
    ("An Apple", "apple"), ("the old barn", "old barn"), ("ab", ""), ("fc_19", ""), ("A", ""),
    ("ice cream", "ice cream")])
def test_titles_in_words(title, words):
    assert described(drawing(title))[0] == words


def test_what_is_no_debian_package():
    assert member(PACKAGE, "debian-binary") == b"2.0\n"
    for content in (b"", b"<html>", PACKAGE[:100]):
        with pytest.raises(ValueError, match="this Debian package has no data.tar; fetch it again"):
            member(content, "data.tar")


def test_another_package_is_refused(monkeypatch, tmp_path):
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho other > openclipart-svg_1.deb\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ValueError, match="openclipart-svg has sha256 .*; the package was changed"):
        openclipart.fetch_openclipart()
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho E: no such package >&2\nexit 100\n")
    with pytest.raises(ValueError, match="apt-get has no openclipart-svg 1:0.18.* \\(E: no such package\\)"):
        openclipart.fetch_openclipart()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="apt-get is needed"):
        openclipart.fetch_openclipart()


@pytest.fixture
def packages(monkeypatch):
    sets = {"marketeq": icon_set(["apple-fruit", "apple", "drum-2", "drum-3", "4k", "copy"])}
    sets["marketeq"]["icons"]["copy"]["body"] = "same"
    monkeypatch.setattr(zero_shot, "fetch_package", lambda: b"npm")
    monkeypatch.setattr(zero_shot, "read_icon_sets", lambda package, names: {name: sets[name] for name in names})
    monkeypatch.setattr(zero_shot, "fetch_openclipart", lambda: PACKAGE)


def test_sets_have_concepts_and_say_which_are_seen(packages):
    table = load_zero_shot(["marketeq", "openclipart"], STICKERS)
    assert table[["style", "title", "concept", "seen"]].to_numpy().tolist() == [
        ["marketeq", "apple", "red-apple", True], ["marketeq", "apple fruit", "applefruit", False],
        ["marketeq", "copy", "copy", False], ["marketeq", "drum", "drum", False],
        ["openclipart", "cat", "cat", False], ["openclipart", "apple", "red-apple", True],
        ["openclipart", "lemon half", "lemonhalf", False]]


def test_drawings_of_the_stickers_are_left_out(packages):
    alike = load_zero_shot(["marketeq"], STICKERS).svg[0]
    table = load_zero_shot(["marketeq"], STICKERS.assign(svg=[alike, *STICKERS.svg[1:]]))
    assert "apple" not in table.title.tolist() and "apple fruit" in table.title.tolist()


def test_a_bundled_style_stands_in_and_fetches_nothing(monkeypatch):
    for name in ("fetch_package", "fetch_openclipart"):
        monkeypatch.setattr(zero_shot, name, None)
    assert load_zero_shot(["openmoji"], STICKERS).title.tolist() == ["drum", "two hearts"]
    with pytest.raises(ValueError, match="there is no set 'photos'; choose among streamline"):
        load_zero_shot(["openmoji", "photos"], STICKERS)


def test_some_are_drawn_and_empty_or_broken_ones_passed_by(packages):
    table = load_zero_shot(["openclipart"], STICKERS)
    table.loc[1, "svg"] = drawing("An Apple", fill="white")
    table.loc[len(table)] = table.loc[0].to_dict() | {"id": "broken", "svg": "<svg"}
    kept, pictures = drawn_rows(table, 12, 9, 0)
    assert sorted(kept.title) == ["cat", "lemon half"] and pictures.shape == (2, 12, 12, 3)
    assert (pictures[:, 3, 3] == [255, 0, 0]).all() and (pictures[:, -1, -1] == 255).all()
    assert drawn_rows(table, 12, 1, 0)[0].id.tolist() == kept.id[:1].tolist()
    assert np.array_equal(drawn_rows(table, 12, 1, 0)[1], pictures[:1])
    assert rendered("<svg", 12) is None
