"""Evaluation: an engine over a dataset, scores, figures, a report; and two evaluations side by side."""

from ocrsmith.evaluation.compare import Comparison, compare, save_comparison
from ocrsmith.evaluation.evaluate import evaluate
from ocrsmith.evaluation.metrics import cer
from ocrsmith.evaluation.statistics import Metrics
from ocrsmith.evaluation.store import Evaluation, load

__all__ = ["Comparison", "Evaluation", "Metrics", "cer", "compare", "evaluate", "load", "save_comparison"]
