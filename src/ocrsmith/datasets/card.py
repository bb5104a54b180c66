"""`README.md` of a dataset: the front matter that the hub reads, figures, and how to load it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsmith.datasets.ledger import REASONS
from ocrsmith.datasets.schema import DATA_FOLDER, HUB_SPLIT_NAMES, LEDGER_FILE
from ocrsmith.records import SPLITS

if TYPE_CHECKING:
    from ocrsmith.datasets.build import BuildSettings, BuildSummary, Distribution


def render(summary: BuildSummary, settings: BuildSettings) -> str:
    """The whole text of the card."""
    return "\n".join([*_front_matter(summary, settings), *_body(summary, settings)]) + "\n"


def _front_matter(summary: BuildSummary, settings: BuildSettings) -> list[str]:
    lines = ["---", "license: unknown", "task_categories:", "- image-to-text", "tags:", "- ocr", "configs:"]
    lines += ["- config_name: default", "  data_files:"]
    for name in SPLITS:
        if not summary.counts[name]:
            continue
        path = (
            f"{settings.prefix}_{name}.parquet"
            if settings.layout == "prefix"
            else f"{DATA_FOLDER}/{name}-*.parquet"
        )
        lines += [f"  - split: {HUB_SPLIT_NAMES[name]}", f'    path: "{path}"']
    return [*lines, "---", ""]


def _body(summary: BuildSummary, settings: BuildSettings) -> list[str]:
    lines = [
        f"# {summary.folder.resolve().name}",
        "",
        "Document images with their texts, for training and testing OCR.",
        "",
    ]
    lines += ["| split | samples | documents |", "| --- | ---: | ---: |"]
    lines += [
        f"| {HUB_SPLIT_NAMES[name]} | {summary.counts[name]} | {summary.groups[name]} |" for name in SPLITS
    ]
    lines += ["", "| figure | min | median | mean | 95 % | max |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        _row("characters of text", summary.text_length),
        _row("image width, px", summary.image_width),
        _row("image height, px", summary.image_height),
    ]
    lines += ["", "## Left out", ""]
    if summary.excluded:
        lines += [
            f"- {count} × {reason}: {REASONS.get(reason, reason)}" for reason, count in summary.excluded.items()
        ]
        lines += ["", f"Each with file, line and reason in `{LEDGER_FILE}`."]
    else:
        lines += ["Nothing."]
    if summary.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in summary.notes)]
    return lines + _use(summary, settings)


def _use(summary: BuildSummary, settings: BuildSettings) -> list[str]:
    folder = summary.folder.resolve().name
    return [
        "",
        "## Use",
        "",
        "```python",
        "import datasets",
        "",
        f'dataset = datasets.load_dataset("{folder}")',
        'print(dataset["train"][0]["text"])',
        "```",
        "",
        "```",
        f"ocrsmith train --model deepseek-ai/DeepSeek-OCR --data {folder} -o RUN",
        "```",
        "",
        "Columns: `image`, `text`, `id`, `group` (document), `source`, `prompt` (none: "
        f"`{settings.prompt!r}`), `meta` (JSON).",
        "",
        f"Split {settings.splits} with seed {settings.seed}. Content hash `{summary.content_hash}`.",
        "",
        "## Licence",
        "",
        "To be filled in: who made the images and texts, and what others may do with them (`license` above).",
    ]


def _row(name: str, figure: Distribution) -> str:
    values = (figure.min, figure.median, figure.mean, figure.p95, figure.max)
    return f"| {name} | " + " | ".join(f"{value:,.0f}" for value in values) + " |"
