"""The server's log: one JSON object a line, on stderr. No keys, and no texts unless they were asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any

logger = logging.getLogger("ocrsmith.serving")
_HANDLER = "ocrsmith-serving"


def to_stderr() -> None:
    """Lets the log out on stderr, once; other handlers that somebody has set stay."""
    if not any(handler.name == _HANDLER for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.name = _HANDLER
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def write(event: str, **fields: Any) -> None:
    """A line with time and event; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    logger.info(json.dumps({"time": stamp, "event": event, **given}))


def write_failure(request_id: str, error: BaseException, *, with_text: bool) -> None:
    """A fault of the server, with the lines of code that led to it.

    Args:
        request_id: of the request that failed.
        error: what was raised.
        with_text: write its message too, which may quote the request.
    """
    frames = [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    message = str(error) if with_text else None
    write("failure", id=request_id, error=type(error).__name__, message=message, frames=frames)
