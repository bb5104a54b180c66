"""A small server for chat completions that behaves as badly as it is told, in a thread or as a process.

As a process: `python server.py BYTES` answers with the same text, and keeps BYTES more with every page.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODELS = {"object": "list", "data": [{"id": "small"}, {"id": "other"}]}


@dataclass
class Reply:
    """What a page is answered with."""

    text: str = "read"
    status: int = 200
    delay: float = 0.0
    finish: str = "stop"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of a completion."""
    hang_up: bool = False
    events: list[Any] | None = None
    """Of a stream, instead of two pieces."""


def page_of(body: dict[str, Any]) -> int:
    """A number for the image in a request."""
    parts = body["messages"][0]["content"]
    return zlib.crc32(next(part["image_url"]["url"] for part in parts if part["type"] == "image_url").encode())


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested here."""


class BadServer:
    """Answers as `behave(number, body)` says, and tells `metrics()`."""

    def __init__(self, port: int = 0) -> None:
        self.behave: Callable[[int, dict[str, Any]], Reply] = lambda number, body: Reply()
        self.metrics: Callable[[], str] | None = None
        self.models: Any = MODELS
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.connections: set[Any] = set()
        self.under_way = self.most_under_way = self.number = 0
        self.keep_bodies = True
        self.lock = threading.Lock()
        self._http = _Http(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(server: BadServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            server.keys.append(self.headers.get("Authorization"))
            if self.path == "/metrics" and server.metrics:
                self.send(200, server.metrics().encode())
            elif self.path.endswith("/models") and server.models is not None:
                self.send(200, json.dumps(server.models).encode())
            else:
                self.send(404, b'{"error": {"message": "nothing here"}}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.number += 1
                number = server.number
                server.connections.add(self.client_address)
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
                if server.keep_bodies:
                    server.bodies.append(body)
                server.keys.append(self.headers.get("Authorization"))
            try:
                reply = server.behave(number, body)
                time.sleep(reply.delay)
            finally:
                with server.lock:
                    server.under_way -= 1
            self.answer(reply, body)

        def answer(self, reply: Reply, body: dict[str, Any]) -> None:
            if reply.hang_up:
                self.close_connection = True
                self.connection.close()
            elif reply.body is not None or reply.status != 200:
                self.send(reply.status, reply.body or b'{"error": {"message": "no"}}', reply.headers)
            elif body.get("stream"):
                self.stream(reply)
            else:
                choice = {"message": {"content": reply.text}, "finish_reason": reply.finish}
                answer = {"choices": [choice], "usage": {"completion_tokens": len(reply.text)}}
                self.send(200, json.dumps(answer).encode(), reply.headers)

        def stream(self, reply: Reply) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events(reply) if reply.events is None else reply.events:
                data = event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

        def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def events(reply: Reply) -> Iterator[Any]:
    """The events of a stream: a role, the text in two pieces, the reason, the usage, the end."""
    half = len(reply.text) // 2
    yield {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    yield {"choices": [{"delta": {"content": reply.text[:half]}, "finish_reason": None}]}
    yield {"choices": [{"delta": {"content": reply.text[half:]}, "finish_reason": None}], "usage": None}
    yield {"choices": [{"delta": {}, "finish_reason": reply.finish}]}
    yield {"choices": [], "usage": {"completion_tokens": len(reply.text)}}
    yield b"data: [DONE]\n\n"


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serves until standard input ends, leaking as many bytes a page as the argument says."""
    server, kept = BadServer(), []
    server.keep_bodies = False
    leak = int(sys.argv[1])

    def behave(number: int, body: dict[str, Any]) -> Reply:
        kept.append(b"x" * leak)
        return Reply(f"page {page_of(body)}", delay=0.005)

    server.behave = behave
    server.metrics = lambda: (
        f"# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {resident()}\n"
    )
    print(server.url, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
