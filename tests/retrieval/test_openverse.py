"""kdlib.retrieval.openverse against a server on this machine that speaks Openverse's JSON, well and badly."""

import io
import json
import logging
import re
import socket
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from kdlib.retrieval import openverse
from kdlib.retrieval.engines import ImageSearchEngine, index_from_engine
from kdlib.retrieval.openverse import (
    FetchError,
    OpenverseEngine,
    Patience,
    is_public,
    licence_name,
    plain,
    retry_after,
)
from tests.data.test_folder import gigantic_png
from tests.test_pipeline import make_pipe

JSON_HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PATIENT = Patience(connect_s=9.0, request_s=9.0, search_s=30.0, back_off_s=0.01, max_wait_s=0.1, retries=2)
QUICK = Patience(connect_s=0.2, request_s=0.2, search_s=2.0, back_off_s=0.01, max_wait_s=0.1, retries=2)


def picture(colour="red", size=(8, 6), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Says what `answers` hold for a path: functions of the handler, or (content, type). Counts the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("0.0.0.0", 0), Handler)
        self.answers, self.asked, self.at = {}, [], f"http://127.0.0.1:{self.server_port}"
        self.stopped = threading.Event()
        for name in ("red", "green", "blue"):
            self.answers[f"/{name}.png"] = (picture(name), "image/png")

    def result(self, name, **changes):
        facts = {"id": name, "title": f"a {name} thing", "creator": "who", "license": "by-sa", "license_version": "4.0",
                 "foreign_landing_url": f"https://pictures.example/{name}", "url": f"{self.at}/absent",
                 "thumbnail": f"{self.at}/{name}.png", "filesize": None, "tags": [{"name": name}]}
        return {key: value for key, value in {**facts, **changes}.items() if value is not ...}

    def says(self, *results, page_count=1):
        told = {"result_count": len(results), "page_count": page_count, "page_size": 20, "page": 1, "results": results}
        self.answers["/v1/images/"] = (json.dumps(told).encode(), "application/json")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(urlsplit(self.path).path, (404, b"", "text/plain"))
        with suppress(OSError):  # the client hangs up, which is the point of many tests
            answer(self) if callable(answer) else self.send(*answer[-2:], status=answer[0] if len(answer) == 3 else 200)
        self.close_connection = True

    def send(self, content, kind, status=200, length=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": length or len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def running():
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running):
    before = dict(running.answers)
    running.asked.clear()
    yield running
    running.answers.clear()
    running.answers.update(before)


@pytest.fixture
def search(server):
    def find(text="a red thing", n=3, patience=PATIENT):
        return OpenverseEngine(f"{server.at}/v1/images/", patience).search_images(text, n)
    return find


# --- what works ----------------------------------------------------------------------------------------------------

def test_pictures_with_author_licence_and_page(server, search):
    server.says(server.result("red"),
                server.result("blue", license="cc0", license_version="1.0", creator=None, title=""))
    red, blue = search("a red & blue thing?")
    assert red[2:] == ("a red thing", "who", "CC-BY-SA-4.0", "https://pictures.example/red") and red.id == "red"
    assert blue[2:] == ("untitled", "unknown", "CC0-1.0", "https://pictures.example/blue")
    assert red.image.size == (8, 6) and red.image.getpixel((3, 3)) == (255, 0, 0)
    query = parse_qs(urlsplit(server.asked[0]).query)
    assert query == {"q": ["a red & blue thing?"], "page": ["1"], "page_size": ["3"]}
    assert isinstance(OpenverseEngine(), ImageSearchEngine)


def test_the_pipeline_draws_from_them(server):
    server.says(*map(server.result, ["red", "green", "blue"]))
    pipe, engine = make_pipe(), OpenverseEngine(f"{server.at}/v1/images/", PATIENT)
    out = pipe("a red thing", k=2, index=index_from_engine("a red thing", engine, pipe.encoder, 3))
    first = out.neighbours[0]
    assert (first.title, first.author, first.licence) == ("a red thing", "who", "CC-BY-SA-4.0")
    assert first.style == "https://pictures.example/red" and len(out.images) == 1


def test_pages_until_there_are_enough(server, search):
    def page(handler):
        number = int(parse_qs(urlsplit(handler.path).query)["page"][0])
        results = [server.result(f"{number}-{i}", thumbnail=f"{server.at}/red.png") for i in range(2)] + ["broken"]
        handler.send(json.dumps({"page_count": 4, "results": results}).encode(), "application/json")
    server.answers["/v1/images/"] = page
    assert [p.id for p in search(n=5)] == ["1-0", "1-1", "2-0", "2-1", "3-0"]
    assert [p.id for p in search(n=50)] == [f"{number}-{i}" for number in range(1, 5) for i in range(2)]
    assert "page_size=20" in server.asked[-3]


def test_later_pages_that_fail_end_the_results(server, search, caplog):
    def page(handler):
        if "page=1" in handler.path:
            return handler.send(json.dumps({"page_count": 3, "results": [server.result("red")]}).encode(),
                                "application/json")
        handler.send(b"", "text/plain", status=401)
    server.answers["/v1/images/"] = page
    assert [p.id for p in search()] == ["red"]
    assert "no page 2: the server answers 401" in caplog.text


def test_no_picture_twice_and_none_found(server, search):
    server.says(server.result("red"), server.result("blue"), server.result("red"))
    assert [p.id for p in search()] == ["red", "blue"]
    server.says()
    assert search() == []


def test_large_pictures_are_made_smaller_and_addresses_quoted(server, search):
    server.answers["/gr%C3%BCn%20%7Ba%7D.jpg"] = (picture("green", (1500, 700), "JPEG"), "image/jpeg; charset=binary")
    server.says(server.result("x", thumbnail=f"{server.at}/grün {{a}}.jpg"))
    assert search()[0].image.size == (512, 239)


def test_without_a_small_copy_the_picture_itself(server, search):
    server.says(server.result("x", thumbnail=None, url=f"{server.at}/blue.png"))
    assert np.asarray(search()[0].image)[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("status, headers", [(429, {}), (429, {"Retry_After": "0"}), (503, {"Retry_After": "soon"}),
                                             (500, {}), (429, {"Retry_After": formatdate(0)})])
def test_429_and_5xx_are_tried_again(server, search, status, headers):
    server.says(server.result("red"))
    whole = server.answers["/v1/images/"]
    server.answers["/v1/images/"] = lambda handler: (handler.send(b"", "text/plain", status, **headers)
                                                     if len(server.asked) < 3 else handler.send(*whole))
    assert len(search()) == 1 and len(server.asked) == 4


def test_retry_after_is_waited_for(server):
    server.says(server.result("red"))
    whole = server.answers["/v1/images/"]
    server.answers["/v1/images/"] = lambda handler: (handler.send(b"", "text/plain", 429, Retry_After="1")
                                                     if len(server.asked) < 2 else handler.send(*whole))
    start = time.monotonic()
    patience = Patience(connect_s=9.0, request_s=9.0, search_s=30.0, back_off_s=0.01, max_wait_s=1.0, retries=1)
    assert len(OpenverseEngine(f"{server.at}/v1/images/", patience).search_images("red", 1)) == 1
    assert time.monotonic() - start >= 1


# --- a query that fails --------------------------------------------------------------------------------------------

def drip(handler):
    """A byte now and then: never silent for as long as the time-out of a connection."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.server.stopped.wait(0.05):
        handler.wfile.write(b"y")


def drip_content(handler):
    handler.wfile.write(JSON_HEADER + b"\r\n")
    while not handler.server.stopped.wait(0.05):
        handler.wfile.write(b" ")


def silent(handler):
    handler.server.stopped.wait(1)


def redirect(where):
    return lambda handler: handler.send(b"", "text/html", 302, Location=where)


API = {
    "slow": (silent, "took too long; given up after 3 tries"),
    "dripping headers": (drip, "took too long; given up after 3 tries"),
    "dripping content": (drip_content, "took too long; given up after 3 tries"),
    "always 429": ((429, b"", "text/plain"), "the server answers 429; given up after 3 tries"),
    "always 500": ((500, b"", "text/plain"), "the server answers 500; given up after 3 tries"),
    "come back in an hour": (lambda h: h.send(b"", "text/plain", 429, Retry_After="3600"),
                             "the server answers 429; it asks to come back in 3600 s"),
    "come back never": (lambda h: h.send(b"", "text/plain", 503, Retry_After="9" * 400), "asks to come back in inf s"),
    "unauthorised": ((401, b'{"detail": "x"}', "application/json"), "the server answers 401$"),
    "absent": ((404, b"", "text/plain"), "the server answers 404$"),
    "not modified": ((304, b"", "text/plain"), "the server answers 304$"),
    "web page": ((b"<html>", "text/html"), "the server sends text/html, not application/json"),
    "no type": (lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n{}"), "the server sends text/plain, not application"),
    "no JSON": ((b"{not json", "application/json"), "answers without `results` and `page_count` .*JSONDecodeError"),
    "no text": ((b"\xff\xfe\xff", "application/json"), "answers without .*UnicodeDecodeError"),
    "a list": ((b"[]", "application/json"), "answers without `results` and `page_count` .*TypeError"),
    "no results": ((b'{"page_count": 1}', "application/json"), "answers without .*KeyError..results"),
    "results of no kind": ((b'{"page_count": 1, "results": 7}', "application/json"), "answers without .*TypeError"),
    "endless pages": ((b'{"page_count": Infinity, "results": []}', "application/json"), "answers .*OverflowError"),
    "deep": ((b"[" * 200_000, "application/json"), "answers without .*RecursionError"),
    "huge": ((b" " * 5_000_001, "application/json"), "the server sends more than 4,000,000 bytes"),
    "said to be huge": (lambda h: h.send(b"{}", "application/json", length=10 ** 12), "sends more than 4,000,000"),
    "endless": (lambda h: h.wfile.write(JSON_HEADER + b"\r\n" + b" " * 4_100_000),
                "the server sends more than 4,000,000 bytes"),
    "truncated": (lambda h: h.send(b'{"results": [', "application/json", length=99), "answer ends 86 bytes too early"),
    "truncated chunks": (lambda h: h.wfile.write(JSON_HEADER + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{}"),
                         "IncompleteRead"),
    "no HTTP": (lambda h: h.wfile.write(b"SSH-2.0 hello\r\n"), "can't fetch .*BadStatusLine"),
    "endless header": (lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"), "LineTooLong"),
    "hangs up": (lambda h: None, "can't fetch .*RemoteDisconnected.*; is there a network"),
    "redirects for ever": (redirect("/v1/images/"), "more than 3 redirects"),
    "redirects nowhere": (lambda h: h.send(b"", "text/html", 301), "more than 3 redirects"),
    "to a file": (redirect("file:///etc/passwd"), "file:///etc/passwd is refused: it does not begin with https://"),
    "to ftp": (redirect("ftp://127.0.0.1/x"), "ftp://127.0.0.1/x is refused"),
    "to no address": (redirect("http://[::1"), "can't fetch .*ValueError"),
    "to no port": (redirect("http://a:99999/"), "can't fetch http://a:99999/ .ValueError"),
}


@pytest.mark.parametrize("name", API)
def test_a_query_that_fails_says_why(server, search, name):
    server.answers["/v1/images/"], message = API[name]
    start = time.monotonic()
    with pytest.raises(FetchError, match=message):
        search(patience=QUICK if "took too long" in message else PATIENT)
    assert time.monotonic() - start < 9


def test_terminal_tricks_do_not_reach_messages(server, search):
    server.answers["/v1/images/"] = lambda handler: handler.send(b"", "text/\x1b[2Jhtml")
    with pytest.raises(FetchError, match="not application/json") as caught:
        search()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("text, n, message", [("", 3, "the text to search for is ''"), ("red", 0, "n = 0 pictures")])
def test_bad_questions_are_not_sent(server, search, text, n, message):
    with pytest.raises(ValueError, match=message):
        search(text, n)
    assert server.asked == []


@pytest.mark.parametrize("base_url, message", [
    ("http://127.0.0.1:1/v1/images/", "can't fetch .*ConnectionRefusedError.*; is there a network"),
    ("ftp://127.0.0.1/", "is refused: it does not begin with https://"), ("images", "is refused"), ("", "is refused")])
def test_no_network_and_no_address(base_url, message):
    with pytest.raises(FetchError, match=message):
        OpenverseEngine(base_url, PATIENT).search_images("red", 3)


def test_offline(monkeypatch):
    def no_names(*arguments):
        raise socket.gaierror(-3, "Temporary failure in name resolution")
    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    with pytest.raises(FetchError, match="can't fetch https://api.openverse.org/v1/images/.q=red&.*name resolution"):
        OpenverseEngine().search_images("red", 3)


# --- a picture that fails ------------------------------------------------------------------------------------------

PICTURES = {
    "slow": (silent, "took too long; given up after 3 tries"),
    "absent": ((404, b"", "text/plain"), "the server answers 404"),
    "vector": ((b"<svg/>", "image/svg+xml"), "the server sends image/svg.xml, not image/jpeg or"),
    "web page": ((b"<html>", "text/html"), "the server sends text/html, not image/jpeg or"),
    "mislabelled": ((b"<html>", "image/png"), "no picture: it is none of png, jpeg, webp, gif\n"),
    "other format": ((picture(kind="BMP"), "image/png"), "no picture: it is none of png, jpeg, webp, gif"),
    "cut": ((picture(size=(300, 300))[:90], "image/png"), "truncated|broken PNG"),
    "truncated": (lambda h: h.send(picture()[:50], "image/png", length=99), "the answer ends 49 bytes too early"),
    "huge": (lambda h: h.send(b"", "image/png", length=20_000_001), "the server sends more than 20,000,000 bytes"),
    "gigantic": ((gigantic_png(), "image/png"), "gigantic|decompression bomb"),
    "elsewhere": (redirect("gopher://127.0.0.1/"), "gopher://127.0.0.1/ is refused"),
    "inside": (redirect("http://127.0.0.2:{port}/red.png"), "127.0.0.2 is refused: it is no public address"),
}


@pytest.fixture
def public(monkeypatch):
    """127.0.0.1 plays a public address, so that the rules for them hold."""
    monkeypatch.setattr(openverse, "is_public", lambda address: address == "127.0.0.1")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_fails_is_skipped(server, search, public, caplog, name):
    answer, reason = PICTURES[name]
    if name == "inside":
        answer = redirect(f"http://127.0.0.2:{server.server_port}/red.png")
    server.answers["/x.png"] = answer
    server.says(server.result("x"), server.result("blue"))
    with caplog.at_level(logging.WARNING):
        assert [p.id for p in search(patience=QUICK if name == "slow" else PATIENT)] == ["blue"]
    assert re.search(f"Openverse: skipped x: .*{reason}", caplog.text)


RESULTS = {
    "no object": ("x", "skipped a result: it has no id, license, foreign_landing_url, url"),
    "nothing": ({}, "skipped a result: it has no id, license, foreign_landing_url, url"),
    "no id": ({"id": 7}, "skipped a result: it has no id$"),
    "no licence": ({"license": None}, "skipped x: it has no license$"),
    "no page": ({"foreign_landing_url": ...}, "skipped x: it has no foreign_landing_url$"),
    "no picture": ({"thumbnail": None, "url": ["a"]}, "skipped x: it has no url$"),
    "a script for a page": ({"foreign_landing_url": "javascript:alert(1)"}, "its foreign_landing_url is no web"),
    "a file for a picture": ({"thumbnail": "file:///etc/passwd"}, "file:///etc/passwd is refused"),
    "data for a picture": ({"thumbnail": "data:image/png;base64,AA"}, "data:image/png;base64,AA is refused"),
    "this machine's picture": ({"thumbnail": "http://127.0.0.2:{port}/red.png"}, "127.0.0.2 is refused"),
    "two lines in an address": ({"thumbnail": "http://127.0.0.1:{port}/a\r\nX: y"}, "the server answers 404"),
    "no host": ({"thumbnail": "http:///red.png"}, "http:///red.png is refused"),
    "a name of no kind": ({"thumbnail": "http://" + "a" * 300 + "/"}, "can't fetch .*UnicodeError"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_makes_no_sense_is_skipped(server, search, public, caplog, name):
    changes, reason = RESULTS[name]
    result = changes
    if changes and isinstance(changes, dict):
        result = server.result("x", **changes)
        result = json.loads(json.dumps(result).replace("{port}", str(server.server_port)))
    server.says(result, server.result("blue"))
    with caplog.at_level(logging.WARNING):
        assert [p.id for p in search()] == ["blue"]
    assert re.search(reason, caplog.messages[0])


def test_terminal_tricks_and_long_texts_do_not_reach_the_reader(server, search):
    server.says(server.result("red", title="a\x1b[31m\nred\u202e thing\x00", creator="who " * 1000))
    [red] = search()
    assert red.title == "a [31m red thing" and len(red.author) == 500


def test_a_search_ends_in_time_with_what_it_has(server, caplog):
    server.answers["/x.png"] = silent
    server.says(server.result("red"), *(server.result(f"x{i}", thumbnail=f"{server.at}/x.png") for i in range(9)))
    patience = Patience(connect_s=0.2, request_s=0.2, search_s=0.5, back_off_s=0.01, retries=2)
    start = time.monotonic()
    assert [p.id for p in OpenverseEngine(f"{server.at}/v1/images/", patience).search_images("red", 9)] == ["red"]
    assert time.monotonic() - start < 5 and len(caplog.records) == 9


def test_https_is_not_left_and_http_may_become_https(server, caplog):
    client = openverse.Client("https://api.example/", QUICK)
    with pytest.raises(FetchError, match="is refused: it does not begin with https://$"):
        client.get(f"{server.at}/red.png", openverse.PICTURES, 99)
    assert openverse.Client("http://api.example/", QUICK).schemes == ("https", "http")


# --- parts ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("address, public", [
    ("127.0.0.1", False), ("10.1.2.3", False), ("192.168.0.9", False), ("172.16.0.1", False),
    ("169.254.169.254", False), ("0.0.0.0", False), ("100.64.0.1", False), ("::1", False), ("fe80::1", False),
    ("fc00::1", False), ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), ("1.1.1.1", True),
    ("2606:4700::1", True), ("::ffff:1.1.1.1", True)])
def test_public_addresses(address, public):
    assert is_public(address) == public


def test_licences_are_named_as_in_spdx():
    assert [licence_name(*told) for told in [("by", "2.0"), ("by-nc-nd", "4.0"), ("cc0", "1.0"), ("pdm", "")]] == [
        "CC-BY-2.0", "CC-BY-NC-ND-4.0", "CC0-1.0", "PDM"]


def test_retry_after():
    assert [retry_after(value) for value in ("", "7", " 12 ", "soon", "-3", "1.5")] == [0, 7, 12, 0, 0, 0]
    assert retry_after(formatdate(0)) == 0
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert plain(" a\tb\x07 ") == "a b"
