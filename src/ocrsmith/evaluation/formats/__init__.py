"""A finished evaluation in other forms: Markdown for pull requests, JSON and CSV for machines, JUnit for CI."""

from ocrsmith.evaluation.formats.junit import to_junit
from ocrsmith.evaluation.formats.markdown import to_markdown
from ocrsmith.evaluation.formats.pages import page_rows, to_csv, to_json

__all__ = ["page_rows", "to_csv", "to_json", "to_junit", "to_markdown"]
