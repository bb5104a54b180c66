"""The validation report: what a dataset holds, what is wrong with it, and what to do about it.

`report.py` is what callers see. One pass goes through the samples (`stream.py`); what they tell is gathered by
`figures.py` (sizes and lengths), `ink.py` and `legibility.py` (letter heights and modes), `characters.py`
(inventory), `fit.py` and `labels.py` (likely wrong labels) and `duplicates.py` (copies), and shown by
`html.py`. What is said of each finding stands in `rules.py`.
"""

from ocrsmith.datasets.check.findings import Example, Finding
from ocrsmith.datasets.check.labels import LabelError, find_label_errors
from ocrsmith.datasets.check.report import CheckReport, check_dataset

__all__ = ["CheckReport", "Example", "Finding", "LabelError", "check_dataset", "find_label_errors"]
