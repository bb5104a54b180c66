"""Engines by name: opened with options, and nothing heavy loaded for those that are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.engines.base import Engine
from ocrsmith.engines.file import FileEngine
from ocrsmith.engines.registry import ENGINES, open_engine
from ocrsmith.errors import MissingExtraError, SettingsError


def test_every_engine_has_a_line_for_help_and_a_door() -> None:
    assert {"native", "vllm", "openai", "file", "tesseract", "rapidocr"} <= set(ENGINES)
    for kind in ENGINES.values():
        assert kind.summary
        assert "\n" not in kind.summary
        assert kind.module.startswith("ocrsmith.engines.")


def test_an_engine_is_opened_with_its_options(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,reading\na,text\n")
    engine = open_engine("file", path=path, text_column="reading", id_column=None)
    assert isinstance(engine, FileEngine)
    assert isinstance(engine, Engine)
    assert engine.columns == {"id": "id", "text": "reading"}


@pytest.mark.parametrize(
    ("name", "options", "problem", "mend"),
    [
        ("paper", {}, "There is no engine 'paper'", "native, vllm, openai, file, tesseract, rapidocr"),
        ("native", {}, "The engine native needs model", "model, adapter"),
        ("native", {"model": "nano", "pages": 3}, "has no option 'pages'", "model, adapter"),
        ("vllm", {"model": "m", "device": "cpu"}, "has no option 'device'", "model, adapter"),
        ("file", {}, "needs a path", "Name the predictions"),
        ("file", {"path": "x", "colour": "red"}, "has no option 'colour'", "path, id_column, text_column"),
        ("openai", {"model": "m"}, "needs base_url", "http://localhost"),
        ("openai", {"base_url": "http://localhost/v1"}, "needs model", "http://localhost"),
        (
            "openai",
            {"model": "m", "base_url": "http://localhost/v1", "api_key": "sk-secret"},
            "Unknown option 'api_key'",
            "api_key_env",
        ),
        (
            "openai",
            {"model": "m", "base_url": "http://localhost/v1", "concurrency": 0},
            "concurrency = 0",
            "range",
        ),
        ("tesseract", {"langs": "eng"}, "Unknown option 'langs'", "language"),
        ("tesseract", {"language": "--help"}, "language = '--help'", "range"),
        ("tesseract", {"psm": 99}, "psm = 99", "range"),
        ("rapidocr", {"text_score": 2}, "text_score = 2", "range"),
    ],
)
def test_wrong_names_and_options_are_told(name: str, options: dict[str, Any], problem: str, mend: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_engine(name, **options)
    assert problem in caught.value.problem
    assert mend in str(caught.value.mend)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("native", "torch", "train"), ("vllm", "torch", "vllm"), ("rapidocr", "rapidocr", "baselines")],
)
def test_a_package_that_is_missing_is_named(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        open_engine(name)
    assert f"ocrsmith[{extra}]" in str(caught.value.mend)


def test_nothing_heavy_is_imported_before_use() -> None:
    code = (
        "import json, sys; import ocrsmith.engines.registry; from ocrsmith.engines import openai_api, file; "
        "import ocrsmith.engines.tesseract, ocrsmith.engines.rapidocr, ocrsmith.engines.retries; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "torch",
        "transformers",
        "pyarrow",
        "rapidocr",
        "onnxruntime",
        "cv2",
        "httpx",
        "requests",
        "openai",
    }
    assert not heavy & set(json.loads(done.stdout))
