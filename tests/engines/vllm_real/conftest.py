"""Made once for all tests of this folder: a base model, and what the commands make of it.

Train, merge, evaluate: by `ocrsmith`'s own command line, as a user would.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocrsmith.engines.native import NativeEngine
from ocrsmith.records import Prediction

from .checkpoint import CONTEXT, FIRM, FREE, PAGES, make_config, write_checkpoint
from .commands import READING, build, command, evaluate
from .servers import Server, serving

LINES = 6
TRAINING = {
    "precision": "fp32",
    "warmup_steps": "0",
    "eval_samples": "1",
    "eval_max_new_tokens": "4",
}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all that is made once."""
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="session")
def base(place: Path) -> Path:
    """A model folder: random weights, a decoder with experts."""
    return write_checkpoint(place / "base", make_config())


@pytest.fixture(scope="session")
def lines(place: Path) -> Path:
    """A dataset to learn from: made-up texts, which the model can only learn by heart."""
    texts = [f"{'abcdefgh'[number:]}{'mnop' * 3}{number}" for number in range(LINES)]
    return build(place / "lines", {(320 + 10 * number, 64): text for number, text in enumerate(texts)}, "4/2/0")


@pytest.fixture(scope="session")
def pages(place: Path) -> Path:
    """A dataset to read: short pages, and one that is cut into tiles."""
    texts = {(400, 64): "abcm", (320, 90): "fghimnop", (700, 1300): "bcdefghmnop"}
    return build(place / "pages", texts, "100/0/0")


@pytest.fixture(scope="session")
def tuned(place: Path, base: Path, lines: Path) -> Path:
    """A run folder: a few steps, at a learning rate that changes every answer."""
    settings = [word for name, value in TRAINING.items() for word in ("--set", f"{name}={value}")]
    steps = ["--max-steps", "3", "--eval-every", "3", "--batch-size", "2", "--accumulation", "1"]
    model = ["--model", str(base), "--data", str(lines), "--device", "cpu", "--lora-r", "8"]
    run = place / "run"
    command("train", *model, *steps, "--learning-rate", "5e-3", *settings, "-o", str(run))
    return run


@pytest.fixture(scope="session")
def merged(place: Path, tuned: Path) -> Path:
    """The exported model: 16 bits, verified."""
    folder = place / "merged"
    command("export", str(tuned), "-o", str(folder), "--pages", "1", "--max-new-tokens", "4", "--device", "cpu")
    return folder


@pytest.fixture(scope="session")
def native_readings(merged: Path) -> dict[str, dict[str, Prediction]]:
    """What the native engine reads: `free` and `firm` (the n-gram rule) → page → answer."""
    engine = NativeEngine.load(str(merged), device="cpu", dtype="float32", batch_size=2)
    free = engine.adjusted(decoding=FREE).read(list(PAGES.values()))
    firm = engine.adjusted(decoding=FIRM).read([PAGES["untiled"]])
    return {
        "free": {answer.id: answer for answer in free},
        "firm": {answer.id: answer for answer in firm},
    }


@pytest.fixture(scope="session")
def native_evaluation(place: Path, merged: Path, pages: Path) -> Path:
    """The evaluation folder of the native engine."""
    return evaluate(place / "eval_native", pages, "--model", str(merged), "--device", "cpu", *READING)


@pytest.fixture(scope="module")
def server(merged: Path, native_readings: object, native_evaluation: Path, place: Path) -> Iterator[Server]:
    """vLLM's OpenAI server with the exported model, bare, by the command that `ocrsmith serve` prints.

    It starts when the native engine has read all that it is compared on.
    """
    from ocrsmith.serving.vllm.command import vllm_command, vllm_environment

    with serving(
        lambda port: vllm_command(
            str(merged), name="tuned", context=CONTEXT, dtype="float32", batch_size=2, eager=True, port=port
        ),
        log=place / "server.log",
        environment=vllm_environment(),
    ) as running:
        yield running


@pytest.fixture(autouse=True, scope="module")
def _one_model_at_a_time() -> Iterator[None]:
    """What a module loaded is freed before the next one starts vLLM: there is memory for one."""
    yield
    gc.collect()
