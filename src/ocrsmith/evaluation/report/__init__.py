"""Reports: one self-contained HTML file each, in which nothing runs or loads but what this package ships."""

from ocrsmith.evaluation.report.comparison import render_comparison
from ocrsmith.evaluation.report.render import ImageSource, render_evaluation

__all__ = ["ImageSource", "render_comparison", "render_evaluation"]
