"""The pages to send: checked, encoded once, and the requests that are made of them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrsmith.engines.openai_api import message_content
from ocrsmith.engines.page_image import as_web_image
from ocrsmith.errors import ImageError, InputError

MAX_HELD_BYTES = 512 * 2**20
"""Of encoded images in memory; what is above is not sent, and told."""
MAX_FILE_BYTES = 256 * 2**20
MAX_IMAGE_BYTES = 20 * 2**20


@dataclass(frozen=True, slots=True)
class Page:
    """A page that may be sent."""

    name: str
    """Relative to the folder."""
    image: bytes
    """As a data URI."""


@dataclass(frozen=True, slots=True)
class RequestForm:
    """A request for chat completions, all but the image: greedy, the image where the prompt has it."""

    head: bytes
    tail: bytes

    @classmethod
    def make(
        cls, model: str, prompt: str, *, max_tokens: int | None = None, stream: bool = False
    ) -> RequestForm:
        """The form for a model; see `StressSettings`."""
        content = message_content(prompt, {"type": "image_url", "image_url": {"url": ""}})
        fields: dict[str, Any] = {"model": model, "temperature": 0}
        if max_tokens is not None:
            fields["max_tokens"] = max_tokens
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        fields["messages"] = [{"role": "user", "content": content}]
        head, mark, tail = json.dumps(fields, ensure_ascii=False).rpartition('{"url": "')
        return cls((head + mark).encode("utf-8", "replace"), tail.encode("utf-8", "replace"))

    def fill(self, page: Page) -> bytes:
        """The request for a page. A data URI needs no escaping."""
        return self.head + page.image + self.tail


@dataclass(slots=True)
class Pages:
    """What was found in a folder."""

    kept: list[Page] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files that are not sent, with the reason."""
    beyond: int = 0
    """Files that were not looked at because the memory for pages was full, or no request was left for them."""


def load_pages(place: Path, *, most: int | None = None, max_bytes: int = MAX_HELD_BYTES) -> Pages:
    """Opens every file of a folder and its subfolders, in the order of their names.

    Hidden files are left out, and links to folders not followed.

    Args:
        place: a folder, or one image.
        most: pages that are enough; None: all.
        max_bytes: of encoded images that may be held.

    Raises:
        InputError: there is no such place, or no image in it.
    """
    if not place.exists():
        raise InputError("There is no such file or folder.", place=str(place), mend="Check the path.")
    pages = Pages()
    held = 0
    for path in _files(place):
        if held >= max_bytes or (most is not None and len(pages.kept) >= most):
            pages.beyond += 1
            continue
        name = path.name if path == place else path.relative_to(place).as_posix()
        try:
            page = Page(name, _data_uri(path))
        except ImageError as error:
            pages.left_out.append((name, error.problem))
            continue
        held += len(page.image)
        pages.kept.append(page)
    if not pages.kept:
        first = f" ({pages.left_out[0][0]}: {pages.left_out[0][1]})" if pages.left_out else ""
        raise InputError(
            f"There is no image to send{first}.", place=str(place), mend="Give a folder with page images."
        )
    return pages


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _data_uri(path: Path) -> bytes:
    """The image as every server reads it. Raises ImageError."""
    try:
        size = path.stat().st_size if path.is_file() else -1
        if not 0 <= size <= MAX_FILE_BYTES:
            raise ImageError("It is no file." if size < 0 else f"The file has {size:,} bytes.")
        media_type, data = as_web_image(path.read_bytes(), max_bytes=MAX_IMAGE_BYTES)
    except OSError as error:
        raise ImageError(f"It cannot be read ({error.strerror}).") from error
    return b"data:%s;base64,%s" % (media_type.encode(), base64.b64encode(data))
