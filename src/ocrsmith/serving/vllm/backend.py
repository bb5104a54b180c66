"""The backend that hands requests on to vLLM: its OpenAI server runs as a process of ours, on a Unix socket.

Requests go there one by one and are batched there. A prompt that comes out otherwise over there than the model
was trained with is not answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from ocrsmith.engines.page_image import as_web_image
from ocrsmith.errors import InputError, OcrsmithError, SettingsError
from ocrsmith.images import open_image
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.serving.backends import BackendFailure, End, Piece, ServedModel, TextRequest
from ocrsmith.serving.vllm.answers import Answer, read_events, said
from ocrsmith.serving.vllm.process import VllmProcess

START_SECONDS = 3600.0
"""Longest wait for vLLM to begin; a large model may come over a slow network."""
TOLD_EVERY = 15.0
RESTARTS = 1
"""Crashes after which vLLM is started again; one that crashes again and again should be looked at."""
_MAX_SENT = 1 << 30
"""The app bounds what clients send; this bounds nothing more."""
_SOCKET = "vllm.sock"

Tell = Callable[[str], None]
"""Gets a line for the one who runs the server."""


class VllmBackend:
    """Answers requests with vLLM. See `serving.backends.Backend`."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        processor: OcrProcessor,
        command: Callable[[Path], Sequence[str]],
        *,
        environment: Mapping[str, str] | None = None,
        tell: Tell = lambda line: None,
        on_line: Tell | None = None,
    ) -> None:
        """
        Args:
            models: what vLLM serves, by the names that it knows; the first is the default.
            processor: the model's tokenizer, and the processing settings that vLLM works by.
            command: makes vLLM's command line, given the socket that it is to listen on.
            environment: of vLLM; None: this process's.
            tell: gets a line now and then: how far the start is, a crash.
            on_line: gets each line that vLLM writes.

        """
        self._models = {model.name: model for model in models}
        self._processor, self._command, self._environment = processor, command, environment
        self._tell, self._on_line = tell, on_line
        self._folder: Path | None = None  # of the socket
        self._client: httpx2.AsyncClient | None = None
        self._process: VllmProcess | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._ready = False
        self._restarts = RESTARTS

    @property
    def models(self) -> Sequence[ServedModel]:
        """See `Backend.models`."""
        return tuple(self._models.values())

    def only(self, names: Sequence[str]) -> SomeModels:
        """A backend with some of the models, the first the default; the process is shared."""
        return SomeModels(self, [self._models[name] for name in names])

    async def start(self) -> None:
        """See `Backend.start`. A second call does nothing.

        Raises:
            InputError: vLLM ended before it could answer; says why, its last lines are told.
        """
        async with self._lock:
            if self._folder is not None:
                return
            self._folder = Path(tempfile.mkdtemp(prefix="ocrsmith-"))  # its owner's alone, and so the socket
            transport = httpx2.AsyncHTTPTransport(
                uds=str(self._folder / _SOCKET), limits=httpx2.Limits(max_keepalive_connections=64)
            )
            self._client = httpx2.AsyncClient(
                transport=transport,
                base_url="http://vllm",
                timeout=httpx2.Timeout(None, connect=10.0),  # how long an answer may take, the app says
                trust_env=False,
            )
            try:
                await self._launch()
            except BaseException:
                await self._release()
                raise

    async def close(self) -> None:
        """See `Backend.close`."""
        if self._restarting is not None:
            self._restarting.cancel()
            with suppress(asyncio.CancelledError):
                await self._restarting
        async with self._lock:
            await self._release()

    async def check(self) -> None:
        """See `Backend.check`."""
        if not self._ready:
            raise BackendFailure(self._why_not())
        if not await self._healthy():
            raise BackendFailure("vLLM does not answer")

    async def generate(self, request: TextRequest) -> AsyncGenerator[Piece | End, None]:
        """See `Backend.generate`."""
        if not self._ready or self._client is None:
            raise BackendFailure(self._why_not())
        prompt, path, body = await asyncio.to_thread(self._asked, request)
        answer = Answer(self._processor.tokens, logprobs=request.logprobs)
        try:
            async with self._client.stream("POST", path, content=body, headers=_JSON) as response:
                if response.status_code != httpx2.codes.OK:
                    raise _refusal(response.status_code, await response.aread())
                async for chunk in read_events(response.aiter_lines()):
                    if chunk.prompt is not None and list(chunk.prompt) != prompt:
                        raise InputError(_skew(len(chunk.prompt), len(prompt)))
                    piece = answer.take(chunk)
                    if piece is not None:
                        yield piece
                    if answer.ended and chunk.finish is None:  # a loop: leaving this block ends it over there
                        break
        except httpx2.HTTPError as error:
            raise BackendFailure(f"the connection to vLLM broke off ({type(error).__name__})") from error
        yield answer.end(len(prompt))

    def _asked(self, request: TextRequest) -> tuple[list[int], str, bytes]:
        """The prompt's ids, the path and the body of a request to vLLM. Opens the image: takes a while.

        Raises:
            InputError: the image cannot be read, the prompt does not fit it, or is too long.
        """
        model = self._models[request.model]
        fields: dict[str, Any] = {"model": model.name, "stream": True, "return_token_ids": True}
        processor = self._processor
        if request.image is None:
            prompt = processor.encode([], prompt=request.prompt).input_ids
            fields["prompt"] = prompt
            path = "/v1/completions"
        else:
            media_type, image = _sent(request.image, processor)
            with Image.open(BytesIO(image)) as header:
                prompt = processor.encode_text(header.size, prompt=request.prompt).input_ids
            url = f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"
            content = [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": request.prompt.strip()},  # `<image>` in it says where the image stands
            ]
            fields["messages"] = [{"role": "user", "content": content}]
            path = "/v1/chat/completions"
        if request.logprobs:
            fields["logprobs"] = True if request.image else 0  # of the chosen token, and of no others
        fields |= self._decoding(model, request, len(prompt))
        return prompt, path, json.dumps(fields).encode()

    def _decoding(self, model: ServedModel, request: TextRequest, prompt: int) -> dict[str, Any]:
        decoding = request.decoding or model.decoding
        room = model.context - prompt
        limit = request.max_tokens or decoding.max_new_tokens
        if room < 1:
            raise InputError(f"Image and prompt take {prompt} tokens, the context is {model.context}.")
        fields: dict[str, Any] = {
            "temperature": 0,
            "max_tokens": min(limit, room),
            "stop_token_ids": [self._processor.tokens.eos],
            "skip_special_tokens": False,
        }
        if decoding.ngram_size:
            try:
                whitelist = decoding.whitelist_ids(self._processor.tokenizer)
            except SettingsError as error:
                raise InputError(error.problem, mend=error.mend) from error
            fields["vllm_xargs"] = {
                "ngram_size": decoding.ngram_size,
                "window_size": decoding.ngram_window,
                "whitelist_token_ids": list(whitelist),
            }
        return fields

    async def _launch(self) -> None:
        """Starts vLLM and waits until it answers. Raises InputError."""
        assert self._folder is not None
        socket = self._folder / _SOCKET
        socket.unlink(missing_ok=True)
        process = VllmProcess(
            self._command(socket), environment=self._environment, on_line=self._on_line, on_exit=self._ended
        )
        self._process = process
        await process.start()
        begin = told = time.monotonic()
        while not await self._healthy():
            now = time.monotonic()
            if not process.running or now - begin > START_SECONDS:
                await process.close()
                self._show(process)
                problem, mend = process.why()
                raise InputError(f"{problem}.", place="vLLM", mend=mend)
            if now - told >= TOLD_EVERY:
                told = now
                last = process.last_lines[-1:] or ["…"]
                self._tell(f"vLLM is starting ({now - begin:.0f} s): {last[0].rpartition('] ')[2][:100]}")
            await asyncio.sleep(0.2)
        self._ready = True

    async def _healthy(self) -> bool:
        assert self._client is not None
        try:
            response = await self._client.get("/health", timeout=10.0)
        except httpx2.HTTPError:
            return False
        return response.status_code == httpx2.codes.OK

    def _ended(self, code: int) -> None:
        """vLLM ended by itself."""
        if not self._ready:  # while it started: `_launch` sees it
            return
        self._ready = False
        process = self._process
        if process is not None:
            self._show(process)
            self._tell(f"{process.why()[0]}.")
        if self._restarts:
            self._restarts -= 1
            self._restarting = asyncio.create_task(self._restart())
        else:
            self._tell("vLLM is not started again: it has crashed before.")

    async def _restart(self) -> None:
        self._tell("vLLM is started again; until it answers, requests are refused with 503.")
        try:
            await self._launch()
        except (OcrsmithError, OSError) as error:
            self._tell(str(error))
        else:
            self._tell("vLLM answers again.")

    def _show(self, process: VllmProcess) -> None:
        for line in process.last_lines:
            self._tell(f"vLLM: {line}")

    def _why_not(self) -> str:
        again = self._restarting is not None and not self._restarting.done()
        return "vLLM has crashed and is being started again" if again else "vLLM is not running"

    async def _release(self) -> None:
        self._ready = False
        process, client, folder = self._process, self._client, self._folder
        self._process = self._client = self._folder = None
        if process is not None:
            await process.close()
        if client is not None:
            await client.aclose()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class SomeModels:
    """Some models of a `VllmBackend`, as a backend of their own: for both sides of a canary on one vLLM."""

    def __init__(self, backend: VllmBackend, models: Sequence[ServedModel]) -> None:
        self._backend, self.models = backend, tuple(models)

    async def start(self) -> None:
        """See `Backend.start`."""
        await self._backend.start()

    async def check(self) -> None:
        """See `Backend.check`."""
        await self._backend.check()

    async def close(self) -> None:
        """See `Backend.close`. Ends vLLM for all that share it."""
        await self._backend.close()

    def generate(self, request: TextRequest) -> AsyncGenerator[Piece | End, None]:
        """See `Backend.generate`."""
        return self._backend.generate(request)


_JSON = {"Content-Type": "application/json"}


def _sent(image: bytes, processor: OcrProcessor) -> tuple[str, bytes]:
    """Media type and bytes such that vLLM sees the pixels that the native engine sees."""
    if processor.settings.alpha == "white":
        return as_web_image(image, max_bytes=_MAX_SENT)
    buffer = BytesIO()
    open_image(image, alpha=processor.settings.alpha).save(buffer, "PNG", compress_level=1)
    return "image/png", buffer.getvalue()


def _refusal(status: int, body: bytes) -> Exception:
    """What vLLM's answer with an error means for the request."""
    try:
        message = said(json.loads(body))
    except (ValueError, RecursionError):
        message = "no reason given"
    if status in (400, 413, 422):
        return InputError(f"vLLM refuses the request: {message}")
    return BackendFailure(f"vLLM answered with HTTP {status}: {message}")


def _skew(there: int, here: int) -> str:
    return (
        f"vLLM makes {there} tokens of image and prompt, the model was trained with {here}."
        if there != here
        else "vLLM reads the prompt otherwise than the model was trained; it may hold a control token's name."
    )
