"""How sure an answer is: of each character, of the page, and where a person should look again. Numpy only.

A token's probability goes to every character it wrote. The confidence of a page is one minus the character
errors that its tokens let one expect. Both may be calibrated: `evaluation.confidence` fits a
`Calibration` on pages whose true texts are known, here it is applied.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocrsmith.errors import DataError
from ocrsmith.records import FinishReason
from ocrsmith.settings.files import write_text
from ocrsmith.text.characters import script_of

Floats = NDArray[np.float64]

CALIBRATION = "calibration.json"
CALIBRATION_FORMAT = 1
MAX_LOGIT = 16.0
"""Probabilities nearer to 0 or 1 than 1e-7 are beyond what float32 log-probabilities tell apart."""
MAX_GROWTH = 32
"""Characters that a span grows to either side while it looks for its word's borders."""
_UNSPACED = frozenset(("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Bopomofo"))


class Answer(Protocol):
    """What a page's confidence is made from: `Prediction` and `evaluation.store.PageResult` have it."""

    @property
    def finish_reason(self) -> FinishReason: ...

    @property
    def logprob_mean(self) -> float | None: ...

    @property
    def token_ends(self) -> Sequence[int]: ...

    @property
    def token_logprobs(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch text[start:end] that a person should look at."""

    start: int
    end: int
    confidence: float
    """The lowest of its characters."""


# --- calibration -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising curve through knots, straight between them and level outside.

    Attributes:
        knots: (confidence, calibrated confidence), both rising, at least one.
    """

    knots: tuple[tuple[float, float], ...]
    method = "isotonic"

    def __call__(self, values: Floats) -> Floats:
        """Calibrated values; NaN stays NaN."""
        x, y = np.asarray(self.knots, dtype=np.float64).T
        return np.interp(values, x, y)

    def to_json(self) -> dict[str, Any]:
        """{"method": "isotonic", "knots": [[confidence, calibrated], …]}"""
        return {"method": self.method, "knots": [list(knot) for knot in self.knots]}


@dataclass(frozen=True, slots=True)
class Temperature:
    """logit(calibrated) = slope · logit(confidence) + shift: temperature scaling (slope = 1 / temperature) with
    a shift, which together are Platt's scaling. Guo et al., On Calibration of Modern Neural Networks, 2017."""

    slope: float
    shift: float
    method = "temperature"

    def __call__(self, values: Floats) -> Floats:
        """Calibrated values; NaN stays NaN."""
        return sigmoid(self.slope * logit(values) + self.shift)

    def to_json(self) -> dict[str, Any]:
        """{"method": "temperature", "slope": …, "shift": …}"""
        return {"method": self.method, "slope": self.slope, "shift": self.shift}


Curve = Isotonic | Temperature


@dataclass(frozen=True, slots=True)
class AcceptRule:
    """Pages that may pass unseen: those whose confidence, before calibration, is at least `threshold`.

    Attributes:
        cer: the CER that the accepted pages keep below.
        level: how sure that is (see `evaluation.confidence.acceptance`).
        threshold: None: no threshold could be shown to keep it, so no page passes.
        figures: further figures of the choice, for people.
    """

    cer: float
    level: float
    threshold: float | None
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Turns confidences into shares that come true on pages like those it was fitted on.

    Attributes:
        characters: from a character's confidence to the share of such characters that are right; None where the
            engine gave no tokens.
        pages: from a page's confidence to its expected 1 - CER (CER above 1 taken as 1).
        accept: the threshold that was chosen with it, if one was asked for.
        fitted_on: the evaluation it comes from: dataset, split, model, adapter, pages, documents …
    """

    characters: Curve | None
    pages: Curve
    accept: AcceptRule | None = None
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """ "isotonic" or "temperature", or both by name where characters and pages differ."""
        if self.characters is None or self.characters.method == self.pages.method:
            return self.pages.method
        return f"{self.characters.method} (characters), {self.pages.method} (pages)"

    def accepts(self, answer: Answer) -> bool | None:
        """Whether a page may pass unseen; None without a rule or a confidence."""
        raw = page_confidence(answer)
        if self.accept is None or raw is None:
            return None
        return self.accept.threshold is not None and raw >= self.accept.threshold

    def to_json(self) -> dict[str, Any]:
        """The content of calibration.json."""
        accept = self.accept
        return {
            "format": CALIBRATION_FORMAT,
            "method": self.method,
            "characters": None if self.characters is None else self.characters.to_json(),
            "pages": self.pages.to_json(),
            "accept": None
            if accept is None
            else {
                **accept.figures,
                "cer": accept.cer,
                "level": accept.level,
                "threshold": accept.threshold,
            },
            "fitted_on": dict(self.fitted_on),
        }

    def save(self, path: Path) -> None:
        """Writes calibration.json as a whole or not at all. Raises OutputError."""
        write_text(path, json.dumps(self.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads a calibration.json, or the one in an evaluation folder.

        Raises:
            DataError: there is none, or it is damaged.
        """
        file = path / CALIBRATION if path.is_dir() else path
        try:
            return cls._from_json(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            problem = "There is no calibration."
        except OSError as error:
            problem = f"It cannot be read: {error.strerror}."
        except KeyError as error:
            problem = f"This is no calibration: {error} is missing."
        except (ValueError, TypeError, AttributeError) as error:
            problem = f"This cannot be read as a calibration ({_one_line(error)})."
        raise DataError(
            problem, place=str(file), mend="Make one with `ocrsmith calibrate VAL_EVAL -o calibration.json`."
        )

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> Calibration:
        if content["format"] != CALIBRATION_FORMAT:
            raise ValueError(f"format {content['format']!r} is unknown to this version")
        accept = content["accept"]
        rule = None
        if accept is not None:
            threshold = accept["threshold"]
            figures = {key: accept[key] for key in accept if key not in ("cer", "level", "threshold")}
            rule = AcceptRule(
                _share(accept["cer"]),
                _share(accept["level"]),
                None if threshold is None else _share(threshold),
                figures,
            )
        characters = content["characters"]
        return cls(
            None if characters is None else _curve(characters),
            _curve(content["pages"]),
            rule,
            dict(content["fitted_on"]),
        )


def _curve(content: Mapping[str, Any]) -> Curve:
    method = content["method"]
    if method == "isotonic":
        knots = tuple((_share(x), _share(y)) for x, y in content["knots"])
        rising = all(a <= c and b <= d for (a, b), (c, d) in pairwise(knots))
        if not knots or not rising:
            raise ValueError("the knots of a curve do not rise")
        return Isotonic(knots)
    if method == "temperature":
        slope, shift = float(content["slope"]), float(content["shift"])
        if not (math.isfinite(slope) and math.isfinite(shift) and slope >= 0):
            raise ValueError("a curve's slope or shift is no number it can have")
        return Temperature(slope, shift)
    raise ValueError(f"method {method!r} is unknown")


def _share(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r} is not between 0 and 1")
    return number


# --- characters and pages ----------------------------------------------------------------------------------


def character_confidence(
    text: str,
    token_ends: Sequence[int],
    token_logprobs: Sequence[float],
    calibration: Calibration | None = None,
) -> Floats:
    """How sure each character of an answer is.

    A token's probability goes to each character it wrote. Tokens that wrote no whole character multiply into
    the next character that is completed: bytes of one character, white space or a special token before it.

    Args:
        text: the answer.
        token_ends, token_logprobs: see `Prediction`; both may be empty.
        calibration: None: as the model says.

    Returns:
        (len(text),) probabilities from 0 to 1. NaN for characters that no token accounts for: unknown is
        neither sure nor unsure.

    Raises:
        ValueError: the two sequences differ in length, or the ends go back.
    """
    starts, ends, logprobs = _spans_of_tokens(token_ends, token_logprobs)
    values = np.full(len(text), np.nan)
    if len(ends):
        written = np.repeat(logprobs, ends - starts)[: len(text)]
        values[: len(written)] = np.exp(written)
        firsts, totals = _completed(starts, ends, logprobs)
        within = firsts < len(text)
        values[firsts[within]] = np.exp(totals[within])
    if calibration is not None and calibration.characters is not None:
        values = calibration.characters(values)
    return values


def page_confidence(answer: Answer, calibration: Calibration | None = None) -> float | None:
    """How sure a page is, 0 to 1: one minus the CER that its tokens let one expect.

    An error for each character, times the chance that it is wrong, and one for the end, times the chance that
    the text goes on; over the characters. On nano's pages this ranked them better than the tokens' geometric
    mean, the least sure token or the product of all. What the model passed over has no token, so this errs on
    the sure side; `calibration` mends that on average. Where single tokens are unknown, it is their geometric
    mean. A page that did not end by itself (failed, looping, cut off) is 0, whatever its tokens say: loops are
    read with great confidence.

    Args:
        answer: a `Prediction` or a `PageResult`.
        calibration: None: as the model says.

    Returns:
        None if the engine tells no probabilities.
    """
    if answer.finish_reason != "stop":
        return 0.0
    value = _raw(answer)
    if value is None or calibration is None:
        return value
    return float(np.clip(calibration.pages(np.array([value]))[0], 0.0, 1.0))


def has_probabilities(answer: Answer) -> bool:
    """Whether the engine told how probable the answer's tokens are."""
    return answer.logprob_mean is not None or bool(answer.token_logprobs)


def _raw(answer: Answer) -> float | None:
    ends = answer.token_ends
    if len(ends):
        # The ends say how long the text is; only its length matters here.
        values = character_confidence(" " * ends[-1], ends, answer.token_logprobs)
        known = values[~np.isnan(values)]
        if len(known) or not len(values):
            written = int(np.searchsorted(ends, ends[-1])) + 1 if len(values) else 0
            ending = math.exp(min(0.0, math.fsum(answer.token_logprobs[written:])))
            errors = float(np.sum(1.0 - known)) + 1.0 - ending
            return max(0.0, 1.0 - errors / max(1, len(known)))
    if answer.logprob_mean is None or math.isnan(answer.logprob_mean):
        return None
    return math.exp(min(0.0, answer.logprob_mean))


def _spans_of_tokens(
    token_ends: Sequence[int], token_logprobs: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Where each token's text starts and ends, and its log-probability, 0 at most."""
    if len(token_ends) != len(token_logprobs):
        raise ValueError(f"{len(token_ends)} token ends, but {len(token_logprobs)} log-probabilities")
    ends = np.asarray(token_ends, dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    if (ends < starts).any():
        raise ValueError("token ends go back")
    return starts, ends, np.minimum(np.asarray(token_logprobs, dtype=np.float64), 0.0)


def _completed(
    starts: NDArray[np.int64], ends: NDArray[np.int64], logprobs: Floats
) -> tuple[NDArray[np.int64], Floats]:
    """First characters of tokens that wrote any, with the log-probability of all that went into them."""
    writing = np.flatnonzero(ends > starts)
    if not len(writing):
        return writing, np.zeros(0)
    first = np.concatenate(([0], writing[:-1] + 1))
    return starts[writing], np.add.reduceat(logprobs[: writing[-1] + 1], first)


# --- spans -------------------------------------------------------------------------------------------------


def low_confidence_spans(text: str, values: Floats, threshold: float) -> tuple[Span, ...]:
    """Words with a character below a threshold, neighbours put together.

    A word of a script that parts words grows to its borders; Chinese, Japanese and Thai characters stand alone.
    Spans with nothing or only white space (no line break) between them become one. White space itself is marked
    only where it joins two.

    Args:
        text: the answer.
        values: (len(text),) from `character_confidence`; NaN is not marked.
        threshold: a character below it is low.

    Raises:
        ValueError: not a value for each character.
    """
    if len(values) != len(text):
        raise ValueError(f"{len(values)} values for {len(text)} characters")
    spans: list[Span] = []
    for span in _words(text, values, threshold):
        last = spans[-1] if spans else None
        between = text[last.end : span.start] if last else ""
        if last and (span.start <= last.end or (between.isspace() and "\n" not in between)):
            spans[-1] = Span(last.start, max(last.end, span.end), min(last.confidence, span.confidence))
        else:
            spans.append(span)
    return tuple(spans)


def _words(text: str, values: Floats, threshold: float) -> Iterator[Span]:
    for place in np.flatnonzero(values < threshold).tolist():
        if text[place].isspace():
            continue
        start, end = place, place + 1
        if _in_word(text[place]):
            while start > max(0, place - MAX_GROWTH) and _in_word(text[start - 1]):
                start -= 1
            while end < min(len(text), place + MAX_GROWTH) and _in_word(text[end]):
                end += 1
        yield Span(start, end, float(values[place]))


def _in_word(character: str) -> bool:
    """Whether a character is part of a word longer than itself."""
    in_word = unicodedata.category(character)[0] in "LMN" or character == "\u200c"
    return in_word and script_of(character) not in _UNSPACED


# --- arithmetic --------------------------------------------------------------------------------------------


def logit(values: Floats) -> Floats:
    """log(p / (1 - p)), at most `MAX_LOGIT` and at least its negative; NaN stays NaN."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(values) - np.log1p(-values), -MAX_LOGIT, MAX_LOGIT)


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
