"""Reports: one self-contained HTML file, no scripts, nothing loaded from elsewhere."""

from ocrsmith.evaluation.report.render import ImageSource, render_comparison, render_evaluation

__all__ = ["ImageSource", "render_comparison", "render_evaluation"]
