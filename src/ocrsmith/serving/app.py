"""The app: OpenAI's endpoints before a backend, health and metrics. It speaks HTTP and knows no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ocrsmith.errors import InputError
from ocrsmith.serving.admission import Admission, Room
from ocrsmith.serving.backends import Backend, BackendFailure, Counting, End, Piece, ServedModel, TextRequest
from ocrsmith.serving.errors import ApiError, bad_request, encode, refused
from ocrsmith.serving.exchange import Exchange, Front
from ocrsmith.serving.images import Images
from ocrsmith.serving.json_body import read_json
from ocrsmith.serving.limits import Receive, Send, Watch, read_body
from ocrsmith.serving.metrics import CONTENT_TYPE, Metrics
from ocrsmith.serving.rules import decoding_for
from ocrsmith.serving.schemas import Asked, read_chat, read_completion, unknown_model
from ocrsmith.serving.settings import ServerSettings
from ocrsmith.serving.streaming import Shape, gathered

_CHECK_SECONDS = 5.0
_CHARACTERS_PER_TOKEN = 64
"""No token is longer on average over a prompt: longer prompts need not be counted to be refused."""


class Service:
    """What the endpoints share, and the server that runs them."""

    def __init__(self, backend: Backend, settings: ServerSettings) -> None:
        self.backend = backend
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(settings.slots, settings.queue, settings.max_held_bytes)
        self.images = Images(settings)
        self.is_draining = False
        self.ending = asyncio.Event()
        """Set when requests under way must end."""
        watch = self.metrics.watch
        watch("ocrsmith_running", "Requests being answered.", lambda: self.admission.running)
        watch("ocrsmith_waiting", "Requests that wait for a slot.", lambda: self.admission.waiting)
        if isinstance(backend, Counting):
            self.metrics.watch_figures(backend.figures)

    def find(self, name: str | None) -> ServedModel:
        """The model of that name; None: the default. Raises ApiError (404)."""
        models = self.backend.models
        if name is None:
            return models[0]
        for model in models:
            if model.name == name:
                return model
        raise unknown_model(name)


def make_app(backend: Backend, settings: ServerSettings) -> FastAPI:
    """The app before a backend, which is started and closed with it. `app.state.service` is its `Service`."""
    service = Service(backend, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await backend.start()
            yield
        finally:
            service.images.close()
            await backend.close()

    app = FastAPI(
        title="ocrsmith",
        lifespan=lifespan,
        docs_url=None,  # the page would load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(
        Front,
        settings=settings,
        metrics=service.metrics,
        is_draining=lambda: service.is_draining,
    )
    app.add_exception_handler(HTTPException, _http_error)
    _add_endpoints(app, service)
    return app


def _add_endpoints(app: FastAPI, service: Service) -> None:
    for path, chat in (("/v1/chat/completions", True), ("/v1/completions", False)):
        app.add_route(path, TextEndpoint(service, chat=chat), methods=["POST"])  # type: ignore[arg-type]

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"object": "list", "data": [_card(model) for model in service.backend.models]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        return _json(_card(service.find(name)))

    @app.get("/health")
    async def health() -> Response:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await service.backend.check()
        except (BackendFailure, TimeoutError):
            message = "The server cannot answer requests now."
            raise ApiError(503, message, code="unhealthy", headers={"retry-after": "5"}) from None
        return _json({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE)


class TextEndpoint:
    """Chat completions or completions, as an ASGI app."""

    def __init__(self, service: Service, *, chat: bool) -> None:
        self._service = service
        self._chat = chat

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request, from its body to the last event."""
        service, exchange = self._service, scope["state"]["exchange"]
        service.admission.check()
        with service.admission.held() as room:
            asked = await self._asked(scope, receive, exchange, room)
            seconds, ending = service.settings.request_seconds, service.ending
            watch = Watch(receive, seconds, ending, is_complete=lambda: exchange.complete)
            async with watch, service.admission.slot():
                request = await self._request(exchange, asked)
                await self._answer(exchange, asked, request)

    async def _asked(
        self, scope: MutableMapping[str, Any], receive: Receive, exchange: Exchange, room: Room
    ) -> Asked:
        settings, headers = self._service.settings, scope["headers"]
        media_type = dict(headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != b"application/json":  # what a page in a browser may send anywhere is none
            raise ApiError(415, "Send JSON, with the header `Content-Type: application/json`.")
        body = await read_body(
            receive, headers, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds, take=room.take
        )
        exchange.close = False
        values = read_json(body)
        return read_chat(values) if self._chat else read_completion(values)

    async def _request(self, exchange: Exchange, asked: Asked) -> TextRequest:
        """The request as the backend takes it; its image is fetched and checked."""
        service = self._service
        model = service.find(asked.model)
        exchange.notes["model"] = model.name
        if len(asked.prompt) > model.context * _CHARACTERS_PER_TOKEN:
            raise bad_request(f"The prompt is longer than the context of {model.context} tokens.")
        limit = service.settings.max_tokens
        if asked.max_tokens is not None and limit is not None and asked.max_tokens > limit:
            message = f"max_tokens = {asked.max_tokens}: this server gives at most {limit}."
            raise bad_request(message, "max_tokens")
        decoding = decoding_for(model, asked.rule)
        image = None
        if asked.image_url is not None:
            image = await service.images.get(asked.image_url, asked.image_field)
        if service.settings.log_texts:
            exchange.notes["prompt"] = asked.prompt
        return TextRequest(
            id=exchange.id,
            model=model.name,
            prompt=asked.prompt,
            image=image,
            max_tokens=asked.max_tokens or limit,
            decoding=decoding,
            logprobs=asked.logprobs,
        )

    async def _answer(self, exchange: Exchange, asked: Asked, request: TextRequest) -> None:
        shape = Shape(request.id, request.model, asked.chat, asked.logprobs, asked.include_usage)
        try:
            async with aclosing(self._service.backend.generate(request)) as items:
                if asked.stream:
                    await self._stream(exchange, shape, items)
                else:
                    text, tokens, end = await gathered(items)
                    self._note(exchange, request.model, text, end)
                    await exchange.answer(200, shape.whole(text, tokens, end))
        except InputError as error:
            raise refused(error) from error
        except BackendFailure as error:
            exchange.notes["reason"] = str(error)
            raise ApiError(503, f"The model cannot answer now: {error}", code="backend") from error

    async def _stream(self, exchange: Exchange, shape: Shape, items: AsyncIterator[Piece | End]) -> None:
        """Sends pieces as they come. The first is waited for: until then, an error has a status of its own."""
        texts: list[str] = []
        async for item in items:
            if not exchange.status:
                await exchange.begin_stream(shape.first())
            if isinstance(item, End):
                self._note(exchange, shape.model, "".join(texts), item)
                await exchange.send({"type": "http.response.body", "body": shape.last(item)})
                return
            if self._service.settings.log_texts:
                texts.append(item.text)
            if item.text or item.tokens:
                await exchange.send_part(shape.piece(item))
        raise ValueError("the backend stopped without an End")

    def _note(self, exchange: Exchange, model: str, text: str, end: End) -> None:
        metrics = self._service.metrics
        metrics.tokens.labels(model, "prompt").inc(end.prompt_tokens)
        metrics.tokens.labels(model, "completion").inc(end.completion_tokens)
        metrics.answers.labels(model, end.finish_reason).inc()
        exchange.notes |= {
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.completion_tokens,
            "finish_reason": end.finish_reason,
        }
        if self._service.settings.log_texts:
            exchange.notes["text"] = text


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, or another method than the path has."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow")
        headers = {"allow": allowed} if allowed else None
        message = f"This path does not take {request.method[:16]}."
        raise ApiError(405, message, code="method_not_allowed", headers=headers)
    if error.status_code == 404:
        raise ApiError(404, "There is nothing at this path.", code="not_found")
    raise ApiError(error.status_code, "The request cannot be answered.")


def _card(model: ServedModel) -> dict[str, Any]:
    """A model in the shape of OpenAI's and vLLM's lists."""
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "ocrsmith",
        "parent": model.parent,
        "max_model_len": model.context,
    }


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
