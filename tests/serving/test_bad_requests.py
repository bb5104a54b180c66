"""What strangers may send: broken JSON, hostile images, forbidden addresses. A clear 4xx each, and no path."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.errors import SettingsError
from ocrsmith.serving import remote
from ocrsmith.serving.settings import ServerSettings

from .conftest import PATIENCE, Served, Start, data_uri, encoded, image_part
from .test_app import error_of

_PATH = re.compile(r"(?:/[\w.-]+){2,}")
_OUR_PATHS = re.compile(r"/v1/[\w/]+|image/\w+|application/\w+")


def refusal(answer: httpx2.Response, status: int = 400) -> str:
    """The message of a refusal, which names no path of the machine and shows no code."""
    message = error_of(answer)["message"]
    assert answer.status_code == status, message
    assert not _PATH.search(_OUR_PATHS.sub("", answer.text)), answer.text
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text
    return str(message)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"seed": NaN}', "NaN"),
        (b'{"seed": -Infinity}', "-Infinity"),
        (b'{"model": "a", "model": "b"}', "twice"),
        (b'{"prompt": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"[" * 90_000, "too deeply"),
        (b'{"a":' * 90_000, "too deeply"),
        (b"[" * 2_000_000, "brackets"),
        (b'{"a": [' + b"0," * 1_000_000 + b"0]}", "brackets"),
        (b'{"seed": ' + b"9" * 100_000 + b"}", "digits"),
        (b'{"prompt": "a\x00b"}', "not JSON"),
        (b'{"messages": ' + b"[" * 400 + b"]" * 400 + b"}", "messages"),
    ],
    ids=range(18),
)
def test_broken_json(served: Served, body: bytes, says: str) -> None:
    headers = {"content-type": "application/json"}
    assert says in refusal(served.client.post("/v1/chat/completions", content=body, headers=headers))


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_web_page_could_send_anywhere_is_refused(served: Served, media_type: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})
    answer = served.client.post(
        "/v1/chat/completions", content=body.encode(), headers={"content-type": media_type}
    )
    assert "application/json" in refusal(answer, 415)


def test_pages_in_a_browser_need_a_key(served: Served, start: Start) -> None:
    """Even those that have made this server's address their own by their name's."""
    headers = {"origin": "http://evil.example"}
    assert "API key" in refusal(served.client.get("/v1/models", headers=headers), 403)
    assert start(api_keys=("sk-one",)).client.get("/v1/models", headers=headers).status_code == 200


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def frames(kind: str, number: int) -> bytes:
    """An image file with many frames."""
    pages = [Image.new("L", (8, 8), level * 80 % 256) for level in range(number)]
    return encoded(pages[0], kind, save_all=True, append_images=pages[1:])


NOISE = encoded(Image.effect_noise((64, 64), 90))
HOSTILE = {
    "bomb": (data_uri(bomb(60_000, 60_000)), "too large"),
    "wide bomb": (data_uri(bomb(2**31 - 1, 1)), "too large"),
    "cut short": (data_uri(NOISE[: len(NOISE) // 2]), "damaged or cut short."),
    "text": (data_uri(b"just some text"), "holds text"),
    "SVG": (data_uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), "SVG"),
    "web page": (data_uri(b"<html></html>", "image/png"), "web page"),
    "EPS": (data_uri(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "PostScript"),
    "zip": (data_uri(b"PK\x03\x04" + bytes(50)), "ZIP"),
    "empty": (data_uri(b""), "empty"),
    "GIF": (data_uri(frames("GIF", 10_000), "image/gif"), "each page by itself"),
    "TIFF": (data_uri(frames("TIFF", 3), "image/tiff"), "each page by itself"),
    "WebP": (data_uri(frames("WEBP", 3), "image/webp"), "each page by itself"),
    "APNG": (data_uri(frames("PNG", 3)), "each page by itself"),
    "PDF": (data_uri(b"%PDF-1.7\n", "application/pdf"), "each page by itself"),
    "hidden PDF": (data_uri(b"%PDF-1.7\n"), "each page by itself"),
    "garbage": ("data:image/png;base64,!!!!", "base64"),
    "half base64": (data_uri(NOISE)[:-5], "base64"),
    "other letters": ("data:image/png;base64,漢字", "base64"),
    "line breaks": (data_uri(NOISE)[:60] + "\n" + data_uri(NOISE)[60:], "base64"),
    "no comma": ("data:image/png;base64", "data:image/png;base64"),
    "only data": ("data:", "data:image/png;base64"),
    "not base64": ("data:image/png,abc", "not base64"),
    "audio": (data_uri(NOISE, "audio/wav"), "media type audio/wav"),
    "file": ("file:///etc/passwd", "data URI"),
    "path": ("/etc/passwd", "data URI"),
    "ftp": ("ftp://example.org/a.png", "data URI"),
    "javascript": ("javascript:alert(1)", "data URI"),
    "gopher": ("gopher://127.0.0.1:6379/_FLUSHALL", "data URI"),
    "http": ("http://example.org/a.png", "no images from that host"),
    "https": ("https://example.org/a.png", "no images from that host"),
    "metadata": ("http://169.254.169.254/latest/meta-data/", "no images from that host"),
    "no address": ("https://[::1/a.png", "no URL"),
    "nothing": ("", "data URI"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images(served: Served, name: str) -> None:
    url, says = HOSTILE[name]
    before = len(served.backend.seen)
    answer = served.chat([{"type": "text", "text": "Free OCR."}, image_part(url)])

    assert says in refusal(answer)
    assert error_of(answer)["param"] == "messages[0].content[1].image_url.url"
    assert len(served.backend.seen) == before


def test_images_are_bounded_in_bytes_and_pixels(start: Start) -> None:
    served = start(max_image_bytes=2000, max_pixels=1000)
    small, wide = encoded(Image.new("L", (20, 20))), encoded(Image.new("L", (101, 10)))

    assert served.chat([image_part(data_uri(small))]).status_code == 200
    assert "1,010 pixels, the limit is 1,000" in refusal(served.chat([image_part(data_uri(wide))]))
    assert "2,000 bytes" in refusal(served.chat([image_part(data_uri(bytes(2001)))]))
    assert "2,000 bytes" in refusal(served.chat([image_part(data_uri(bytes(2_000_000)))]))


class Pages(BaseHTTPRequestHandler):
    """Serves images, as the path says."""

    def do_GET(self) -> None:
        where = {"/away": "http://example.org/a.png", "/home": "/good.png", "/again": "/again"}.get(self.path)
        if where:
            self.send_response(302)
            self.send_header("Location", where)
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        if self.path == "/good.png":
            self.wfile.write(NOISE)
        elif self.path == "/endless":
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))
        elif self.path == "/slow":
            threading.Event().wait(3)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    """The port of a server with images."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_images_of_an_allowed_host(start: Start, pages: int) -> None:
    allowed = (f"http://127.0.0.1:{pages}",)
    served = start(allowed_image_hosts=allowed, fetch_seconds=PATIENCE, max_image_bytes=100_000)
    hasty = start(allowed_image_hosts=allowed, fetch_seconds=0.2)

    def ask(url: str) -> httpx2.Response:
        return served.chat([{"type": "text", "text": "Free OCR."}, image_part(url)])

    base = f"http://127.0.0.1:{pages}"
    assert ask(f"{base}/good.png").status_code == 200
    assert served.backend.seen[-1].image == NOISE
    assert ask(f"{base}/home").status_code == 200
    assert "no images from that host" in refusal(ask(f"{base}/away"))
    assert "too often" in refusal(ask(f"{base}/again"))
    assert "status 404" in refusal(ask(f"{base}/none"))
    assert "100,000 bytes" in refusal(ask(f"{base}/endless"))
    assert "within 0.2 seconds" in refusal(hasty.chat([image_part(f"{base}/slow")]))
    for other in (f"https://127.0.0.1:{pages}", "http://127.0.0.1", f"http://localhost:{pages}"):
        assert "no images from that host" in refusal(ask(f"{other}/good.png"))
    for trick in (f"http://a@127.0.0.1:{pages}", f"http://127.0.0.1:{pages}\\@example.org", "http://127.1"):
        assert "no images from that host" in refusal(ask(f"{trick}/good.png"))


def test_a_name_that_leads_inside_is_not_followed(
    start: Start, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is public property; where it leads is its owner's choice."""
    served = start(allowed_image_hosts=(f"http://images.example:{pages}",))
    look_up = socket.getaddrinfo

    def lie(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        return look_up("127.0.0.1" if host == "images.example" else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    answer = served.chat([image_part(f"http://images.example:{pages}/good.png")])
    assert "private address" in refusal(answer)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"),
        *("224.0.0.1", "255.255.255.255", "::"),
    ],
)
def test_addresses_inside(address: str) -> None:
    assert not remote.is_public(address)


def test_addresses_outside() -> None:
    assert remote.is_public("93.184.216.34")
    assert remote.is_public("2606:2800:220:1:248:1893:25c8:1946")


@pytest.mark.parametrize(
    "entry", ["*", "*.example.org", "ftp://a", "a/b", "http://", "user@a", "a b", "a:99999"]
)
def test_hosts_that_cannot_be_allowed(entry: str) -> None:
    with pytest.raises(SettingsError, match="allowed_image_hosts"):
        ServerSettings.from_values({"allowed_image_hosts": (entry,)})


texts = st.text(max_size=20) | st.sampled_from(
    ["user", "text", "image_url", "base", "hang on", "data:,", "NaN"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file"]) | values},
    optional={"text": values, "image_url": st.fixed_dictionaries({"url": values}) | values},
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.just("user") | values}, optional={"content": st.lists(parts) | values}),
    max_size=2,
)
names = ["model", "prompt", "temperature", "n", "stop", "stream", "stream_options", "logprobs", "max_tokens"]
more = ["max_completion_tokens", "vllm_xargs", "seed", "tools", "echo", "top_logprobs", "response_format"]
requests = st.fixed_dictionaries(
    {}, optional={"messages": messages | values, **dict.fromkeys([*names, *more], values)}
)


@settings(max_examples=100)
@given(body=requests | values, chat=st.booleans())
def test_any_json_gets_an_answer_or_a_refusal(served: Served, body: Any, chat: bool) -> None:
    path = "/v1/chat/completions" if chat else "/v1/completions"
    headers = {"content-type": "application/json"}
    answer = served.client.post(path, content=json.dumps(body).encode(), headers=headers)

    if answer.status_code != 200:
        assert answer.status_code in (400, 404)
        assert error_of(answer)["message"]


@settings(max_examples=25)
@given(image=st.binary(max_size=60), media_type=st.sampled_from(["image/png", "image/tiff", "image/x-y"]))
def test_any_bytes_are_an_image_or_refused(served: Served, image: bytes, media_type: str) -> None:
    heads = (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00", b"BM", b"P6\n", b"\xff\xd8\xff\xe0")
    for head in heads:
        answer = served.chat([image_part(data_uri(head + image, media_type))])
        if answer.status_code != 200:
            assert len(refusal(answer)) < 300


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000,
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_what_is_no_http(served: Served, request_bytes: bytes) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(request_bytes)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_an_upgrade_to_another_protocol_is_not_taken_up(served: Served) -> None:
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": base64.b64encode(bytes(16)).decode(),
    }
    assert served.client.get("/v1/models", headers=headers).status_code == 200


def test_a_slow_image_does_not_stop_the_others(served: Served) -> None:
    """Large images are opened while health goes on being answered."""
    page = io.BytesIO()
    Image.new("L", (6000, 6000), 255).save(page, "PNG", compress_level=1)
    answers: list[int] = []

    def ask() -> None:
        url = f"{served.url}/v1/chat/completions"
        body = {"messages": [{"role": "user", "content": [image_part(data_uri(page.getvalue()))]}]}
        answers.append(httpx2.post(url, json=body, timeout=PATIENCE, trust_env=False).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        assert served.client.get("/health").status_code == 200
    thread.join()
    assert answers == [200]
