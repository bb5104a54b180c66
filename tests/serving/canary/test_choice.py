"""Which pages go to the candidate: evenly, always the same, and never back when the share rises."""

from __future__ import annotations

import hashlib
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.serving.canary.choice import fraction, page_key, within

SALTS = st.text("0123456789abcdef", min_size=32, max_size=32)
SHARES = st.floats(0, 1)


@settings(max_examples=20)
@given(SALTS, SHARES)
def test_a_share_of_pages_is_taken_within_binomial_bounds(salt: str, share: float) -> None:
    keys = [page_key(str(number).encode(), "p", salt=salt) for number in range(2_000)]
    taken = sum(within(key, "arm", share, salt=salt) for key in keys)
    assert abs(taken - 2_000 * share) <= 6 * math.sqrt(2_000 * share * (1 - share)) + 1e-9


@given(st.binary(), st.text(), SALTS, SHARES, SHARES)
def test_a_larger_share_never_gives_a_page_back(
    image: bytes, prompt: str, salt: str, a: float, b: float
) -> None:
    key = page_key(image, prompt, salt=salt)
    low, high = sorted((a, b))
    assert not within(key, "arm", low, salt=salt) or within(key, "arm", high, salt=salt)
    assert within(key, "arm", 1.0, salt=salt)
    assert not within(key, "arm", 0.0, salt=salt)


@settings(max_examples=10)
@given(SALTS)
def test_what_is_kept_says_nothing_about_who_answers(salt: str) -> None:
    keys = [page_key(str(number).encode(), "p", salt=salt) for number in range(2_000)]
    kept = [key for key in keys if within(key, "keep", 0.5, salt=salt)]
    share = sum(within(key, "arm", 0.5, salt=salt) for key in kept) / len(kept)
    assert abs(share - 0.5) < 6 * 0.5 / math.sqrt(len(kept))


def test_a_page_is_known_by_the_sum_of_its_file_and_a_prompt_by_a_secret_one() -> None:
    key = page_key(b"image", "prompt", salt="a")
    assert key.page == hashlib.sha256(b"image").hexdigest()
    assert key.prompt not in (
        hashlib.sha256(b"prompt").hexdigest(),
        page_key(b"image", "prompt", salt="b").prompt,
    )
    assert fraction(key, "arm", salt="a") == fraction(page_key(b"image", "prompt", salt="a"), "arm", salt="a")
    assert fraction(key, "arm", salt="a") != fraction(key, "arm", salt="b")
