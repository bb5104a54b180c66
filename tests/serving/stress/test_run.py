"""Whole runs against a server that behaves as told: what is counted, and how troubles are named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.engines.workers import EngineFailure
from ocrsmith.errors import InputError, SettingsError
from ocrsmith.serving.stress.report import FIGURES, Report
from ocrsmith.serving.stress.run import StressRun, stress
from ocrsmith.serving.stress.settings import StressSettings

from .server import BadServer, Reply, page_of


def settings(url: str, **more: Any) -> StressSettings:
    """Without a warm-up, the server's n-th page is one that counts."""
    plain: dict[str, Any] = {"url": url, "requests": 40, "clients": 4, "warm_up": 0}
    return StressSettings.from_values({**plain, **more})


def run(server: BadServer, images: Path, **more: Any) -> StressRun:
    return stress(settings(server.url, **more), images)


def report(server: BadServer, images: Path, **more: Any) -> Report:
    return run(server, images, **more).report


def test_pages_go_round_after_round_over_connections_that_stay(server: BadServer, images: Path) -> None:
    server.behave = lambda number, body: Reply(f"page {page_of(body)}", delay=0.005)
    heard: list[int] = []
    done = stress(settings(server.url, warm_up=4), images, progress=lambda tally: heard.append(tally.done))
    found = done.report
    assert (found.requests, found.answered, found.failed, found.warm_up) == (40, 40, 0, 4)
    assert done.model == "small"
    assert heard == list(range(1, 41))
    assert len(server.bodies) == 44
    assert {server.bodies.count(body) for body in server.bodies} == {11}
    assert {body["model"] for body in server.bodies} == {"small"}
    assert len(server.connections) <= 5
    assert 2 <= server.most_under_way <= 4
    assert found.finish_reasons == {"stop": 40}
    assert (found.differing, found.rejected, found.warm_up_errors) == ({}, 0, {})
    assert found.latency
    assert found.latency.min >= 0.005
    assert found.first_text is None
    assert found.memory is None
    assert found.pages_per_minute == pytest.approx(60 * 40 / found.seconds)
    assert found.tokens_per_second
    tokens = sum(len(f"page {page_of(body)}") for body in server.bodies[4:])
    assert found.tokens_per_second * found.seconds == pytest.approx(tokens, rel=0.1)


def test_waiting_in_the_servers_queue_counts(server: BadServer, images: Path) -> None:
    """A server that reads one page at a time lets the other three wait."""
    one = threading.Lock()

    def behave(number: int, body: dict[str, Any]) -> Reply:
        with one:
            threading.Event().wait(0.01)
        return Reply()

    server.behave = behave
    found = report(server, images)
    assert found.latency
    assert found.latency.p50 >= 0.02


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(status=500), "HTTP 500", "no"),
        (Reply(status=400, body=b"too large"), "HTTP 400", "too large"),
        (Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}), "HTTP 302", ""),
        (Reply(hang_up=True), "connection broken", ""),
        (Reply(body=b"<html>"), "unusable answer", "not JSON"),
        (Reply(body=b"[1]"), "unusable answer", "list"),
        (Reply(body=b'{"choices": []}'), "unusable answer", "no choices"),
        (Reply(finish="content_filter"), "unusable answer", "content_filter"),
        (Reply(body=b"[" * 100_000), "unusable answer", "JSON"),
    ],
)
def test_errors_are_counted_by_kind(
    server: BadServer, images: Path, reply: Reply, kind: str, message: str
) -> None:
    server.behave = lambda number, body: reply if number in (10, 20) else Reply()
    found = report(server, images)
    assert (found.errors, found.answered, found.requests) == ({kind: 2}, 38, 40)
    assert message in found.messages[kind]
    assert found.figures()["error_share"] == 0.05


def test_time_outs_are_errors_and_no_latencies(server: BadServer, images: Path) -> None:
    never = threading.Event()

    def behave(number: int, body: dict[str, Any]) -> Reply:
        if number == 10:
            never.wait(60)
        return Reply()

    server.behave = behave
    found = report(server, images, timeout=3)
    never.set()
    assert (found.errors, found.answered) == ({"time-out": 1}, 39)


def test_a_server_that_goes_away_refuses_connections(server: BadServer, images: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        if number > 20:
            server._http.socket.close()
        return Reply(hang_up=number > 20)

    server.behave = behave
    found = report(server, images)
    assert found.answered == 20
    assert found.errors["no connection"] >= 12
    assert found.failed == 20


def test_no_room_is_no_error_and_is_sent_again_after_the_pause(server: BadServer, images: Path) -> None:
    full = Reply(status=429, headers={"Retry-After": "0.2"})
    server.behave = lambda number, body: full if number in (10, 11, 12) else Reply()
    found = report(server, images)
    assert (found.errors, found.answered, found.rejected) == ({}, 40, 3)
    assert found.latency
    assert found.latency.max >= 0.2


def test_a_server_without_room_for_good_is_an_error(server: BadServer, images: Path) -> None:
    server.behave = lambda number, body: Reply(status=429)
    found = report(server, images, requests=4, timeout=3)
    assert found.errors == {"HTTP 429": 4}
    assert found.rejected >= 4
    assert found.latency is None


def test_pages_that_are_not_always_answered_alike_are_named(server: BadServer, images: Path) -> None:
    odd: list[int] = []

    def behave(number: int, body: dict[str, Any]) -> Reply:
        page = page_of(body)
        odd[:] = odd or [page]
        changing = page == odd[0] and number > 20
        return Reply(f"page {page}" + (" again" if changing else ""))

    server.behave = behave
    found = report(server, images, clients=1, warm_up=1)
    assert found.differing == {"deep/d.png": 2}  # the warm-up begins with the last page
    assert found.figures()["differing"] == 1


def test_loops_and_cut_answers_are_counted(server: BadServer, images: Path) -> None:
    texts = {0: Reply("la " * 400, finish="length"), 1: Reply("a fine text that is cut", finish="length")}
    server.behave = lambda number, body: texts.get(number % 4, Reply())
    found = report(server, images)
    assert found.finish_reasons == {"stop": 20, "length": 10, "loop": 10}
    assert (found.figures()["loops"], found.figures()["truncated"]) == (10, 10)


# --- streams -----------------------------------------------------------------------------------------------


def test_streams_are_put_together_and_their_first_text_timed(server: BadServer, images: Path) -> None:
    server.behave = lambda number, body: Reply(f"page {page_of(body)}", delay=0.01)
    found = report(server, images, stream=True)
    assert (found.answered, found.differing, found.finish_reasons) == (40, {}, {"stop": 40})
    assert found.first_text
    assert found.latency
    assert 0.01 <= found.first_text.min <= found.latency.min
    assert found.tokens_per_second
    assert all(body["stream"] for body in server.bodies)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [b"data: [DONE]\n\n"],
        [{"choices": [{"delta": {"content": "half"}}]}],
        [{"error": {"message": "broke down"}}],
        [b"data: {\n\n"],
        [b"data: 7\n\n"],
        [b"nothing of the kind"],
        [b"data: " + b"x" * 2**21],
        [{"choices": [{"delta": {"content": "x"}, "finish_reason": "odd"}]}],
    ],
)
def test_broken_streams_are_unusable_answers(server: BadServer, images: Path, events: list[Any]) -> None:
    server.behave = lambda number, body: Reply(events=events if number == 10 else None)
    assert report(server, images, stream=True).errors == {"unusable answer": 1}


def test_events_may_be_cut_anywhere(server: BadServer, images: Path) -> None:
    whole = b'data: {"choices":[{"delta":{"content":"h\xc3\xa9"},"finish_reason":"stop"}]}\r\n\r\n'
    whole += b"data: [DONE]\r\n\r\n"
    pieces = [whole[place : place + 1] for place in range(len(whole))]
    server.behave = lambda number, body: Reply(events=pieces if number % 2 else [b": ping\n\n", whole])
    found = report(server, images, stream=True)
    assert (found.answered, found.differing) == (40, {})


# --- before the first page ---------------------------------------------------------------------------------


def test_a_server_that_answers_nothing_is_given_up_early(server: BadServer, images: Path) -> None:
    server.behave = lambda number, body: Reply(status=401, body=b'{"error": "who are you"}')
    with pytest.raises(EngineFailure, match=r"none of the first 4 pages: HTTP 401 .*who are you"):
        run(server, images, requests=1000, warm_up=4)
    assert len(server.bodies) < 20
    assert report(server, images).errors == {"HTTP 401": 40}


def test_no_server_is_told_before_images_are_sent(server: BadServer, images: Path) -> None:
    server.close()
    with pytest.raises(EngineFailure, match="cannot be reached"):
        run(server, images)


@pytest.mark.parametrize(
    "models", [None, {}, {"data": []}, [1], {"data": [{"id": 3}]}, {"data": [{"id": "a\x1b"}]}]
)
def test_a_server_without_models_needs_a_name(server: BadServer, images: Path, models: Any) -> None:
    server.models = models
    with pytest.raises(EngineFailure, match="which models"):
        run(server, images)
    assert run(server, images, model="mine", requests=4).model == "mine"
    assert server.bodies[-1]["model"] == "mine"


def test_the_key_goes_to_the_server_and_into_no_message(
    server: BadServer, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "very-secret")
    server.behave = lambda number, body: (
        Reply(status=500, body=b"you said very-secret") if number == 9 else Reply()
    )
    server.metrics = lambda: "process_resident_memory_bytes 3\n"
    found = report(server, images, api_key_env="MY_KEY")
    assert set(server.keys) == {"Bearer very-secret"}
    assert "very-secret" not in str(found)
    other = BadServer()
    other.metrics = server.metrics
    run(server, images, api_key_env="MY_KEY", metrics_url=other.url + "/metrics")
    other.close()
    assert set(other.keys) == {None}
    with pytest.raises(SettingsError, match="is empty"):
        run(server, images, api_key_env="NO_SUCH_KEY")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://x"},
        {"url": "http://192.0.2.1:8000"},
        {"url": "http://u:p@localhost"},
        {"url": "http://[::1"},
        {"requests": None},
        {"seconds": 3},
        {"pid": 1, "metrics_url": "http://127.0.0.1/metrics"},
        {"prompt": "<image><image>"},
        {"clients": 0},
        {"metrics_url": "http://192.0.2.1/metrics"},
    ],
)
def test_settings_that_cannot_be(server: BadServer, images: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        stress(settings(**{"url": server.url, **wrong}), images)
    assert not server.bodies


@pytest.mark.parametrize(
    ("url", "api", "metrics"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", "http://localhost:8000/metrics"),
        ("http://localhost:8000/", "http://localhost:8000/v1", "http://localhost:8000/metrics"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1", "http://localhost:8000/metrics"),
        ("https://x.org/ocr/v1/", "https://x.org/ocr/v1/", "https://x.org/ocr/metrics"),
    ],
)
def test_the_address_may_be_the_servers_or_its_apis(url: str, api: str, metrics: str) -> None:
    found = settings(url)
    assert (found.api, found.metrics) == (api, metrics)


# --- time and memory ---------------------------------------------------------------------------------------


def test_a_run_can_last_a_time_instead(server: BadServer, images: Path) -> None:
    server.behave = lambda number, body: Reply(delay=0.01)
    found = report(server, images, requests=None, seconds=0.5)
    assert found.seconds >= 0.5
    assert found.requests == found.answered == len(server.bodies) - found.warm_up


Start = Callable[[int], tuple[str, int]]


def test_a_real_leak_is_found_in_the_servers_own_figures(processes: Start, images: Path) -> None:
    url, _ = processes(40_000)
    found = stress(settings(url, requests=400, clients=2, warm_up=2), images).report
    assert found.memory
    assert found.memory.slope
    assert found.leaks
    assert found.memory.source == f"{url}/metrics"
    assert found.memory.slope.estimate == pytest.approx(40_000, rel=0.3)
    assert found.figures()["leaks"] == 1


def test_a_server_that_keeps_nothing_does_not_leak_by_proc(processes: Start, images: Path) -> None:
    url, pid = processes(0)
    found = stress(settings(url, requests=400, clients=2, warm_up=2, pid=pid), images).report
    assert found.memory
    assert found.memory.verdict == "steady"
    assert found.memory.samples > 20
    assert found.figures()["leaks"] == 0
    assert set(found.figures()) == set(FIGURES)


def test_memory_that_is_not_told_where_it_should_be(server: BadServer, images: Path) -> None:
    with pytest.raises(InputError, match="not told there"):
        run(server, images, metrics_url=server.url + "/metrics")
    with pytest.raises(InputError, match="no process"):
        run(server, images, pid=2**22 + 5)
    assert not server.bodies
