"""Engines among servers, files and programs that misbehave: each page gets its answer, and a reason if none."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.engines import http_client
from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.file import FileEngine
from ocrsmith.engines.openai_api import OpenAIEngine
from ocrsmith.engines.rapidocr import RapidOcrEngine
from ocrsmith.engines.tesseract import TesseractEngine
from ocrsmith.engines.workers import EngineFailure
from ocrsmith.errors import DataError, InputError, MissingExtraError, SettingsError
from ocrsmith.evaluation import evaluate
from ocrsmith.records import PageSample, Prediction

from ..engines.endpoint import Server, completion, reply
from ..engines.test_tesseract import stand_in
from ..evaluation.conftest import Pages

KEY = "abcd-very-secret-1234"


def picture() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = picture()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = Server()
    yield made
    made.close()


def engine(url: str, **options: Any) -> OpenAIEngine:
    return OpenAIEngine.load(
        **{"base_url": url, "model": "ocr", "backoff": 0.0, "timeout": 5.0, "retries": 2} | options
    )


def read(server: Server, *images: bytes, **options: Any) -> list[Prediction]:
    requests = [PageRequest(str(number), image) for number, image in enumerate(images or (PAGE,))]
    got = list(engine(server.url, **options).read(requests))
    assert sorted(p.id for p in got) == sorted(r.id for r in requests)
    assert KEY not in repr(got)
    return sorted(got, key=lambda p: int(p.id))


def reason(server: Server, **options: Any) -> str:
    (got,) = read(server, **options)
    assert got.finish_reason == "error"
    assert got.text == ""
    assert got.error
    assert "\n" not in got.error
    return got.error


def raw(handler: BaseHTTPRequestHandler, text: bytes) -> None:
    handler.wfile.write(text)
    handler.close_connection = True


class TestEndpointThatRecovers:
    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_it_is_asked_again(self, server: Server, status: int) -> None:
        server.answer = lambda _, __, number: (status, {"error": "later"}) if number < 3 else completion()
        assert read(server)[0].text == "read"
        assert len(server.requests) == 3

    @pytest.mark.parametrize(
        "pause",
        ["0.2", formatdate(time.time() - 60, usegmt=True), "soon", "-5", "9" * 400],
        ids=["seconds", "date", "word", "negative", "huge"],
    )
    def test_retry_after_is_heeded_within_reason(
        self, server: Server, pause: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_client, "MAX_PAUSE", 0.3)
        times = []

        def answer(handler: BaseHTTPRequestHandler, _: Any, number: int) -> Any:
            times.append(time.monotonic())
            return reply(handler, 429, b"{}", Retry_After=pause) if number == 1 else completion()

        server.answer = answer
        assert read(server)[0].text == "read"
        if pause == "0.2":
            assert times[1] - times[0] >= 0.2

    def test_a_broken_connection(self, server: Server) -> None:
        def answer(handler: BaseHTTPRequestHandler, _: Any, number: int) -> Any:
            if number == 1:  # a reset instead of an end
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()
                return None
            return raw(handler, b"") if number == 2 else completion()

        server.answer = answer
        assert read(server)[0].text == "read"
        assert len(server.requests) == 3

    @pytest.mark.parametrize(
        "half",
        [
            b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices": [',
            b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"choices": [',
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnot chunks",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
            b"SSH-2.0-other\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000,
        ],
        ids=["cut short", "half a JSON", "no chunks", "half a chunk", "another protocol", "too many headers"],
    )
    def test_half_an_answer(self, server: Server, half: bytes) -> None:
        server.answer = lambda handler, _, number: raw(handler, half) if number == 1 else completion()
        assert read(server)[0].text == "read"
        assert len(server.requests) == 2

    def test_a_hang_and_an_answer_in_drops_end_in_time(self, server: Server) -> None:
        def answer(handler: BaseHTTPRequestHandler, _: Any, number: int) -> Any:
            if number > 2:
                return completion()
            if number == 2:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                time.sleep(0.05)
                if number == 2:
                    handler.wfile.write(b" ")
            return None

        server.answer = answer
        assert read(server, timeout=0.4)[0].text == "read"
        assert len(server.requests) == 3


class TestEndpointThatDoesNot:
    def test_errors_without_end(self, server: Server) -> None:
        server.answer = lambda *_: (500, {"error": {"message": "out of memory"}})
        assert reason(server) == "HTTP 500: out of memory (3 attempts)"
        assert len(server.requests) == 3

    def test_time_outs(self, server: Server) -> None:
        server.answer = lambda *_: time.sleep(1.0)
        assert "no complete answer within 0.1 s" in reason(server, timeout=0.1, retries=1)

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_a_request_that_is_refused_is_not_repeated(self, server: Server, status: int) -> None:
        server.answer = lambda *_: (status, {"detail": "bad image"})
        assert reason(server) == f"HTTP {status}: bad image"
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            [],
            "text",
            None,
            {"choices": []},
            {"choices": {}},
            {"choices": [None]},
            {"choices": [{"text": "of completions"}]},
            {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]},
            {"choices": [{"message": {"content": [{"type": "image"}]}, "finish_reason": "stop"}]},
            {"choices": [{"message": {"content": "x"}, "finish_reason": None}]},
            {"choices": [{"message": {"content": "x"}, "finish_reason": ["stop"]}]},
            {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]},
            {"choices": [{"message": {"refusal": "I cannot"}, "finish_reason": "stop"}]},
        ],
    )
    def test_another_schema(self, server: Server, answer: Any) -> None:
        server.answer = lambda handler, *_: reply(handler, 200, json.dumps(answer).encode())
        assert reason(server)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "body", [b"", b"<html>busy</html>", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
    )
    def test_no_json(self, server: Server, body: bytes) -> None:
        server.answer = lambda handler, *_: reply(handler, 200, body)
        assert "not JSON" in reason(server)

    @pytest.mark.parametrize(
        "more",
        [
            {"logprobs": "none"},
            {
                "logprobs": {
                    "content": [1, None, {"logprob": "x"}, {"logprob": float("nan")}, {"logprob": 10**400}]
                }
            },
            {"logprobs": {"content": [{"logprob": float("-inf")}, {"logprob": True}, {"logprob": -9999999}]}},
        ],
    )
    def test_odd_logprobs_are_none(self, server: Server, more: dict[str, Any]) -> None:
        server.answer = lambda *_: completion(**more) | {"usage": {"completion_tokens": "many"}}
        (got,) = read(server)
        assert (got.text, got.logprob_mean, got.logprob_min, got.tokens) == ("read", None, None, 0)

    def test_an_answer_without_end(self, server: Server) -> None:
        client = engine(server.url)
        client._client._max_bytes = 100_000
        server.answer = lambda handler, *_: endless(handler)
        (got,) = client.read([PageRequest("p", PAGE)])
        assert got.error == "the answer is longer than 100,000 bytes"
        server.answer = lambda handler, *_: raw(
            handler, b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"
        )
        (got,) = client.read([PageRequest("p", PAGE)])
        assert got.error == "the answer is longer than 100,000 bytes"
        assert len(server.requests) == 2

    def test_one_bad_page_leaves_the_others_alone(self, server: Server) -> None:
        got = read(server, PAGE, b"no image", PAGE, b"", PAGE[:60], PAGE)
        assert [p.finish_reason for p in got] == ["stop", "error", "stop", "error", "error", "stop"]
        assert "holds text, not an image" in (got[1].error or "")
        assert len(server.requests) == 3

    def test_an_image_that_is_too_large_to_send(self, server: Server) -> None:
        noise = BytesIO()
        Image.effect_noise((200, 200), 90).save(noise, "PNG")
        (got,) = read(server, noise.getvalue(), max_image_bytes=2000)
        assert "the limit for sending is 2,000" in (got.error or "")

    def test_two_images_in_a_prompt(self, server: Server) -> None:
        (got,) = engine(server.url).read([PageRequest("p", PAGE, "<image><image>")])
        assert got.error == "the prompt has more than one <image> in it"


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:  # until the other side hangs up
        handler.wfile.write(b" " * 10_000)


class TestEndpointThatRefusesAll:
    """No page is to blame, so none is recorded as failed: after mending, the evaluation goes on."""

    @pytest.mark.parametrize(
        ("status", "mend"),
        [(401, "key"), (403, "key"), (404, "address"), (307, "redirects"), (429, "concurrency")],
    )
    def test_it_ends(self, server: Server, status: int, mend: str) -> None:
        other = Server()
        server.answer = lambda handler, _, number: (
            completion() if number == 1 else reply(handler, status, b'{"error": "no"}', Location=other.url)
        )
        reading = engine(server.url, concurrency=1).read([PageRequest(str(n), PAGE) for n in range(5)])
        assert next(reading).text == "read"
        with pytest.raises(EngineFailure) as caught:
            next(reading)
        assert f"HTTP {status}: no" in caught.value.problem
        assert mend in str(caught.value.mend)
        assert other.requests == []  # the key goes nowhere else
        other.close()

    def test_the_evaluation_goes_on_after_mending(self, server: Server, tmp_path: Path) -> None:
        pages = Pages([PageSample(str(n), PAGE, f"{n}.png", "read") for n in range(6)])
        server.answer = lambda _, __, number: completion() if number <= 3 else (401, {"error": "expired"})
        with pytest.raises(EngineFailure, match="expired"):
            evaluate(engine(server.url, concurrency=1), pages, "test", tmp_path)
        server.answer = lambda *_: completion()
        metrics = evaluate(engine(server.url, concurrency=4), pages, "test", tmp_path)
        assert (metrics.n, metrics.failed) == (6, 0)
        assert len(server.requests) == 3 + 1 + 3
        assert KEY not in "".join(path.read_text("latin-1") for path in tmp_path.iterdir())

    def test_nobody_there(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # not listening
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(EngineFailure, match="cannot be reached"):
                list(engine(url, retries=1).read([PageRequest("p", PAGE)]))

    def test_no_such_host(self) -> None:
        with pytest.raises(EngineFailure, match="cannot be reached"):
            list(engine("https://nowhere.invalid/v1", retries=0).read([PageRequest("p", PAGE)]))

    def test_a_server_without_tls(self, server: Server) -> None:
        with pytest.raises(EngineFailure, match="cannot be reached"):
            list(engine(server.url.replace("http:", "https:"), retries=0).read([PageRequest("p", PAGE)]))


class TestSecrets:
    @pytest.mark.parametrize("status", [400, 401, 500])
    def test_a_server_that_repeats_the_key(self, server: Server, status: int) -> None:
        server.answer = lambda *_: (
            status,
            {"error": {"message": f"bad key {KEY} Bearer zzz sk-abcdef\x1b[2J"}},
        )
        try:
            told = reason(server)
        except EngineFailure as error:
            told = str(error)
        assert KEY not in told
        assert "zzz" not in told
        assert "abcdef" not in told
        assert "\x1b" not in told

    @pytest.mark.parametrize("key", ["two\nlines", "with space", "schlüssel"])
    def test_what_cannot_be_a_key_is_not_shown(self, server: Server, key: str, monkeypatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(SettingsError, match="cannot be a key") as caught:
            engine(server.url)
        assert key not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "http://user:hush@localhost/v1",
            "http://localhost/v1?key=hush",
            "http://localhost/v1#hush",
            "ftp://localhost/hush",
            "hush",
            "http://",
            "http://localhost:hush/",
            "http://local host/hush",
            "http://localhost/\r\nhush: 1",
            "http://[hush/v1",
        ],
    )
    def test_wrong_addresses_are_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(SettingsError) as caught:
            engine(url)
        assert "hush" not in str(caught.value)

    def test_plain_http_to_other_machines_needs_a_switch(self) -> None:
        with pytest.raises(SettingsError, match="not encrypted"):
            engine("http://example.com/v1")
        assert (
            engine("http://example.com/v1", allow_http=True).describe()["endpoint"].startswith("http://example")
        )
        for local in (
            "http://localhost:8000",
            "http://127.0.0.9",
            "http://[::1]:8000/v1",
            "https://example.com",
        ):
            engine(local)

    @pytest.mark.parametrize("extra", [{"messages": []}, {"stream": True}, {"user": KEY}])
    def test_extra_fields_that_are_ours_or_hold_the_key(self, server: Server, extra: dict[str, Any]) -> None:
        with pytest.raises(SettingsError, match="extra_body has") as caught:
            engine(server.url, extra_body=extra)
        assert KEY not in str(caught.value)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "content", "problem"),
        [
            ("p.jsonl", None, "no such file"),
            ("p.xlsx", b"x", "cannot be a .xlsx"),
            ("p", b"x", "cannot be a file without suffix"),
            ("p.jsonl", b"", "no prediction in it"),
            ("p.jsonl", b"no json\n", "no prediction in it; the first row: not a JSON object"),
            ("p.jsonl", b'{"name": "a", "text": "b"}\n', "has no 'id'"),
            ("p.jsonl", b"[" * 100_000, "not a JSON object"),
            ("p.csv", b"", "no column id; it has none"),
            ("p.csv", b"name,text\na,b\n", "no column id; it has 'name', 'text'"),
            ("p.csv", b"id,words\na,b\n", "no column prediction or text"),
            ("p.csv", b"id,id,text\na,b,c\n", "more than one column id"),
            ("p.csv", b'id,text\na,"open\n', "damaged"),
            ("p.csv", b"id,text\na,\xff\n", "not UTF-8"),
            ("p.csv", b"id,text\n", "no prediction in it"),
            ("p.parquet", b"PAR1 nothing", "damaged"),
            ("p.parquet", b"", "damaged"),
        ],
    )
    def test_a_file_that_cannot_be_used(
        self, tmp_path: Path, name: str, content: bytes | None, problem: str
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            FileEngine(tmp_path / name)
        assert problem in caught.value.problem
        assert name in str(caught.value.place)

    def test_rows_that_cannot_be_used_are_counted_and_their_pages_fail(self, tmp_path: Path) -> None:
        path = tmp_path / "p.jsonl"
        lines = [
            b'{"id": "good", "text": "yes"}',
            b"",
            b'{"id": "number", "text": 5}',
            b'{"id": "null", "text": null}',
            b'{"id": "none"}',
            b'{"id": null, "text": "x"}',
            b'{"id": true, "text": "x"}',
            b'"text"',
            b'{"id": "latin", "text": "\xe9"}',
            b'{"id": "half", "text": "\\ud800"}',
            b'{"id": "cut", "te',
        ]
        path.write_bytes(b"\n".join(lines))
        made = FileEngine(path)
        ids = ["good", "half", "number", "null", "none", "latin", "cut"]
        got = {p.id: p for p in made.read([PageRequest(id_, b"") for id_ in ids])}
        assert got["good"].text == "yes"
        assert got["half"].text == "\ufffd"
        assert got["number"].error == "no usable prediction in p.jsonl: line 3: the text is a number"
        assert got["null"].error == "no usable prediction in p.jsonl: line 4: the text is empty"
        assert "has no 'prediction'" in (got["none"].error or "")
        assert got["latin"].error == got["cut"].error == "no prediction in p.jsonl"
        assert (made.rows, made.unusable) == (10, 8)
        assert [item.line for item in made.excluded] == [3, 4, 5, 6, 7, 8, 9, 11]
        assert "8 rows cannot be used; the first, line 3" in made.warnings[0]

    def test_rows_of_another_width(self, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("id,text\na,one\nb,two,three\nc\n")
        got = list(FileEngine(path).read([PageRequest(id_, b"") for id_ in "abc"]))
        assert [p.text for p in got] == ["one", "", ""]
        assert "line 3: has 3 fields, the header 2" in (got[1].error or "")

    def test_a_line_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ocrsmith.engines.prediction_files.MAX_TEXT_BYTES", 1000)
        path = tmp_path / "p.jsonl"
        path.write_text('{"id": "a", "text": "' + "x" * 5000 + '"}\n{"id": "b", "text": "short"}\n')
        made = FileEngine(path)
        assert [p.text for p in made.read([PageRequest("a", b""), PageRequest("b", b"")])] == ["", "short"]
        assert made.excluded[0].detail == "longer than 1,000 bytes"

    def test_a_folder_is_not_left(self, tmp_path: Path) -> None:
        (tmp_path / "secret.txt").write_text("secret")
        texts = tmp_path / "texts"
        texts.mkdir()
        (texts / "a.txt").write_text("fine")
        (texts / "link.txt").symlink_to(tmp_path / "secret.txt")
        (texts / "latin.txt").write_bytes(b"\xff")
        (texts / "folder.txt").mkdir()
        made = FileEngine(texts)
        ids = ["a", "link", "latin", "../secret", str(tmp_path / "secret"), "folder"]
        got = list(made.read([PageRequest(id_, b"") for id_ in ids]))
        assert [p.text for p in got] == ["fine", "", "", "", "", ""]
        assert "cannot be read" in (got[2].error or "")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no prediction in it"):
            FileEngine(tmp_path)

    def test_predictions_of_other_pages(self, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("id,text\npage-1.png,one\n")
        with pytest.raises(DataError, match=r"None of the 2 pages .*'page-1'.*'page-1.png'"):
            FileEngine(path).match(["page-1", "page-2"])


class TestTesseract:
    def test_it_is_not_installed(self) -> None:
        with pytest.raises(MissingExtraError, match="not installed") as caught:
            TesseractEngine.load(program="no-such-tesseract")
        assert "apt install tesseract-ocr" in str(caught.value.mend)

    @pytest.mark.parametrize(
        "text", ["#!/bin/sh\necho broken >&2\nexit 3\n", "#!/no/such/shell\n", "#!/bin/sh\n"]
    )
    def test_it_does_not_run(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "tesseract"
        path.write_text(text)
        path.chmod(0o755)
        with pytest.raises(MissingExtraError, match="does not run"):
            TesseractEngine.load(program=str(path))

    def test_a_language_it_does_not_have(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="no data for fas; it has chi_sim, eng") as caught:
            TesseractEngine.load(program=stand_in(tmp_path), language="eng+fas")
        assert "tesseract-ocr-fas" in str(caught.value.mend)

    @pytest.mark.parametrize("language", ["", "-psm", "eng;ls", "../eng", "eng+", "a b"])
    def test_a_language_that_is_none(self, language: str) -> None:
        with pytest.raises(SettingsError, match="language"):
            TesseractEngine.load(language=language)

    @pytest.mark.parametrize(
        ("action", "problem"),
        [
            ("sys.exit('Error: bad picture')", "tesseract: it ended with code 1: Error: bad picture"),
            ("time.sleep(60)", "tesseract: it took longer than 0.7 s"),
            ("os.kill(os.getpid(), 11)", "tesseract: it ended with code -11"),
            ("[print('x' * 1000) for _ in iter(int, 1)]", "tesseract: it wrote more than 50,000 bytes"),
        ],
    )
    def test_a_page_that_it_does_not_read(
        self, tmp_path: Path, action: str, problem: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ocrsmith.engines.tesseract.MAX_OUTPUT_BYTES", 50_000)
        timeout = 0.7 if "sleep" in action else 30.0
        made = TesseractEngine.load(program=stand_in(tmp_path, action), timeout=timeout)
        (got,) = made.read([PageRequest("p", PAGE)])
        assert (got.error, got.finish_reason) == (problem, "error")

    def test_an_output_that_is_no_text_and_a_page_that_is_no_image(self, tmp_path: Path) -> None:
        made = TesseractEngine.load(
            program=stand_in(tmp_path, r"sys.stdout.buffer.write(b'\xff\xfe')"), workers=1
        )
        good, bad = made.read([PageRequest("p", PAGE), PageRequest("q", b"no image")])
        assert good.text.startswith("\ufffd")
        assert "holds text, not an image" in (bad.error or "")


class TestRapidOcr:
    def test_it_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rapidocr", None)
        with pytest.raises(MissingExtraError, match="rapidocr") as caught:
            RapidOcrEngine.load()
        assert caught.value.mend == "pip install 'ocrsmith[baselines]'"

    def test_models_that_are_not_there_are_not_downloaded(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="one model for 'det'") as caught:
            RapidOcrEngine.load(models=tmp_path)
        assert "Nothing is downloaded" in str(caught.value.mend)

    def test_models_that_cannot_be_loaded(self, tmp_path: Path) -> None:
        for task in ("det", "cls", "rec"):
            (tmp_path / f"x_{task}.onnx").write_bytes(b"no model")
        with pytest.raises(InputError, match="cannot be loaded"):
            RapidOcrEngine.load(models=tmp_path)

    def test_a_recognition_model_without_alphabet(self, tmp_path: Path) -> None:
        import rapidocr

        own = Path(str(rapidocr.__file__)).parent / "models"
        for task in ("det", "cls", "rec"):
            shutil.copy(next(own.glob("*_cls_*.onnx")), tmp_path / f"x_{task}.onnx")
        with pytest.raises(InputError, match="no alphabet"):
            RapidOcrEngine.load(models=tmp_path)

    def test_a_page_that_is_no_image(self) -> None:
        (got,) = RapidOcrEngine.load(threads=1).read([PageRequest("p", b"no image")])
        assert "holds text, not an image" in (got.error or "")
