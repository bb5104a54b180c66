"""JSON from strangers: what is ambiguous, endless or no text is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ocrsmith.serving.errors import ApiError, bad_request

MAX_MARKS = 100_000
"""Commas and opening brackets in a request: a small body could otherwise become a huge tree in memory."""


def read_json(body: bytes) -> dict[str, Any]:
    """The object in `body`.

    Raises:
        ApiError: 400; not UTF-8, not JSON, no object, nested too deeply, a name twice, NaN, half a character.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_MARKS:
        raise bad_request(f"The request has more than {MAX_MARKS:,} commas and brackets in it.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_request(f"The request is not UTF-8 (byte {error.start}).") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise bad_request(f"The request is not JSON ({where}).") from None
    except RecursionError:
        raise bad_request("The request is nested too deeply.") from None
    except ValueError:  # Python refuses whole numbers with thousands of digits
        raise bad_request("The request has a number with too many digits in it.") from None
    if not isinstance(value, dict):
        raise bad_request("The request is no JSON object.")
    if "\\u" in text:  # only an escape can write half a surrogate pair
        _check_texts(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise bad_request("The request has a field twice in one object.")
    return found


def _no_number(name: str) -> NoReturn:
    raise bad_request(f"The request has {name} in it, which is no JSON.")


def _check_texts(value: Any) -> None:
    """Raises ApiError for half a surrogate pair, which is no text, in any name or text."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item.keys())
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, str) and not _is_text(item):
            raise _half_character()


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _half_character() -> ApiError:
    return bad_request("The request has half a surrogate pair in a text.")
