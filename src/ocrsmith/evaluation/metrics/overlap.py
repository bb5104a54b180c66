"""Overlap of a prediction with its reference: BLEU and ROUGE-L over words, chrF over characters.

All figures run from 0 (nothing in common) to 1 (the same): 0.34 is what other tools print as 34. Definitions:

* BLEU (Papineni and others, 2002): n-grams up to 4, brevity penalty, one reference. Where no n-gram of an order
  matches, its precision is taken as 1 / (2^k · n-grams) for the k-th such order. Over single texts, orders
  longer than the prediction do not count.
* chrF2 (Popović, 2015): character n-grams up to 6, white space left out, β = 2; mean precision and recall over
  the orders that both texts have.
* ROUGE-L (Lin, 2004): the longest common subsequence of words; F1.

Two texts without any word (or character) are the same, and score 1; one such text scores 0.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import LCSseq

from ocrsmith.evaluation.metrics.chrf import chrf_statistics, chrf_values
from ocrsmith.evaluation.metrics.wer import words

Tokens = Literal["13a", "char"]
"""How BLEU finds words: `13a`, the rule of the WMT evaluations, for text with spaces; `char`, every character
that is not white space, for Chinese and Japanese."""

_ORDERS = 4

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_RULES_13A = (
    (re.compile(r"([ -&(-+/:-@\[-`{-~])"), r" \1 "),  # ASCII punctuation but for ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Shares of the prediction and of the reference that the other has too, and their harmonic mean."""

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, common: float, reference: float, prediction: float) -> Overlap:
        """From sizes: `common` is what both have. Of two empty things all is 1; of one, 0."""
        if not reference and not prediction:
            return cls(1.0, 1.0, 1.0)
        return cls(
            common / prediction if prediction else 0.0,
            common / reference if reference else 0.0,
            2 * common / (reference + prediction),
        )


# --- BLEU -----------------------------------------------------------------------------------------------------


def bleu(references: Sequence[str], predictions: Sequence[str], *, tokens: Tokens = "13a") -> float:
    """BLEU of a whole set: n-grams are counted over all pairs, then one figure is made.

    Raises:
        ValueError: there are not as many references as predictions.
    """
    total = [0] * (2 + 2 * _ORDERS)
    for reference, prediction in zip(references, predictions, strict=True):
        counts = _bleu_counts(reference, prediction, _TOKENIZERS[tokens])
        total = [a + b for a, b in zip(total, counts, strict=True)]
    return _bleu_of(total, effective_order=False)


def sentence_bleu(reference: str, prediction: str, *, tokens: Tokens = "13a") -> float:
    """BLEU of one pair."""
    return _bleu_of(_bleu_counts(reference, prediction, _TOKENIZERS[tokens]), effective_order=True)


def sentence_bleus(
    references: Sequence[str], predictions: Sequence[str], *, tokens: Tokens = "13a"
) -> list[float]:
    """`sentence_bleu` of each pair. Raises ValueError on unequal numbers."""
    pairs = zip(references, predictions, strict=True)
    return [sentence_bleu(reference, prediction, tokens=tokens) for reference, prediction in pairs]


def tokenize_13a(text: str) -> list[str]:
    """The words of the WMT evaluations (mteval-v13a): ASCII punctuation is parted from words, but full stops
    and commas between digits are not, nor hyphens after letters."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, parted in _RULES_13A:
        text = pattern.sub(parted, text)
    return text.split()


_TOKENIZERS: dict[Tokens, Callable[[str], list[str]]] = {
    "13a": tokenize_13a,
    "char": lambda text: list("".join(text.split())),
}


def _bleu_counts(reference: str, prediction: str, tokenize: Callable[[str], list[str]]) -> list[int]:
    """Words read, words of the reference, then for each order the n-grams in common, then those read."""
    true, read = tokenize(reference), tokenize(prediction)
    common, total = [], []
    for order in range(1, _ORDERS + 1):
        found = _ngrams(read, order)
        common.append((found & _ngrams(true, order)).total())
        total.append(found.total())
    return [len(read), len(true), *common, *total]


def _ngrams(tokens: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def _bleu_of(counts: Sequence[int], *, effective_order: bool) -> float:
    read, true = counts[:2]
    common, total = counts[2 : 2 + _ORDERS], counts[2 + _ORDERS :]
    if not read and not true:
        return 1.0
    if not any(common):
        return 0.0
    logs, smoothing = [], 1
    for matched, ngrams in zip(common, total, strict=True):
        if not ngrams:
            break
        if not matched:
            smoothing *= 2
        logs.append(math.log((matched or 1 / smoothing) / ngrams))
    if len(logs) < _ORDERS and not effective_order:
        return 0.0
    penalty = min(0.0, 1 - true / read)
    return math.exp(penalty + sum(logs) / len(logs))


# --- chrF -----------------------------------------------------------------------------------------------------


def chrf(references: Sequence[str], predictions: Sequence[str]) -> float:
    """chrF2 of a whole set: n-grams are counted over all pairs, then one figure is made.

    Where a reference is too short to have n-grams of an order, those of its prediction do not count.

    Raises:
        ValueError: there are not as many references as predictions.
    """
    counts = chrf_statistics(references, predictions)
    if counts.any() and not counts[:, :, 1].any():
        return 0.0  # something was read where there is nothing
    counts[:, :, 0] *= counts[:, :, 1] > 0
    return float(chrf_values(counts.sum(axis=0, keepdims=True))[0])


def sentence_chrf(reference: str, prediction: str) -> float:
    """chrF2 of one pair."""
    return chrf([reference], [prediction])


def sentence_chrfs(references: Sequence[str], predictions: Sequence[str]) -> list[float]:
    """`sentence_chrf` of each pair, faster than one after the other. Raises ValueError on unequal numbers."""
    return chrf_values(chrf_statistics(references, predictions)).tolist()


# --- ROUGE-L --------------------------------------------------------------------------------------------------


def rouge_l(reference: str, prediction: str, *, tokenize: Callable[[str], Sequence[str]] = words) -> Overlap:
    """ROUGE-L of one pair over words (`wer.words`), case and punctuation as they are."""
    true, read = tokenize(reference), tokenize(prediction)
    return Overlap.of(LCSseq.similarity(true, read), len(true), len(read))


def rouge_ls(references: Sequence[str], predictions: Sequence[str]) -> list[Overlap]:
    """`rouge_l` of each pair. Raises ValueError on unequal numbers."""
    return [rouge_l(reference, read) for reference, read in zip(references, predictions, strict=True)]
