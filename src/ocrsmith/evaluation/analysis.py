"""What is wrong, beyond how much: kinds of errors, confusions, and CER under normalisation policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ocrsmith.evaluation.confusions import Confusion, ConfusionTable
from ocrsmith.evaluation.error_kinds import classify
from ocrsmith.evaluation.kind_shares import KindShares, summarise
from ocrsmith.evaluation.lexicon import Lexicon
from ocrsmith.evaluation.metrics import score_page
from ocrsmith.evaluation.statistics import micro_cer
from ocrsmith.evaluation.store import PageResult
from ocrsmith.text.normalise import parse_policy

POLICIES = ("nfkc", "zh", "fa", "whitespace", "casefold", "nfkc+zh+fa+whitespace+casefold")
"""Each on its own, and all together: what is left is no matter of spelling."""
CONFUSIONS = 50


@dataclass(frozen=True)
class Normalised:
    """CER with references and predictions normalised alike."""

    policy: str
    mean: float
    micro: float


@dataclass(frozen=True)
class Analysis:
    """What is wrong in the predictions of an evaluation."""

    kinds: KindShares
    confusions: tuple[Confusion, ...]
    """The commonest `CONFUSIONS`."""
    normalised: tuple[Normalised, ...]
    """One for each of `POLICIES`."""

    @classmethod
    def of(cls, results: Sequence[PageResult]) -> Analysis:
        """Of all pages of an evaluation; at least one. The vocabulary is that of its references."""
        lexicon = Lexicon.of(result.reference for result in results)
        pages = list(classify(results, lexicon=lexicon))
        return cls(
            summarise(pages),
            tuple(ConfusionTable.of(pages).top(CONFUSIONS)),
            tuple(_normalised(results, policy) for policy in POLICIES),
        )

    def to_json(self) -> dict[str, Any]:
        """{"errors": …, "confusions": […], "normalised": {policy: {"cer.mean": …, "cer.micro": …}}}"""
        return {
            "errors": self.kinds.to_json(),
            "confusions": [asdict(item) for item in self.confusions],
            "normalised": {
                item.policy: {"cer.mean": item.mean, "cer.micro": item.micro} for item in self.normalised
            },
        }


def _normalised(results: Sequence[PageResult], name: str) -> Normalised:
    policy = parse_policy(name)
    scores = [
        score_page(reference, prediction, failed=result.finish_reason == "error")
        for result, reference, prediction in zip(
            results,
            policy.apply_all([result.reference for result in results]),
            policy.apply_all([result.prediction for result in results]),
            strict=True,
        )
    ]
    return Normalised(name, fmean(score.cer for score in scores), micro_cer(scores))
