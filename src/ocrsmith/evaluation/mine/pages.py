"""What is said about a hard page, and which characters were misread most."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ocrsmith.evaluation.confusions import ConfusionTable
from ocrsmith.evaluation.mine.cases import Case

_SHOWN = 3


def reason_of(case: Case) -> str:
    """Why a page is in the queue, for a person."""
    if not case.errors.spans:
        return "Read right, but with little confidence."
    kinds = [f"{kind} {edits / case.errors.edits:.0%}" for kind, edits in case.edits.most_common(_SHOWN)]
    pairs = [
        f"{_shown(true)} read as {_shown(read)}" + (f" {count} times" if count > 1 else "")
        for (true, read), count in sorted(case.pairs.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    ]
    said = f"CER {case.cer:.0%}: {', '.join(kinds)}"
    return said + (f" ({'; '.join(pairs)})." if pairs else ".")


def _shown(side: str) -> str:
    if not side:
        return "nothing"
    return repr(side) if side.isspace() or not side.isprintable() else f"“{side}”"


def told(case: Case, reason: str) -> dict[str, Any]:
    """A page in mine.json."""
    confidence = case.result.confidence
    return {
        "id": case.result.id,
        "index": case.result.index,
        "group": case.result.group,
        "reason": reason,
        "need": round(case.need, 6),
        "cer": round(case.cer, 6),
        "edits": case.errors.edits,
        "confidence": None if confidence is None else round(confidence, 6),
        "doubt": None if case.doubt is None else round(case.doubt, 6),
        "kinds": dict(case.edits.most_common()),
    }


def misread(table: ConfusionTable) -> list[tuple[str, int]]:
    """(character, times) of what was misread or left out, and of what was never written at all, commonest
    first."""
    counts: Counter[str] = Counter()
    for (true, _), count in table.pairs.items():
        if len(true) == 1:
            counts[true] += count
    for character, count in table.never_written():
        counts[character] = max(counts[character], count)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
