"""A headless Chromium for tests, spoken to over two pipes: no driver, no port, nothing to install.

Chromium reads commands of the DevTools protocol from descriptor 3 and answers on 4, one JSON object after the
other, each ended by a NUL (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT = 20.0
"""Seconds for one answer."""


def find_browser() -> str | None:
    """Where Chromium is; None if it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _start(command: list[str], commands: int, answers: int) -> int:
    """Starts a process in a session of its own, with the two pipes as its descriptors 3 and 4.

    Returns:
        Its process id.
    """
    pipes = [fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (commands, answers)]  # not 3 or 4
    try:
        return os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                *((os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_RDWR, 0) for place in (0, 1, 2)),
                *((os.POSIX_SPAWN_DUP2, pipe, place) for pipe, place in zip(pipes, (3, 4), strict=True)),
            ],
            setsid=True,
        )
    finally:
        for pipe in (commands, answers, *pipes):
            os.close(pipe)


class Browser:
    """One browser process with one page."""

    def __init__(self, path: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        flags = (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--mute-audio"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync"),
            *("--disable-dev-shm-usage", "--disable-component-update", "--hide-scrollbars"),
            f"--user-data-dir={self._profile.name}",
        )
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        self._process = _start([path, *flags, "about:blank"], commands, answers)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the browser and all its processes, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    # --- what a person does ----------------------------------------------------------------------------------

    def open(
        self, page: Path, *, width: int = 1200, height: int = 900, dark: bool = False, script: bool = True
    ) -> None:
        """Opens a file afresh and waits until it has loaded.

        Args:
            page: an HTML file.
            width, height: of the window, in CSS pixels; below 600 it is a phone.
            dark: what the system prefers.
            script: whether scripts run.
        """
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.go("about:blank")
        self.go(page.as_uri())

    def go(self, address: str) -> None:
        """Goes to an address and waits until it has loaded; earlier complaints are forgotten."""
        self._events.clear()
        self.call("Page.navigate", url=address)
        self._wait_for("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys: str) -> None:
        """Presses keys: characters, or names such as `ArrowDown`, `Enter` and `Escape`."""
        codes = {"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9}
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
            about = {"key": key, "windowsVirtualKeyCode": code}
            down = {**about, "text": text} if text else about
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes what is seen (or the whole page) as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def complaints(self) -> list[str]:
        """Console errors, exceptions, violations of the policy and dialogs since the page was opened."""
        self._read(0)
        found = []
        for event in self._events:
            about = event.get("params", {})
            match event["method"]:
                case "Runtime.exceptionThrown":
                    found.append(json.dumps(about["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning", "assert"):
                    found.append(json.dumps(about["args"]))
                case "Log.entryAdded" if about["entry"]["level"] in ("error", "warning"):
                    found.append(about["entry"]["text"])
                case "Page.javascriptDialogOpening":
                    found.append(f"dialog: {about['message']}")
        return found

    # --- the protocol ----------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            for answer in self._read(end - time.monotonic()):
                if answer.get("id") == self._number:
                    assert "error" not in answer, (method, answer["error"])
                    result: dict[str, Any] = answer["result"]
                    return result
        raise TimeoutError(f"{method} was not answered within {TIMEOUT:.0f} s")

    def _wait_for(self, method: str) -> None:
        seen = 0
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if any(event["method"] == method for event in self._events[seen:]):
                return
            seen = len(self._events)
            self._read(end - time.monotonic())
        raise TimeoutError(f"{method} did not happen within {TIMEOUT:.0f} s")

    def _read(self, seconds: float) -> list[dict[str, Any]]:
        """Messages that have come in, at least one unless the time is over; events are kept."""
        while select.select([self._in], [], [], 0 if b"\0" in self._buffer else max(0.0, seconds))[0]:
            data = os.read(self._in, 1 << 20)
            if not data:
                raise ConnectionError("The browser has ended.")
            self._buffer += data
            seconds = 0 if b"\0" in self._buffer else seconds
        *whole, self._buffer = self._buffer.split(b"\0")
        messages = [json.loads(message) for message in whole]
        self._events += [message for message in messages if "method" in message]
        return messages
