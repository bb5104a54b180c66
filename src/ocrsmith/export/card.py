"""`README.md` of an exported model: what it is, how well it reads, how it was verified, how to run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.export.verify import Verification


@dataclass(frozen=True)
class CardFacts:
    """All that a card says."""

    name: str
    base: str
    """Name or folder of the base; folders are named without their path."""
    adapter: bool = False
    merged: bool = True
    """Whole weights, not an adapter alone."""
    dtype: str = ""
    prompt: str = ""
    mode: str = ""
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    licence: str = ""
    """SPDX name; empty: to be filled in."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the training run, flat: `learning_rate` → 0.0002."""
    trained_on: str = ""
    """Content hash of the dataset that the adapter was trained on."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Of the dataset that the figures are of: `content_hash`, `split` …"""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    """metrics.json of the base and of the tuned model, on the same pages."""
    verification: Verification | None = None
    notes: Sequence[str] = ()


FIGURES = (
    ("cer.mean", "Mean CER"),
    ("cer.median", "Median CER"),
    ("cer.p90", "CER, 90th percentile"),
    ("exact_match", "Pages without an error"),
    ("loops", "Loops"),
)
_COUNTS = ("loops",)


def headline(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Of an evaluation's figures those that the card shows, by name, and their 95 % intervals [low, high]."""
    shown = {key: figures.get(key) for key, _ in FIGURES}
    bounds = {key: figures[f"{key}_ci95"] for key in shown if f"{key}_ci95" in figures}
    return {"n": figures["n"], **shown, "ci95": bounds}


def render(facts: CardFacts) -> str:
    """The whole text of the card, in Markdown with the hub's front matter."""
    parts = [_front(facts), _head(facts), _figures(facts), _verified(facts), _use(facts), _recipe(facts)]
    return "\n".join(line for part in parts for line in part) + "\n"


def _front(facts: CardFacts) -> list[str]:
    lines = ["---", f"license: {facts.licence or 'unknown'}", "pipeline_tag: image-text-to-text"]
    if "/" in facts.base and not facts.base.startswith((".", "/", "~")):
        lines += [
            f"base_model: {facts.base}",
            f"base_model_relation: {_relation(facts)}",
        ]
    if not facts.merged:
        lines.append("library_name: peft")
    return [*lines, "tags:", "- ocr", "- deepseek-ocr", "- vllm", "---", ""]


def _relation(facts: CardFacts) -> str:
    """The hub's word for how the model came from its base."""
    if not facts.merged:
        return "adapter"
    return "finetune" if facts.adapter else "quantized"


def _head(facts: CardFacts) -> list[str]:
    if facts.merged:
        adapter = " with a LoRA adapter merged into its weights" if facts.adapter else ""
        what = f"`{facts.base}`{adapter}, in {facts.dtype}, in the hub's layout for DeepSeek-OCR"
    else:
        what = f"A LoRA adapter for `{facts.base}`, under the hub's module names"
    return [f"# {facts.name}", "", f"{what}. Safetensors only; no code of its own.", ""]


def _figures(facts: CardFacts) -> list[str]:
    if facts.after is None:
        return []
    both = facts.before is not None
    lines = ["## How well it reads", "", _data_line(facts), ""]
    lines += (
        ["| figure | before | after |", "| --- | --- | --- |"]
        if both
        else ["| figure | value |", "| --- | --- |"]
    )
    for key, label in FIGURES:
        values = [_value(figures, key) for figures in (facts.before, facts.after) if figures is not None]
        lines.append(f"| {label} | {' | '.join(values)} |")
    return [*lines, "", "CER counts character edits over the reference's length; nothing is normalised.", ""]


def _data_line(facts: CardFacts) -> str:
    data = facts.data
    pages = f"{facts.after['n']:,} pages" if facts.after else "pages"
    split = f" of the split `{data['split']}`" if data.get("split") else ""
    content = f" (dataset `{data['content_hash']}`)" if data.get("content_hash") else ""
    return f"On {pages}{split}{content}:"


def _value(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    if value is None:
        return "–"
    if key in _COUNTS:
        return f"{value:,}"
    text = f"{value * 100:.2f} %"
    interval = figures.get(f"{key}_ci95")
    return f"{text} (95 %: {interval[0] * 100:.2f}–{interval[1] * 100:.2f})" if interval else text


def _verified(facts: CardFacts) -> list[str]:
    check = facts.verification
    if check is None:
        return ["## Verification", "", "None was made.", ""] if facts.adapter and facts.merged else []
    return [
        "## Verification",
        "",
        f"Merged against adapter on {check.pages} pages: the same greedy text on {check.same_text}; mean CER "
        f"{check.cer_merged * 100:.2f} % merged, {check.cer_adapter * 100:.2f} % with the adapter. The merged "
        f"model's logits are {check.distance * 100:.1f} % of the adapter's own effect away from the adapter's.",
        "",
    ]


def _use(facts: CardFacts) -> list[str]:
    decoding = facts.decoding
    limit = f"temperature 0, at most {decoding.max_new_tokens:,} tokens"
    lines = ["## Use", "", f"Prompt `{facts.prompt!r}`, mode {facts.mode}, {limit}."]
    if decoding.ngram_size:
        never = ", ".join(f"`{token}`" for token in decoding.ngram_whitelist) or "none"
        lines.append(
            f"Loop control: no n-gram of {decoding.ngram_size} twice in a window of {decoding.ngram_window} "
            f"generated tokens; never forbidden: {never}."
        )
    lines += ["", *[f"- {note}" for note in facts.notes], *([""] if facts.notes else [])]
    return [*lines, "```", *(_VLLM if facts.merged else _ADAPTER), "```", ""]


_VLLM = (
    "vllm serve FOLDER --no-enable-prefix-caching --mm-processor-cache-gb 0 \\",
    "  --limit-mm-per-prompt '{\"image\": 1}' \\",
    "  --logits-processors vllm.model_executor.models.deepseek_ocr:NGramPerReqLogitsProcessor",
)
_ADAPTER = ("ocrsmith eval --model BASE --adapter FOLDER --data DATA -o EVAL",)


def _recipe(facts: CardFacts) -> list[str]:
    if not facts.settings:
        return []
    trained = [f"Trained on the dataset `{facts.trained_on}`.", ""] if facts.trained_on else []
    lines = ["## Recipe", "", *trained, "| setting | value |", "| --- | --- |"]
    lines += [f"| `{name}` | {_cell(value)} |" for name, value in facts.settings.items() if value is not None]
    return [*lines, ""]


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", "⏎")
