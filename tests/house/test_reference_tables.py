"""The reference tables in docs/ name what the code has: settings with their defaults, reasons, columns."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from ocrsmith.datasets.ledger import REASONS
from ocrsmith.datasets.schema import SCHEMA as DATASET_SCHEMA
from ocrsmith.evaluation.report.wording import FIGURES
from ocrsmith.evaluation.store import SCHEMA as PREDICTIONS_SCHEMA
from ocrsmith.settings import LoraSettings
from ocrsmith.training.settings import ProcessingOverrides, TrainSettings

from .source import REPOSITORY

SECTIONS: dict[str, type[BaseModel]] = {
    "": TrainSettings,
    "lora.": LoraSettings,
    "processing.": ProcessingOverrides,
}
DEFAULTS = {
    prefix + name: field.default
    for prefix, section in SECTIONS.items()
    for name, field in section.model_fields.items()
    if f"{name}." not in SECTIONS
}
REQUIRED = {name for name, field in TrainSettings.model_fields.items() if field.is_required()}


def _document(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


def _rows(name: str) -> dict[str, list[str]]:
    """First name in the first cell of each table row → the other cells."""
    rows = {}
    for line in _document(name).splitlines():
        match = re.match(r"\| `([^`]+)`[^|]*\|(.*)\|$", line)
        if match:
            rows[match[1]] = [cell.strip() for cell in match[2].split("|")]
    return rows


def _written(default: object) -> str:
    if default is None:
        return "–"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ", ".join(default)
    return str(default)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_is_in_the_table_with_its_default(name: str) -> None:
    cell = _rows("training.md")[name][0]
    default = DEFAULTS[name]
    if name in REQUIRED:
        assert cell == "required"
    elif isinstance(default, int | float) and not isinstance(default, bool):
        assert float(cell) == default
    else:
        assert cell == _written(default)


def test_the_table_has_no_setting_that_is_gone() -> None:
    settings = _document("training.md").split("## Settings")[1].split("## ")[0]
    named = re.findall(r"^\| `([a-z_.]+)`", settings, re.MULTILINE)
    assert set(named) == set(DEFAULTS)


def test_the_ledger_table_has_every_reason() -> None:
    assert set(REASONS) <= set(_rows("dataset-format.md"))


def test_the_column_tables_have_every_column() -> None:
    assert set(DATASET_SCHEMA.names) <= set(re.findall(r"`(\w+)`", _document("dataset-format.md")))
    assert set(PREDICTIONS_SCHEMA.names) <= set(re.findall(r"`(\w+)`", _document("evaluation.md")))


def test_every_figure_is_defined() -> None:
    assert {key for key, _, _ in FIGURES} <= set(re.findall(r"`([\w.]+)`", _document("evaluation.md")))
