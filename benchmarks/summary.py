"""The few figures that the README shows, in English and in Chinese."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from benchmarks.report import table
from benchmarks.results_store import Results, Row
from benchmarks.targets import PAGE_TOKENS, number

Language = Literal["en", "zh"]
Say = Callable[[str], str]

WORDS: dict[str, dict[Language, str]] = {
    "what": {"en": "3B model, one {gpu}", "zh": "3B 模型，一块 {gpu}"},
    "ours": {"en": "ocrsmith", "zh": "ocrsmith"},
    "r2": {"en": "transformers' classes + PEFT", "zh": "transformers 自带的类 + PEFT"},
    "r1": {"en": "structure of the published code + PEFT", "zh": "公开代码的结构 + PEFT"},
    "L": {"en": "lines a second, training", "zh": "训练，每秒行数"},
    "P": {"en": "pages a second, training", "zh": "训练，每秒页数"},
    "L cached": {"en": "lines a second, features cached", "zh": "训练，特征已缓存，每秒行数"},
    "P cached": {"en": "pages a second, features cached", "zh": "训练，特征已缓存，每秒页数"},
    "memory": {
        "en": "training memory, batch 2, line / page",
        "zh": "训练显存，batch 2，行 / 页",
    },
    "memory nf4": {
        "en": "the same, base in 4 bits",
        "zh": "同上，基座 4 位",
    },
    "pages": {
        "en": f"pages a second, reading {PAGE_TOKENS} tokens each, {{batch}} at a time",
        "zh": f"识别，每页 {PAGE_TOKENS} 个 token，同时 {{batch}} 页，每秒页数",
    },
    "cpu": {"en": "quickstart on a CPU (nano), seconds", "zh": "CPU 上的 quickstart（nano），秒"},
}
PEERS = ("ours", "r2", "r1")


def summary(results: Results, language: Language) -> str:
    """A table of what was measured; empty when nothing was."""

    def say(name: str) -> str:
        return WORDS[name][language]

    rows = [*_training(results, say), *_memory(results, say), *_reading(results, say), *_cpu(results, say)]
    head = say("what").format(gpu=_gpu(results))
    named = [{head: row["what"], **{say(peer): row.get(peer) for peer in PEERS}} for row in rows]
    return table(named, (head, *(say(peer) for peer in PEERS))) if rows else ""


def _gpu(results: Results) -> str:
    names = [result.content.get("circumstances", {}).get("machine", {}).get("gpu") for result in results.all]
    found = [name for name in names if name]
    return str(found[-1]).removeprefix("NVIDIA ") if found else "GPU"


def _training(results: Results, say: Say) -> list[Row]:
    rows = results.training()
    told = []
    for workload in "LP":
        for name, label in ((workload, "ours"), (f"{workload} cached", "ours, cached features")):
            if row := rows.get((workload, label)):
                line = {"what": say(name), "ours": _bold(row["samples/s"])}
                if label == "ours":  # the references of the same run
                    step = row["s/step"]
                    line |= {
                        peer: number(row["samples/s"] / row[f"× {peer}"])
                        for peer in ("r1", "r2")
                        if step and f"× {peer}" in row
                    }
                told.append(line)
    return told


def _memory(results: Results, say: Say) -> list[Row]:
    told = []
    for base, name in (("bf16", "memory"), ("nf4", "memory nf4")):
        sizes: dict[str, list[float]] = {"L": [], "P": []}
        for row in results.memory():
            if row["base"] == base:
                sizes[row["workload"]].append(row["measured GiB"])
        if all(sizes.values()):
            least = " / ".join(number(min(found)) for found in sizes.values())
            told.append({"what": say(name), "ours": f"{least} GiB"})
    return told


def _reading(results: Results, say: Say) -> list[Row]:
    rows = results.decoding()
    told = []
    for batch in (32, 128):
        found = {peer: rows.get(("P", PAGE_TOKENS, peer, "merged", batch)) for peer in ("ours", "r2")}
        if ours := found["ours"]:
            line = {"what": say("pages").format(batch=batch), "ours": _bold(ours["pages/s"])}
            if theirs := found["r2"]:
                line["r2"] = number(theirs["pages/s"])
            told.append(line)
    return told


def _cpu(results: Results, say: Say) -> list[Row]:
    made = [result for result in results.of("cpu") if result.content["rows"]]
    if not made:
        return []
    row = made[-1].content["rows"][-1]
    return [{"what": say("cpu"), "ours": _bold(row["ours s"]), "r2": number(row["transformers s"])}]


def _bold(value: float) -> str:
    return f"**{number(value)}**"
