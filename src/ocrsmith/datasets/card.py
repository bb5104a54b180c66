"""`README.md` of a dataset: the front matter that the hub reads, figures, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ocrsmith.datasets.ledger import REASONS
from ocrsmith.datasets.schema import DATA_FOLDER, HUB_SPLIT_NAMES, LEDGER_FILE
from ocrsmith.records import SPLITS, SplitName

_SHOWN_STRATA = 12
_LICENCE = (
    "",
    "## Licence",
    "",
    "To be filled in: who made the images and texts, and what others may do with them (`license` above).",
)

if TYPE_CHECKING:
    from ocrsmith.datasets.build import BuildSettings, BuildSummary, Distribution
    from ocrsmith.datasets.strata import StratumRow


def render(summary: BuildSummary, settings: BuildSettings) -> str:
    """The whole text of the card."""
    front = _front_matter(summary.counts, settings.prefix)
    return "\n".join([*front, *_body(summary, settings)]) + "\n"


def render_export(
    name: str,
    counts: Mapping[SplitName, int],
    groups: Mapping[SplitName, int],
    prefix: str | None,
    prompt: str,
    content_hash: str,
) -> str:
    """The card of an exported dataset, of which only counts are known.

    Args:
        name: its folder's.
        prefix: of its files in the prefix layout, else None.
    """
    lines = [*_front_matter(counts, prefix), *_head(name, counts, groups)]
    lines += [*_use(name, prompt), "", f"Content hash `{content_hash}`.", *_LICENCE]
    return "\n".join(lines) + "\n"


def _front_matter(counts: Mapping[SplitName, int], prefix: str | None) -> list[str]:
    lines = ["---", "license: unknown", "task_categories:", "- image-to-text", "tags:", "- ocr", "configs:"]
    lines += ["- config_name: default", "  data_files:"]
    for name in SPLITS:
        if not counts[name]:
            continue
        path = f"{DATA_FOLDER}/{name}-*.parquet" if prefix is None else f"{prefix}_{name}.parquet"
        lines += [f"  - split: {HUB_SPLIT_NAMES[name]}", f'    path: "{path}"']
    return [*lines, "---", ""]


def _head(name: str, counts: Mapping[SplitName, int], groups: Mapping[SplitName, int]) -> list[str]:
    lines = [f"# {name}", "", "Document images with their texts, for training and testing OCR.", ""]
    lines += ["| split | samples | documents |", "| --- | ---: | ---: |"]
    return lines + [f"| {HUB_SPLIT_NAMES[name]} | {counts[name]} | {groups[name]} |" for name in SPLITS]


def _body(summary: BuildSummary, settings: BuildSettings) -> list[str]:
    name = summary.folder.resolve().name
    lines = _head(name, summary.counts, summary.groups)
    lines += ["", "| figure | min | median | mean | 95 % | max |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        _row("characters of text", summary.text_length),
        _row("image width, px", summary.image_width),
        _row("image height, px", summary.image_height),
    ]
    lines += _strata(summary.strata)
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
    lines += _use(name, settings.prompt)
    split = f"Split {settings.splits} with seed {settings.seed}."
    return [*lines, "", f"{split} Content hash `{summary.content_hash}`.", *_LICENCE]


def _use(folder: str, prompt: str) -> list[str]:
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
        f"`{prompt!r}`), `meta` (JSON).",
    ]


def _strata(rows: Sequence[StratumRow]) -> list[str]:
    """How the splits share out languages, sources and lengths; of each the most frequent."""
    names = [HUB_SPLIT_NAMES[name] for name in SPLITS]
    lines = ["", f"| part | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for trait in ("language", "source", "length"):
        for row in [row for row in rows if row.trait == trait][:_SHOWN_STRATA]:
            value = row.value.replace("|", "\\|")
            lines.append(f"| {trait} {value} | " + " | ".join(str(row.samples[name]) for name in SPLITS) + " |")
    return lines


def _row(name: str, figure: Distribution) -> str:
    values = (figure.min, figure.median, figure.mean, figure.p95, figure.max)
    return f"| {name} | " + " | ".join(f"{value:,.0f}" for value in values) + " |"
