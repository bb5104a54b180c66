"""Puts evaluations of the same pages side by side: what changed, how sure that is, where, and on which pages.

pages        the same page in several evaluations; pages that improved, worsened, ended otherwise
effects      mean, interval, permutation test, verdict
figures      every figure before and after
strata       the change by source, language, length …
forgetting   a second dataset, judged against a margin
comparison   all of it for two evaluations
several      from folders to comparisons; every evaluation against the first
saving       comparison.json, comparison.html
"""

from ocrsmith.evaluation.compare.comparison import Comparison, compare_pairs
from ocrsmith.evaluation.compare.effects import FEWEST_DOCUMENTS, Effect, Verdict, measure
from ocrsmith.evaluation.compare.figures import Change
from ocrsmith.evaluation.compare.forgetting import MAX_FORGETTING, Forgetting
from ocrsmith.evaluation.compare.pages import PagePair
from ocrsmith.evaluation.compare.saving import save_comparison, save_comparisons
from ocrsmith.evaluation.compare.several import Comparisons, compare, compare_all

__all__ = [
    "FEWEST_DOCUMENTS",
    "MAX_FORGETTING",
    "Change",
    "Comparison",
    "Comparisons",
    "Effect",
    "Forgetting",
    "PagePair",
    "Verdict",
    "compare",
    "compare_all",
    "compare_pairs",
    "measure",
    "save_comparison",
    "save_comparisons",
]
