"""The reader of shards against such as img2dataset writes, made here; and sets that aren't there."""

import io
import json
import tarfile

import pytest

from kdlib.data.captioned import Tally, read_coco, read_cub, read_narratives, read_shards, read_table
from tests.data.captioned.sets import COLOURS, jpeg, looks, told


def save_shard(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def sample(key, colour, caption="a thing", **more):
    """As img2dataset writes it."""
    told = {"url": "http://x/y.jpg", "caption": caption, "key": key, "status": "success", "error_message": None,
            "width": 16, "height": 12, "original_width": 16, "original_height": 12, "exif": "{}", "sha256": "0"} | more
    return [(f"{key}.jpg", jpeg(colour)), (f"{key}.json", json.dumps(told).encode()), (f"{key}.txt", caption.encode())]


def test_shards(tmp_path):
    first = save_shard(tmp_path / "00000.tar", sample("000000000", "red") + sample("000000003", "lime", "fürs Bild"))
    licence = {"license": "https://creativecommons.org/licenses/by/2.0/"}
    second = save_shard(tmp_path / "00001.tar.gz", [
        ("./a/x.png", jpeg("blue")), ("./a/x.seg.pyd", b"cposix\nsystem\n."), ("./a/x.txt", b"from a folder\n"),
        *sample("7", "yellow", **licence)[:2]], "w:gz")
    tally = Tally()
    found = list(read_shards([first, second], tally))
    assert told(found) == [("00000/000000000", "a thing", "unknown"), ("00000/000000003", "fürs Bild", "unknown"),
                           ("00001.tar/x", "from a folder", "unknown"), ("00001.tar/7", "a thing", "CC-BY-2.0")]
    assert all(looks(one.picture, colour) for one, colour in zip(found, COLOURS, strict=True)) and tally.num_read == 4


def test_what_is_broken_in_shards_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.data.captioned.shards.MAX_BYTES", 5000)
    shard = save_shard(tmp_path / "0.tar", [
        ("a.txt", b"no picture"), ("b.jpg", jpeg("red")), *sample("c", "red")[1:], ("d.jpg", b"x"), ("d.txt", b"d"),
        ("e.jpg", jpeg("red")), ("e.txt", b"\xff"), ("f.jpg", jpeg("red")), ("f.json", b"{"), ("g.jpg", b"x" * 6000),
        ("g.txt", b"large"), ("h.jpg", jpeg("red")), ("h.json", b'[]'), *sample("i", "lime")])
    tally = Tally()
    assert [one.id for one in read_shards([shard], tally)] == ["0/i"]
    assert tally.num_broken == {"the picture is missing": 2, "there is no caption": 2, "the picture can't be read": 1,
                                "the sample's text can't be read": 2, "a file of the sample is too large": 1}


@pytest.mark.parametrize("cut", [700, 1600, 2600, 4000])
def test_a_shard_that_is_cut_short_does_not_end_the_next(tmp_path, cut):
    whole = save_shard(tmp_path / "1.tar", sample("x", "lime"))
    short = save_shard(tmp_path / "0.tar", sample("a", "red") + sample("b", "red"))
    short.write_bytes(short.read_bytes()[:cut])
    (tmp_path / "2.tar").write_text("<html>")
    tally = Tally()
    found = list(read_shards([short, tmp_path / "2.tar", whole], tally))
    assert found[-1].id == "1/x" and [one.id for one in found[:-1]] == ["0/a"] * (cut > 2560)
    assert tally.num_broken["the shard is cut short or damaged"] == 2
    assert [one.path for one in tally.broken if "shard" in one.reason] == ["0.tar", "2.tar"]


# --- what isn't there ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("read", [
    lambda root: read_coco(root / "absent", root, Tally()), lambda root: read_coco(root, root / "absent", Tally()),
    lambda root: read_narratives(root / "absent", root, Tally()), lambda root: read_cub(root, root / "absent", Tally()),
    lambda root: read_cub(root / "absent", root, Tally()), lambda root: read_table(root / "absent", root, Tally()),
    lambda root: read_shards([root / "absent"], Tally())])
def test_a_set_that_is_not_there_is_told_before_the_first_caption(tmp_path, read):
    with pytest.raises(FileNotFoundError, match="there is no .*; fetch the set, and unpack it"):
        read(tmp_path)


def test_no_shards_at_all():
    with pytest.raises(ValueError, match="there are no shards to read"):
        read_shards([], Tally())
