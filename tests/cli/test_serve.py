"""`ocrsmith serve` as a process: asked by OpenAI's client, ended by signals, with both engines; refusals.

The vLLM here is `fake_vllm.py` under vLLM's module name; `make test-vllm` starts the real one.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ocrsmith.cli.main import main
from ocrsmith.cli.serve import _keys
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.model.weights import NANO_FOLDER, load_processor

from ..export.test_merge import make_adapter
from ..serving.vllm.test_command import edit, with_bos

FAKE = Path(__file__).parents[1] / "serving" / "vllm" / "fake_vllm.py"
PROMPT = "<image>\nFree OCR."


def _png() -> bytes:
    buffer = BytesIO()
    line = next(iter(sorted((NANO_FOLDER.parent / "sample_archive" / "images").iterdir())))
    with Image.open(line) as image:
        image.save(buffer, "PNG")
    return buffer.getvalue()


PAGE = _png()
SECONDS = 240.0


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], Path]]:
    """A server in a process of its own; gives the process, what it prints as JSON, and its stderr."""
    with tempfile.TemporaryDirectory() as scratch:
        log, out = Path(scratch, "stderr"), Path(scratch, "stdout")
        command = [sys.executable, "-m", "ocrsmith.cli.main", "serve", *words, "--port", "0", "--json"]
        with log.open("w") as errors, out.open("w") as results:
            process = subprocess.Popen(
                command, stdout=results, stderr=errors, text=True, env={**os.environ, **environment}
            )
        try:
            deadline = time.monotonic() + SECONDS
            while not out.read_text().endswith("}\n"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield process, json.loads(out.read_text()), log
        finally:
            process.kill()
            process.wait()


def client(told: dict[str, Any], key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=told["url"], api_key=key, max_retries=0, timeout=SECONDS)


def page() -> list[Any]:
    url = "data:image/png;base64," + base64.b64encode(PAGE).decode()
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def test_nano_is_served_with_a_key_limits_an_example_that_works_and_an_orderly_end(tmp_path: Path) -> None:
    words = ["nano", "--engine", "native", "--name", "ocr", "--api-key-env", "KEY", "--max-image-mb", "0.5"]
    with serving(*words, "--max-new-tokens", "8", KEY="s3cret") as (process, told, log):
        assert (told["models"], told["engine"]) == (["ocr"], "native")
        answer = client(told, "s3cret").chat.completions.create(model="ocr", messages=page())
        text = answer.choices[0].message.content
        assert text
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 8
        with pytest.raises(openai.AuthenticationError):
            client(told, "other").chat.completions.create(model="ocr", messages=page())
        shown = log.read_text()
        assert f"Serving ocr at {told['url']}" in shown
        assert "images to 0.5 MiB" in shown
        assert "1 in $KEY" in shown
        assert "s3cret" not in shown
        whole, line = examples(shown)
        (tmp_path / "page.png").write_bytes(PAGE)
        assert json.loads(run(["bash", "-c", line], tmp_path))["choices"][0]["message"]["content"] == text
        printing = whole + "\nprint(answer.choices[0].message.content, end='')"
        assert run([sys.executable, "-c", printing], tmp_path) == text
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def examples(shown: str) -> tuple[str, str]:
    """The Python program and the shell line that a server shows at its start."""
    begin, middle = shown.index("  (printf"), shown.index("  import base64")
    program = shown[middle:].split("\n{")[0]
    return "\n".join(row.removeprefix("  ") for row in program.splitlines()), shown[begin:middle].strip()


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "KEY": "s3cret"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_several_keys_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", " one,two ,")
    assert _keys("KEYS") == ("one", "two")
    assert _keys(None) == ()


def test_adapters_are_served_by_name_and_a_candidate_is_watched(tmp_path: Path) -> None:
    for name, scale in (("a", 0.02), ("b", 0.05)):
        make_adapter(tmp_path / name / "adapter", scale=scale)
    store = tmp_path / "canary.sqlite"
    words = ["nano", "--engine", "native", "--adapter", str(tmp_path / "a"), "--candidate", str(tmp_path / "b")]
    canary = ["--share", "100%", "--store", str(store), "--keep", "0"]
    with serving(*words, *canary, "--max-new-tokens", "4") as (process, told, _):
        assert told["models"] == ["a"]
        assert client(told).models.retrieve("a").model_dump()["parent"] == "nano"
        assert client(told).chat.completions.create(model="a", messages=page()).choices
        with pytest.raises(openai.NotFoundError):
            client(told).chat.completions.create(model="b", messages=page())
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert store.is_file()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is looked at of a model for vLLM: sizes, headers, tokenizer."""
    folder = tmp_path / "model"
    load_processor("nano").save_pretrained(folder)
    values = {"language_config": {"vocab_size": 7640}, "vision_config": {}, "projector_config": {}}
    (folder / "config.json").write_text(json.dumps({**values, "image_token_id": 7628}))
    save_file({"lm_head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    edit(folder / "tokenizer.json", with_bos)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a vLLM in it that plays the script named by SCRIPT."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(
        "import os, runpy, sys\n"
        "sys.argv.insert(1, os.environ['SCRIPT'])\n"
        f"runpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    )
    for path in (package, package.parent, package.parent.parent):
        (path / "__init__.py").write_text("")
    info = tmp_path / "site" / "vllm-0.32.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    (info / "RECORD").write_text("vllm/__init__.py,,\n")
    return tmp_path / "site"


def test_vllm_is_started_asked_and_gone_with_its_server(folder: Path, site: Path, tmp_path: Path) -> None:
    processor = OcrProcessor.from_pretrained(folder)
    values = processor.settings.model_dump() | {"mode": "gundam"}
    processor = OcrProcessor(processor.tokenizer, type(processor.settings).from_values(values))
    with Image.open(BytesIO(PAGE)) as image:
        prompt = processor.encode_text(image.size, prompt=PROMPT).input_ids
    tokens = processor.tokens
    script = tmp_path / "script.json"
    chunks = [tokens.encode_answer("read by "), [*tokens.encode_answer("vLLM"), tokens.eos]]
    script.write_text(json.dumps({"prompt": prompt, "chunks": chunks, "finish": "stop"}))
    environment = {"PYTHONPATH": str(site), "SCRIPT": str(script), "VLLM_API_KEY": "not asked for"}
    with serving(str(folder), **environment) as (process, told, log):
        assert (told["models"], told["engine"]) == (["model"], "vllm")
        content = [*page()[0]["content"], {"type": "text", "text": "Free OCR."}]
        messages: Any = [{"role": "user", "content": content}]
        stream = client(told).chat.completions.create(model="model", messages=messages, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == "read by vLLM"
        asked = json.loads(script.with_suffix(".log").read_text().splitlines()[0])["body"]
        assert asked["model"] == "model"
        assert "processing.max_tiles: vLLM has 6" in log.read_text(), "what vLLM does otherwise is told"
        children = descendants(process.pid)
        assert len(children) >= 2, "the keeper and vLLM"
        process.kill()
    deadline = time.monotonic() + SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def test_the_command_of_vllm_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(folder), "--print", "--port", "81", "--name", "ocr", "--dtype", "float16"]) == 0
    shown = capsys.readouterr()
    words = shlex.split(shown.out.replace("\\\n", " "))
    assert words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    for flag, value in (("--served-model-name", "ocr"), ("--port", "81"), ("--dtype", "float16")):
        assert words[words.index(flag) + 1] == value
    assert '"vllm_xargs": {"ngram_size": 30' in shown.err
    assert main(["serve", str(folder), "--print", "--json", "--port", "81", "--name", "ocr"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"] == ["ocr"]
    assert told["command"][:1] == words[:1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nano"], "published sizes only"),
        (["/no/such/folder"], "no folder and no hub id"),
        (["nano", "--mode", "base"], "--mode goes with --engine native only"),
        (["nano", "--engine", "native", "--eager"], "--eager goes with --engine vllm only"),
        (["nano", "--engine", "native", "--print"], "--print goes with --engine vllm only"),
        (["nano", "--engine", "native", "--adapter", "/no/such"], "no adapter in 'such'"),
        (["nano", "--engine", "native", "--adapter", "a b=/no/such"], "'a b' cannot be a model's name"),
        (["nano", "--engine", "native", "--candidate", "nano"], "'nano' is there twice"),
        (["nano", "--engine", "native", "--share", "5%"], "--share is about a candidate"),
        (["nano", "--engine", "native", "--candidate", "B", "--share", "7"], "'7' is no share"),
        (["nano", "--engine", "native", "--api-key-env", "NO_KEYS"], "NO_KEYS is empty"),
        (["nano", "--engine", "native", "--host", "0.0.0.0"], "without an API key"),
    ],
)
def test_what_cannot_be_served_is_told(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocrsmith.serving.vllm.opening.vllm_version", lambda: "0.32.0")
    assert main(["serve", *words]) == 2
    shown = capsys.readouterr().err
    assert problem in shown
    assert "Traceback" not in shown


def test_a_port_in_use_is_told_before_the_model_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocrsmith.engines.native.NativeEngine.load", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "nano", "--engine", "native", "--port", port]) == 2
    assert f"Port {port} is in use" in capsys.readouterr().err


def test_vllm_that_is_missing_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert main(["serve", str(folder), "--port", "0"]) == 2
    assert "pip install 'ocrsmith[vllm]'" in capsys.readouterr().err
