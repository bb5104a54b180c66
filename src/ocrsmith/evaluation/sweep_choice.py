"""Which resolution mode to take: what each costs and loses, and the cheapest that loses little. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ocrsmith.evaluation.compare import FEWEST_DOCUMENTS
from ocrsmith.evaluation.statistics import Interval, Metrics, paired_interval

Certainty = Literal["surely", "probably"]

SAME_TIME = 0.02
"""Modes whose times differ by less than this share take the same time: clocks are no better."""


@dataclass(frozen=True, slots=True)
class ModeReading:
    """What reading a split in one mode gave."""

    mode: str
    metrics: Metrics
    rates: tuple[float, ...]
    """CER of each page, in the dataset's order."""
    generated_tokens: float
    """Per page, mean."""
    image_tokens: float | None = None
    """Per page, mean over pages whose image can be opened; None: unknown."""
    prompt_tokens: float | None = None
    """Likewise: what stands before the answer besides the image."""
    peak_memory: int | None = None
    """Bytes while the pages were read; None: not measured."""

    @property
    def seconds_per_page(self) -> float:
        """Engine time, mean."""
        return self.metrics.seconds / self.metrics.n

    @property
    def pages_per_second(self) -> float | None:
        """None where no time was measured."""
        return self.metrics.n / self.metrics.seconds if self.metrics.seconds else None

    @property
    def tokens(self) -> float:
        """Tokens a page that go through the decoder, as far as they are known."""
        return (self.image_tokens or 0.0) + (self.prompt_tokens or 0.0) + self.generated_tokens

    def to_json(self) -> dict[str, Any]:
        """The reading as a JSON object, without the pages."""
        return {
            **self.metrics.to_json(),
            "seconds_per_page": self.seconds_per_page,
            "pages_per_second": self.pages_per_second,
            "image_tokens": self.image_tokens,
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
            "peak_memory": self.peak_memory,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest mode that loses little, and how sure that is."""

    mode: str
    loss: float
    """Mean CER above the best mode's."""
    at_most: float
    """Upper end of the loss's 95 % interval; for the best mode: by how much another may be better after all."""
    certainty: Certainty
    """surely: `at_most` is within what may be lost, too."""
    maybe: tuple[str, ...]
    """Cheaper modes that were left out for a loss whose interval reaches into what may be lost."""
    reason: str
    """All of it in a few sentences."""


@dataclass(frozen=True)
class Choices:
    """Modes held against each other on the same pages.

    Attributes:
        readings: one for each mode, as asked for.
        losses: of each: its mean CER minus the best's, paired bootstrap by document.
        best: the mode with the lowest mean CER.
        within: mean CER that may be lost, as a fraction.
        documents: among the pages; one without a name is a page of its own.
        choice: None where nothing could be read in any mode.
    """

    readings: tuple[ModeReading, ...]
    losses: tuple[Interval, ...]
    best: str
    within: float
    documents: int
    choice: Choice | None

    def to_json(self) -> dict[str, Any]:
        """The figures of the modes and the choice as a JSON object."""
        return {
            "n": self.readings[0].metrics.n,
            "documents": self.documents,
            "within": self.within,
            "best": self.best,
            "choice": asdict(self.choice) if self.choice else None,
            "modes": {
                reading.mode: {**reading.to_json(), "loss": asdict(loss)}
                for reading, loss in zip(self.readings, self.losses, strict=True)
            },
        }


def weigh(readings: Sequence[ModeReading], groups: Sequence[str], *, within: float) -> Choices:
    """Compares modes with the best one and chooses.

    Args:
        readings: of the same pages; at least one.
        groups: the document of each page; an empty name is a document of its own.
        within: mean CER that may be lost against the best mode, as a fraction.
    """
    best = min(readings, key=lambda reading: (reading.metrics.cer.mean, reading.seconds_per_page))
    losses = tuple(paired_interval(best.rates, reading.rates, groups) for reading in readings)
    documents = len({group for group in groups if group}) + sum(not group for group in groups)
    choice = None
    if any(reading.metrics.failed < reading.metrics.n for reading in readings):
        choice = _choose(list(zip(readings, losses, strict=True)), best, within, documents)
    return Choices(tuple(readings), losses, best.mode, within, documents, choice)


def _choose(
    pairs: Sequence[tuple[ModeReading, Interval]], best: ModeReading, within: float, documents: int
) -> Choice:
    good = [reading for reading, loss in pairs if loss.estimate <= within]
    chosen = _cheapest(good)
    loss = next(loss for reading, loss in pairs if reading is chosen)
    others = [-other.low for reading, other in pairs if reading is not best]
    at_most = loss.high if chosen is not best else max([0.0, *others])
    cheaper = [
        (reading.mode, other)
        for reading, other in pairs
        if other.estimate > within and reading.seconds_per_page < chosen.seconds_per_page
    ]
    maybe = tuple(mode for mode, other in cheaper if other.low <= within)
    enough = documents >= FEWEST_DOCUMENTS
    certainty: Certainty = "surely" if enough and at_most <= within else "probably"
    reason = " ".join(
        [
            _lead(chosen is best, bool(cheaper), chosen.mode, best.mode, loss.estimate, within),
            _bound(chosen is best, at_most, within),
            *([_few(documents)] if not enough else []),
            *([f"{_list(maybe)} may be good enough, too: more pages would tell."] if maybe else []),
        ]
    )
    return Choice(chosen.mode, loss.estimate, at_most, certainty, maybe, reason)


def _cheapest(readings: Sequence[ModeReading]) -> ModeReading:
    """The least time; among those that take the same, the fewest tokens."""
    least = min(reading.seconds_per_page for reading in readings)
    ties = [reading for reading in readings if reading.seconds_per_page <= least * (1 + SAME_TIME)]
    return min(ties, key=lambda reading: (reading.tokens, reading.seconds_per_page))


def _lead(is_best: bool, cheaper: bool, mode: str, best: str, loss: float, within: float) -> str:
    if not is_best:
        bound = f"within {_points(within)} of the best ({best})"
        return f"{mode} is the cheapest mode {bound}: it loses {_points(loss)}."
    if cheaper:
        return f"{mode} is the best mode, and no cheaper one is within {_points(within)} of it."
    return f"{mode} is the best mode and the cheapest."


def _bound(is_best: bool, at_most: float, within: float) -> str:
    side = "within the bound" if at_most <= within else "above the bound"
    if is_best and at_most == 0:
        return "By their 95\u00a0% intervals no other mode is better."
    if is_best:
        return f"Another mode may be better by {_points(at_most)} (end of the 95\u00a0% interval), {side}."
    return f"The 95\u00a0% interval of the loss ends at {_points(at_most)}, {side}."


def _few(documents: int) -> str:
    noun = "document is" if documents == 1 else "documents are"
    return f"{documents} {noun} too few to be sure (at least {FEWEST_DOCUMENTS})."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _points(rate: float) -> str:
    """0.0048 → `0.48 points` (percentage points of CER)."""
    return f"{rate * 100:.2f} points".replace("-", "−")
