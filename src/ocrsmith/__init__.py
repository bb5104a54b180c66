"""ocrsmith: make DeepSeek-OCR the expert of your documents, and know that it got better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsmith.reading import Reader

__version__ = "0.1.0"


def load(model: str | None = None, adapter: Path | str | None = None, **options: Any) -> Reader:
    """Opens a model for reading documents: `ocrsmith.load("nano").read("page.png").text`.

    Args:
        model: `nano`, a model folder or a hub id.
        adapter: an adapter folder.
        options: see `ocrsmith.reading.load`, to which all goes.
    """
    from ocrsmith.reading import load as open_reader  # numpy, Pillow and more: not for those who only import us

    return open_reader(model, adapter, **options)
