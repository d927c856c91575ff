"""kdlib.data.folder on pictures of every kind, and on what is none: broken, gigantic and hostile files."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from kdlib.data import folder
from kdlib.data.folder import list_files, read_picture, read_pictures, read_raster

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 5"'


@pytest.mark.parametrize("name, kind", [
    ("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP"), ("a.gif", "GIF"), ("a.PNG", "PNG"),
    ("a.bmp", "BMP"), ("a.tiff", "TIFF"), ("a.TIF", "TIFF"), ("a.avif", "AVIF"), ("a.jfif", "JPEG"), ("a", "PNG"),
    ("a.txt", "TIFF"), ("a.svg", "AVIF"), ("a.png", "BMP"), ("credits", "GIF")])
def test_every_format_comes_as_rgb_whatever_it_is_called(tmp_path, name, kind):
    Image.new("RGB", (13, 7), (200, 30, 30)).save(tmp_path / name, kind)
    [path], _ = list_files(tmp_path)
    for picture in (read_picture(path), *read_pictures([path])):
        assert picture.mode == "RGB" and picture.size == (13, 7)
        assert np.abs(np.asarray(picture, int) - (200, 30, 30)).max() < 12


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


def svg(body, head=SVG):
    return f"{head}>{body}</svg>"


def entity_bomb():
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE svg [<!ENTITY l0 "lol">{lines}]>' + svg("<text>&l9;</text>")


def use_bomb():
    groups = "".join(f'<g id="u{n}">' + f'<use href="#u{n - 1}"/>' * 10 + "</g>" for n in range(1, 10))
    return svg(f'<rect id="u0" width="5" height="5"/>{groups}')


def filtered(primitive):
    return svg(f'<filter id="f">{primitive}</filter><rect width="10" height="5" filter="url(#f)"/>')


BAD_SVGS = {
    "empty.svg": ("", "empty"),
    "page.svg": ("<html><body/></html>", "does not have a root node"),
    "cut.svg": (svg("<g>")[:-9], "parsing failed|root node"),
    "flat.svg": (svg("", '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="9"'), "invalid size"),
    "latin.svg": (svg("<!-- \xe9 -->").encode("latin-1"), "'utf-8' codec can't decode byte"),
    "klingon.svg": ('<?xml version="1.0" encoding="klingon"?>' + svg(""), "encoding klingon, which is not known"),
    "codec.svg": ('<?xml version="1.0" encoding="unicode_escape"?>' + svg(""), "which is not known"),
    "picture.svg": (b"\x89PNG\r\n\x1a\n", "."),
    "entities.svg": (entity_bomb(), "entity reference loop"),
    "foreign.svg": ('<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + svg("<text>&x;</text>"),
                    "unknown entity reference"),
    "uses.svg": (use_bomb(), "nodes limit reached"),
    "large.svg": (svg(" " * 10_000_000), "gigantic: 10,000,1.. bytes, the limit for an SVG is 10,000,000"),
    "deep.svg": (svg("<g>" * 20_000 + "</g>" * 20_000), "reading it crashes, or takes too much memory"),
    "slow.svg": (filtered('<feTurbulence baseFrequency="0.1" numOctaves="1000000000"/>'), "more than 2 seconds"),
}


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def two_seconds(tmp_path, monkeypatch):
    """Gives the process that reads pictures two seconds a file."""
    write(tmp_path / "program", Path(folder.__file__).read_text().replace("MAX_SECONDS = 20", "MAX_SECONDS = 2"))
    monkeypatch.setattr(folder, "__file__", str(tmp_path / "program"))
    monkeypatch.setattr(folder, "MAX_SECONDS", 2)


def test_bad_files_cost_nothing_but_themselves(tmp_path, two_seconds):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    mine = tmp_path / "mine"
    mine.mkdir()
    bad = BAD_SVGS | {
        "bomb.png": (gigantic_png(), "gigantic: .*3600000000 pixels"),
        "cut.png": (whole[:60], "."), "broken.png": (whole[:50] + b"\0" * 9 + whole[59:], "."),
        "empty.jpg": (b"", "no picture: the file is empty"), "text.gif": ("GIF of nothing", "no picture of a kind"),
        "tiff.png": (b"II*\0" + b"\0" * 99, "."), "page.html": ("<!DOCTYPE html><html><svg/></html>", "no picture of"),
        "poster.eps": ("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a kind that is read: png, "),
        "paper.pdf": ("%PDF-1.7\n", "no picture of a kind"), "notes.txt": ("a note", "no picture of a kind"),
        "phone.HEIC": (b"\0\0\0\x18ftypheic" + b"\0" * 99, "heic, which is read only where the package pillow-heif")}
    for name, (content, _) in bad.items():
        write(mine / name, content)
    (mine / "dangling.png").symlink_to(tmp_path / "nowhere")
    (mine / "device.png").symlink_to("/dev/zero")
    os.mkfifo(mine / "pipe.png")
    for name in ("a.png", "z.png", "deep.svg.png"):
        (mine / name).write_bytes(whole)
    bad |= {"dangling.png": ("", "^No such file"), "device.png": ("", "^no regular"), "pipe.png": ("", "^no regular")}
    paths, _ = list_files(mine)
    found = {path.name: picture for path, picture in zip(paths, read_pictures(paths), strict=True)}
    reasons = {name: found.pop(name) for name in bad}
    for name, (_, message) in bad.items():
        assert isinstance(reasons[name], str) and re.search(message, reasons[name]), (name, reasons[name])
        assert str(tmp_path) not in reasons[name]
    assert sorted(found) == ["a.png", "deep.svg.png", "z.png"]
    assert all((np.asarray(picture) == (255, 0, 0)).all() for picture in found.values())


def test_a_program_that_fails_is_no_bad_picture(tmp_path, monkeypatch):
    write(tmp_path / "program", "raise SystemExit(3)")
    monkeypatch.setattr(folder, "__file__", str(tmp_path / "program"))
    with pytest.raises(RuntimeError, match="the process that reads pictures fails; see what it says: .*program"):
        read_pictures([tmp_path / "a.png"])


def test_memory_is_limited(tmp_path, monkeypatch):
    Image.new("RGB", (4000, 4000)).save(tmp_path / "a.png")
    program = Path(folder.__file__).read_text().replace("MAX_MEMORY_BYTES = 4 << 30", "MAX_MEMORY_BYTES = 1 << 26")
    write(tmp_path / "program", program)
    monkeypatch.setattr(folder, "__file__", str(tmp_path / "program"))
    [reason] = read_pictures([tmp_path / "a.png"])
    assert reason in ("MemoryError", "reading it crashes, or takes too much memory")


@pytest.mark.parametrize("box, size", [("0 0 10 5", (256, 128)), ("0 0 1 100000", (1, 256)), ("-3 -3 7 7", (256, 256))])
def test_a_drawing_fits_its_box_on_white(tmp_path, box, size):
    write(tmp_path / "a.svg", f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"><g/></svg>')
    picture = read_picture(tmp_path / "a.svg")
    assert picture.size == size and (np.asarray(picture) == 255).all()


def test_a_huge_drawing_is_drawn_small_and_half_transparent_on_white(tmp_path):
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="1000000000" height="500000000"'
    write(tmp_path / "a.svg", "\ufeff" + svg('<rect width="100%" height="100%" fill="red" opacity="0.5"/>', head))
    picture = read_picture(tmp_path / "a.svg")
    assert picture.size == (256, 128)
    assert np.abs(np.asarray(picture, int) - (255, 127, 127)).max() <= 1


def test_a_drawing_reads_no_other_file(tmp_path):
    Image.new("RGB", (10, 10), "red").save(tmp_path / "secret.png")
    write(tmp_path / "secret.svg", svg('<rect width="10" height="10" fill="red"/>'))
    for number, name in enumerate(["secret.png", "secret.svg"]):
        for reference in (name, str(tmp_path / name), f"file://{tmp_path / name}", f"&x;{name}"):
            entity = f'<!DOCTYPE svg [<!ENTITY x "{tmp_path}/">]>'
            image = f'<image xlink:href="{reference}" width="10" height="10"/><feImage href="{reference}"/>'
            write(tmp_path / f"a{number}.svg", entity + svg(image))
            assert (np.asarray(read_picture(tmp_path / f"a{number}.svg")) == 255).all(), reference
    open(tmp_path / "secret.png").close()  # this process may open files again


def test_large_pictures_are_reduced(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.linear_gradient("L").resize((1536, 3072)).save(tmp_path / name)
        pixels = np.asarray(read_picture(tmp_path / name), int)
        assert pixels.shape == (512, 256, 3)
        assert np.abs(pixels[:, 128, 0] - np.linspace(0, 255, 512)).max() < 4


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
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    paths, skipped = list_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "10.png", "9.png", "a/1.png", "b/2.png", "notes.txt"]
    assert skipped == [("link", "a folder that is not read: a link to a folder; it is not followed")]


def test_folders_that_cannot_be_entered_are_told(tmp_path, monkeypatch):
    for name in ("shut", "open"):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "1.png")
    enter = os.scandir

    def guarded(path):
        if Path(path).name in shut:
            raise PermissionError(13, "Permission denied", path)
        return enter(path)

    monkeypatch.setattr(os, "scandir", guarded)
    shut = ["shut"]
    paths, skipped = list_files(tmp_path)
    assert paths == [tmp_path / "open" / "1.png"]
    assert skipped == [("shut", "a folder that is not read: Permission denied")]
    shut = [tmp_path.name]
    with pytest.raises(PermissionError, match=str(tmp_path)):
        list_files(tmp_path)


def test_a_path_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        Path("n" * 250).write_text("")
        os.mkdir("m" * 250)
        os.chdir("m" * 250)
    paths, [(path, reason)] = list_files(tmp_path)
    assert len(paths) > 9 and path.startswith("mmm") and reason == "a folder that is not read: File name too long"
    assert set(read_pictures(paths)) == {"no picture: the file is empty", "File name too long"}


@pytest.mark.parametrize("encoding, told", [
    ("latin-1", "ISO-8859-1"), ("latin-1", "iso-8859-1"), ("windows-1252", "windows-1252"), ("utf-8", "UTF-8"),
    ("shift_jis", "Shift_JIS"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "utf-16"),
    ("utf-8-sig", "utf-8"), ("koi8-r", "KOI8-R")])
def test_a_drawing_in_the_encoding_that_it_declares(tmp_path, encoding, told):
    word = {"shift_jis": "\u30ea\u30f3\u30b4", "koi8-r": "\u043c\u0438\u0440"}.get(encoding, "caf\xe9")
    text = f'<?xml version="1.0" encoding="{told}" standalone="no"?>\n' + svg(
        f'<g id="{word}"><rect width="10" height="5" fill="red"/></g><use href="#{word}" y="0"/>')
    for name in ("a.svg", "a"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert (np.asarray(read_picture(tmp_path / name)) == (255, 0, 0)).all()
    assert folder.decode_xml(text.encode(encoding)) == text


def test_a_drawing_in_utf_16_without_a_declaration(tmp_path):
    write(tmp_path / "a.svg", svg('<rect width="10" height="5" fill="red"/>').encode("utf-16"))
    assert (np.asarray(read_picture(tmp_path / "a.svg")) == (255, 0, 0)).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_greys_without_a_white_are_refused(tmp_path, mode):
    Image.new(mode, (4, 4), 1).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="don't say what white is"):
        read_picture(tmp_path / "a.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_kind_of_tiff(tmp_path, mode):
    Image.new("RGB", (5, 3), "red" if mode not in "1L" else "white").convert(mode).save(tmp_path / "a.tiff")
    expected = (255, 0, 0) if mode not in "1L" else (255, 255, 255)
    assert np.abs(np.asarray(read_picture(tmp_path / "a.tiff"), int) - expected).max() <= 2


def test_a_turned_tiff_stands_upright(tmp_path):
    Image.new("RGB", (9, 5)).save(tmp_path / "a.tiff", tiffinfo={0x0112: 6})
    assert read_picture(tmp_path / "a.tiff").size == (5, 9)


def test_heic_is_read_with_its_plugin(tmp_path, monkeypatch):
    """A plugin registers HEIF with Pillow; this one finds a PNG behind the brand."""
    def open_heif(file, filename):
        file.seek(12)
        return Image.open(io.BytesIO(file.read()), formats=("PNG",))

    monkeypatch.setitem(Image.OPEN, "HEIF", (open_heif, lambda prefix: prefix[4:12] == b"ftypheic"))
    png = io.BytesIO()
    Image.new("RGB", (7, 5), "red").save(png, "PNG")
    write(tmp_path / "a.heic", b"\0\0\0\x18ftypheic" + png.getvalue())
    assert read_picture(tmp_path / "a.heic").size == (7, 5)


def test_no_other_format_of_pillows_is_opened(tmp_path):
    for kind in ("ICO", "PPM", "TGA", "PCX", "EPS", "PDF", "JPEG2000", "SGI", "DDS"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png", kind)
        with pytest.raises(ValueError, match="no picture of a kind that is read"):
            read_picture(tmp_path / "a.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.bmp")
    with pytest.raises(UnidentifiedImageError, match="^no picture: it is none of png, jpeg, webp, gif$"):
        read_raster(tmp_path / "a.bmp", folder.WEB_FORMATS)


def beginnings():
    """The first bytes of every kind of picture."""
    kept = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        buffer = io.BytesIO()
        Image.effect_noise((33, 21), 60).convert("RGB").save(buffer, kind)
        kept += [buffer.getvalue()[:length] for length in (4, 12, 40, 200, None)]
    return [*kept, b"", b"<svg", b"<?xml", b"\xff\xfe<\0s\0v\0g\0", b'<svg xmlns="http://www.w3.org/2000/svg" a=""']


@settings(max_examples=5, deadline=None)
@given(contents=st.lists(st.builds(lambda start, rest, cut: (start + rest)[:cut], st.sampled_from(beginnings()),
                                   st.binary(max_size=300), st.integers(0, 2000)), min_size=30, max_size=60))
def test_any_bytes_are_a_picture_or_one_sentence(tmp_path_factory, contents):
    mine = tmp_path_factory.mktemp("any")
    for number, content in enumerate(contents):
        (mine / str(number)).write_bytes(content)
    paths, _ = list_files(mine)
    for answer in read_pictures(paths):
        if isinstance(answer, str):
            assert answer and "\n" not in answer and "Traceback" not in answer and str(mine) not in answer
        else:
            assert answer.mode == "RGB" and max(answer.size) <= 512


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "absent"):
        with pytest.raises(NotADirectoryError, match="is no folder of pictures"):
            list_files(path)
