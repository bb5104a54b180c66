"""Decides whether a candidate can be a sample, and says why not. Every source passes here."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.page_images import PageImages
from ocrsmith.datasets.traits import Traits, traits_of
from ocrsmith.errors import ImageError, InputError
from ocrsmith.records import Excluded
from ocrsmith.text import IMAGE_TOKEN

DEFAULT_CONTEXT = 8192
"""Context of DeepSeek-OCR in tokens."""

_BASE_VIEW_TOKENS = 273
_DENSE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class LengthCheck:
    """How many tokens a sample takes in the model's context."""

    context: int
    count: Callable[[int, int, str, str | None], int]
    """(image width, image height, text, prompt or None) → tokens of the whole sequence."""
    describe: str
    """How it counts, for the summary."""
    exact: bool


def estimate_tokens(width: int, height: int, text: str, prompt: str | None) -> int:
    """A low estimate without a tokenizer: 0.5 tokens for a Chinese, Japanese or Korean character, else 0.2.

    Low on purpose, so that nothing is left out that would have fitted; only long runs of one character take
    fewer tokens than this.
    """
    dense = len(_DENSE.findall(text))
    return int(dense * 0.5 + (len(text) - dense) * 0.2) + _BASE_VIEW_TOKENS


ESTIMATED_LENGTH = LengthCheck(
    DEFAULT_CONTEXT,
    estimate_tokens,
    f"a low estimate without a tokenizer, for a context of {DEFAULT_CONTEXT} tokens (--model counts exactly)",
    exact=False,
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A candidate that can be a sample."""

    candidate: Candidate
    image: bytes
    text: str
    width: int
    height: int
    """In pixels, upright."""
    traits: Traits


def examine(
    candidate: Candidate, *, min_side: int, length: LengthCheck, images: PageImages | None = None
) -> Checked | Excluded:
    """Checks text, then image, then length.

    Args:
        min_side: smallest width and height in pixels.
        images: reads the image; the same one for many candidates, if there are several lines of a page.
    """
    text = (candidate.text or "").strip()
    if not text:
        return _exclude(
            candidate, "empty_text", "The text is empty: write what the image says, or remove the line."
        )
    if IMAGE_TOKEN in text:
        detail = f"The text contains {IMAGE_TOKEN}, which stands for a picture in prompts: remove it."
        return _exclude(candidate, "image_token", detail)
    if candidate.prompt is not None and candidate.prompt.count(IMAGE_TOKEN) != 1:
        detail = f"The prompt {candidate.prompt!r} does not have {IMAGE_TOKEN} in it exactly once."
        return _exclude(candidate, "bad_prompt", detail)
    try:
        data, image = (images or PageImages()).read(candidate)
    except ImageError as error:
        detail = error.problem if error.mend is None else f"{error.problem} {error.mend}"
        return _exclude(candidate, error.reason, detail)
    width, height = image.size
    if min(width, height) < min_side:
        detail = f"The image is {width}×{height} pixels; at least {min_side}×{min_side} are needed."
        return _exclude(candidate, "too_small", detail)
    try:
        tokens = length.count(width, height, text, candidate.prompt)
    except InputError as error:
        return _exclude(candidate, "malformed", error.problem)
    if tokens > length.context:
        return _exclude(candidate, "too_long", _too_long(tokens, length))
    return Checked(candidate, data, text, width, height, traits_of(data, image, text))


def examine_all(
    candidates: Iterable[Candidate | Excluded],
    *,
    min_side: int,
    length: LengthCheck,
    workers: int | None = None,
) -> Generator[Checked | Excluded]:
    """Examines candidates in several threads (decoding leaves Python's lock) and gives them in their order.

    Only a few candidates for each thread are under way at a time, so memory stays small.
    """
    count = workers or min(8, os.cpu_count() or 1)
    check = partial(examine, min_side=min_side, length=length, images=PageImages())
    if count == 1:
        for item in candidates:
            yield item if isinstance(item, Excluded) else check(item)
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="examine")
    waiting: deque[Future[Checked | Excluded] | Excluded] = deque()
    try:
        for item in candidates:
            if isinstance(item, Excluded):
                waiting.append(item)
            else:
                waiting.append(pool.submit(check, item))
            if len(waiting) >= 4 * count:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(item: Future[Checked | Excluded] | Excluded) -> Checked | Excluded:
    return item if isinstance(item, Excluded) else item.result()


def _too_long(tokens: int, length: LengthCheck) -> str:
    about = "" if length.exact else "at least about "
    return (
        f"The sample takes {about}{tokens:,} tokens; the model's context holds {length.context:,}: "
        "cut the page into parts."
    )


def _exclude(candidate: Candidate, reason: str, detail: str) -> Excluded:
    return Excluded(reason, detail, candidate.image_path, candidate.source, candidate.line)
