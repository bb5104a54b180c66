"""Where a calibration comes from, and whether it fits another evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ocrsmith.engines.confidence import Calibration


def origin_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What of an evaluation's provenance decides whether a calibration made from it holds elsewhere."""
    engine = provenance.get("engine") or {}
    dataset = provenance.get("dataset") or {}
    processing = engine.get("processing") or {}
    return {
        "engine": engine.get("name"),
        "model": engine.get("model"),
        "adapter": engine.get("adapter"),
        "mode": processing.get("mode"),
        "dtype": engine.get("dtype"),
        "dataset": {key: dataset.get(key) for key in ("content_hash", "split", "limit", "path")},
    }


def warnings_of(calibration: Calibration, provenance: Mapping[str, Any]) -> list[str]:
    """What speaks against applying a calibration to an evaluation: another model, or the same pages.

    Args:
        provenance: of the evaluation that it is applied to.
    """
    fitted, here = calibration.fitted_on, origin_of(provenance)
    found = []
    for key, word in (("model", "model"), ("adapter", "adapter")):
        if _hash(fitted.get(key)) != _hash(here[key]):
            found.append(
                f"The calibration was fitted with {_named(word, fitted.get(key))}, this evaluation was read "
                f"with {_named(word, here[key])}: its confidences need not come true. Fit one with "
                "`ocrsmith calibrate`."
            )
    for key in ("engine", "mode"):
        if fitted.get(key) != here[key]:
            found.append(
                f"The calibration was fitted with the {key} {fitted.get(key)}, this evaluation was read with "
                f"{here[key]}."
            )
    data, mine = fitted.get("dataset") or {}, here["dataset"]
    same = data.get("content_hash") is not None and all(
        data.get(key) == mine[key] for key in ("content_hash", "split")
    )
    if same:
        found.append(
            f"The calibration was fitted to pages of this very split ({mine['split']}): what it promises is "
            "not tested here. Apply it to another split."
        )
    return found


def _hash(value: Any) -> Any:
    """A model or adapter is its content; where there is no hash (a server), its name."""
    return value.get("hash") or value.get("name") if isinstance(value, Mapping) else value


def _named(word: str, value: Any) -> str:
    if not value:
        return f"no {word}"
    name = value.get("name") if isinstance(value, Mapping) else value
    digest = str(value.get("hash") or "").removeprefix("sha256:")[:8] if isinstance(value, Mapping) else ""
    return f"the {word} {name}" + (f" ({digest})" if digest else "")
