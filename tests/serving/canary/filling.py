"""Fills a store as a server would."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image

from ocrsmith.evaluation.metrics.cer import cer
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.records import Answer, Correction, KeptPage, Request
from ocrsmith.serving.canary.store import open_store


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (40, 20), number % 256).save(buffer, "PNG")
    return buffer.getvalue()


def page_of(number: int) -> PageKey:
    return PageKey(f"{number:064x}", "p" * 64)


def fill(
    place: str,
    *,
    pages: int,
    base: Callable[[str], str],
    candidate: Callable[[str], str],
    correct: bool = True,
) -> None:
    """Pages that the base answered and the candidate read along, all kept.

    Args:
        base, candidate: what is made of the true text.
        correct: whether the true texts are known.
    """
    with open_store(place, create=True) as store:
        store.start("A", "B<b>", {"share": 0.1, "shadow": True, "keep": 1.0})
        requests, answers, kept = [], [], []
        for number in range(pages):
            key, name, true = page_of(number), f"chatcmpl-{number}", f"the true text {number}"
            first, second = base(true), candidate(true)
            requests.append(Request(name, 1_000.0 + number, key, "base"))
            values = {"seconds": 1.0 + number, "tokens": 4, "logprob_mean": -0.1}
            answers.append(Answer(name, "base", key, "stop", length=len(first), text=first, **values))  # type: ignore[arg-type]
            shadow = {"shadow": True, "difference": cer(first, second), "length": len(second), "text": second}
            answers.append(Answer(name, "candidate", key, "stop", **values, **shadow))  # type: ignore[arg-type]
            kept.append(KeptPage(key, 1_000.0 + number, "<image>\nFree OCR.", picture(number)))
        store.add(1, requests=requests, answers=answers, pages=kept)
        if correct:
            store.correct(Correction(page_of(number), f"the true text {number}") for number in range(pages))
