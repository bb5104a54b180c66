"""Metrics: pure functions, strings in, numbers or a result dataclass out. No files, no engines."""

from ocrsmith.evaluation.metrics.cer import PageScore, cer, score_page

__all__ = ["PageScore", "cer", "score_page"]
