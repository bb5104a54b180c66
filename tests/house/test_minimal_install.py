"""The core works where none of the extras is installed, and heavy libraries load only when they are needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .source import modules

EXTRAS = (
    *("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "tensorboard", "datasets"),
    *(
        "arabic_reshaper",
        "cv2",
        "fontTools",
        "wordfreq",
        "hypothesis",
        "jiwer",
        "pytest",
        "pdfplumber",
        "pdfminer",
        "pypdfium2",
        "rapidocr",
        "onnxruntime",
        "reportlab",
    ),
    *("fastapi", "starlette", "uvicorn", "httpx2", "prometheus_client", "sqlalchemy", "pg8000", "openai"),
)
NEEDS_EXTRAS = (
    *("ocrsmith.model", "ocrsmith.training", "ocrsmith.export", "ocrsmith.nano"),
    *("ocrsmith.engines.native", "ocrsmith.engines.vllm", "ocrsmith.serving"),
    "ocrsmith.datasets.pdf.device",
)
LIGHT = [
    module.name
    for module in modules()
    if not any(f"{module.name}.".startswith(prefix + ".") for prefix in NEEDS_EXTRAS)
]

IMPORT_ALL = """
import importlib, json, sys
blocked, names = json.loads(sys.argv[1])
for name in blocked:
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""

RUN_AND_LIST = """
import json, sys
from ocrsmith.cli.main import main
code = main(sys.argv[2:])
print(json.dumps([code, [name for name in json.loads(sys.argv[1]) if name in sys.modules]]), file=sys.stderr)
"""


def test_torch_free_modules_import_without_any_extra() -> None:
    words = [sys.executable, "-c", IMPORT_ALL, json.dumps([EXTRAS, LIGHT])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["doctor", "--help"], ["no-such-command"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    heavy = [*EXTRAS, "pyarrow", "pandas", "PIL", "numpy", "jinja2"]
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST, json.dumps(heavy), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(done.stderr.splitlines()[-1])
    assert loaded == []
    assert code == (2 if words == ["no-such-command"] else 0)
