"""What a server is told: where it listens, who may ask, and how much of everything it takes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ocrsmith.images import DEFAULT_MAX_PIXELS
from ocrsmith.settings.base import Settings

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class ImageHost:
    """A host from which images may be fetched: exactly this scheme, name and port."""

    scheme: str
    name: str
    port: int

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Reads `images.example.org`, `images.example.org:8443` or `http://localhost:8080`.

        Raises:
            ValueError: it is none of these.
        """
        problem = (
            f"allowed_image_hosts has {entry!r}; give host, host:port, or http://host:port for plain http."
        )
        try:
            parts = urlsplit(entry if "://" in entry else f"https://{entry}")
            name, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(problem) from None
        more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        bad = not entry.isascii() or not entry.isprintable() or " " in entry or "*" in entry
        if parts.scheme not in _PORTS or not name or more or bad:
            raise ValueError(problem)
        return cls(parts.scheme, name.rstrip("."), port or _PORTS[parts.scheme])

    @property
    def is_local_by_name(self) -> bool:
        """Whether it may lie in a private network, as the one who allowed it could see."""
        try:
            ipaddress.ip_address(self.name)
        except ValueError:
            return self.name == "localhost"
        return True


class ServerSettings(Settings):
    """Limits are per request unless they say otherwise. Sizes in bytes, times in seconds."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address or name to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    api_keys: tuple[str, ...] = Field(
        default=(), repr=False, exclude=True, description="keys, one of which each request must bring"
    )
    allow_no_keys: bool = Field(
        default=False, description="listen on other addresses than loopback without any key"
    )
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024, description="longest request")
    max_image_bytes: int = Field(default=20 * 2**20, ge=1024, description="longest image file")
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1, description="largest image: width × height")
    max_tokens: int | None = Field(
        default=None, ge=1, description="longest answer in tokens; by default what the model's context leaves"
    )
    max_held_bytes: int = Field(
        default=2**29, ge=1024, description="bodies of all requests under way together, in bytes"
    )
    header_seconds: float = Field(default=10.0, gt=0, description="for the head of a request to arrive")
    body_seconds: float = Field(default=60.0, gt=0, description="for the body of a request to arrive")
    request_seconds: float = Field(default=300.0, gt=0, description="for an answer, the wait for it included")
    idle_seconds: float = Field(default=60.0, gt=0, description="that a connection may wait between requests")
    drain_seconds: float = Field(default=30.0, ge=0, description="for requests under way when the server ends")
    max_connections: int = Field(default=2048, ge=1, description="connections open at a time")
    slots: int = Field(default=32, ge=1, description="requests answered at a time")
    queue: int = Field(default=64, ge=0, description="requests that may wait for a slot; more are refused")
    image_threads: int = Field(default=2, ge=1, le=64, description="threads that check images")
    allowed_image_hosts: tuple[str, ...] = Field(
        default=(), description="hosts from which images may be fetched; none by default"
    )
    fetch_seconds: float = Field(default=10.0, gt=0, description="for an image to be fetched")
    log_texts: bool = Field(default=False, description="write prompts and answers into the log")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> tuple[str, ...]:
        """A message never has a key in it."""
        if isinstance(value, str) or not all(isinstance(key, str) for key in value):
            raise ValueError("api_keys is no list of keys.")
        for number, key in enumerate(value, 1):
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(
                    f"api_keys: number {number} cannot be a key; give printable ASCII without spaces."
                )
        return tuple(value)

    @field_validator("allowed_image_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            ImageHost.parse(entry)
        return value

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_held_bytes = {self.max_held_bytes} is below max_body_bytes = {self.max_body_bytes}: "
                "the longest request would never be taken."
            )
        return self

    def image_hosts(self) -> tuple[ImageHost, ...]:
        """`allowed_image_hosts`, read."""
        return tuple(map(ImageHost.parse, self.allowed_image_hosts))
