"""BLEU and chrF against sacrebleu, ROUGE-L against rouge-score, and by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from ocrsmith.evaluation.metrics.overlap import (
    Overlap,
    bleu,
    chrf,
    rouge_l,
    rouge_ls,
    sentence_bleu,
    sentence_bleus,
    sentence_chrf,
    sentence_chrfs,
    tokenize_13a,
)
from ocrsmith.evaluation.metrics.wer import words

TEXT = st.text(alphabet=st.sampled_from("aab  .,-1é中文字می\u200cک۱&<\n|👩‍💻"), max_size=24)
LATIN = st.lists(
    st.sampled_from(
        ["the", "cat,", "sat.", "on-the", "mat!", "3.14", "1,000", "it's", "(a)", "&amp;", "b-\n", "-"]
    )
).map(" ".join)
PAIRS = st.lists(st.tuples(TEXT | LATIN, TEXT | LATIN), min_size=1, max_size=6)


def has_text(texts: list[str]) -> bool:
    return any(text.strip() for text in texts)


@given(LATIN | TEXT)
def test_13a_words_are_those_of_sacrebleu(text: str) -> None:
    assert tokenize_13a(text) == BLEU().tokenizer(text.rstrip()).split()


@given(PAIRS, st.sampled_from(["13a", "char"]))
def test_corpus_bleu_is_that_of_sacrebleu(pairs: list[tuple[str, str]], tokens: str) -> None:
    true, read = map(list, zip(*pairs, strict=True))
    oracle = BLEU(tokenize=tokens).corpus_score(read, [true]).score / 100
    ours = bleu(true, read, tokens=tokens)  # type: ignore[arg-type]
    assert ours == pytest.approx(oracle if has_text(true + read) else 1.0, abs=1e-6)


@given(TEXT | LATIN, TEXT | LATIN, st.sampled_from(["13a", "char"]))
def test_sentence_bleu_is_that_of_sacrebleu(true: str, read: str, tokens: str) -> None:
    oracle = BLEU(tokenize=tokens, effective_order=True).sentence_score(read, [true]).score / 100
    ours = sentence_bleu(true, read, tokens=tokens)  # type: ignore[arg-type]
    assert ours == pytest.approx(oracle if has_text([true, read]) else 1.0, abs=1e-6)


@given(PAIRS)
def test_chrf_is_that_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    true, read = map(list, zip(*pairs, strict=True))
    oracle = CHRF().corpus_score(read, [true]).score / 100
    assert chrf(true, read) == pytest.approx(oracle if has_text(true + read) else 1.0, abs=1e-6)
    for one, other, ours in zip(true, read, sentence_chrfs(true, read), strict=True):
        single = CHRF().sentence_score(other, [one]).score / 100 if has_text([one, other]) else 1.0
        assert ours == sentence_chrf(one, other) == pytest.approx(single, abs=1e-6)


def test_chrf_of_many_long_pages_is_exact() -> None:
    """A large alphabet outgrows 64 bits within an n-gram, and many characters outgrow a chunk."""
    letters = [chr(0x4E00 + number) for number in range(9000)]
    true = ["".join(letters[n : n + 4000]) * 3 for n in range(0, 5000, 250)]
    read = [text[::2] + text[1:2000] for text in true]
    oracle = CHRF().corpus_score(read, [true]).score / 100
    assert chrf(true, read) == pytest.approx(oracle, abs=1e-9)


class OurWords:
    """What rouge-score takes for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@settings(max_examples=60)
@given(TEXT | LATIN, TEXT | LATIN)
def test_rouge_l_is_that_of_rouge_score(true: str, read: str) -> None:
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=OurWords())
    oracle = scorer.score(true, read)["rougeL"]
    ours = rouge_l(true, read)
    if words(true) or words(read):
        expected = (oracle.precision, oracle.recall, oracle.fmeasure)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(expected, abs=1e-6)
    else:
        assert ours == Overlap(1.0, 1.0, 1.0)


def test_overlap_by_hand() -> None:
    # Subsequence "the cat the mat" of 6 and 5 words.
    score = rouge_l("the cat sat on the mat", "the cat under the mat")
    assert (score.precision, score.recall) == pytest.approx((4 / 5, 4 / 6))
    assert bleu(["a b c d e"], ["a b c d"]) == pytest.approx(2.718281828 ** (1 - 5 / 4))  # only the penalty
    assert sentence_chrf("中文", "中丈") == pytest.approx(0.25)  # half of the single characters, no pair


@given(TEXT | LATIN)
def test_a_text_overlaps_with_itself_wholly(text: str) -> None:
    assert sentence_chrf(text, text) == pytest.approx(1)
    assert rouge_l(text, text).f1 == 1
    assert sentence_bleu(text, text) == pytest.approx(1)


@given(TEXT, TEXT)
def test_overlaps_are_shares_and_rouge_is_symmetric(one: str, other: str) -> None:
    for value in (sentence_chrf(one, other), sentence_bleu(one, other), rouge_l(one, other).f1):
        assert 0 <= value <= 1 + 1e-12
    assert rouge_l(one, other).f1 == pytest.approx(rouge_l(other, one).f1)


def test_batches_give_what_single_pairs_give() -> None:
    true, read = ["one two", "", "三四"], ["one too", "x", "三"]
    assert sentence_bleus(true, read, tokens="char") == [
        sentence_bleu(a, b, tokens="char") for a, b in zip(true, read, strict=True)
    ]
    assert rouge_ls(true, read) == [rouge_l(a, b) for a, b in zip(true, read, strict=True)]
    assert sentence_chrfs([], []) == []


@pytest.mark.parametrize("measure", [bleu, chrf, sentence_chrfs, sentence_bleus, rouge_ls])
def test_unequal_numbers_are_refused(measure: object) -> None:
    with pytest.raises(ValueError):
        measure(["a", "b"], ["a"])  # type: ignore[operator]


def test_half_a_surrogate_pair_does_not_stop_the_count() -> None:
    assert 0 < sentence_chrf("a\ud800b", "a\ud800c") < 1
