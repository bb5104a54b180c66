"""The text of an answer while it is being generated: whole characters, as soon as they are whole."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from ocrsmith.model.tokens import OcrTokens

_PROBE = "aé漢🙂 \n"


class TextStream:
    """Turns tokens into text, piece by piece; the pieces together are what `OcrTokens.decode` gives for all.

    A token may be a part of a character, so its bytes wait for the rest. Time is linear in the tokens. For a
    tokenizer whose tokens are not made of bytes nothing can be said before the end: there all text comes last.
    """

    def __init__(self, tokens: OcrTokens) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        of_bytes = bool(tokens.decode_aligned(tokens.encode_answer(_PROBE))[1])
        self._held: list[int] | None = None if of_bytes else []

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete; it may be empty."""
        if self._held is not None:
            self._held += token_ids
            return ""
        return self._decoder.decode(b"".join(map(self.bytes_of, token_ids)))

    def end(self) -> str:
        """What was held back: the mark for a character that was never completed, if there is one."""
        if self._held is not None:
            return self._tokens.decode(self._held)
        return self._decoder.decode(b"", final=True)

    def bytes_of(self, token_id: int) -> bytes:
        """What a token writes: perhaps a part of a character, nothing for special tokens."""
        return self._tokens.bytes_of(token_id)
