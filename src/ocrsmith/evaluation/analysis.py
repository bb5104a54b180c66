"""All that is to be said of an evaluation beyond CER: further figures, strata, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ocrsmith.evaluation.confusions import Confusion, ConfusionTable
from ocrsmith.evaluation.error_kinds import classify
from ocrsmith.evaluation.figures import Figures, Texts, figures_of, score_texts
from ocrsmith.evaluation.figures.normalised import normalised_figures
from ocrsmith.evaluation.kind_shares import KindShares, summarise
from ocrsmith.evaluation.lexicon import Lexicon
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import PageResult
from ocrsmith.evaluation.strata import Strata, strata_of

CONFUSIONS = 50


@dataclass(frozen=True)
class Analysis:
    """What an evaluation says beyond CER. `to_json` makes the keys of metrics.json."""

    kinds: KindShares
    confusions: tuple[Confusion, ...]
    """The commonest `CONFUSIONS`."""
    normalised: Mapping[str, Mapping[str, float]]
    """Figures by normalisation policy."""
    figures: Figures
    strata: Strata

    @classmethod
    def of(cls, results: Sequence[PageResult], scores: Sequence[PageScore] | None = None) -> Analysis:
        """Of all pages of an evaluation; at least one. The vocabulary is that of its references.

        Args:
            results: the pages.
            scores: theirs, if they are at hand.
        """
        lexicon = Lexicon.of(result.reference for result in results)
        pages = list(classify(results, lexicon=lexicon))
        texts = Texts.of(results)
        lines = score_texts(texts)
        return cls(
            kinds=summarise(pages),
            confusions=tuple(ConfusionTable.of(pages).top(CONFUSIONS)),
            normalised=normalised_figures(texts, lines),
            figures=figures_of(results, lines),
            strata=strata_of(results, scores or [result.score for result in results]),
        )

    def to_json(self) -> dict[str, Any]:
        """{"errors": …, "confusions": […], "normalised": {policy: {"cer.mean": …}}, "strata": …, "wer": …}"""
        return {
            "errors": self.kinds.to_json(),
            "confusions": [asdict(item) for item in self.confusions],
            "normalised": {policy: dict(figures) for policy, figures in self.normalised.items()},
            **self.figures.to_json(),
            "strata": self.strata.to_json(),
        }
