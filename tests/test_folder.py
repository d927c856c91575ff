"""kdlib.data.folder on pictures of every kind, and on what is none."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kdlib.data.folder import list_pictures, read_folder, read_picture


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "gif", "PNG"])
def test_every_format_comes_as_rgb(tmp_path, suffix):
    Image.new("RGB", (13, 7), (200, 30, 30)).save(tmp_path / f"a.{suffix}")
    [picture] = read_folder(tmp_path)
    assert (picture.id, picture.caption, picture.licence) == (f"a.{suffix}", None, "unknown")
    assert picture.image.mode == "RGB" and picture.image.size == (13, 7)
    assert np.abs(np.asarray(picture.image, int) - (200, 30, 30)).max() < 12


@pytest.mark.parametrize("mode, suffix", [("RGBA", "png"), ("LA", "png"), ("RGBA", "webp")])
def test_transparency_is_laid_on_white(tmp_path, mode, suffix):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    pixels = np.asarray(read_picture(tmp_path / f"a.{suffix}"))
    assert (pixels[:, :4] == 0).all() and (pixels[:, 4:] == 255).all()


def test_half_transparent_and_palette_transparency(tmp_path):
    Image.new("RGBA", (3, 5), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert np.abs(np.asarray(read_picture(tmp_path / "half.png"), int) - (255, 127, 127)).max() <= 1
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "p.gif", transparency=1)
    assert (np.asarray(read_picture(tmp_path / "p.gif")) == 255).all()


def test_first_frame_sixteen_bits_cmyk_and_exif(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    assert (np.asarray(read_picture(tmp_path / "moves.gif")) == (255, 0, 0)).all()
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert (np.asarray(read_picture(tmp_path / "deep.png")) == 128).all()
    Image.fromarray(np.full((4, 4), 65280, np.uint16)).save(tmp_path / "light.png")
    assert (np.asarray(read_picture(tmp_path / "light.png")) == 254).all()
    Image.new("CMYK", (4, 4)).save(tmp_path / "print.jpg")
    assert read_picture(tmp_path / "print.jpg").mode == "RGB"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (9, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (5, 9)


def gigantic_png():
    """A valid PNG header that promises 60,000 x 60,000 pixels in a few bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 99)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_unreadable_files_are_reported_and_never_fatal(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "z.png")
    whole = (tmp_path / "z.png").read_bytes()
    (tmp_path / "bomb.png").write_bytes(gigantic_png())
    (tmp_path / "cut.png").write_bytes(whole[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.gif").write_text("GIF of nothing")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "vector.webp").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    skipped = []
    assert [picture.id for picture in read_folder(tmp_path, skipped)] == ["z.png"]
    reasons = dict(skipped)
    assert sorted(reasons) == ["bomb.png", "cut.png", "dangling.png", "empty.jpg", "text.gif", "vector.webp"]
    assert "gigantic" in reasons["bomb.png"] or "decompression bomb" in reasons["bomb.png"]
    assert all(reasons.values())


def test_the_limit_on_pixels(tmp_path, monkeypatch):
    Image.new("RGB", (8, 7)).save(tmp_path / "a.png")
    monkeypatch.setattr("kdlib.data.folder.MAX_PIXELS", 56)
    assert read_picture(tmp_path / "a.png").size == (8, 7)
    monkeypatch.setattr("kdlib.data.folder.MAX_PIXELS", 55)
    with pytest.raises(ValueError, match="gigantic: 8 x 7 pixels, the limit is 55"):
        read_picture(tmp_path / "a.png")


def test_order_hidden_files_and_other_files(tmp_path):
    for name in ["b/2.png", "a/1.png", "a/.hidden.png", ".git/3.png", "10.png", "9.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [picture.id for picture in read_folder(tmp_path)] == ["10.png", "9.png", "a/1.png", "b/2.png"]
    assert len(list_pictures(tmp_path)) == 4


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "absent"):
        with pytest.raises(NotADirectoryError, match="is no folder of pictures"):
            list(read_folder(path))
