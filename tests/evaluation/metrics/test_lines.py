"""Many lines at a time get what single ones get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics.cer import score_page
from ocrsmith.evaluation.metrics.lines import score_lines
from ocrsmith.evaluation.metrics.overlap import sentence_chrf
from ocrsmith.evaluation.metrics.wer import exact, ned, score_words

TEXT = st.text(alphabet=st.sampled_from("aab ,.1é中文می\u200cک۱\n👩🏽"), max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_columns_are_those_of_single_pairs(pairs: list[tuple[str, str]]) -> None:
    scores = score_lines([true for true, _ in pairs], [read for _, read in pairs])
    for place, (true, read) in enumerate(pairs):
        page, by_word = score_page(true, read), score_words(true, read)
        assert (scores.edits[place], scores.length[place]) == (page.edits, page.length)
        assert (scores.word_edits[place], scores.words[place]) == (by_word.edits, by_word.length)
        assert (scores.cer[place], scores.wer[place]) == pytest.approx((page.cer, by_word.wer))
        assert scores.ned[place] == pytest.approx(ned(true, read))
        assert scores.exact[place] == exact(true, read)
        assert scores.chrf[place] == pytest.approx(sentence_chrf(true, read))


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError):
        score_lines(["a"], [])
