"""The serving benchmark: three ways of reading in one table, and what counts as a failure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from benchmarks.serving_worker import start

from benchmarks import serving

from ..serving.stress.server import BadServer


class InThisProcess:
    """The worker, without a process of its own."""

    failure = None

    def __init__(self, module: str, settings: dict[str, Any], environment: dict[str, str]) -> None:
        assert (module, environment["OMP_NUM_THREADS"]) == ("benchmarks.serving_worker", "1")
        self.first, self.respond = start(settings)

    def ask(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.first if request is None else self.respond(request)

    def close(self) -> None:
        pass


@contextmanager
def stand_in(threads: int) -> Iterator[tuple[str, int]]:
    server = BadServer()
    yield server.url + "/v1", os.getpid()
    server.close()


def test_three_ways_are_put_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "nano_server", stand_in)
    monkeypatch.setattr(serving, "Worker", InThisProcess)
    monkeypatch.setattr("benchmarks.serving_worker.keep_freed_memory", lambda: True)
    words = f"--requests 6 --clients 2 --alone 2 --warm-up 1 --threads 1 --results {tmp_path}"
    assert serving.main(words.split()) in (0, 1)  # memory of six pages may still grow
    assert "served, 2 at a time" in capsys.readouterr().out
    text = (tmp_path / "serving-nano-cpu.json").read_text()
    result = json.loads(text)
    many, alone, offline = result["rows"]
    assert [many["way"], alone["way"]] == ["served, 2 at a time", "served, 1 at a time"]
    assert (many["pages"], alone["pages"], offline["pages"]) == (6, 2, 6)
    assert (many["errors"], alone["errors"]) == (0, 0)
    assert many["× one at a time"] == pytest.approx(many["pages/min"] / alone["pages/min"])
    assert many["× offline"] == pytest.approx(many["pages/min"] / offline["pages/min"])
    assert many["first text s"] <= many["p50 s"]
    assert many["first MiB"] > 10
    assert result["reports"]["offline"]["tokens"] > 6


def test_growth_and_errors_are_failures() -> None:
    fine = {"errors": 0, "memory growth %": 1.9}
    assert serving.verdict([fine]) == []
    assert "grew by 2.10 %" in serving.verdict([fine | {"memory growth %": 2.1}])[0]
    assert serving.verdict([fine | {"errors": 3}]) == ["3 requests failed"]
