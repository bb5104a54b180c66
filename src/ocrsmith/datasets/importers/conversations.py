"""Conversations about images, as ShareGPT, LLaVA and LLaMA-Factory write them, in JSON or JSON Lines.

Each user's turn with the assistant's turn that follows becomes a sample: the user's turn is its prompt, the
assistant's its text. Earlier turns are not part of the prompt, as the model was not made for dialogues. A turn
without an image is about the one image that the turns before it had; if they had several, or none, the pair
goes to the ledger, as does a turn with more than one image.

The prompt is the turn as it is written if `<image>` is in it; where images stand apart from the text, `<image>`
and a line break are put before it. A turn that is nothing but `<image>` asks for nothing: it takes the
dataset's prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.dialogue import Dialogue, DialogueError, Turn, image_values, read_dialogue
from ocrsmith.datasets.importers.json_images import ImageFolder, ImageValueError, find_folder
from ocrsmith.datasets.importers.json_rows import as_word, meta_of
from ocrsmith.datasets.importers.json_stream import Item, JsonFile, first_object, open_json
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded
from ocrsmith.text import IMAGE_TOKEN

TURN_KEYS = ("conversations", "messages")
_LISTS = ("data", "samples", "train", "items", "dataset")
_OWN_KEYS = {*TURN_KEYS, "images", "image", "id", "group", "system"}


def recognises(path: Path, head: bytes) -> bool:
    """JSON whose first item has a list of turns."""
    if not head:
        return False
    first = first_object(path, head, _LISTS)
    return first is not None and _turns_key(first) is not None


def open_conversations(path: Path, options: ImportOptions) -> Source:
    """The question–answer pairs of conversations as a source.

    Raises:
        DataError: it is no JSON, or its first items hold no turns.
    """
    file = open_json(path, options.encoding, _LISTS)
    if not any(_turns_key(item.value) for item in file.head):
        names = ", ".join(repr(name) for name in file.head[0].value)
        raise DataError(
            f"The items have no turns under 'conversations' or 'messages', but: {names}.",
            place=f"{path}, line {file.head[0].line}",
            mend="Name another format with --format, e.g. json for a table of images and texts.",
        )
    images = find_folder(path.parent, (value for item in file.head for value in image_values(item.value)))
    notes = images.note(path.name)
    if any("system" in item.value or _has_system(item.value) for item in file.head):
        notes = (*notes, f"{path.name}: system turns are kept in meta, not in the prompt.")
    return Source(path, "sharegpt", file.rows, lambda: _read(file, images), notes=notes)


def _read(file: JsonFile, images: ImageFolder) -> Iterator[Candidate | Excluded]:
    for item in file.items():
        if isinstance(item, Excluded):
            yield item
            continue
        key = _turns_key(item.value)
        if key is None:
            detail = "It has no turns: give a list under 'conversations' or 'messages'."
            yield Excluded("malformed", detail, "", str(file.path), item.line)
            continue
        try:
            dialogue = read_dialogue(item.value, item.value[key])
        except DialogueError as error:
            yield Excluded(error.reason, str(error), "", str(file.path), item.line)
            continue
        yield from _pairs(item, dialogue, images, file.path)


def _pairs(item: Item, dialogue: Dialogue, images: ImageFolder, path: Path) -> Iterator[Candidate | Excluded]:
    """A candidate for each pair of turns, or why there is none."""
    shown: list[Any] = []
    several = sum(turn.role == "user" for turn in dialogue.turns) > 1
    number = 0
    question: Turn | None = None
    for turn in dialogue.turns:
        shown += turn.images
        if turn.role == "user":
            if question is not None:
                yield _unanswered(path, item, number)
            question, number = turn, number + 1
            continue
        if question is None:
            detail = f"The answer after pair {number} has no question: put the user's turn before it."
            yield Excluded("malformed", detail, "", str(path), item.line)
            continue
        about = question.images or shown[: len(shown) - len(turn.images)]
        yield _pair(item, question, turn, about, images, path, number if several else 0, dialogue.system)
        question = None
    if question is not None:
        yield _unanswered(path, item, number)
    if not dialogue.turns:
        yield Excluded("malformed", "The conversation has no turns: add them.", "", str(path), item.line)


def _pair(
    item: Item,
    question: Turn,
    answer: Turn,
    about: list[Any],
    images: ImageFolder,
    path: Path,
    number: int,
    system: str,
) -> Candidate | Excluded:
    """The sample of one pair; `number` is 0 if it is the only one of its conversation."""
    place = f"Pair {number} of the conversation" if number else "The conversation"
    if len(about) != 1 and not all(value == about[0] for value in about[1:]):
        detail = f"{place} is about {len(about)} images: split it so that each question has one."
        return Excluded("several_images", detail, "", str(path), item.line)
    if len(question.images) > 1:
        detail = f"{place} shows {len(question.images)} images at once: a sample has one."
        return Excluded("several_images", detail, "", str(path), item.line)
    if not about:
        detail = f"{place} has no image: add it under 'images', or remove the conversation."
        return Excluded("missing", detail, "", str(path), item.line)
    try:
        image, written = images.read(about[0])
    except ImageValueError as error:
        return Excluded(error.reason, str(error), "", str(path), item.line)
    name = as_word(item.value.get("id"))
    whole = name or f"line_{item.line}"
    meta = meta_of({key: value for key, value in item.value.items() if key not in _OWN_KEYS})
    return Candidate(
        image=image,
        image_path=written,
        text=answer.text,
        source=str(path),
        line=item.line,
        id=f"{name or path.name + '#' + whole}#{number}" if number else name,
        group=as_word(item.value.get("group")) or (f"{path.name}#{whole}" if number else ""),
        prompt=_prompt(question.text),
        meta={**meta, **({"system": system} if system else {}), **({"turn": number} if number else {})},
    )


def _prompt(text: str) -> str | None:
    if text.strip() in (IMAGE_TOKEN, ""):
        return None
    return text if IMAGE_TOKEN in text else f"{IMAGE_TOKEN}\n{text.strip()}"


def _unanswered(path: Path, item: Item, number: int) -> Excluded:
    detail = f"Question {number} of the conversation has no answer: add the assistant's turn."
    return Excluded("malformed", detail, "", str(path), item.line)


def _turns_key(value: dict[str, Any]) -> str | None:
    """Under which key the turns are."""
    for key in TURN_KEYS:
        turns = value.get(key)
        if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns[:8]):
            return key
    return None


def _has_system(value: dict[str, Any]) -> bool:
    turns = value[_turns_key(value) or ""] if _turns_key(value) else []
    return any("system" in (turn.get("role"), turn.get("from")) for turn in turns if isinstance(turn, dict))


FORMAT = Format(
    "sharegpt",
    "conversations about images in the manner of ShareGPT, LLaVA and LLaMA-Factory (JSON, JSON Lines)",
    recognises,
    open_conversations,
)
