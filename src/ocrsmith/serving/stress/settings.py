"""What a stress run is told."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ocrsmith.engines.openai_api import KEY_VARIABLE
from ocrsmith.settings.base import Settings
from ocrsmith.text.prompts import FREE_OCR, IMAGE_TOKEN

DEFAULT_REQUESTS = 1000
MAX_CLIENTS = 1024


class StressSettings(Settings):
    """Where to send pages, how many and how. The key is no setting: it comes from the environment."""

    url: str = Field(description="of the server or its API: http://localhost:8000, or …/v1")
    model: str | None = Field(default=None, min_length=1, description="None: the server's first")
    prompt: str = Field(default=FREE_OCR, description="as the model sees it, with <image>")
    max_tokens: int | None = Field(default=None, ge=1, description="longest answer; None: the server's limit")
    requests: int | None = Field(default=None, ge=1, description="pages to send; None: until the time is up")
    seconds: float | None = Field(default=None, gt=0, description="send for so long instead")
    clients: int = Field(default=8, ge=1, le=MAX_CLIENTS, description="requests under way at a time")
    warm_up: int | None = Field(default=None, ge=0, description="pages before the count; None: one a client")
    timeout: float = Field(default=300.0, gt=0, description="seconds for a page, waiting included")
    stream: bool = Field(default=False, description="ask for pieces, and time the first")
    pid: int | None = Field(default=None, ge=1, description="the server's process on this machine")
    metrics_url: str | None = Field(default=None, description="its Prometheus figures; None: beside the API")
    api_key_env: str = Field(default=KEY_VARIABLE, min_length=1, description="variable that holds the key")
    allow_http: bool = Field(default=False, description="allow plain http to other machines")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.requests is None) == (self.seconds is None):
            raise ValueError("Give either a number of pages or a duration.")
        if self.pid is not None and self.metrics_url is not None:
            raise ValueError("Memory is read from one place: give either a process or an address of metrics.")
        if self.prompt.count(IMAGE_TOKEN) > 1:
            raise ValueError(f"The prompt has more than one {IMAGE_TOKEN} in it.")
        return self

    @property
    def warm_up_pages(self) -> int:
        """Pages that are sent before any counts."""
        return self.clients if self.warm_up is None else self.warm_up

    @property
    def api(self) -> str:
        """The address of the API: a server that is named without a path has it under /v1."""
        return self.url if _path(self.url) else self.url.rstrip("/") + "/v1"

    @property
    def metrics(self) -> str:
        """Where the figures of the server are, unless told otherwise: beside the API."""
        if self.metrics_url is not None:
            return self.metrics_url
        return self.url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1") + "/metrics"

    def to_json(self) -> dict[str, Any]:
        """What decides the outcome; the address is told apart."""
        return self.model_dump(mode="json", exclude={"url", "metrics_url", "pid", "api_key_env"})


def _path(url: str) -> str:
    try:
        return urlsplit(url).path.strip("/")
    except ValueError:  # told when the address is parsed
        return "?"
