"""Runs a command for as long as standard input stays open, and ends all that it started.

Whoever starts this holds the other end of standard input. It closes when that process ends, however it ends,
`kill -9` included; so the command and its helpers never outlive it. Run as a program of its own; the standard
library alone is loaded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress


def keep(command: Sequence[str], grace: float) -> int:
    """Runs a command in a process group of its own.

    Args:
        command: the program and its arguments.
        grace: seconds that it has to end by itself before it is killed.

    Returns:
        Its exit code, 128 + n after signal n.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def send(number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)

    def end(*_: object) -> None:
        send(signal.SIGTERM)
        clock = threading.Timer(grace, send, (signal.SIGKILL,))
        clock.daemon = True
        clock.start()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        end()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    send(signal.SIGKILL)  # helpers that it left behind
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(keep(sys.argv[2:], float(sys.argv[1])))
