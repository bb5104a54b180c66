"""The server's process: its limits in number, size and time, clients that hang up, and an orderly end."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import httpx2
import pytest

from ocrsmith.errors import OcrsmithError, OutputError, SettingsError
from ocrsmith.serving.app import make_app
from ocrsmith.serving.server import Server, bind, running, serve
from ocrsmith.serving.settings import ServerSettings

from .conftest import PATIENCE, Served, ServerProcess, Start, server_process, until
from .scripted import TEXT, ScriptedBackend
from .test_app import error_of, events_of

CROWD = 10_000
SPARE = 500
"""Files that the tests have open otherwise."""
FEW_FILES = 512


def dial(url: str) -> socket.socket:
    """A connection to a server."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def request_bytes(word: str, *, stream: bool = False) -> bytes:
    """A whole request for a chat completion."""
    body = json.dumps({"messages": [{"role": "user", "content": word}], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


# Numbers


def test_beyond_slots_and_queue_clients_are_told_when_to_come_again(start: Start) -> None:
    served = start(slots=2, queue=1)
    with ThreadPoolExecutor(3) as pool:
        under_way = [pool.submit(served.chat, "late") for _ in range(3)]
        until(lambda: served.metric("ocrsmith_running") == 2 and served.metric("ocrsmith_waiting") == 1)

        refused = served.chat("Hello")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert error_of(refused)["type"] == "rate_limit_error"

        served.backend.go_on.set()
        assert [answer.result().status_code for answer in under_way] == [200] * 3
    assert served.chat("Hello").status_code == 200
    assert served.metric('ocrsmith_rejected_total{reason="queue_full"}') == 1


def test_bodies_in_memory_are_bounded_together(start: Start) -> None:
    served = start(max_body_bytes=4096, max_held_bytes=5000)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.chat, "x" * 3500 + " late")
        until(lambda: served.backend.active == 1)

        assert served.chat("x" * 3500).status_code == 429
        assert served.chat("Hello").status_code == 200
        served.backend.go_on.set()
        assert first.result().status_code == 200
    assert served.chat("x" * 3500).status_code == 200


def test_a_crowd_of_connections_harms_nobody() -> None:
    """10,000 connections, or as many as this machine lets a process open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = hard if hard != resource.RLIM_INFINITY else CROWD + SPARE
    number = min(CROWD, allowed - SPARE)
    at_a_time = number // 10
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FEW_FILES, hard), hard))  # the server starts with that
        server = stack.enter_context(server_process(max_connections=at_a_time, header_seconds=PATIENCE))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        good = stack.enter_context(httpx2.Client(base_url=server.url, trust_env=False, timeout=PATIENCE))
        assert good.get("/health").status_code == 200
        crowd = [stack.enter_context(socket.socket()) for _ in range(number)]
        host, port = server.url.removeprefix("http://").split(":")
        for connection in crowd:
            connection.setblocking(False)
            connection.connect_ex((host, int(port)))
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        assert good.post("/v1/chat/completions", json=body).status_code == 200
        until(lambda: _metric(good, "ocrsmith_connections") >= at_a_time)
        until(lambda: _metric(good, 'ocrsmith_rejected_total{reason="connections"}') >= 1)
        for connection in crowd:
            connection.close()
        until(lambda: _metric(good, "ocrsmith_connections") == 1)
        assert httpx2.get(f"{server.url}/v1/models", trust_env=False, timeout=PATIENCE).status_code == 200
        assert _metric(good, "process_max_fds") == hard


def _metric(client: httpx2.Client, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample), 0.0)


def test_one_connection_too_many_is_told_so(start: Start) -> None:
    served = start(max_connections=1)
    with dial(served.url) as first:
        until(lambda: _answers(first))
        with dial(served.url) as second:
            answer = rest_of(second)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "connections"
    until(lambda: served.client.get("/health").status_code == 200)


def _answers(connection: socket.socket) -> bool:
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    return connection.recv(65536).startswith(b"HTTP/1.1 200 ")


# Sizes

GIGABYTE = 2**30


def zeros() -> Iterator[bytes]:
    """A gigabyte, made as it is sent."""
    part = bytes(2**20)
    for _ in range(GIGABYTE // len(part)):
        yield part


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_a_gigabyte(declared: bool) -> None:
    with (
        server_process() as server,
        httpx2.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as client,
    ):
        before = _metric(client, "process_resident_memory_bytes")
        length = {"content-length": str(GIGABYTE)} if declared else {"transfer-encoding": "chunked"}
        headers = {"content-type": "application/json", **length}
        answer = client.post("/v1/chat/completions", content=zeros(), headers=headers)

        assert answer.status_code == 413
        assert error_of(answer)["code"] == "request_too_large"
        assert answer.headers["connection"] == "close"
        assert _metric(client, "process_resident_memory_bytes") - before < 150 * 2**20
        assert _metric(client, "ocrsmith_running") == 0


def test_a_key_is_asked_for_before_the_body_is_read(start: Start) -> None:
    served = start(api_keys=("sk-one",))
    headers = {"authorization": "Bearer sk-two", "content-length": str(GIGABYTE)}
    answer = served.client.post("/v1/chat/completions", content=zeros(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"


# Time


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_does_not_come(start: Start, sent: bytes) -> None:
    served = start(header_seconds=1)
    with dial(served.url) as connection:
        connection.sendall(sent)
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") if sent else answer == b""


def test_a_head_that_dribbles(start: Start) -> None:
    """Each byte comes in time; the head as a whole does not."""
    served = start(header_seconds=1)
    with dial(served.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")  # a connection that was good once
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        with suppress(OSError):
            for _ in range(int(PATIENCE / 0.05)):
                connection.sendall(b"G")
                time.sleep(0.05)
    assert served.metric('ocrsmith_rejected_total{reason="slow_head"}') == 1


def test_a_body_that_does_not_come(start: Start) -> None:
    served = start(body_seconds=0.2)
    with dial(served.url) as connection:
        connection.sendall(request_bytes("Hello")[:-5])
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "timeout"
    assert served.metric('ocrsmith_rejected_total{reason="slow_body"}') == 1


def test_an_answer_that_takes_too_long(start: Start) -> None:
    served = start(request_seconds=1)
    answer = served.chat("hang")

    assert answer.status_code == 504
    assert error_of(answer)["code"] == "timeout"
    until(lambda: served.backend.active == 0)
    assert len(served.backend.cancelled) == 1


def test_a_stream_that_takes_too_long_ends_with_an_error(start: Start) -> None:
    served = start(request_seconds=1)
    events = events_of(served.chat("wait", stream=True))

    assert events[1]["choices"][0]["delta"]["content"] == TEXT[0]
    assert events[-1]["error"]["code"] == "timeout"
    until(lambda: served.backend.active == 0)


def test_waiting_for_a_slot_counts(start: Start) -> None:
    served = start(slots=1, request_seconds=0.4)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(served.chat, ["hang", "hang"]))
    assert {answer.status_code for answer in answers} == {504}
    assert served.metric("ocrsmith_running") == served.metric("ocrsmith_waiting") == 0


def test_a_client_that_reads_nothing_is_given_up(start: Start) -> None:
    served = start(request_seconds=0.5)
    with dial(served.url) as connection:
        connection.sendall(request_bytes("flood", stream=True))
        until(lambda: bool(served.backend.seen))
        until(lambda: served.backend.active == 0)
        until(lambda: served.metric("ocrsmith_running") == 0)


# Clients that hang up


@pytest.mark.parametrize(("word", "stream"), [("wait", True), ("wait", False), ("hang", False)])
def test_a_client_that_hangs_up(start: Start, word: str, stream: bool) -> None:
    served = start(slots=1)
    with dial(served.url) as connection:
        connection.sendall(request_bytes(word, stream=stream))
        until(lambda: served.backend.active == 1)
        if stream:
            assert connection.recv(65536)
    until(lambda: served.backend.active == 0)

    assert served.backend.cancelled == [served.backend.seen[0].id]
    assert served.chat("Hello").status_code == 200  # the place is free
    assert served.metric("ocrsmith_cancelled_total") == 1


def test_a_client_that_hangs_up_while_it_waits(start: Start) -> None:
    served = start(slots=1, queue=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.chat, "late")
        until(lambda: served.backend.active == 1)
        with dial(served.url) as connection:
            connection.sendall(request_bytes("Hello"))
            until(lambda: served.metric("ocrsmith_waiting") == 1)
        until(lambda: served.metric("ocrsmith_waiting") == 0)
        served.backend.go_on.set()
        assert first.result().status_code == 200
    assert len(served.backend.seen) == 1
    assert served.chat("Hello").status_code == 200


def test_a_client_that_hangs_up_within_its_body(start: Start) -> None:
    served = start()
    with dial(served.url) as connection:
        connection.sendall(request_bytes("Hello")[:-5])
    until(lambda: served.metric("ocrsmith_cancelled_total") == 1)
    assert not served.backend.seen


def test_requests_one_behind_the_other_on_one_connection(served: Served) -> None:
    with dial(served.url) as connection:
        connection.sendall(
            request_bytes("Hello") * 2 + b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answer = rest_of(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


# Beginning and end


def test_the_end_lets_requests_end() -> None:
    with server_process(drain_seconds=PATIENCE) as server:
        with (
            httpx2.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as kept,
            httpx2.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as client,
        ):
            assert kept.get("/health").status_code == 200
            body = {"messages": [{"role": "user", "content": "wait"}], "stream": True}
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                lines = answer.iter_lines()
                next(lines)
                server.process.send_signal(signal.SIGTERM)
                until(lambda: _is_refused(server.url))
                late = kept.get("/health")
                server.open_gate()
                rest = [line.removeprefix("data: ") for line in lines if line]
        code, output, errors = server.finish()

    assert late.status_code == 503
    assert late.headers["connection"] == "close"
    assert error_of(late)["code"] == "shutting_down"
    assert rest[-1] == "[DONE]"
    assert (code, output) == (0, "closed\n")
    assert "Traceback" not in errors


def _is_refused(url: str) -> bool:
    try:
        dial(url).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(("drain", "signals"), [(0.2, 1), (PATIENCE, 2)])
@pytest.mark.parametrize("stream", [True, False])
def test_the_end_does_not_wait_for_ever(drain: float, signals: int, stream: bool) -> None:
    with server_process(drain_seconds=drain) as server:
        with dial(server.url) as connection:
            connection.sendall(request_bytes("wait", stream=stream))
            if stream:
                assert connection.recv(65536)
            else:
                until(lambda: _running(server) == 1)
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                until(lambda: _is_refused(server.url))
            answer = rest_of(connection)
        code, output, errors = server.finish()

    assert b'"code":"shutting_down"' in answer
    assert stream or answer.startswith(b"HTTP/1.1 503 ")
    assert (code, output) == (0, "closed\n")
    assert "Traceback" not in errors


def _running(server: ServerProcess) -> float:
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=PATIENCE) as client:
        return _metric(client, "ocrsmith_running")


def test_a_port_in_use_is_told_before_the_backend_starts() -> None:
    backend = ScriptedBackend()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = ServerSettings(port=port)
        with pytest.raises(OutputError, match=f"Port {port} is in use") as caught:
            serve(make_app(backend, settings), settings)
    assert caught.value.place == f"127.0.0.1:{port}"
    assert caught.value.mend
    assert not backend.started


def test_nobody_listens_to_strangers_without_a_key() -> None:
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0"):
        bind(ServerSettings(host="0.0.0.0", port=0))
    for settings in (
        ServerSettings(host="0.0.0.0", port=0, api_keys=("sk-one",)),
        ServerSettings(host="0.0.0.0", port=0, allow_no_keys=True),
        ServerSettings(host="localhost", port=0),
    ):
        (listener,) = bind(settings)
        listener.close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_of_this_machine(host: str) -> None:
    with pytest.raises(OcrsmithError, match=r"address|listen"):
        bind(ServerSettings(host=host, port=0, api_keys=("sk-one",)))


class BrokenBackend(ScriptedBackend):
    """Cannot start."""

    async def start(self) -> None:
        raise OutputError("The model is too large.")


def test_a_backend_that_cannot_start() -> None:
    backend = BrokenBackend()
    with pytest.raises(OutputError, match="too large"), running(backend):
        raise AssertionError
    assert backend.closed


class SlowBackend(ScriptedBackend):
    """Takes for ever to start."""

    async def start(self) -> None:
        self.started = True
        await asyncio.Event().wait()


def test_the_end_before_the_beginning() -> None:
    backend, settings = SlowBackend(), ServerSettings(port=0)
    server = Server(make_app(backend, settings), settings, bind(settings))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(server.run)
        until(lambda: backend.started)
        server.stop()
        run.result(PATIENCE)
    assert backend.closed


@pytest.mark.parametrize(
    "values",
    [
        {"api_keys": ("secret key",)},
        {"api_keys": ("",)},
        {"api_keys": "secret"},
        {"api_keys": ("sécret",)},
        {"port": 70_000},
        {"slots": 0},
        {"max_body_bytes": 2**30},
        {"colour": "red"},
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        ServerSettings.from_values(values)
    assert "secret" not in str(caught.value)
    assert "sécret" not in str(caught.value)
    assert next(iter(values)) in str(caught.value)
