"""Page images, a server that behaves as told, and one that is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from .server import BadServer


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with four pages, one of them in a folder of its own."""
    folder = tmp_path / "pages"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.jpg", "c.webp", "deep/d.png")):
        Image.new("L", (20 + number, 16), 40 * number).save(folder / name)
    return folder


@pytest.fixture
def server() -> Iterator[BadServer]:
    server = BadServer()
    yield server
    server.close()


@pytest.fixture
def processes() -> Iterator[Callable[[int], tuple[str, int]]]:
    """Starts servers that keep so many bytes with every page; gives address and number of the process."""
    started: list[subprocess.Popen[str]] = []

    def start(leak: int) -> tuple[str, int]:
        command = [sys.executable, str(Path(__file__).with_name("server.py")), str(leak)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        return process.stdout.readline().strip(), process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()
