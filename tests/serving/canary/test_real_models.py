"""The whole way: the official client asks the server, two nano models answer, and somebody corrects."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.cli.main import main
from ocrsmith.engines.native import NativeEngine
from ocrsmith.serving.canary import open_canary, open_store
from ocrsmith.serving.native import NativeBackend
from ocrsmith.serving.server import running
from ocrsmith.serving.settings import ServerSettings

TEXTS = [f"Hello {number}" for number in range(12, 22)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine.load("nano", device="cpu")


def line(text: str) -> str:
    image = Image.new("RGB", (240, 40), "white")
    ImageDraw.Draw(image).text((8, 8), text, fill="black", font=ImageFont.load_default(20))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ask(client: openai.OpenAI, text: str) -> Any:
    parts: Any = [
        {"type": "text", "text": "Free OCR."},
        {"type": "image_url", "image_url": {"url": line(text)}},
    ]
    return client.chat.completions.create(model="nano", messages=[{"role": "user", "content": parts}])


def wait_for(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def test_a_worse_candidate_is_found_out_by_corrections(
    engine: NativeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = engine.adjusted(decoding=engine.decoding.model_copy(update={"max_new_tokens": 3}))
    place = str(tmp_path / "canary.db")
    canary = open_canary(
        NativeBackend({"nano": engine}),
        NativeBackend({"cut": cut}),
        store=place,
        share=0.5,
        shadow=True,
        keep=1.0,
        rollback_if="truncated > 0.5 and mean > base.mean + 10%",
        rollback_after=10,
    )
    with (
        running(canary, ServerSettings(port=0)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=60, max_retries=0) as client,
    ):
        given = {}
        for text in TEXTS:
            answer = ask(client, text)
            assert answer.model == "nano", "no client can tell who answered"
            given[answer.id] = text
            wait_for(lambda: not canary._shadows, "the shadow")
        rows = [{"id": name, "text": text} for name, text in given.items()]
        (tmp_path / "true.jsonl").write_text("\n".join(map(json.dumps, rows)))

        def all_written() -> bool:
            with open_store(place) as store:
                return sum(len(store.answers(1, arm, latest=99)) for arm in ("base", "candidate")) == 2 * len(
                    TEXTS
                )

        wait_for(all_written, "the store")
        assert main(["canary", "correct", place, str(tmp_path / "true.jsonl")]) == 0
        wait_for(lambda: canary.rolled_back, "the rollback")
        shown = httpx2.get(f"{url}/metrics").text
        assert 'ocrsmith_canary{figure="rolled_back"} 1.0' in shown
        assert 'ocrsmith_canary{figure="candidate.truncated"} 1.0' in shown
        assert all(ask(client, text).choices[0].message.content == text for text in TEXTS[:2])

    capsys.readouterr()
    assert main(["canary", "report", place, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"]["verdict"] == "worse"
    assert told["verdict"]["method"] == "paired"
    assert told["verdict"]["pages"] == [10, 10]
    assert told["arms"]["candidate"]["figures"]["truncated"]["value"] == 1
    assert told["arms"]["base"]["figures"]["cer.mean"]["value"] == 0
    assert 0.5 < told["arms"]["base"]["figures"]["confidence.mean"]["value"] <= 1
    assert "truncated > 0.5" in told["rolled_back"]["detail"]["because"]
