"""Who may import whom: the table of CONTRIBUTING.md, over every import, those inside functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .source import Module, imports, modules

EVERYBODY = {"records", "errors", "settings", "__version__", ""}
ALL = {
    *("images", "text", "datasets", "model", "training", "engines", "evaluation", "reading"),
    *("export", "serving", "batch", "studio", "nano"),
}
TABLE: dict[str, set[str]] = {
    "": {"reading"},
    "records": set(),
    "errors": set(),
    "settings": set(),
    "images": set(),
    "text": set(),
    "datasets": {"images", "text"},
    "model": {"images", "text"},
    "training": {"datasets", "model", "images", "text"},
    "engines": {"images", "text"},
    "evaluation": {"engines", "datasets", "text"},
    "reading": {"engines", "images", "text"},
    "export": {"model", "engines"},
    "serving": {"engines", "datasets", "images", "text"},
    "batch": {"engines", "datasets"},
    "nano": {"datasets", "model", "images", "text"},
    "studio": ALL,
    "cli": ALL,
    "__main__": {"cli"},
}
NARROWER = {"ocrsmith.evaluation.metrics": {"text"}}
WIDER = {
    "ocrsmith.engines.native": {"model"},
    "ocrsmith.engines.vllm": {"model"},
    "ocrsmith.reading.pdf": {"datasets"},  # draws PDFs in processes of their own
    "ocrsmith.serving.canary": {"evaluation"},  # judges the candidate with the same statistics
    "ocrsmith.serving.vllm": {"model", "export"},  # merges adapters that vLLM would not apply
    "ocrsmith.evaluation.report": {"images"},  # it shows pages, and opens them as safely as everybody else
}


def _unit(dotted: str) -> str:
    """The folder or module right under ocrsmith: "ocrsmith.model.lora" → "model"."""
    return [*dotted.split("."), ""][1]


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _allowed(module: Module) -> set[str]:
    for prefix, units in NARROWER.items():
        if _within(module.name, prefix):
            return units | EVERYBODY
    wider = {unit for prefix, units in WIDER.items() if _within(module.name, prefix) for unit in units}
    return TABLE[_unit(module.name)] | EVERYBODY | wider


def _violations(module: Module) -> list[str]:
    allowed = _allowed(module)
    narrow = next((prefix for prefix in NARROWER if _within(module.name, prefix)), None)
    found = []
    for line, target in imports(module):
        if target.split(".")[0] != "ocrsmith":
            continue
        unit = _unit(target)
        own = _within(target, narrow) if narrow else unit == _unit(module.name)
        if not own and unit not in allowed:
            found.append(f"{module.path}:{line} imports {target}; allowed: {', '.join(sorted(allowed - {''}))}")
    return found


def test_every_folder_is_in_the_table() -> None:
    assert {_unit(module.name) for module in modules()} <= set(TABLE)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_a_module_imports_only_what_the_table_allows(module: Module) -> None:
    assert not _violations(module)


@pytest.mark.parametrize(
    ("name", "code", "count"),
    [
        ("ocrsmith.text.prompts", "from ocrsmith.errors import InputError", 0),
        ("ocrsmith.text.prompts", "import ocrsmith.images.open", 1),
        ("ocrsmith.text.prompts", "from ocrsmith import model", 1),
        ("ocrsmith.text.prompts", "from ..model import lora", 1),
        ("ocrsmith.text.prompts", "from . import boxes", 0),
        ("ocrsmith.text.prompts", "def f():\n    from ocrsmith.cli import main", 1),
        ("ocrsmith.text.prompts", "if TYPE_CHECKING:\n    from ocrsmith.model import lora", 0),
        ("ocrsmith.text.prompts", "importlib.import_module('ocrsmith.model')", 1),
        ("ocrsmith.engines.native", "from ocrsmith.model import weights", 0),
        ("ocrsmith.engines.base", "from ocrsmith.model import weights", 1),
        ("ocrsmith.evaluation.metrics.cer", "from ocrsmith.engines import base", 1),
        ("ocrsmith.evaluation.metrics.cer", "from ocrsmith.evaluation import store", 1),
        ("ocrsmith.evaluation.metrics.cer", "from ocrsmith.evaluation.metrics import words", 0),
        ("ocrsmith.evaluation.report.page", "from ocrsmith.images import open_image", 0),
        ("ocrsmith.evaluation.store", "from ocrsmith.images import open_image", 1),
        ("ocrsmith.training.trainer", "from ocrsmith.evaluation import evaluate", 1),
    ],
)
def test_the_check_sees_every_form_of_import(name: str, code: str, count: int) -> None:
    assert len(_violations(Module(name, Path("x.py"), ast.parse(code)))) == count
