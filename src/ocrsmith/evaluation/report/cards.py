"""Cards: a page's image, its reference and what was read, as a template shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocrsmith.engines.confidence import Span, character_confidence, low_confidence_spans
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.report.diff import Piece, Segment, direction, language, readable, segments
from ocrsmith.evaluation.report.picture import Picture, picture
from ocrsmith.evaluation.report.wording import FINISH
from ocrsmith.evaluation.store import PageResult

LONGEST_TEXT = 3000
"""Characters of a text that a report shows; how many were cut is said in the report."""
RUN_ON = 400
"""Characters by which a shown prediction may exceed its reference: the rest of a loop tells nothing more."""

LOW_CONFIDENCE = 0.5
"""Words with a character less probable than this are marked: the model itself finds another more likely."""


@dataclass(frozen=True)
class Stretch:
    """A part of a prediction: what the model was unsure of, or what lies between."""

    pieces: Sequence[Piece]
    confidence: float | None = None
    """Of its least sure character; None where nothing is marked."""


@dataclass(frozen=True)
class Reading:
    """One prediction of a page beside its reference, as a template shows it."""

    title: str
    text: str
    cut: int
    """Characters of the prediction that are not shown."""
    score: PageScore
    result: PageResult
    finish: str
    segments: Sequence[Segment]
    stretches: Sequence[Stretch] = ()
    """The shown text again, in parts, with the low-confidence ones marked."""


@dataclass(frozen=True)
class Card:
    """One sample in a report."""

    id: str
    group: str
    image_path: str
    image: Picture | None
    reference: str
    reference_cut: int
    language: str
    direction: str
    """`ltr` or `rtl`: which way the reference runs, and so the differences."""
    readings: Sequence[Reading]
    change: float | None = None
    place: int | None = None
    """In the evaluation; the script finds the image by it."""
    kinds: Sequence[str] = ()
    """Kinds of errors on this page."""


def make_card(
    result: PageResult, readings: Sequence[Reading], files: Mapping[str, bytes], change: float | None = None
) -> Card:
    """The card of a page.

    Args:
        result: the page; its reference is shown once.
        readings: what was read, one or several.
        files: images by id; a missing one is said to be missing.
        change: of its CER, where two evaluations are compared.
    """
    reference, cut = shorten(result.reference)
    image = files.get(result.id)
    return Card(
        id=result.id,
        group=result.group,
        image_path=result.image_path,
        image=picture(image) if image is not None else None,
        reference=reference,
        reference_cut=cut,
        language=language(result.reference),
        direction=direction(result.reference),
        readings=readings,
        change=change,
    )


def make_reading(title: str, result: PageResult, score: PageScore) -> Reading:
    """One prediction, aligned with its reference; both cut to what a report shows."""
    text, cut = shorten(result.prediction, len(result.reference) + RUN_ON)
    reference, _ = shorten(result.reference)
    return Reading(
        title,
        text,
        cut,
        score,
        result,
        FINISH[result.finish_reason],
        segments(reference, text),
        stretches(text, low_confidence(result)),
    )


def low_confidence(result: PageResult, threshold: float = LOW_CONFIDENCE) -> Sequence[Span]:
    """Where a person should look again; nothing where the engine told no probabilities."""
    text = result.prediction
    if not result.token_ends or result.token_ends[-1] > len(text):
        return ()
    values = character_confidence(text, result.token_ends, result.token_logprobs)
    return low_confidence_spans(text, values, threshold)


def stretches(text: str, spans: Sequence[Span]) -> tuple[Stretch, ...]:
    """A text cut at the borders of spans; those beyond its end are left out."""
    found = []
    start = 0
    for span in spans:
        if span.end > len(text):
            break
        if span.start > start:
            found.append(Stretch(readable(text[start : span.start])))
        found.append(Stretch(readable(text[span.start : span.end]), span.confidence))
        start = span.end
    if start < len(text):
        found.append(Stretch(readable(text[start:])))
    return tuple(found)


def shorten(text: str, longest: int = LONGEST_TEXT) -> tuple[str, int]:
    """The start of a text, and how many characters of it are left out."""
    longest = min(longest, LONGEST_TEXT)
    return text[:longest], max(0, len(text) - longest)
