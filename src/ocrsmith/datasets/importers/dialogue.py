"""The turns of one conversation, whichever way they are written.

- ShareGPT, LLaVA: `{"from": "human", "value": "<image>\\nRead it."}`, the images under `images` or `image`.
- OpenAI, Hugging Face: `{"role": "user", "content": …}`, the content a text or a list of parts
  (`{"type": "image_url", "image_url": {"url": …}}`, `{"type": "text", "text": …}`).

`<image>` in a text stands for the next of the item's images; if it stands nowhere, a single image belongs to
the first question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ocrsmith.text import IMAGE_TOKEN

_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "developer": "system",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_IMAGE_PARTS = ("image", "image_url", "input_image", "image_path")
_IMAGE_KEYS = ("image_url", "image", "url", "value", "path", "image_path")
_OTHER_MEDIA = ("videos", "video", "audios", "audio")


class DialogueError(Exception):
    """A conversation that cannot be read; the message says why. `reason` is a ledger code."""

    reason = "malformed"


@dataclass(slots=True)
class Turn:
    """What one side says."""

    role: Literal["user", "assistant"]
    text: str
    """With `<image>` where the source writes it."""
    images: list[Any] = field(default_factory=list)
    """Values that mean images, as the source has them."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation."""

    turns: list[Turn]
    system: str
    """The texts of its system turns."""


def read_dialogue(item: dict[str, Any], written: list[Any]) -> Dialogue:
    """Reads the turns of a conversation and gives each its images.

    Args:
        item: the whole item, which may have images and a system text beside the turns.
        written: its turns.

    Raises:
        DialogueError: a turn of no known kind, or as many `<image>` as there are not images.
    """
    if any(item.get(key) for key in _OTHER_MEDIA):
        raise DialogueError("The conversation has videos or sounds: only images can be read.")
    waiting = own_images(item)
    count = len(waiting)
    system = [item["system"]] if isinstance(item.get("system"), str) else []
    turns: list[Turn] = []
    marks = 0
    for number, turn in enumerate(written, start=1):
        role = _role_of(turn, number)
        texts, values, open_parts = _read_content(turn, number)
        text = "\n".join(texts)
        if role == "system":
            system.append(text)
            continue
        wanted = text.count(IMAGE_TOKEN) + open_parts
        marks += wanted
        values = [*values, *waiting[:wanted]]
        waiting = waiting[wanted:]
        turns.append(Turn(role, text, values))
    if marks == 0 and count:
        _give_first_question(turns, waiting)
    elif marks != count:
        raise DialogueError(
            f"The conversation has {count} images, but {IMAGE_TOKEN} stands in it {marks} times: correct one."
        )
    return Dialogue(turns, "\n".join(text for text in system if text))


def own_images(item: dict[str, Any]) -> list[Any]:
    """The images that an item has beside its turns, as it writes them."""
    for key in ("images", "image"):
        value = item.get(key)
        if value:
            return value if isinstance(value, list) else [value]
    return []


def image_values(item: dict[str, Any]) -> Iterator[Any]:
    """All values of an item that mean images, also those in parts of turns."""
    yield from own_images(item)
    for key in ("messages", "conversations"):
        turns = item.get(key)
        for turn in turns if isinstance(turns, list) else []:
            if isinstance(turn, dict):
                try:
                    yield from _read_content(turn, 0)[1]
                except DialogueError:
                    continue


def _give_first_question(turns: list[Turn], images: list[Any]) -> None:
    question = next((turn for turn in turns if turn.role == "user"), None)
    if question is not None:
        question.images = [*images, *question.images]


def _role_of(turn: Any, number: int) -> Literal["user", "assistant", "system"]:
    if not isinstance(turn, dict):
        raise DialogueError(f"Turn {number} is no object: write it as role and content.")
    name = turn.get("role", turn.get("from"))
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise DialogueError(
            f"Turn {number} is of {name!r}, which is none of user (human), assistant (gpt) and system."
        )
    return role


def _read_content(turn: dict[str, Any], number: int) -> tuple[list[str], list[Any], int]:
    """Texts, images with an address, and how many images are to come from the item's list."""
    content = turn.get("content", turn.get("value"))
    if content is None or isinstance(content, str):
        return [content or ""], [], 0
    if not isinstance(content, list):
        raise DialogueError(f"The content of turn {number} is neither text nor a list of parts.")
    texts: list[str] = []
    values: list[Any] = []
    waiting = 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if isinstance(part, str):
            texts.append(part)
        elif kind in _TEXT_PARTS:
            text = next((part[key] for key in ("text", "value", "content") if part.get(key)), "")
            texts.append(str(text))
        elif kind in _IMAGE_PARTS:
            value = next((part[key] for key in _IMAGE_KEYS if part.get(key)), None)
            values += [] if value is None else [value]
            waiting += value is None
        else:
            raise DialogueError(f"Turn {number} has a part of type {kind!r}: only text and images can be read.")
    return texts, values, waiting
