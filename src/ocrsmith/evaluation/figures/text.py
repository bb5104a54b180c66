"""Figures of the text of every page: words, characters, n-grams."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ocrsmith.evaluation.figures.section import Section, Texts
from ocrsmith.evaluation.metrics.chrf import chrf_statistics, chrf_values
from ocrsmith.evaluation.metrics.lines import LineScores, score_lines
from ocrsmith.evaluation.metrics.overlap import Tokens, rouge_l, tokenize_13a
from ocrsmith.evaluation.statistics import Column, Floats

Ints = NDArray[np.int64]

_ORDERS = 4
_CHUNK = 2000
"""Pages whose words are numbered together."""
_FIRST, _LAST = 0x10000, 0x10FFFF
"""Words are numbered by these code points: none of them is white space."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]+"
)
"""Scripts written without spaces between words."""


def score_texts(texts: Texts) -> LineScores:
    """`metrics.score_lines` of all pages; a failed page is wholly wrong, even where its reference is empty."""
    scores = score_lines(texts.references, texts.predictions)
    failed = texts.failed
    return replace(
        scores,
        edits=np.where(failed, np.maximum(1, scores.length), scores.edits),
        cer=np.where(failed, 1.0, scores.cer),
        word_edits=np.where(failed, np.maximum(1, scores.words), scores.word_edits),
        wer=np.where(failed, 1.0, scores.wer),
        ned=np.where(failed, 1.0, scores.ned),
        exact=scores.exact & ~failed,
        chrf=np.where(failed, 0.0, scores.chrf),
    )


def text_section(texts: Texts, lines: LineScores) -> Section:
    """WER, normalised edit distance, exact match, chrF, ROUGE-L and BLEU."""
    longer = np.maximum(lines.length, [len(text) for text in texts.predictions])
    longer = np.maximum(longer, lines.edits)  # of a failed page without a reference: one
    tokens = bleu_tokens(texts.references)
    columns = [
        Column("wer", lines.wer, _parts(lines.word_edits, lines.words)),
        Column("ned", lines.ned, _parts(lines.edits, longer)),
        Column("exact", lines.exact.astype(np.float64)),
        _chrf(texts, lines),
        Column("rouge_l", _rouge(texts)),
        _bleu(texts, tokens),
    ]
    return Section(columns, {"bleu.tokens": tokens})


def _parts(*counts: NDArray[np.generic]) -> Floats:
    return np.stack(counts, axis=1).astype(np.float64)


def _rouge(texts: Texts) -> Floats:
    pairs = zip(texts.references, texts.predictions, strict=True)
    values = np.array([1.0 if true == read else rouge_l(true, read).f1 for true, read in pairs])
    return np.where(texts.failed, 0.0, values)


# --- chrF ----------------------------------------------------------------------------------------------------


def _chrf(texts: Texts, lines: LineScores) -> Column:
    counts = chrf_statistics(texts.references, texts.predictions)
    wrong = np.maximum(counts[:, 0, 0], texts.failed)  # tells "nothing to read" from "read all the same"
    counts[:, :, 0] *= counts[:, :, 1] > 0
    parts = np.concatenate([counts.reshape(len(counts), -1), wrong[:, None]], axis=1)
    return Column("chrf", lines.chrf, parts.astype(np.float64), _corpus_chrf)


def _corpus_chrf(sums: Floats) -> Floats:
    """As `metrics.chrf` over the pages that were summed up."""
    counts = np.rint(sums[:, :-1]).astype(np.int64).reshape(len(sums), -1, 3)
    nothing = counts[:, 0, 1] == 0
    return np.where(nothing & (sums[:, -1] > 0), 0.0, chrf_values(counts))


# --- BLEU ----------------------------------------------------------------------------------------------------


def bleu_tokens(references: Sequence[str]) -> Tokens:
    """How BLEU is to find words: `char` if most of the text is in a script without spaces, such as Chinese."""
    visible = sum(len("".join(text.split())) for text in references)
    unspaced = sum(len(run) for text in references for run in _UNSPACED.findall(text))
    return "char" if 2 * unspaced > visible else "13a"


def _bleu(texts: Texts, tokens: Tokens) -> Column:
    counts = bleu_statistics(texts.references, texts.predictions, tokens)
    values = np.where(texts.failed, 0.0, bleu_values(counts, effective_order=True))
    return Column("bleu", values, counts.reshape(len(counts), -1).astype(np.float64), _corpus_bleu)


def _corpus_bleu(sums: Floats) -> Floats:
    """As `metrics.bleu` over the pages that were summed up."""
    counts = np.rint(sums).astype(np.int64).reshape(len(sums), _ORDERS, 3)
    return bleu_values(counts, effective_order=False)


def bleu_statistics(references: Sequence[str], predictions: Sequence[str], tokens: Tokens) -> Ints:
    """N-grams of each pair: (pairs, 4, 3), for each order those read, those of the reference, those in common.

    Words are counted as if each were a character: what counts n-grams of characters then counts those of words.
    """
    if tokens == "char":
        return chrf_statistics(references, predictions)[:, :_ORDERS].copy()
    counted = [np.zeros((0, _ORDERS, 3), np.int64)]
    for start in range(0, len(references), _CHUNK):
        number = _numbering()
        true = [number(tokenize_13a(text)) for text in references[start : start + _CHUNK]]
        read = [number(tokenize_13a(text)) for text in predictions[start : start + _CHUNK]]
        counted.append(chrf_statistics(true, read)[:, :_ORDERS])
    return np.concatenate(counted)


def _numbering() -> Callable[[list[str]], str]:
    """Writes words as characters; beyond a million different ones, all further words are one."""
    known: dict[str, str] = {}

    def number(words: list[str]) -> str:
        for word in words:
            if word not in known:
                known[word] = chr(min(_FIRST + len(known), _LAST))
        return "".join([known[word] for word in words])

    return number


def bleu_values(counts: Ints, *, effective_order: bool) -> Floats:
    """BLEU of each row of `bleu_statistics`, or of sums of such rows, as `metrics.overlap` defines it.

    Args:
        counts: (rows, 4, 3).
        effective_order: orders longer than what was read do not count, as for single texts.
    """
    read, true, common = (counts[:, :, place].astype(np.float64) for place in range(3))
    there = read > 0
    smoothing = 0.5 ** np.cumsum(there & (common == 0), axis=1)  # halves with each order that has no match
    precision = np.where(common > 0, common, smoothing) / np.where(there, read, 1)
    orders = there.sum(axis=1)
    logs = np.where(there, np.log(precision), 0).sum(axis=1) / np.maximum(orders, 1)
    penalty = np.minimum(0, 1 - true[:, 0] / np.maximum(read[:, 0], 1))
    values = np.where(common.any(axis=1), np.exp(penalty + logs), 0.0)
    if not effective_order:
        values = np.where(orders == _ORDERS, values, 0.0)
    return np.where((read[:, 0] == 0) & (true[:, 0] == 0), 1.0, values)
