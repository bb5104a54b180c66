"""A page read by an engine, as it crosses from the engine to journals and documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ocrsmith.records import Prediction

_KNOWN = {item.name for item in fields(Prediction)}


@dataclass(frozen=True, slots=True)
class PageReading:
    """One page of a document, and what an engine read in it."""

    document: int
    """Which of the documents of this run."""
    number: int
    """From 1, within the document."""
    width: int
    height: int
    """Of the page image, in pixels; 0 where it could not be opened."""
    dpi: float | None
    """Pixels per inch that a PDF's page was drawn with; None for images."""
    prediction: Prediction

    def to_line(self) -> str:
        """A line of a journal."""
        record = asdict(self)
        del record["document"]
        return json.dumps(record, ensure_ascii=True)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], document: int) -> PageReading:
        """What `to_line` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        values = {name: value for name, value in record["prediction"].items() if name in _KNOWN}
        for name in ("token_ends", "token_logprobs"):
            values[name] = tuple(values.get(name, ()))
        if not isinstance(values["text"], str) or len(values["token_ends"]) != len(values["token_logprobs"]):
            raise ValueError("text or tokens are none")
        dpi = record["dpi"]
        return cls(
            document=document,
            number=int(record["number"]),
            width=int(record["width"]),
            height=int(record["height"]),
            dpi=None if dpi is None else float(dpi),
            prediction=Prediction(**values),
        )
