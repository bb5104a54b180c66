"""The backend for vLLM against a program that speaks as vLLM does: what is asked, what comes, what breaks."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.loop_end import LOOP_TOKENS
from ocrsmith.errors import ImageError, InputError
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_processor
from ocrsmith.serving.backends import Backend, BackendFailure, End, Piece, ServedModel, TextRequest
from ocrsmith.serving.vllm.backend import VllmBackend

FAKE = Path(__file__).with_name("fake_vllm.py")
RULE = DecodingSettings(ngram_size=4, ngram_window=20, ngram_whitelist=("<td>", "</td>"))
CONTEXT = 2048
PROMPT = "<image>\nFree OCR."
SECONDS = 60.0


@pytest.fixture(scope="module")
def processor() -> OcrProcessor:
    saved = load_processor("nano")
    values = saved.settings.model_dump() | {
        "mode": "gundam",
        "min_tiles": 2,
        "max_tiles": 6,
        "max_length": CONTEXT,
    }
    return OcrProcessor(saved.tokenizer, ProcessingSettings.from_values(values))


def picture(size: tuple[int, int] = (60, 40), mode: str = "RGB") -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, 200 if mode == "L" else None).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = picture()
MODELS = (
    ServedModel("ocr", CONTEXT, RULE, "gundam"),
    ServedModel("tuned", CONTEXT, DecodingSettings(max_new_tokens=50, ngram_size=0), "gundam", "ocr"),
)


class Stage:
    """A backend, the script that its vLLM plays, and what was told."""

    def __init__(self, folder: Path, processor: OcrProcessor) -> None:
        self.script = folder / "script.json"
        self.processor = processor
        self.told: list[str] = []
        self.backend = VllmBackend(
            MODELS,
            processor,
            lambda socket: [sys.executable, str(FAKE), str(self.script), "--uds", str(socket)],
            tell=self.told.append,
        )
        self.play(prompt=[], chunks=[])

    def play(self, **script: Any) -> None:
        draft = self.script.with_suffix(".new")
        draft.write_text(json.dumps(script))
        draft.replace(self.script)

    def answers(self, *chunks: list[int], prompt: str = PROMPT, **more: Any) -> None:
        ids = self.ids(prompt)
        self.play(**{"prompt": ids, "chunks": list(chunks), "finish": "stop"} | more)

    def ids(self, prompt: str = PROMPT) -> list[int]:
        if "<image>" not in prompt:
            return self.processor.encode([], prompt=prompt).input_ids
        return self.processor.encode_text((60, 40), prompt=prompt).input_ids

    def asked(self) -> list[dict[str, Any]]:
        log = self.script.with_suffix(".log")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    async def read(self, **request: Any) -> tuple[str, list[Piece], End]:
        asked = TextRequest(**{"id": "r", "model": "ocr", "prompt": PROMPT, "image": PAGE} | request)
        items = [item async for item in self.backend.generate(asked)]
        *pieces, end = items
        assert isinstance(end, End)
        assert all(isinstance(piece, Piece) for piece in pieces)
        return "".join(piece.text for piece in pieces), pieces, end  # type: ignore[union-attr]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path, processor: OcrProcessor) -> Stage:
    return Stage(tmp_path, processor)


@asynccontextmanager
async def started(stage: Stage) -> AsyncIterator[Stage]:
    await stage.backend.start()
    try:
        yield stage
    finally:
        await stage.backend.close()


def run(stage: Stage, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        async with started(stage):
            await work()

    asyncio.run(play())


class TestAnswer:
    def test_text_and_tokens_are_those_of_the_models_own_tokenizer(self, stage: Stage) -> None:
        tokens = stage.processor.tokens
        ids = [*tokens.encode_answer("Tür é漢 <td>x"), tokens.eos]

        async def work() -> None:
            stage.answers(ids[:3], ids[3:4], ids[4:], [])
            text, pieces, end = await stage.read(logprobs=True)
            assert text == "Tür é漢 <td>x"
            told = [token for piece in pieces for token in piece.tokens]
            assert b"".join(token.data for token in told).decode() == text
            assert [token.logprob for token in told] == [-token / 1000 for token in ids]
            assert told[-1].data == b"", "the end of sequence writes nothing"
            assert end == End("stop", len(stage.ids()), len(ids))
            text, pieces, _ = await stage.read()
            assert (text, [piece.tokens for piece in pieces if piece.tokens]) == ("Tür é漢 <td>x", [])

        run(stage, work)

    def test_the_request_is_greedy_and_carries_rule_image_and_prompt(self, stage: Stage) -> None:
        async def work() -> None:
            stage.answers([stage.processor.tokens.eos])
            await stage.read(prompt="<image>\nFree OCR. ", max_tokens=7)
            await stage.read(model="tuned", decoding=None)
            (first, second) = stage.asked()
            body = first["body"]
            assert first["path"] == "/v1/chat/completions"
            assert (body["model"], body["temperature"], body["max_tokens"]) == ("ocr", 0, 7)
            assert body["stop_token_ids"] == [stage.processor.tokens.eos]
            vocabulary = stage.processor.tokenizer.get_vocab()
            cells = [vocabulary["<td>"], vocabulary["</td>"]]
            assert body["vllm_xargs"] == {"ngram_size": 4, "window_size": 20, "whitelist_token_ids": cells}
            image, text = body["messages"][0]["content"]
            assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PAGE).decode()
            assert text["text"] == "<image>\nFree OCR."
            assert second["body"]["model"] == "tuned"
            assert second["body"]["max_tokens"] == 50
            assert "vllm_xargs" not in second["body"]

        run(stage, work)

    def test_text_alone_is_sent_as_our_own_ids(self, stage: Stage) -> None:
        tokens = stage.processor.tokens
        ids = [*tokens.encode_answer("yes"), tokens.eos]

        async def work() -> None:
            stage.answers(ids, prompt="Are you there?")
            text, pieces, end = await stage.read(prompt="Are you there?", image=None, logprobs=True)
            assert (text, end.completion_tokens) == ("yes", len(ids))
            assert len(pieces[0].tokens) == len(ids)
            (asked,) = stage.asked()
            assert asked["path"] == "/v1/completions"
            assert asked["body"]["prompt"] == stage.ids("Are you there?")

        run(stage, work)

    def test_the_answer_is_no_longer_than_the_context_leaves(self, stage: Stage) -> None:
        async def work() -> None:
            stage.answers([stage.processor.tokens.eos])
            await stage.read(max_tokens=10 * CONTEXT)
            await stage.read()
            assert {entry["body"]["max_tokens"] for entry in stage.asked()} == {CONTEXT - len(stage.ids())}

        run(stage, work)

    def test_an_image_that_readers_show_differently_is_sent_as_the_native_engine_sees_it(
        self, stage: Stage
    ) -> None:
        async def work() -> None:
            stage.answers([stage.processor.tokens.eos])
            await stage.read(image=picture(mode="RGBA"))
            url = stage.asked()[0]["body"]["messages"][0]["content"][0]["image_url"]["url"]
            with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as sent:
                assert (sent.mode, sent.getpixel((0, 0))) == ("RGB", (255, 255, 255))

        run(stage, work)

    def test_a_loop_is_ended_early_and_vllm_hears_of_it(self, stage: Stage) -> None:
        ids = stage.processor.tokens.encode_answer("ab")[:2]

        async def work() -> None:
            stage.answers(ids, finish=None, repeat=True)
            _, pieces, end = await stage.read(logprobs=True)
            assert (end.finish_reason, end.completion_tokens) == ("loop", LOOP_TOKENS)
            assert sum(len(piece.tokens) for piece in pieces) == LOOP_TOKENS
            await until(lambda: {"gone": True} in stage.asked())
            stage.answers(ids * 20, finish="length")
            assert (await stage.read())[2].finish_reason == "loop"
            stage.answers(list(range(300, 340)), finish="length")
            assert (await stage.read())[2].finish_reason == "length"

        run(stage, work)

    def test_leaving_an_answer_closes_the_connection(self, stage: Stage) -> None:
        async def work() -> None:
            stage.answers(list(range(300, 340)), finish=None, repeat=True)
            items = stage.backend.generate(TextRequest("r", "ocr", PROMPT, PAGE))
            assert isinstance(await anext(items), Piece)
            await items.aclose()  # type: ignore[attr-defined]
            await until(lambda: {"gone": True} in stage.asked())

        run(stage, work)

    def test_many_are_answered_at_a_time(self, stage: Stage) -> None:
        tokens = stage.processor.tokens

        async def work() -> None:
            stage.answers([*tokens.encode_answer("yes"), tokens.eos])
            answers = await asyncio.gather(*(stage.read() for _ in range(40)))
            assert {text for text, _, _ in answers} == {"yes"}

        run(stage, work)


class TestRefusal:
    @pytest.mark.parametrize(
        ("request_", "match"),
        [
            ({"prompt": "<image><image>"}, "2 <image>"),
            ({"prompt": "none"}, "0 <image>"),
            ({"image": None}, "1 <image>"),
            ({"prompt": "<image>" + "Why? " * CONTEXT}, "tokens"),
            ({"prompt": ""}, "0 <image>"),
        ],
    )
    def test_what_cannot_be_asked_is_refused_before_vllm_hears_of_it(
        self, stage: Stage, request_: dict[str, Any], match: str
    ) -> None:
        async def work() -> None:
            with pytest.raises(InputError, match=match):
                await stage.read(**request_)
            assert stage.asked() == []

        run(stage, work)

    def test_a_broken_image_is_refused(self, stage: Stage) -> None:
        async def work() -> None:
            with pytest.raises(ImageError):
                await stage.read(image=b"no image")

        run(stage, work)

    def test_an_unknown_whitelist_is_the_clients_fault(self, stage: Stage) -> None:
        async def work() -> None:
            with pytest.raises(InputError, match="does not know"):
                await stage.read(decoding=RULE.model_copy(update={"ngram_whitelist": ("<no>",)}))

        run(stage, work)

    def test_a_prompt_that_vllm_reads_otherwise_is_not_answered(self, stage: Stage) -> None:
        async def work() -> None:
            stage.answers([300], finish=None, repeat=True)
            ids = stage.ids()
            for there, match in ((ids[:-2], "vLLM makes"), ([*ids[:-1], 5], "reads the prompt otherwise")):
                stage.answers([300], prompt=PROMPT, finish=None, repeat=True)
                script = json.loads(stage.script.read_text())
                stage.play(**script | {"prompt": there})
                with pytest.raises(InputError, match=match):
                    await stage.read()

        run(stage, work)

    def test_vllms_own_refusal_is_handed_on_without_paths(self, stage: Stage) -> None:
        message = "The image in /home/me/models/x.png is no image, see https://docs.vllm.ai/x."

        async def work() -> None:
            for status, kind in ((400, InputError), (404, BackendFailure), (500, BackendFailure)):
                stage.play(status=status, body={"error": {"message": message, "code": status}})
                with pytest.raises(kind) as caught:
                    await stage.read()
                assert "The image in … is no image" in str(caught.value)
                assert "/home" not in str(caught.value)

        run(stage, work)


class TestFailure:
    @pytest.mark.parametrize(
        ("script", "match"),
        [
            ({"finish": None}, "broke off"),
            ({"finish": None, "error": {"message": "EngineCore encountered an issue."}}, "EngineCore"),
            ({"finish": "abort"}, "abort"),
            ({"finish": None, "raw": "{"}, "cannot be read"),
            ({"finish": None, "raw": '{"choices": [7]}'}, "cannot be read"),
        ],
    )
    def test_half_an_answer_is_none(self, stage: Stage, script: dict[str, Any], match: str) -> None:
        async def work() -> None:
            stage.answers([300, 301], **script)
            with pytest.raises(BackendFailure, match=match):
                await stage.read()
            await stage.backend.check()

        run(stage, work)

    def test_after_a_crash_it_is_started_again_once(self, stage: Stage) -> None:
        async def work() -> None:
            stage.answers([300, 301], finish=None, crash=True)
            with pytest.raises(BackendFailure, match="broke off"):
                await stage.read()
            await until(lambda: any("out of memory" in line for line in stage.told))
            await until(lambda: "vLLM answers again." in stage.told)
            await stage.backend.check()
            stage.answers([300, stage.processor.tokens.eos])
            await stage.read()
            stage.answers([300], finish=None, crash=True)
            with pytest.raises(BackendFailure):
                await stage.read()
            await until(lambda: any("not started again" in line for line in stage.told))
            with pytest.raises(BackendFailure, match="not running"):
                await stage.backend.check()
            with pytest.raises(BackendFailure, match="not running"):
                await stage.read()

        run(stage, work)

    def test_what_ends_while_it_starts_says_why(self, stage: Stage) -> None:
        lines = ["INFO loading", "ValueError: max seq len (8192) is larger than the available KV cache memory"]
        stage.play(start={"lines": lines, "exit": 1})
        with pytest.raises(InputError, match="out of memory") as caught:
            asyncio.run(stage.backend.start())
        assert "--gpu-memory-utilization" in str(caught.value.mend)
        assert stage.told[-2:] == [f"vLLM: {line}" for line in lines]
        with pytest.raises(BackendFailure, match="not running"):
            asyncio.run(stage.backend.check())


class TestSharing:
    def test_both_sides_of_a_canary_share_one_vllm(self, stage: Stage) -> None:
        base, tuned = stage.backend.only(["ocr"]), stage.backend.only(["tuned"])

        async def work() -> None:
            await asyncio.gather(base.start(), tuned.start())
            stage.answers([300, stage.processor.tokens.eos])
            items = [item async for item in tuned.generate(TextRequest("r", "tuned", PROMPT, PAGE))]
            assert isinstance(items[-1], End)
            assert stage.asked()[0]["body"]["model"] == "tuned"
            await tuned.check()
            await asyncio.gather(base.close(), tuned.close())
            with pytest.raises(BackendFailure):
                await base.check()

        asyncio.run(work())
        assert isinstance(base, Backend)
        assert isinstance(stage.backend, Backend)
        assert [model.name for model in base.models] == ["ocr"]
        assert [model.name for model in stage.backend.models] == ["ocr", "tuned"]
