"""Running servers before a backend: one that does as it is told, and the bundled nano model."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.serving.server import running
from ocrsmith.serving.settings import ServerSettings

from .scripted import ScriptedBackend

PATIENCE = 60.0
"""Seconds that a test waits at most for anything."""


@dataclass
class Served:
    """A server in this process, its backend, and a client."""

    url: str
    backend: ScriptedBackend
    client: httpx2.Client

    def chat(self, content: Any, **fields: Any) -> httpx2.Response:
        """Asks for a chat completion of one user message."""
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def metric(self, sample: str) -> float:
        """The value of a line of /metrics, 0 if there is none."""
        for line in self.client.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0


class Start(Protocol):
    """Starts a server with the given settings."""

    def __call__(self, **settings: Any) -> Served: ...


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another thread does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def data_uri(image: bytes, media_type: str = "image/png") -> str:
    """A data URI."""
    return f"data:{media_type};base64,{base64.b64encode(image).decode()}"


def image_part(url: str) -> dict[str, Any]:
    """The part of a message that is an image."""
    return {"type": "image_url", "image_url": {"url": url}}


def line_of_text(text: str) -> bytes:
    """A line that the nano model can read."""
    image = Image.new("RGB", (240, 40), "white")
    ImageDraw.Draw(image).text((8, 8), text, fill="black", font=ImageFont.load_default(20))
    return encoded(image)


@pytest.fixture
def start() -> Iterator[Start]:
    """A server before a scripted backend; keys are sent by its client."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Served:
            backend = ScriptedBackend()
            url = stack.enter_context(running(backend, ServerSettings(port=0, **settings)))
            stack.callback(backend.go_on.set)  # before the server ends
            key = settings.get("api_keys", ("none",))[0]
            client = httpx2.Client(
                base_url=url, trust_env=False, timeout=PATIENCE, headers={"authorization": f"Bearer {key}"}
            )
            return Served(url, backend, stack.enter_context(client))

        yield start


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server with the usual settings, for tests that change nothing in it."""
    backend = ScriptedBackend()
    with (
        running(backend, ServerSettings(port=0)) as url,
        httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client,
    ):
        yield Served(url, backend, client)


@pytest.fixture(scope="session")
def nano_url() -> Iterator[str]:
    """The base URL of a server before the bundled model; its key is `sk-nano`."""
    from ocrsmith.engines.native import NativeEngine
    from ocrsmith.serving.native import NativeBackend

    backend = NativeBackend({"nano": NativeEngine.load("nano", device="cpu")})
    with running(backend, ServerSettings(port=0, api_keys=("sk-other", "sk-nano"))) as url:
        yield url


class ServerProcess:
    """A server before a scripted backend, as a process of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        text = ServerSettings(port=0, **settings).model_dump_json()
        command = [sys.executable, "-m", "scripted", text]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (an unread pipe would stop the server)
        self.process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()

    def open_gate(self) -> None:
        """Lets requests that wait go on."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> tuple[int, str, str]:
        """Waits for the end: exit code, what stdout and stderr say."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        self._log.seek(0)
        return self.process.returncode, output, self._log.read()

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.communicate()
        self._log.close()


@contextmanager
def server_process(**settings: Any) -> Iterator[ServerProcess]:
    """Starts a server process, and ends it."""
    server = ServerProcess(settings)
    try:
        yield server
    finally:
        server.kill()
