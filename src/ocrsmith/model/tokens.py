"""The tokenizer's side of the model: its special ids, which strings may become special tokens, hub folders.

A text is data, never a command. In an answer only the layout tokens (`<td>`, `<|ref|>` …) may become tokens
of their own, since labels and predictions use them; in a prompt also tasks such as `<|grounding|>`. The words
for beginning, end, padding and image never do: where a text contains them they are spelled out in plain tokens.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from ocrsmith.errors import InputError
from ocrsmith.text.prompts import IMAGE_TOKEN, LAYOUT_TOKENS

_ORIGINAL = "deepseek-ai/DeepSeek-OCR"
_TOKEN_FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + place): byte for place, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}
_DEFAULT_NAMES = {
    "bos_token": "<｜begin▁of▁sentence｜>",
    "eos_token": "<｜end▁of▁sentence｜>",
    "pad_token": "<｜▁pad▁｜>",
}


class OcrTokens:
    """Encodes prompts and answers, decodes answers; all ids are asked of the tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """
        Args:
            tokenizer: with bos, eos, pad and `<image>` in it.

        Raises:
            InputError: one of those is missing.
        """
        self.tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}
        self.bos = self._special("bos_token")
        self.eos = self._special("eos_token")
        self.pad = self._special("pad_token")
        self.image = self._special_id("image token", IMAGE_TOKEN)
        control = {self.bos, self.eos, self.pad, self.image}
        self._never_plain = control | set(self._added.values())
        self._answer_words = _matcher(word for word in LAYOUT_TOKENS if word in self._added)
        self._prompt_words = _matcher(word for word, i in self._added.items() if i not in control)
        layout = {self._added[word] for word in LAYOUT_TOKENS if word in self._added}
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._hidden = (control | special) - layout
        self._written: dict[int, bytes] = {}

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a piece of a prompt (without `<image>`); task and layout words become single tokens."""
        return self._encode(text, self._prompt_words)

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer; layout words become single tokens, all else is plain text."""
        return self._encode(text, self._answer_words)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text of generated ids. Layout words stay; ids below 0 and ids without a token are left out.

        Args:
            token_ids: a sequence or a 1-D tensor.
            skip_special_tokens: leave out bos, eos, pad, `<image>` and other tokens without content.
        """
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        hidden = self._hidden if skip_special_tokens else frozenset()
        kept = [int(i) for i in ids if i >= 0 and i not in hidden]
        return str(self._backend.decode(kept, skip_special_tokens=False))

    def decode_aligned(self, token_ids: Sequence[int]) -> tuple[str, list[int]]:
        """Text of generated ids as `decode` gives it, and where each token's part of it ends.

        A character may take several tokens; it ends with the last of them.

        Returns:
            The text, and for each id the characters written with it and before it. The list is empty for a
            tokenizer whose tokens are not made of bytes: there no character belongs to one token.
        """
        text = self.decode(token_ids)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        ends: list[int] = []
        parts: list[str] = []
        length = 0
        for token_id in token_ids:
            parts.append(decoder.decode(self.bytes_of(int(token_id))))
            length += len(parts[-1])
            ends.append(length)
        parts.append(decoder.decode(b"", final=True))
        if "".join(parts) != text:
            return text, []
        if ends:
            ends[-1] = len(text)  # the mark for a character that was never completed
        return text, ends

    def bytes_of(self, token_id: int) -> bytes:
        """What a token writes; nothing for those that `decode` hides."""
        known = self._written.get(token_id)
        if known is None:
            token = None if token_id < 0 or token_id in self._hidden else self._backend.id_to_token(token_id)
            known = self._written[token_id] = _byte_level(token or "")
        return known

    def _encode(self, text: str, words: re.Pattern[str]) -> list[int]:
        ids: list[int] = []
        for index, piece in enumerate(words.split(text)):
            if index % 2:
                ids.append(self._added[piece])
            elif piece:
                ids.extend(self._encode_plain(piece))
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        """Ids of a text in which nothing may become a special token."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        if self._never_plain.isdisjoint(ids):
            return ids
        ids = self._plain_backend.encode(text, add_special_tokens=False).ids
        if self._never_plain.isdisjoint(ids):
            return ids
        raise InputError(
            "The text contains a control token that the tokenizer cannot spell out.",
            mend="Take such strings out of the text.",
        )

    @cached_property
    def _plain_backend(self) -> Tokenizer:
        """The same vocabulary without added tokens; made only when a text asks for it."""
        parts = json.loads(self._backend.to_str())
        parts.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
        return Tokenizer.from_str(json.dumps(parts))

    def _special(self, role: str) -> int:
        return self._special_id(role, getattr(self.tokenizer, role, None))

    def _special_id(self, role: str, content: str | None) -> int:
        found = None if content is None else self._backend.token_to_id(content)
        if found is None:
            raise InputError(
                f"The tokenizer has no {role}{f' {content!r}' if content else ''}; "
                "it is not that of a DeepSeek-OCR model.",
                place=str(self.tokenizer.name_or_path) or None,
                mend=f"Take both tokenizer files from the model's own folder ({_ORIGINAL}).",
            )
        return int(found)


def _byte_level(token: str) -> bytes:
    """The bytes that a token of a byte-level vocabulary stands for.

    Such vocabularies write a byte that is no printable Latin-1 character as one from U+0100 upwards (GPT-2's
    table). A token with other characters in it, such as a Chinese mark, stands for itself.
    """
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode("utf-8", "replace")


def _matcher(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern whose `split` gives plain text at even and words at odd places."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})" if longest_first else "((?!))")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Reads the tokenizer of a model folder, an original hub folder included.

    Only `tokenizer.json` and the plain values of `tokenizer_config.json` are read; the class that the config
    names and any code beside it are ignored.

    Raises:
        InputError: a file is missing, damaged, or contradicts the other.
    """
    backend = _read_backend(folder)
    config = _read_config(folder / "tokenizer_config.json")
    _add_missing_tokens(backend, config.get("added_tokens_decoder") or {}, folder)
    names = {role: _content(config.get(role)) or default for role, default in _DEFAULT_NAMES.items()}
    missing = [f"{role} {name!r}" for role, name in names.items() if backend.token_to_id(name) is None]
    if missing:
        raise InputError(
            f"The tokenizer's vocabulary lacks {', '.join(missing)}.",
            place=str(folder / "tokenizer.json"),
            mend=f"Take both tokenizer files from the same model folder ({_ORIGINAL}).",
        )
    options: dict[str, Any] = dict(names)
    for key in ("add_bos_token", "add_eos_token", "model_max_length", "chat_template"):
        if config.get(key) is not None:
            options[key] = config[key]
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    words = [_content(word) for word in extra] if isinstance(extra, list) else []
    options["extra_special_tokens"] = [w for w in words if w and backend.token_to_id(w) is not None]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **options)
    tokenizer.name_or_path = str(folder)
    return tokenizer


def _read_backend(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    mend = f"Download the model's folder again ({_ORIGINAL}), with tokenizer.json and tokenizer_config.json."
    if not folder.is_dir():
        raise InputError("There is no such model folder.", place=str(folder), mend="Correct the path.")
    if not path.is_file():
        present = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise InputError(
            f"The model folder has no tokenizer.json; it holds {present}.", place=str(folder), mend=mend
        )
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("version https://git-lfs"):
            raise InputError(
                "tokenizer.json is a Git LFS pointer, not the file itself.",
                place=str(path),
                mend="Run `git lfs pull` in that folder.",
            )
        backend = Tokenizer.from_str(text)
    except InputError:
        raise
    except Exception as error:  # the parser raises bare Exception
        raise InputError(f"tokenizer.json cannot be read ({error}).", place=str(path), mend=mend) from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path.name} cannot be read ({error}).", place=str(path), mend="Download it again."
        ) from error
    if not isinstance(config, dict):
        raise InputError(f"{path.name} holds no JSON object.", place=str(path), mend="Download it again.")
    return config


def _add_missing_tokens(backend: Tokenizer, listed: dict[str, Any], folder: Path) -> None:
    """Adds tokens that only the config lists; their ids must come out as listed."""
    for number, entry in sorted(listed.items(), key=lambda item: int(item[0])):
        content = _content(entry)
        if not content:
            continue
        known = backend.token_to_id(content)
        if known is None:
            flags = {key: bool(entry[key]) for key in _TOKEN_FLAGS if key in entry}
            backend.add_tokens([AddedToken(content, **flags)])
            known = backend.token_to_id(content)
        if known != int(number):
            raise InputError(
                f"The tokenizer files contradict each other: {content!r} is {known} in tokenizer.json "
                f"and {number} in tokenizer_config.json.",
                place=str(folder),
                mend=f"Take both files from the same model folder ({_ORIGINAL}).",
            )


def _content(entry: object) -> str | None:
    """The string of a token that is written as such or as an object with `content`."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None
