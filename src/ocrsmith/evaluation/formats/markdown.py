"""Markdown for a comment on a pull request: the headline first, then tables. Short enough for GitHub.

Everything that a model or a file has written stands in `<code>` with every punctuation mark as a character
reference: it can be no markup, link, mention or table border, whatever it says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ocrsmith.evaluation.report.sections import MEASURES
from ocrsmith.evaluation.report.wording import (
    FIGURES,
    FINISH,
    KIND_WORDS,
    count,
    data_name,
    figure,
    figure_value,
    model_name,
    percent,
)
from ocrsmith.evaluation.store import Evaluation

WORST = 10
STRATA = 8
"""Labels of a dimension that are shown."""
SHOWN = 120
"""Characters of a text that a table shows."""

_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Directions of characters that turn the order of what stands around them."""
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def to_markdown(evaluation: Evaluation, figures: Mapping[str, Any]) -> str:
    """The evaluation as GitHub's Markdown.

    Args:
        evaluation: at least one page.
        figures: what metrics.json holds of it; sections without a key are left out.
    """
    sections = (
        _headline(evaluation),
        _figures(evaluation, figures),
        _strata(figures.get("strata") or {}),
        _kinds(figures.get("errors") or {}),
        _worst(evaluation),
    )
    return "\n\n".join(part for section in sections for part in section) + "\n"


def code(text: str, longest: int = SHOWN) -> str:
    """A text from elsewhere as inline code: nothing in it has a meaning in Markdown, HTML or on GitHub."""
    cut = len(text) > longest
    shown = "".join(_visible(character) for character in text[:longest])
    plain = _PUNCTUATION.sub(lambda match: f"&#{ord(match[0])};", shown)
    return f'<code dir="auto">{plain}</code>{" …" if cut else ""}' if plain.strip() else "*nothing*"


def _visible(character: str) -> str:
    """Line breaks as signs; characters that would turn or hide what stands around them as U+FFFD."""
    if character in "\n\r\u2028\u2029\x0b\x0c\x85":
        return "↵"
    if character == "\t":
        return " "
    bidi = unicodedata.bidirectional(character) in (
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    )
    return "\ufffd" if bidi or unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co") else character


def _headline(evaluation: Evaluation) -> Iterator[str]:
    metrics = evaluation.metrics
    low, high = metrics.cer.mean_ci95
    groups = [result.group for result in evaluation.results]
    documents = len({group for group in groups if group}) + groups.count("")
    yield f"## {code(model_name(evaluation.provenance))} on {code(data_name(evaluation.provenance))}"
    yield (
        f"**Mean CER {percent(metrics.cer.mean)}** (95 % interval {percent(low)} to {percent(high)}), "
        f"{percent(metrics.exact_match, 1)} of pages exact; "
        f"{count(metrics.n, 'page')} of {count(documents, 'document')}. "
        f"Loops: {metrics.loops:,}, cut off: {metrics.truncated:,}, failed: {metrics.failed:,}."
    )


def _figures(evaluation: Evaluation, figures: Mapping[str, Any]) -> Iterator[str]:
    rows = [(label, figure(key, figure_value(evaluation.metrics, key))) for key, label, _ in FIGURES]
    yield _table(("Figure", ">Value"), rows)
    others = [
        (name, f"{leaf['n']:,}", *(percent(leaf.get(key)) for key in ("mean", "median", "p90")))
        for key, label in MEASURES.items()
        for name, leaf in _leaves(label, figures.get(key))
    ]
    if others:
        yield _table(("Metric", ">Pages", ">Mean", ">Median", ">P90"), others)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Figures of a metric, nested ones under their names: `Tables: teds`."""
    if not isinstance(value, Mapping):
        return
    if "n" in value and "mean" in value:
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{name}: {key.replace('_', ' ')}" if ":" not in name else f"{name} {key}", inner)


def _strata(strata: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    shown = {dimension: labels for dimension, labels in strata.items() if len(labels) > 1}
    if shown:
        yield "### Where the errors are"
    for dimension, labels in shown.items():
        rows = [
            (
                code(label, 40),
                f"{figures['n']:,}",
                percent(figures["cer.mean"]),
                percent(figures.get("exact_match"), 1),
                percent(figures.get("share_of_edits"), 1),
            )
            for label, figures in list(labels.items())[:STRATA]
        ]
        yield _table((f"By {code(dimension, 40)}", ">Pages", ">Mean CER", ">Exact", ">Share of errors"), rows)
        if len(labels) > STRATA:
            yield f"… and {len(labels) - STRATA:,} more in metrics.json."


def _kinds(errors: Mapping[str, Any]) -> Iterator[str]:
    kinds = [(kind, item) for kind, item in (errors.get("kinds") or {}).items() if item["spans"]]
    if kinds:
        yield "### Kinds of errors"
        yield _table(
            ("Kind", ">Share", ">Errors", ">Pages", "What it is"),
            [
                (
                    kind,
                    percent(item["share"], 1),
                    f"{item['edits']:,}",
                    f"{item['pages']:,}",
                    KIND_WORDS.get(kind, ""),
                )
                for kind, item in sorted(kinds, key=lambda pair: -pair[1]["edits"])
            ],
        )


def _worst(evaluation: Evaluation) -> Iterator[str]:
    pairs = zip(evaluation.results, evaluation.scores, strict=True)
    wrong = sorted((pair for pair in pairs if pair[1].cer > 0), key=lambda pair: -pair[1].cer)
    if not wrong:
        return
    yield "### Worst pages"
    yield _table(
        ("Page", ">CER", "Ended", "Reference", "Prediction"),
        [
            (
                code(result.id, 80),
                percent(score.cer, 1),
                FINISH[result.finish_reason],
                code(result.reference),
                code(result.error or "no result")
                if result.finish_reason == "error"
                else code(result.prediction),
            )
            for result, score in wrong[:WORST]
        ],
    )
    if len(wrong) > WORST:
        yield f"… and {count(len(wrong) - WORST, 'more page')} with errors."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns whose head begins with > are aligned to the right."""
    lines = [" | ".join(cell.removeprefix(">") for cell in head)]
    lines.append(" | ".join("---:" if cell.startswith(">") else "---" for cell in head))
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
