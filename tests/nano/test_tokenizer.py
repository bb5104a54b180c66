"""nano's tokenizer: one token a character, every text survives, the original's special tokens."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ocrsmith.nano.alphabet import alphabet, hanzi_level1, hanzi_level2
from ocrsmith.nano.tokenizer import ADDED_TOKENS, build_tokenizer, build_vocabulary

TOKENIZER = build_tokenizer()


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def test_every_character_of_the_alphabet_is_one_token() -> None:
    assert [c for c in alphabet() if len(encode(c)) != 1] == []
    text = "".join(alphabet())
    ids = encode(text)
    assert len(ids) == len(alphabet()) == len(set(ids))
    assert TOKENIZER.decode(ids) == text


def test_the_hanzi_are_those_of_gb2312() -> None:
    assert (len(hanzi_level1()), len(hanzi_level2())) == (3755, 3008)
    assert (hanzi_level1()[0], hanzi_level1()[-1], hanzi_level2()[0]) == ("啊", "座", "亍")


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_survives_a_round_trip(text: str) -> None:
    assert TOKENIZER.decode(encode(text)) == text


@given(st.text(st.sampled_from(alphabet()), max_size=20), st.text(st.sampled_from(alphabet()), max_size=20))
def test_no_token_spans_two_characters(left: str, right: str) -> None:
    if not any(token in left + right for token, _, _ in ADDED_TOKENS):
        assert encode(left + right) == encode(left) + encode(right)
        assert len(encode(left)) == len(left)


def test_a_text_gets_bos_unless_special_tokens_are_off() -> None:
    assert TOKENIZER("a")["input_ids"] == [TOKENIZER.bos_token_id, *encode("a")]


def test_special_tokens_are_single_and_at_their_places() -> None:
    assert (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.pad_token_id) == (0, 1, 2)
    ids = [TOKENIZER.convert_tokens_to_ids(token) for token, _, _ in ADDED_TOKENS]
    assert ids == list(range(len(TOKENIZER) - len(ids), len(TOKENIZER)))
    assert encode("x<image>\n<|ref|>") == [*encode("x"), ids[15], *encode("\n"), ids[16]]
    assert TOKENIZER.decode(encode("<td>a</td>"), skip_special_tokens=True) == "a"


def test_special_tokens_equal_the_published_ones(golden: Path) -> None:
    published = json.loads((golden / "special_tokens.json").read_text(encoding="utf-8"))
    assert [(t["content"], t["special"], t["normalized"]) for t in published["tokens"]] == list(ADDED_TOKENS)
    assert [published[n]["content"] for n in ("bos", "eos", "pad")] == TOKENIZER.convert_ids_to_tokens(
        [0, 1, 2]
    )


def test_the_vocabulary_is_small_and_always_the_same() -> None:
    vocabulary, merges = build_vocabulary()
    assert build_vocabulary() == (vocabulary, merges)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert 7500 <= len(TOKENIZER) <= 9500
    assert all(left + right in vocabulary for left, right in merges)


def test_a_saved_tokenizer_loads_alike(tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    text = "<image>\nFree OCR. 世界 سلام é 🙂 \r\n  x"
    for loaded in (PreTrainedTokenizerFast.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert loaded.encode(text) == TOKENIZER.encode(text)
        assert loaded.decode(loaded.encode(text, add_special_tokens=False)) == text
        assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)
