"""How answers are decoded, the same in every engine: greedy, bounded, and kept from endless repetition.

Loop control forbids a token that would complete an n-gram which already stands in a window of the latest
generated tokens. Prompt and image tokens never count. No torch is imported here: the processor works on the
tensors it gets.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from ocrsmith.errors import SettingsError
from ocrsmith.settings.base import Settings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class DecodingSettings(Settings):
    """Saved with every adapter, run, evaluation and export. Decoding is greedy (temperature 0)."""

    max_new_tokens: int = Field(default=8192, ge=1, description="longest answer; capped by the model's context")
    ngram_size: int = Field(
        default=30, ge=0, description="length of n-grams that may not repeat; 0: no loop control"
    )
    ngram_window: int = Field(default=90, ge=1, description="generated tokens within which they may not repeat")
    ngram_whitelist: tuple[str, ...] = Field(
        default=("<td>", "</td>"),
        description="tokens that are never forbidden, so that tables keep their columns",
    )

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.ngram_size > self.ngram_window:
            raise ValueError(
                f"ngram_size = {self.ngram_size} is above ngram_window = {self.ngram_window}: nothing would "
                "ever be forbidden; set ngram_size to 0 to switch loop control off."
            )
        return self

    def token_limit(self, prompt_tokens: int, context: int) -> int:
        """Tokens that may be generated after a prompt: `max_new_tokens`, or less where the context ends."""
        return max(0, min(self.max_new_tokens, context - prompt_tokens))

    def whitelist_ids(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        """The ids of `ngram_whitelist`.

        Raises:
            SettingsError: an entry is not one token of this tokenizer.
        """
        vocabulary = tokenizer.get_vocab()
        unknown = [token for token in self.ngram_whitelist if token not in vocabulary]
        if unknown:
            raise SettingsError(
                f"ngram_whitelist has {', '.join(map(repr, unknown))}, which the tokenizer does not know.",
                mend="Give single tokens of the model, for example <td>.",
            )
        return tuple(vocabulary[token] for token in self.ngram_whitelist)

    def loop_control(
        self, tokenizer: PreTrainedTokenizerBase, prompt_length: int = 0
    ) -> NoRepeatNGramProcessor | None:
        """A fresh logits processor for one call of `generate`; None if loop control is off.

        Args:
            tokenizer: knows the ids of the whitelist.
            prompt_length: columns of `input_ids` before the first generated token, padding included.
        """
        if not self.ngram_size:
            return None
        return NoRepeatNGramProcessor(
            self.ngram_size, self.ngram_window, self.whitelist_ids(tokenizer), prompt_length=prompt_length
        )


# Rolling hash of ids: a polynomial modulo a Mersenne prime. Equal hashes are compared id by id afterwards.
_PRIME = (1 << 61) - 1
_BASE = 0x9E3779B97F4A7C15 % _PRIME


class NGramHistory:
    """What one answer may not say next. A step costs the same however long the answer and the window are.

    Each n-gram is filed under the hash of its first n-1 ids, which moves on by one id a step.
    """

    __slots__ = ("_hash", "_ids", "_oldest_weight", "_prefix", "_starts", "_window")

    def __init__(self, ngram_size: int, window_size: int, token_ids: Iterable[int] = ()) -> None:
        """
        Args:
            ngram_size: n ≥ 1; 1 forbids nothing.
            window_size: a whole n-gram must lie within this many of the latest ids to count.
            token_ids: generated so far; the last `window_size` are enough.
        """
        self._prefix = ngram_size - 1
        self._window = window_size
        self._ids: list[int] = []
        self._starts: defaultdict[int, deque[int]] = defaultdict(deque)
        self._hash = 0  # of the last n-1 ids
        self._oldest_weight = pow(_BASE, max(0, self._prefix - 1), _PRIME)
        for token_id in token_ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """Takes in the next generated id."""
        ids, prefix = self._ids, self._prefix
        if not prefix:
            return
        start = len(ids) - prefix
        if start >= 0:  # with this id an n-gram is complete
            self._starts[self._hash].append(start)
            self._hash -= (ids[start] + 1) * self._oldest_weight
        self._hash = (self._hash * _BASE + token_id + 1) % _PRIME
        ids.append(token_id)

    def banned(self) -> list[int]:
        """Ids that would repeat an n-gram of the window. The whitelist is not applied here."""
        ids, prefix = self._ids, self._prefix
        starts = self._starts.get(self._hash)
        if not starts:
            return []
        while starts and starts[0] < len(ids) - self._window:  # gone from the window for good
            starts.popleft()
        current = ids[-prefix:]
        return [ids[start + prefix] for start in starts if ids[start : start + prefix] == current]


class NoRepeatNGramProcessor:
    """Loop control as a logits processor for `generate`: sets forbidden tokens to -inf, row by row.

    Rows are followed from step to step. When they are not what the last step left (rows finished and dropped,
    reordered, a new batch), they are read anew from the window, so the answer is always that of the definition.
    """

    def __init__(
        self,
        ngram_size: int = 30,
        window_size: int = 90,
        whitelist_token_ids: Iterable[int] | None = None,
        *,
        prompt_length: int = 0,
    ) -> None:
        """
        Args:
            ngram_size: n; an n-gram may not be completed twice.
            window_size: latest generated tokens in which the earlier one must lie as a whole.
            whitelist_token_ids: never forbidden.
            prompt_length: columns of `input_ids` before the first generated token, padding included.

        Raises:
            ValueError: sizes that are no positive whole numbers.
        """
        for name, value in (("ngram_size", ngram_size), ("window_size", window_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
        self.ngram_size = ngram_size
        self.window_size = window_size
        self.whitelist = frozenset(whitelist_token_ids or ())
        self.prompt_length = prompt_length
        self._histories: list[NGramHistory] = []
        self._tail: Tensor | None = None  # the window as the last step saw it
        self._length = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """
        Args:
            input_ids: (B, prompt_length + L) the prompt and the L tokens generated so far.
            scores: (B, V) logits of the next token.

        Returns:
            (B, V): `scores` itself where nothing is forbidden, else a changed copy.
        """
        self._follow(input_ids[:, self.prompt_length :])
        rows: list[int] = []
        columns: list[int] = []
        for row, history in enumerate(self._histories):
            banned = set(history.banned()) - self.whitelist
            rows.extend([row] * len(banned))
            columns.extend(banned)
        if not columns:
            return scores
        scores = scores.clone()
        scores[rows, columns] = float("-inf")
        return scores

    def _follow(self, generated: Tensor) -> None:
        """Brings the histories up to the (B, L) generated ids."""
        length = generated.shape[1]
        window = generated[:, max(0, length - self.window_size) :]
        if self._goes_on(generated):
            for history, token_id in zip(self._histories, generated[:, -1].tolist(), strict=True):
                history.append(token_id)
        else:
            self._histories = [NGramHistory(self.ngram_size, self.window_size, row) for row in window.tolist()]
        self._tail = window.clone()  # the caller may reuse its buffer
        self._length = length

    def _goes_on(self, generated: Tensor) -> bool:
        """Whether these are the rows of the last step with one token more."""
        tail, length = self._tail, self._length
        if tail is None or generated.shape[0] != tail.shape[0] or generated.shape[1] != length + 1:
            return False
        return bool((generated[:, length - tail.shape[1] : length] == tail).all())


def is_looping(
    sequence: Sequence[int] | str,
    *,
    min_length: int = 64,
    min_repeats: int = 3,
    tolerance: float = 0.1,
    max_tail: int = 512,
) -> bool:
    """Whether an answer ends in a repeated unit: the mark of endless repetition.

    Ask it of answers that ended without eos (or while they are long already): short repetitions at the end of a
    table or a line of dots are legitimate. Loop control breaks a loop by a stray token now and then, hence the
    tolerance.

    Args:
        sequence: token ids, or text (then lengths are characters).
        min_length: length of the repetition as a whole.
        min_repeats: times that the unit must stand there.
        tolerance: share of the repetition that may differ from the unit before it.
        max_tail: only this much of the end is looked at; units are at most `max_tail / min_repeats` long.
    """
    if isinstance(sequence, str):
        values = np.frombuffer(sequence[-max_tail:].encode("utf-32-le", "surrogatepass"), np.uint32)
    else:
        values = np.asarray(sequence[-max_tail:], np.int64)
    for period in range(1, len(values) // min_repeats + 1):
        length = max(min_length, min_repeats * period)
        if length > len(values):
            return False
        part = values[-length:]
        if np.mean(part[period:] != part[:-period]) <= tolerance:
            return True
    return False
