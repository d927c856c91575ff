"""Openverse's public API as an image search engine: openly licensed pictures, over the network.

Nothing that comes back is trusted: time, bytes, types, pixels, addresses and characters are checked.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import logging
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Timer
from urllib.parse import quote, urlencode, urljoin, urlsplit

from PIL import Image

from kdlib.data.folder import WEB_FORMATS, read_raster
from kdlib.retrieval.engines import FoundPicture, check_query

BASE_URL = "https://api.openverse.org/v1/images/"
PAGE_SIZE = 20  # the API refuses more without an account,
MAX_PAGES = 12  # and anyone who looks deeper than 240 pictures
JSON, MAX_JSON_BYTES = ("application/json",), 4_000_000
PICTURES, MAX_PICTURE_BYTES = ("image/jpeg", "image/png", "image/webp", "image/gif"), 20_000_000
MAX_SIDE_PX = 512  # larger pictures are made smaller at once, since those of a search are in memory together
MAX_REDIRECTS = 3
HEADERS = {"User-Agent": "kdlib (KNN-Diffusion research compendium)", "Connection": "close"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often to try again.

    connect_s   for a connection, and for each sign of life on it      back_off_s  before a retry; doubled each time
    request_s   for a request, its redirects included                  max_wait_s  who asks to wait longer is given up
    search_s    for all requests of a search                           retries     after 429, 5xx or a time-out
    """

    connect_s: float = 5.0
    request_s: float = 15.0
    search_s: float = 90.0
    back_off_s: float = 1.0
    max_wait_s: float = 30.0
    retries: int = 2


class FetchError(OSError):
    """Why something can't be had; wait_s is None, or the least seconds after which another try may help."""

    def __init__(self, message: str, wait_s: float | None = None):
        super().__init__(message)
        self.wait_s = wait_s


class OpenverseEngine:
    """Searches openly licensed pictures by title and tags; the text goes to a server. No account, no proxy.

    base_url  the API's address for images; any server that speaks the same JSON will do
    patience  how long to wait for answers
    """

    def __init__(self, base_url: str = BASE_URL, patience: Patience | None = None):
        self.base_url, self.patience = base_url, patience or Patience()

    def search_images(self, text: str, n: int) -> list[FoundPicture]:
        """At most n pictures, best first, at most MAX_SIDE_PX wide and high; broken results are skipped and logged.

        Licences are named as in SPDX ("CC-BY-SA-4.0"); the source is the address of the picture's own page. Raises
        ValueError for an empty text or n < 1, FetchError (an OSError) when the API can't be reached or makes no sense.
        """
        check_query(text, n)
        client, found = Client(self.base_url, self.patience), {}
        for result in self._results(client, text, n):
            try:
                picture = fetch_picture(client, result)
                found.setdefault(picture.id, picture)
            except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
                log.warning("Openverse: skipped %s: %s", field(result, "id") or "a result", error)
            if len(found) == n:
                break
        return list(found.values())

    def _results(self, client: Client, text: str, n: int) -> Iterator:
        """The API's results, page after page; they end where a page after the first can't be had."""
        for page in range(1, MAX_PAGES + 1):
            query = urlencode({"q": text, "page": page, "page_size": min(n, PAGE_SIZE)})
            try:
                answer = json.loads(client.get(f"{self.base_url}?{query}", JSON, MAX_JSON_BYTES))
                results, last = list(answer["results"]), page >= int(answer["page_count"])
            except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                if page > 1:
                    return log.warning("Openverse: no page %d: %s", page, error)
                raise error if isinstance(error, FetchError) else FetchError(
                    f"{self.base_url} answers without `results` and `page_count` ({error!r})") from error
            yield from results
            if last or not results:
                return


def fetch_picture(client: Client, result) -> FoundPicture:
    """One result of the API with its picture (the small copy, if there is one).

    Raises FetchError for a result without what a picture's use asks for, or whose picture can't be had; ValueError for
    a gigantic picture, Pillow's errors for a broken one.
    """
    facts = {name: field(result, name) for name in ("id", "license", "foreign_landing_url")}
    facts["url"] = field(result, "thumbnail") or field(result, "url")
    if missing := [name for name, value in facts.items() if not value]:
        raise FetchError(f"it has no {', '.join(missing)}")
    if not facts["foreign_landing_url"].startswith(("https://", "http://")):
        raise FetchError(f"its foreign_landing_url is no web address: {facts['foreign_landing_url']}")
    with tempfile.NamedTemporaryFile() as file:
        file.write(client.get(facts["url"], PICTURES, MAX_PICTURE_BYTES))
        file.flush()
        image = read_raster(file.name, WEB_FORMATS)
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    licence = licence_name(facts["license"], field(result, "license_version"))
    return FoundPicture(facts["id"], image, field(result, "title") or "untitled", field(result, "creator") or "unknown",
                        licence, facts["foreign_landing_url"])


def field(result, name: str) -> str:
    """A text of a result, as `plain` as it may be shown; "" where there is none."""
    value = result.get(name) if isinstance(result, dict) else None
    return plain(value) if isinstance(value, str) else ""


def plain(text: str, max_characters: int = 500) -> str:
    """A text on one line without control characters, which could play tricks on a terminal; not too long."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:max_characters]


def licence_name(code: str, version: str) -> str:
    """Openverse's licence as SPDX names it: ("by-sa", "4.0") -> "CC-BY-SA-4.0", ("cc0", "1.0") -> "CC0-1.0"."""
    return "-".join([*(["CC"] if code not in ("cc0", "pdm") else []), code.upper(), *([version] if version else [])])


# --- fetching ------------------------------------------------------------------------------------------------------

class Client:
    """GET within limits, for one search, whose first request goes to base_url.

    Only https is spoken, and http if base_url is that; only to public addresses, unless base_url's own is not public.
    """

    def __init__(self, base_url: str, patience: Patience):
        self.patience, self.public_only = patience, None
        self.schemes = ("https", "http") if base_url.startswith("http://") else ("https",)
        self.end = time.monotonic() + patience.search_s

    def get(self, url: str, types: tuple[str, ...], max_bytes: int) -> bytes:
        """The content of a url, if it is of one of `types` and at most `max_bytes` long; FetchError says why not."""
        for attempt in itertools.count():
            try:
                return self._follow(url, types, max_bytes)
            except FetchError as error:
                if error.wait_s is None:
                    raise
                wait_s = max(error.wait_s, self.patience.back_off_s * 2 ** attempt)
                if wait_s > self.patience.max_wait_s:
                    raise FetchError(f"{error}; it asks to come back in {wait_s:.0f} s") from error
                if attempt == self.patience.retries or time.monotonic() + wait_s > self.end:
                    raise FetchError(f"{error}; given up after {attempt + 1} tries") from error
            time.sleep(wait_s)

    def _follow(self, url: str, types: tuple[str, ...], max_bytes: int) -> bytes:
        end = min(self.end, time.monotonic() + self.patience.request_s)
        for _ in range(MAX_REDIRECTS + 1):
            with self._open(url, end) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    return read_content(response, types, max_bytes)
                url = urljoin(url, response.headers.get("Location", ""))
        raise FetchError(f"more than {MAX_REDIRECTS} redirects, the last to {plain(url)}")

    @contextmanager
    def _open(self, url: str, end: float) -> Iterator[HTTPResponse]:
        """The response to GET url; whatever is going on at `end` (monotonic seconds), the line is cut."""
        try:
            with ExitStack() as at_the_end:
                connection, target = self._address(url)
                at_the_end.enter_context(closing(connection)).connect()
                guard = Timer(max(0.0, end - time.monotonic()), hang_up, [connection.sock])
                at_the_end.callback(guard.cancel)
                guard.start()
                self._check_peer(connection.sock.getpeername()[0])
                connection.request("GET", target, headers=HEADERS)
                yield at_the_end.enter_context(connection.getresponse())
            if time.monotonic() > end:
                raise TimeoutError
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, TimeoutError) or time.monotonic() > end:
                raise FetchError(f"{plain(url)} took too long", wait_s=0.0) from error
            raise error if isinstance(error, FetchError) else FetchError(
                f"can't fetch {plain(url)} ({error!r}); is there a network?") from error

    def _address(self, url: str) -> tuple[HTTPConnection, str]:
        parts = urlsplit(quote(url, safe="%/:?@!$&'()*+,;=~[]"))
        if parts.scheme not in self.schemes or not parts.hostname:
            raise FetchError(f"{plain(url)} is refused: it does not begin with {':// or '.join(self.schemes)}://")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return (kind(parts.hostname, parts.port, timeout=self.patience.connect_s),
                (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))

    def _check_peer(self, address: str) -> None:
        """Judges the address that was reached, since a name may have another one when it is asked again."""
        if self.public_only is None:
            self.public_only = is_public(address)
        if self.public_only and not is_public(address):
            raise FetchError(f"{address} is refused: it is no public address")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, not of this machine or a network behind it."""
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_global


def hang_up(line: socket.socket) -> None:
    """Ends a connection under whoever reads from it."""
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # an SSLSocket's own shutdown isn't for another thread


def read_content(response: HTTPResponse, types: tuple[str, ...], max_bytes: int) -> bytes:
    """A response's content; FetchError for another status than 200, another type, too many bytes or too few."""
    if response.status != 200:
        wait_s = retry_after(response.headers.get("Retry-After", ""))
        again = response.status == 429 or response.status >= 500
        raise FetchError(f"the server answers {response.status}", wait_s if again else None)
    found = response.headers.get_content_type()
    if found not in types:
        raise FetchError(f"the server sends {plain(found)}, not {' or '.join(types)}")
    content = b"" if (response.length or 0) > max_bytes else response.read(max_bytes + 1)
    if (response.length or 0) + len(content) > max_bytes:
        raise FetchError(f"the server sends more than {max_bytes:,} bytes")
    if response.length:
        raise FetchError(f"the answer ends {response.length:,} bytes too early")
    return content


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says nothing that can be read."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
