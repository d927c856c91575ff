"""Open Clip Art as Debian packs it: drawings by hundreds of hands, in the public domain, with their own titles.

No part of the compendium learns from it: it is fetched for a test alone (section 4.2's zero-shot sets).
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

PACKAGE, PACKAGE_VERSION = "openclipart-svg", "1:0.18+dfsg-19"
PACKAGE_SHA256 = "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
FOLDERS = ("animals", "buildings", "electronics", "food", "office", "plants", "recreation", "tools", "transportation")
MAX_BYTES = 200_000  # of a drawing; larger ones are traced photographs
MAX_WORDS = 5
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
HEAD = 60  # bytes before each member of an ar archive


def fetch_openclipart() -> bytes:
    """Debian's package as bytes, through apt-get.

    Raises FileNotFoundError where there is no apt-get, ValueError where it has no such package or another one.
    """
    if shutil.which("apt-get") is None:
        raise FileNotFoundError(f"apt-get is needed to fetch {PACKAGE}; run this on Debian, or leave out openclipart")
    with tempfile.TemporaryDirectory() as folder:
        command = ["apt-get", "download", "-qq", f"{PACKAGE}={PACKAGE_VERSION}"]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        found = sorted(Path(folder).glob("*.deb"))
        if not found:
            raise ValueError(f"apt-get has no {PACKAGE} {PACKAGE_VERSION} ({' '.join(done.stderr.split())[:200]}); run "
                             "`apt-get update`, or leave out openclipart")
        content = found[0].read_bytes()
    if (sha256 := hashlib.sha256(content).hexdigest()) != PACKAGE_SHA256:
        raise ValueError(f"{PACKAGE} has sha256 {sha256}, expected {PACKAGE_SHA256}; the package was changed")
    return content


def read_openclipart(package: bytes) -> pd.DataFrame:
    """The drawings of things: a row each, in the order of their paths; columns id, style, title, author, licence, svg.

    Those with a title of their own of at most MAX_WORDS words, of FOLDERS; a title is one drawing, the first.
    """
    rows = []
    with tarfile.open(fileobj=io.BytesIO(member(package, "data.tar")), mode="r:*") as archive:
        for entry in archive:
            folder, _, name = entry.name.partition("/svg/")[2].partition("/")
            if entry.isfile() and folder in FOLDERS and name.endswith(".svg") and entry.size <= MAX_BYTES:
                svg = archive.extractfile(entry).read().decode(errors="replace")
                title, author = described(svg)
                if title:
                    rows.append((f"openclipart:{folder}/{name}", "openclipart", title, author, "CC-PDDC", svg))
    table = pd.DataFrame(sorted(rows), columns=["id", "style", "title", "author", "licence", "svg"])
    return table.drop_duplicates("title").reset_index(drop=True)


def described(svg: str) -> tuple[str, str]:
    """A drawing's own title in plain words, and its author; "" for a title that says nothing."""
    try:
        found = list(ElementTree.fromstring(svg.encode()).iter())
    except ElementTree.ParseError:
        return "", ""
    titles = [element.text or "" for element in found if element.tag == f"{DUBLIN_CORE}title"]  # its own, its author's
    words = re.findall(r"[a-z]+", titles[0].lower()) if titles else []
    while words and words[0] in ("a", "an", "the"):
        words = words[1:]
    told = 1 <= len(words) <= MAX_WORDS and len("".join(words)) > 2 and not re.search(r"\d|_", titles[0])
    return " ".join(words) if told else "", " ".join(titles[1:2]).strip() or "unknown"


def member(package: bytes, name: str) -> bytes:
    """The member of a Debian package (an ar archive) whose name begins so; ValueError where there is none."""
    for found, content in members(package):
        if found.startswith(name):
            return content
    raise ValueError(f"this Debian package has no {name}; fetch it again")


def members(package: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member of an ar archive, as far as it goes."""
    start = 8
    while package[:8] == b"!<arch>\n" and start + HEAD <= len(package):
        head = package[start:start + HEAD]
        size = int(head[48:58])
        yield head[:16].decode().rstrip(" /"), package[start + HEAD:start + HEAD + size]
        start += HEAD + size + size % 2
