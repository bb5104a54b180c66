"""One process an engine: the measured side starts, reports, and does as it is told; all in JSON lines.

So every engine has its own memory peak, and the rounds of all engines can take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ocrsmith.errors import OcrsmithError

Message = dict[str, Any]
REPOSITORY = Path(__file__).parents[1]


class Worker:
    """The measuring process, seen from the program that started it."""

    def __init__(
        self, module: str, settings: dict[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts it; several may start at once. `environment`: variables on top of this process's own."""
        paths = [str(REPOSITORY), str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self.failure: str | None = None

    def ask(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sends a request (None: nothing, after the start) and waits for the answer; empty once it failed."""
        if self.failure is not None:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            if request is not None:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.failure = f"the process ended with code {self._process.wait()}"
            return {}
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            self.failure = answer["failure"]
            return {}
        return answer

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                self.failure = self.failure or "the process ended early"
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(
    start: Callable[[dict[str, Any]], tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]],
) -> None:
    """The measuring process: `start(settings)` gives the first answer and what answers each request."""
    with _own_output() as answer:
        try:
            first, respond = start(json.loads(sys.argv[1]))
            answer(first)
            for line in sys.stdin:
                answer(respond(json.loads(line)))
        except OcrsmithError as error:
            answer({"failure": str(error)})
        except Exception as error:  # out of memory, a missing kernel: told in the table, and the others go on
            traceback.print_exc()
            answer({"failure": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})


@contextmanager
def _own_output() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Keeps stdout for answers: what libraries print goes to stderr."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        own.write(json.dumps(value) + "\n")
        own.flush()

    try:
        yield answer
    finally:
        own.close()
