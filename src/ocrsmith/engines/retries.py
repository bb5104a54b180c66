"""Pages that fell into a loop are read again: with a tighter n-gram rule, then in another resolution mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from ocrsmith.engines.base import Adjustable, Engine, PageRequest, ReadProgress
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import SettingsError
from ocrsmith.records import Prediction

Step = Literal["ngram", "mode"]
"""What is changed for a reading; what earlier steps have changed stays."""
DEFAULT_STEPS: tuple[Step, ...] = ("ngram", "mode")

TIGHTER_NGRAM = 20
"""What the model's published inference code forbids on every page; vLLM's recipe, our default, is 30. Shorter
ones come back in honest text, such as rows of a table, headings and addresses."""
WIDER_WINDOW = 512
"""Repeated units of up to window minus n tokens are seen: 60 by default, 492 so. The native engine recognises
loops with units of up to 192 tokens: whole paragraphs."""

OTHER_MODES: Mapping[str, str] = MappingProxyType(
    {"tiny": "base", "small": "base", "base": "gundam", "large": "base", "gundam": "base"}
)
"""Up, where letters may have been too small to be read; from tiles and large views down to a single view, for a
model that has lost its place in a long run of image tokens."""

_PASSED_ON = ("match", "warnings")


@dataclass(frozen=True, slots=True)
class Retry:
    """The settings of one further reading."""

    mode: str | None
    """None: the engine's own."""
    decoding: DecodingSettings

    def to_json(self) -> dict[str, Any]:
        """What may differ from the first reading."""
        changed = {"ngram_size": self.decoding.ngram_size, "ngram_window": self.decoding.ngram_window}
        return changed if self.mode is None else {**changed, "mode": self.mode}


class RetryLoops:
    """An engine that reads through another, and reads pages again that looped.

    The first answer that does not loop is taken, with its mode, text and tokens; `attempts` says how often the
    page was read, `seconds` are those of all readings. If all of them loop or fail, the first one stands, still
    with `finish_reason="loop"`: it is what the recorded settings gave, and nothing is cut off it.
    """

    def __init__(self, engine: Engine, steps: Sequence[Step] = DEFAULT_STEPS) -> None:
        """
        Args:
            engine: reads the pages. One that is not `Adjustable`, or refuses a step, reads without it;
                `describe()` says so under `not_honoured`.
            steps: what to try, in this order.
        """
        self._engine = engine
        self._retries: list[Retry] = []
        self._refused: dict[str, str] = {}
        if isinstance(engine, Adjustable):
            self._choose(engine, steps)
        elif steps:
            self._refused["loop_retries"] = "this engine cannot read with other settings"

    def _choose(self, engine: Adjustable, steps: Sequence[Step]) -> None:
        """Keeps the steps that the engine can take, each on top of those before it."""
        described = engine.describe()
        retry = Retry(None, DecodingSettings.from_values(described["decoding"]))
        other_mode = OTHER_MODES.get(described.get("processing", {}).get("mode", ""), "base")
        for step in steps:
            mode = other_mode if step == "mode" else retry.mode
            decoding = tightened(retry.decoding) if step == "ngram" else retry.decoding
            if (mode, decoding) == (retry.mode, retry.decoding):
                self._refused[f"loop_retries.{step}"] = "the n-gram rule is as tight already"
                continue
            try:
                engine.adjusted(mode=mode, decoding=decoding)
            except SettingsError as error:
                self._refused[f"loop_retries.{step}"] = error.problem.rstrip(".")
            else:
                retry = Retry(mode, decoding)
                self._retries.append(retry)

    @property
    def name(self) -> str:
        """The engine's own."""
        return self._engine.name

    def __getattr__(self, name: str) -> Any:
        """What some engines have beside the protocol, if this one has it."""
        if name in _PASSED_ON:
            return getattr(self._engine, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`; `loop_retries` lists the settings of further readings."""
        described = dict(self._engine.describe())
        described["loop_retries"] = [retry.to_json() for retry in self._retries]
        if self._refused:
            described["not_honoured"] = {**described.get("not_honoured", {}), **self._refused}
        return described

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`. Pages that loop come last: once all others are done, they are read again."""
        looping: dict[str, Prediction] = {}
        for answer in self._engine.read(requests):
            if answer.finish_reason == "loop" and self._retries:
                looping[answer.id] = answer
            else:
                yield from _told(answer, progress)
        for retry in self._retries:
            again = [request for request in requests if request.id in looping]
            if not again:
                return
            for answer in self._adjusted(retry).read(again):
                answer = _joined(looping[answer.id], answer)
                if answer.finish_reason == "loop":
                    looping[answer.id] = answer
                else:
                    del looping[answer.id]
                    yield from _told(answer, progress)
        for answer in looping.values():
            yield from _told(answer, progress)

    def _adjusted(self, retry: Retry) -> Engine:
        """Made when it is needed, and gone afterwards with its buffers: loops are rare."""
        assert isinstance(self._engine, Adjustable)
        return self._engine.adjusted(mode=retry.mode, decoding=retry.decoding)


def tightened(decoding: DecodingSettings) -> DecodingSettings:
    """Forbids shorter n-grams in a wider window, also where nothing was forbidden; the rest stays."""
    size = min(decoding.ngram_size or TIGHTER_NGRAM, TIGHTER_NGRAM)
    window = max(decoding.ngram_window, WIDER_WINDOW)
    return decoding.model_copy(update={"ngram_size": size, "ngram_window": window})


def _joined(first: Prediction, again: Prediction) -> Prediction:
    """The answer that stands after a further reading, with the cost of both."""
    better = first if again.finish_reason in ("loop", "error") else again
    return replace(better, attempts=first.attempts + again.attempts, seconds=first.seconds + again.seconds)


def _told(answer: Prediction, progress: Callable[[int], None] | None) -> Iterator[Prediction]:
    """One finished page."""
    yield answer
    if progress:
        progress(1)
