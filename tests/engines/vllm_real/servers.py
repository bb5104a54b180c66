"""A server as a process: started on a free port, waited for, ended with all that it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 900.0
REQUEST_SECONDS = 300.0
END_SECONDS = 60.0
SHOWN_LINES = 60


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    """Without a path."""
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, **headers: str) -> Any:
        """The JSON that it answers. Raises urllib.error.HTTPError for other codes than 200."""
        return self._ask(urllib.request.Request(self.url + path, headers=headers))

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> Any:
        """The JSON that it answers to JSON. Raises urllib.error.HTTPError for other codes than 200."""
        headers["Content-Type"] = "application/json"
        return self._ask(
            urllib.request.Request(self.url + path, data=json.dumps(body).encode(), headers=headers)
        )

    def _ask(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return json.load(answer)


@contextmanager
def serving(
    command: Callable[[int], Sequence[str]], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Runs a server until the block ends.

    Args:
        command: makes the command line, given a port.
        log: gets all that it writes.
        environment: None: this process's.
    """
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(port), stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_for(server)
        yield server
    finally:
        end(server)


def end(server: Server) -> int:
    """Asks the server to end, kills it and its helpers if it does not. Returns its exit code."""
    process = server.process
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def _wait_for(server: Server) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            break
        with suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=10):
            return
        time.sleep(0.5)
    lines = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise AssertionError("\n".join(["The server did not start:", *lines[-SHOWN_LINES:]]))
