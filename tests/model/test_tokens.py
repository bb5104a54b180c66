"""Which characters each generated token wrote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from ocrsmith.engines.base import strip_aligned
from ocrsmith.model.tokens import OcrTokens, load_tokenizer
from ocrsmith.model.weights import resolve_model

TOKENS = OcrTokens(load_tokenizer(resolve_model("nano")))
SIZE = len(TOKENS.tokenizer)

texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.text("ab é中文ی\u200c🙂\n", max_size=40)


@given(texts)
@settings(max_examples=150, deadline=None)
def test_every_character_belongs_to_the_token_that_completed_it(text: str) -> None:
    ids = [*TOKENS.encode_answer(text), TOKENS.eos]
    decoded, ends = TOKENS.decode_aligned(ids)
    assert decoded == TOKENS.decode(ids) == text
    assert len(ends) == len(ids)
    assert ends == sorted(ends)
    for place in range(len(ids)):
        written = TOKENS.decode(ids[: place + 1])
        assert decoded[: ends[place]] == written.rstrip("\ufffd")[: ends[place]]
        assert ends[place] >= len(written) - 1  # a character that is under way may show as a mark


@given(st.lists(st.integers(0, SIZE - 1), max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_tokens_decode_as_without_alignment(ids: list[int]) -> None:
    """Bytes that are no UTF-8, halves of characters, special tokens."""
    decoded, ends = TOKENS.decode_aligned(ids)
    assert decoded == TOKENS.decode(ids)
    assert len(ends) == len(ids)
    assert (ends[-1] if ends else 0) == len(decoded)


def test_a_character_of_three_bytes_ends_with_its_last_token() -> None:
    ids = [TOKENS.tokenizer.convert_tokens_to_ids(token) for token in ("A", "ä", "¸", "Ń", "B")]
    assert None not in ids
    assert TOKENS.decode_aligned(ids) == ("A中B", [1, 1, 1, 2, 3])


def test_layout_tokens_are_text_and_control_tokens_are_not() -> None:
    cell = TOKENS.tokenizer.convert_tokens_to_ids("<td>")
    assert TOKENS.decode_aligned([TOKENS.bos, cell, TOKENS.eos]) == ("<td>", [0, 4, 4])


def test_a_tokenizer_without_bytes_has_no_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {word: number for number, word in enumerate(["[UNK]", "one", "two"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    monkeypatch.setattr(TOKENS, "_backend", backend)
    monkeypatch.setattr(TOKENS, "_hidden", frozenset())
    monkeypatch.setattr(TOKENS, "_written", {})
    assert TOKENS.decode_aligned([1, 2]) == ("one two", [])


@given(texts)
@settings(max_examples=100, deadline=None)
def test_cutting_white_space_moves_the_ends(text: str) -> None:
    stripped, ends = strip_aligned(text, range(1, len(text) + 1))
    assert stripped == text.strip()
    start = 0
    for end, character in zip(ends, text, strict=True):
        assert stripped[start:end] in (character, "")
        start = end
    assert start == len(stripped)
