"""Comparisons on disk: comparison.json and comparison.html, with a page more for each of several."""

from __future__ import annotations

from pathlib import Path

from ocrsmith.evaluation import store
from ocrsmith.evaluation.compare.comparison import Comparison
from ocrsmith.evaluation.compare.several import Comparisons
from ocrsmith.evaluation.page_images import evaluated_images
from ocrsmith.evaluation.report.comparison import render_comparison, render_comparisons
from ocrsmith.settings.files import write_text


def save_comparison(comparison: Comparison, out: Path, *, names: tuple[str, str]) -> None:
    """Writes comparison.json and comparison.html.

    Args:
        comparison: as `compare` gives it.
        out: the folder, made if missing.
        names: how A and B are called in the report.

    Raises:
        OutputError: `out` cannot be written to.
    """
    store.prepare_folder(out)
    page = _page(comparison, names)
    store.write_json(out / store.COMPARISON, comparison.to_json())
    write_text(out / store.COMPARISON_REPORT, page)


def save_comparisons(comparisons: Comparisons, out: Path) -> None:
    """Writes comparison.json and comparison.html with all side by side, and comparison-1.html … for each.

    Raises:
        OutputError: `out` cannot be written to.
    """
    store.prepare_folder(out)
    files = []
    for number, comparison in enumerate(comparisons.comparisons, start=1):
        files.append(f"comparison-{number}.html")
        page = _page(comparison, (comparisons.names[0], comparisons.names[number]))
        write_text(out / files[-1], page)
    store.write_json(out / store.COMPARISON, comparisons.to_json())
    write_text(out / store.COMPARISON_REPORT, render_comparisons(comparisons, files))


def _page(comparison: Comparison, names: tuple[str, str]) -> str:
    return render_comparison(comparison, names, lambda ids: evaluated_images(comparison.provenance_a, ids))
