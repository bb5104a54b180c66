"""Text of an answer as it comes: pieces of whole characters, and together what `decode` gives."""

from __future__ import annotations

import random

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ocrsmith.engines.native.text_stream import TextStream
from ocrsmith.model.tokens import OcrTokens
from ocrsmith.model.weights import load_processor

from .test_native import EOS, TD
from .test_native import tokenizer as tokenizer


def pieces_of(tokens: OcrTokens, ids: list[int], sizes: random.Random) -> list[str]:
    stream, pieces, start = TextStream(tokens), [], 0
    while start < len(ids):
        end = start + sizes.randint(1, 5)
        pieces.append(stream.add(ids[start:end]))
        start = end
    return [*pieces, stream.end()]


def test_pieces_are_whole_characters(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = OcrTokens(tokenizer)
    stream = TextStream(tokens)
    ids = tokens.encode_answer(" é漢")
    assert [stream.add([token]) for token in ids] == [" ", "", "é", "", "", "漢"]
    assert stream.add([TD, EOS]) == "<td>"
    assert stream.add(ids[3:4]) == ""
    assert stream.end() == "\ufffd"


@pytest.mark.parametrize("seed", range(20))
def test_pieces_together_are_the_text_of_all_tokens(seed: int) -> None:
    tokens = load_processor("nano").tokens
    draw = random.Random(seed)
    ids = [draw.randrange(300 if seed % 2 else 7640) for _ in range(400)]  # many are parts of characters
    assert "".join(pieces_of(tokens, ids, draw)) == tokens.decode(ids)


def test_tokens_that_are_not_made_of_bytes_come_at_the_end() -> None:
    special = ["<s>", "</s>", "<pad>", "<image>"]
    words = {word: place for place, word in enumerate([*special, "<unk>", "read", "this"])}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    plain = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokens = OcrTokens(plain)
    stream = TextStream(tokens)
    assert [stream.add([5]), stream.add([6]), stream.end()] == ["", "", tokens.decode([5, 6])]
