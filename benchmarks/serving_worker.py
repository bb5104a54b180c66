"""Reads the sample archive with the engine alone, as `serving.py` tells it; see `worker.py`."""

from __future__ import annotations

import time
from importlib import resources
from typing import Any

from benchmarks.worker import serve
from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.native import NativeEngine
from ocrsmith.model.host_memory import keep_freed_memory


def start(settings: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Loads nano as `ocrsmith ocr` does."""
    keep_freed_memory()
    engine = NativeEngine.load("nano", max_new_tokens=settings["max_new_tokens"], device="cpu")
    folder = resources.files("ocrsmith.nano") / "sample_archive" / "images"
    images = [item.read_bytes() for item in sorted(folder.iterdir(), key=lambda item: item.name)]

    def respond(request: dict[str, Any]) -> dict[str, Any]:
        pages = [PageRequest(str(number), images[number % len(images)]) for number in range(request["pages"])]
        begin = time.perf_counter()
        tokens = sum(prediction.tokens for prediction in engine.read(pages))
        return {"pages": len(pages), "seconds": time.perf_counter() - begin, "tokens": tokens}

    return {"images": len(images)}, respond


if __name__ == "__main__":
    serve(start)
