"""The engine for chat completions, against a real server on this machine: what is sent, and what comes back."""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from ocrsmith.engines.base import Engine, PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.openai_api import OpenAIEngine
from ocrsmith.errors import SettingsError
from ocrsmith.images import open_image

from .endpoint import Server, completion


def picture(kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.new(mode, (40, 20), 200 if mode in ("L", "I;16") else None).save(buffer, kind, **options)
    return buffer.getvalue()


PAGE = picture()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Server()
    yield made
    made.close()


def engine(server: Server, **options: Any) -> OpenAIEngine:
    return OpenAIEngine.load(
        **{"base_url": server.url, "model": "ocr", "backoff": 0.0, "timeout": 5.0} | options
    )


def read_one(server: Server, image: bytes = PAGE, prompt: str | None = None, **options: Any) -> Any:
    (prediction,) = engine(server, **options).read([PageRequest("p", image, prompt)])
    return prediction


class TestRequest:
    def test_image_and_prompt_are_sent(self, server: Server) -> None:
        assert read_one(server).text == "read"
        (body,) = server.requests
        assert server.paths == ["/v1/chat/completions"]
        assert body["model"] == "ocr"
        assert body["temperature"] == 0
        assert body["max_tokens"] == 8192
        (message,) = body["messages"]
        image, text = message["content"]
        assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PAGE).decode()
        assert text == {"type": "text", "text": "Free OCR."}
        assert "vllm_xargs" not in body
        assert "logprobs" not in body

    @pytest.mark.parametrize(
        ("prompt", "parts"),
        [
            ("Read.\n<image>\nAll of it.", ["Read.", None, "All of it."]),
            ("Read <image>", ["Read ", None]),
            ("<image>", [None]),
            ("no mark", [None, "no mark"]),
        ],
    )
    def test_the_image_stands_where_the_mark_is(self, server: Server, prompt: str, parts: list[Any]) -> None:
        read_one(server, prompt=prompt)
        content = server.requests[0]["messages"][0]["content"]
        assert [part.get("text") for part in content] == parts

    def test_vllm_gets_the_ngram_rule(self, server: Server) -> None:
        read_one(server, dialect="vllm", max_new_tokens=100)
        (body,) = server.requests
        rule = {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [128821, 128822]}
        assert body["vllm_xargs"] == rule
        assert body["skip_special_tokens"] is False
        assert body["logprobs"] is True
        assert body["max_tokens"] == 100

    def test_extra_fields_are_laid_over_and_null_takes_away(self, server: Server) -> None:
        read_one(server, extra_body={"max_tokens": None, "max_completion_tokens": 5, "top_k": 1})
        (body,) = server.requests
        assert "max_tokens" not in body
        assert body["max_completion_tokens"] == 5
        assert body["top_k"] == 1

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_plain_files_go_as_they_are(self, server: Server, kind: str) -> None:
        read_one(server, picture(kind))
        assert sent(server) == (f"image/{kind.lower()}", picture(kind))

    @pytest.mark.parametrize(
        "image",
        [
            picture("TIFF"),
            picture("BMP"),
            picture("PNG", "RGBA"),
            picture("PNG", "I;16"),
            picture("JPEG", "CMYK"),
            picture("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
        ],
        ids=["tiff", "bmp", "transparent", "16 bit", "cmyk", "turned"],
    )
    def test_others_go_as_plain_upright_png(self, server: Server, image: bytes) -> None:
        read_one(server, image)
        media_type, data = sent(server)
        assert media_type == "image/png"
        got = Image.open(BytesIO(data))
        assert got.mode in ("RGB", "L")
        assert got.convert("RGB").tobytes() == open_image(image).tobytes()

    def test_the_limit_that_fits_is_asked_for_where_the_context_is_short(self, server: Server) -> None:
        message = (
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length "
            "is 8192 tokens and your request has 283 input tokens (8192 > 8192 - 283)."
        )
        server.answer = lambda _, body, __: (
            (400, {"error": {"message": message}}) if body["max_tokens"] > 7909 else completion()
        )
        assert read_one(server).text == "read"
        assert [body["max_tokens"] for body in server.requests] == [8192, 7909]


def sent(server: Server) -> tuple[str, bytes]:
    (image, _) = server.requests[-1]["messages"][0]["content"]
    head, data = image["image_url"]["url"].removeprefix("data:").split(";base64,")
    return head, base64.b64decode(data)


class TestAnswer:
    def test_tokens_and_logprobs(self, server: Server) -> None:
        entries = [
            {"token": "a", "logprob": -1.0},
            {"token": "b", "logprob": -0.5},
            {"token": "c", "logprob": None},
        ]
        server.answer = lambda *_: completion(" text \n", logprobs={"content": entries})
        got = read_one(server)
        assert (got.text, got.finish_reason, got.tokens) == ("text", "stop", 7)
        assert got.logprob_mean == pytest.approx(-0.75)
        assert got.logprob_min == -1.0
        assert got.error is None

    @pytest.mark.parametrize(
        ("text", "pieces", "ends"),
        [
            ("a page", ["a", " page"], (1, 6)),
            (" \n a  b \n", [" ", "\n a", "  b", " \n"], (0, 1, 4, 4)),
            ("a page", ["a", " page", "<｜end▁of▁sentence｜>"], (1, 6, 6)),
            ("页码", [b"\xe9\xa1", b"\xb5\xe7", b"\xa0\x81"], (0, 1, 2)),
            ("页", ["", "页"], (0, 1)),
            ("<td>1</td>", ["<td>", "1", "</td>"], (4, 5, 10)),
            ("", ["</s>"], (0,)),
            ("a page", ["token_id:5", "token_id:6"], ()),
            ("a page", ["a"], ()),
            ("a page", [], ()),
        ],
    )
    def test_tokens_are_placed_in_the_text(
        self, server: Server, text: str, pieces: list[str | bytes], ends: tuple[int, ...]
    ) -> None:
        entries = [
            {"token": piece, "bytes": None, "logprob": -0.25}
            if isinstance(piece, str)
            else {"token": "\ufffd", "bytes": list(piece), "logprob": -0.25}
            for piece in pieces
        ]
        server.answer = lambda *_: completion(text, logprobs={"content": entries})
        got = read_one(server)
        assert (got.text, got.token_ends) == (text.strip(), ends)
        assert got.token_logprobs == (-0.25,) * len(ends)

    @pytest.mark.parametrize("logprob", [None, "-1", float("-inf"), float("nan"), 3.0, True])
    def test_a_logprob_that_says_nothing_leaves_all_tokens_unplaced(self, server: Server, logprob: Any) -> None:
        entries = [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": logprob}]
        server.answer = lambda *_: completion("ab", logprobs={"content": entries})
        got = read_one(server)
        assert (got.token_ends, got.token_logprobs) == ((), ())
        assert got.logprob_mean == -1.0

    @pytest.mark.parametrize("numbers", [[256], [-1], [True], ["a"], [1.0]])
    def test_bytes_that_are_none_leave_tokens_unplaced(self, server: Server, numbers: list[Any]) -> None:
        entries = [{"token": "a", "bytes": numbers, "logprob": -1.0}]
        server.answer = lambda *_: completion("a", logprobs={"content": entries})
        assert read_one(server).token_ends == ()

    def test_cut_off_answers_and_loops(self, server: Server) -> None:
        server.answer = lambda *_: completion("word and other words, none twice", finish_reason="length")
        assert read_one(server).finish_reason == "length"
        server.answer = lambda *_: completion("again and " * 60, finish_reason="length")
        assert read_one(server).finish_reason == "loop"
        server.answer = lambda *_: completion("again", finish_reason="length", stop_reason="loop")
        assert read_one(server).finish_reason == "loop", "ocrsmith serve says so itself"
        server.answer = lambda *_: completion("." * 500)  # dot leaders of a page that came to its end
        assert read_one(server).finish_reason == "stop"

    def test_text_in_parts(self, server: Server) -> None:
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        server.answer = lambda *_: completion(parts)  # type: ignore[arg-type]
        assert read_one(server).text == "ab"

    def test_half_a_surrogate_pair_becomes_text(self, server: Server) -> None:
        server.answer = lambda *_: completion("x\ud800y 😀")
        text = read_one(server).text
        assert text.encode("utf-8").decode() == text
        assert text.startswith("x")
        assert text.endswith("y 😀")


class TestAdjusted:
    def test_vllm_is_asked_with_the_other_rule(self, server: Server) -> None:
        first = engine(server, dialect="vllm", concurrency=3)
        other = first.adjusted(decoding=DecodingSettings(ngram_size=5, ngram_window=50, max_new_tokens=9))
        for reader in (other, first):
            assert [answer.text for answer in reader.read([PageRequest("p", PAGE)])] == ["read"]
        sent = [(body["vllm_xargs"]["ngram_size"], body["max_tokens"]) for body in server.requests]
        assert sent == [(5, 9), (30, 8192)]
        assert {**other.describe(), "decoding": None, "request": None} == {
            **first.describe(),
            "decoding": None,
            "request": None,
        }

    @pytest.mark.parametrize(
        ("options", "settings"),
        [
            ({"dialect": "vllm"}, {"mode": "base"}),
            ({}, {"decoding": DecodingSettings(ngram_size=5)}),
            (
                {"dialect": "vllm", "extra_body": {"vllm_xargs": None}},
                {"decoding": DecodingSettings(ngram_size=5)},
            ),
        ],
        ids=["mode", "plain endpoint", "rule overridden"],
    )
    def test_what_cannot_be_said_is_refused(
        self, server: Server, options: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        with pytest.raises(SettingsError):
            engine(server, **options).adjusted(**settings)


class TestMany:
    def test_one_prediction_for_each_page_as_they_come(self, server: Server) -> None:
        def answer(_: Any, body: dict[str, Any], __: int) -> dict[str, Any]:
            text = body["messages"][0]["content"][1]["text"]
            time.sleep(0.3 if text == "0" else 0.02)
            return completion(text)

        server.answer = answer
        requests = [PageRequest(f"page {n}", PAGE, f"<image>{n}") for n in range(20)]
        seen: list[int] = []
        got = list(engine(server, concurrency=4).read(requests, progress=seen.append))
        assert sorted(p.id for p in got) == sorted(r.id for r in requests)
        assert all(p.id == f"page {p.text}" for p in got)
        assert got[-1].id == "page 0"
        assert sum(seen) == 20
        assert 1 < server.most_at_once <= 4

    def test_nothing_to_read(self, server: Server) -> None:
        assert list(engine(server).read([])) == []

    @pytest.mark.parametrize("error", [KeyboardInterrupt, None], ids=["Ctrl-C", "closed"])
    def test_an_interruption_ends_at_once_and_sends_no_more(self, server: Server, error: Any) -> None:
        never = threading.Event()

        def answer(_: Any, __: Any, number: int) -> dict[str, Any]:
            if number > 1:
                never.wait(20)
            return completion()

        server.answer = answer
        reading = engine(server, concurrency=3, timeout=20.0).read(
            [PageRequest(str(n), PAGE) for n in range(50)]
        )
        next(reading)
        while server.at_once < 3:
            time.sleep(0.01)
        before = threading.active_count()
        if error:
            with pytest.raises(error):
                reading.throw(error())  # type: ignore[attr-defined]
        else:
            reading.close()  # type: ignore[attr-defined]
        assert len(server.requests) == 4
        assert threading.active_count() <= before - 3  # the engine's threads and their clocks have ended
        never.set()

    def test_a_real_interrupt_is_heard_while_all_wait(self, server: Server) -> None:
        never = threading.Event()
        server.answer = lambda *_: never.wait(20) and None

        def press() -> None:
            while server.at_once < 2:
                time.sleep(0.01)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()
        requests = [PageRequest(str(n), PAGE) for n in range(9)]
        with pytest.raises(KeyboardInterrupt):
            list(engine(server, concurrency=2, timeout=20.0).read(requests))
        assert len(server.requests) == 2
        never.set()


class TestDescription:
    def test_all_that_decides_the_answers(self, server: Server) -> None:
        made = engine(server, decoding=DecodingSettings(ngram_whitelist=("<tr>",)), dialect="vllm")
        told = made.describe()
        assert isinstance(made, Engine)
        assert told["endpoint"] == server.url + "/chat/completions"
        assert told["model"] == "ocr"
        assert told["decoding"]["ngram_size"] == 30
        assert told["request"]["vllm_xargs"]["ngram_size"] == 30
        assert told["runtime"] == {"concurrency": 8, "timeout": 5.0, "retries": 5}
        assert set(told["not_honoured"]) == {"processing", "ngram_whitelist"}
        json.dumps(told)

    def test_what_a_plain_endpoint_cannot_be_told(self, server: Server) -> None:
        names = {"processing", "ngram_size", "ngram_window", "ngram_whitelist"}
        assert set(engine(server).describe()["not_honoured"]) == names

    def test_the_key_is_sent_and_nowhere_else(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_KEY", "very-secret-1")
        made = engine(server, api_key_env="MY_KEY")
        list(made.read([PageRequest("p", PAGE)]))
        assert server.headers[0]["Authorization"] == "Bearer very-secret-1"
        assert "very-secret-1" not in json.dumps(made.describe())
        assert "very-secret-1" not in repr(made.settings)

    def test_without_a_key_none_is_sent(self, server: Server) -> None:
        read_one(server)
        assert "Authorization" not in server.headers[0]

    def test_a_named_variable_must_be_there(self, server: Server) -> None:
        with pytest.raises(SettingsError, match="OTHER_KEY is empty"):
            engine(server, api_key_env="OTHER_KEY")
