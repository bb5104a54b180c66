"""Which pages go which way: by a hash, so that the same page always goes the same way.

Each decision takes a number from 0 up to 1 from the page, the store's salt and its own name, and compares it
with a share. A larger share therefore takes more pages and never gives one back, and what is decided for one
purpose says nothing about another: kept pages are as often the candidate's as all others are.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

Arm = Literal["base", "candidate"]
BASE: Arm = "base"
CANDIDATE: Arm = "candidate"
ARMS: tuple[Arm, ...] = (BASE, CANDIDATE)

Purpose = Literal["arm", "keep", "prefill"]


@dataclass(frozen=True, slots=True)
class PageKey:
    """What makes a request the same page again."""

    page: str
    """SHA-256 of the image file's bytes, in hexadecimal: what `sha256sum` says of the file."""
    prompt: str
    """Keyed hash of the prompt: without the store's salt nobody can try prompts against it."""


def page_key(image: bytes | None, prompt: str, *, salt: str) -> PageKey:
    """The key of a request; text alone counts as an empty image."""
    return PageKey(
        hashlib.sha256(image or b"").hexdigest(),
        hmac.new(salt.encode(), prompt.encode("utf-8", "surrogatepass"), "sha256").hexdigest(),
    )


def fraction(key: PageKey, purpose: Purpose, *, salt: str) -> float:
    """A number from 0 up to, but never, 1: evenly spread over pages, always the same for one."""
    text = f"{purpose}\n{key.page}\n{key.prompt}"
    digest = hmac.new(salt.encode(), text.encode(), "sha256").digest()
    return int.from_bytes(digest[:6]) / 2**48


def within(key: PageKey, purpose: Purpose, share: float, *, salt: str) -> bool:
    """Whether a page is among a share of all pages; of the share 1 all are, of 0 none."""
    return fraction(key, purpose, salt=salt) < share
