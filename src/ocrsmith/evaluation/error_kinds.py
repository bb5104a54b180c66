"""Gives every wrong span of a page exactly one kind.

The edits of the alignment (`evaluation.alignment`) are labelled by these rules, in this order; an edit keeps
the first kind that fits, and neighbours of one kind and one cause make a span:

1. A failed page is one `omission`: nothing was read, whatever its prediction says.
2. `loop`: wrong text inside an endless repetition of the prediction (`evaluation.repetition`), if at least
   half of the repetition is wrong (dot leaders that stand on the page are not), and what was not read where it
   stands or, if it ends the prediction, behind it. Where the engine says `loop`, a shorter repetition is
   enough, and where there is none, the wrong zone at the prediction's end is the loop.
3. `truncation`: the engine says `length`, and the reference goes on behind the prediction's end.
4. `structure`, moved: text of the wrong zones that stands, word for word, in another wrong place of the other
   text: lines or columns in the wrong order.
5. `hallucination`: a wrong zone with much text read that is like nothing in its place, nor elsewhere in the
   reference. Reference text in that zone goes with it, unless there is more than twice as much of it.
6. `normalisation`: the difference vanishes under a normalisation policy.
7. `structure`, markup: only tags, Markdown marks and line breaks differ.
8. `substitution`: a word of the vocabulary that does not look like the true one (`evaluation.lexicon`). Not
   used without a vocabulary, or with one that is too small.
9. `confusion` where characters, or groups of up to three, were read as others; `insertion` where there are
   some too many, `omission` where some are missing.

Markup that went with a missing or invented text has that text's kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation.alignment import MAX_SPECK, Edit, align, hull, zones
from ocrsmith.evaluation.error_spans import KINDS, ErrorKind, ErrorSpan, LabelledEdits, Normalise, PageErrors
from ocrsmith.evaluation.lexicon import Lexicon, is_han
from ocrsmith.evaluation.moved_text import Ranges, moved_text
from ocrsmith.evaluation.repetition import MIN_LENGTH, find_repetitions
from ocrsmith.evaluation.small_errors import label_small
from ocrsmith.text.characters import script_of, visible
from ocrsmith.text.normalise import parse_policy

if TYPE_CHECKING:
    from ocrsmith.evaluation.store import PageResult
    from ocrsmith.records import FinishReason

__all__ = ["KINDS", "ErrorKind", "ErrorSpan", "PageErrors", "classify", "find_errors"]

DEFAULT_POLICY = "nfkc+zh+fa+whitespace"
"""What does not count in most uses. Case does: reading c for C is an error of the eye."""
LOOP_LENGTH_SAID = 24
"""Characters that a repetition needs where the engine says `loop`: it stopped it early."""
MOVED_SHARE = 0.6
"""Share of a zone's text found elsewhere from which the whole zone counts as moved: the rest is misread letters
and separators."""
HALLUCINATED = 12
"""Letters and digits (a Chinese, Japanese or Korean one counts two) that an invented text has at least: two
words. Shorter ones are `insertion`. Twice as many where it stands in the place of a true text: a few letters
in a row are misread more often than invented."""
UNLIKE = 0.35
"""Likeness (1 - edits / length) below which a text read is no reading of the true one. Two lines drawn from the
same typewritten French documents stay below 0.31 in 99 of 100 cases, Chinese ones below 0.16; a page read with
a CER of 50 % is at 0.5."""
_PASSAGE, _HAN_PASSAGE = 5, 3
_WINDOWS = 64
_COMPARED = 20_000  # characters; more do not change the answer, and take long


def classify(
    results: Iterable[PageResult], *, lexicon: Lexicon | None = None, policy: str = DEFAULT_POLICY
) -> Iterator[PageErrors]:
    """The errors of each page, one page at a time. Raises SettingsError for an unknown policy."""
    normalise = parse_policy(policy).apply
    for result in results:
        yield find_errors(
            result.reference,
            result.prediction,
            finish_reason=result.finish_reason,
            lexicon=lexicon,
            normalise=normalise,
            id=result.id,
        )


def find_errors(
    reference: str,
    prediction: str,
    *,
    finish_reason: FinishReason = "stop",
    lexicon: Lexicon | None = None,
    normalise: Normalise | None = None,
    id: str = "",
) -> PageErrors:
    """The errors of one page.

    Args:
        reference: the true text.
        prediction: what was read.
        finish_reason: why decoding ended.
        lexicon: the vocabulary; None: substitutions are not looked for.
        normalise: puts aside what does not count; None: `DEFAULT_POLICY`.
        id: the page's, handed on.
    """
    note = "No vocabulary was given: substitutions were not looked for." if lexicon is None else lexicon.note
    if finish_reason == "error":
        edits = max(1, len(reference))
        span = ErrorSpan("omission", 0, len(reference), 0, 0, edits)
        return PageErrors(id, reference, prediction, (span,), edits, failed=True, note=note)
    alignment = align(reference, prediction)
    page = LabelledEdits(
        reference, prediction, alignment.edits, normalise or parse_policy(DEFAULT_POLICY).apply
    )
    if page.edits:
        _label_loops(page, said=finish_reason == "loop")
        if finish_reason == "length":
            _label_truncation(page)
        _label_moved(page)
        _label_hallucinations(page)
        label_small(page, lexicon)
    spans = page.spans()
    return PageErrors(
        id, reference, prediction, spans, sum(span.edits for span in spans), alignment.exact, note=note
    )


# --- loops and ends ------------------------------------------------------------------------------------


def _label_loops(page: LabelledEdits, *, said: bool) -> None:
    """Rule 2."""
    least = LOOP_LENGTH_SAID if said else MIN_LENGTH
    read = sum(edit.pred_end - edit.pred_start for edit in page.edits)
    repetitions = find_repetitions(page.prediction, min_length=least) if 2 * read >= least else []
    looped = False
    for item in repetitions:
        page.cut(item.start)
        page.cut(item.end, least=item.period)  # less than that is an unfinished unit
        inside = [
            index
            for index, edit in enumerate(page.edits)
            if edit.pred_start < item.end and (edit.pred_end > item.start or edit.pred_start >= item.start)
        ]
        wrong = sum(
            min(page.edits[index].pred_end, item.end) - max(page.edits[index].pred_start, item.start)
            for index in inside
        )
        if 2 * wrong < item.end - item.start:
            continue
        looped = True
        if item.end >= len(page.prediction) - item.period:  # what follows is an unfinished unit
            inside = list(range(inside[0], len(page.edits)))
        page.label(inside, "loop")
    if said and not looped:
        last = zones(page.edits)[-1]
        if page.edits[last[-1]].pred_end == len(page.prediction):
            page.label(last, "loop")


def _label_truncation(page: LabelledEdits) -> None:
    """Rule 3: missing text in the last zone, if no more of the reference follows than may agree by chance."""
    found = page.groups(zones)
    if not found:
        return
    edits = [page.edits[index] for index in found[-1]]
    if len(page.reference) - edits[-1].ref_end <= min(MAX_SPECK, sum(edit.cost for edit in edits)):
        missing = [i for i in found[-1] if page.edits[i].pred_start == page.edits[i].pred_end]
        page.label(missing, "truncation")


# --- zones ---------------------------------------------------------------------------------------------


def _label_moved(page: LabelledEdits) -> None:
    """Rule 4."""
    found = page.groups(zones)
    places = [hull([page.edits[index] for index in zone]) for zone in found]
    moved_ref, moved_pred = moved_text(
        page.reference,
        page.prediction,
        [(place.ref_start, place.ref_end) for place in places],
        [(place.pred_start, place.pred_end) for place in places],
    )
    if not moved_ref:
        return
    for zone, place in zip(found, places, strict=True):
        share = _share(place, moved_ref, moved_pred)
        if share >= MOVED_SHARE:
            page.label(zone, "structure")
        elif share:
            parts = [i for i in zone if _share(page.edits[i], moved_ref, moved_pred) >= MOVED_SHARE]
            page.label(parts, "structure")


def _share(place: Edit, moved_ref: Ranges, moved_pred: Ranges) -> float:
    length = place.ref_end - place.ref_start + place.pred_end - place.pred_start
    covered = moved_ref.covered(place.ref_start, place.ref_end)
    return (covered + moved_pred.covered(place.pred_start, place.pred_end)) / length


def _label_hallucinations(page: LabelledEdits) -> None:
    """Rule 5."""

    @lru_cache
    def passages_of_reference(size: int) -> frozenset[str]:
        return _passages(visible(page.reference), size)

    for zone in page.groups(zones):
        true, read = (visible(side) for side in page.sides(zone))
        in_place = len(read) <= 2 * len(true)
        if weight(read) < HALLUCINATED * (1 + in_place) or _is_reading(page, read, true):
            continue
        if _is_elsewhere(read, passages_of_reference):
            continue
        replaced = len(true) <= 2 * len(read)
        edits = page.edits
        invented = [i for i in zone if replaced or edits[i].pred_end > edits[i].pred_start]
        page.label(invented, "hallucination")


def _is_reading(page: LabelledEdits, read: str, true: str) -> bool:
    """Whether a text is like the true one, or like some stretch of it where that is much longer."""
    read, true = page.normalise(read[:_COMPARED]), page.normalise(true[:_COMPARED])
    if not read or not true:
        return read == true
    if len(true) <= 1.5 * len(read):
        return Levenshtein.normalized_similarity(true, read, score_cutoff=UNLIKE) > 0
    step = max(1, len(read) // 2, len(true) // _WINDOWS)
    windows = (true[start : start + len(read)] for start in range(0, len(true), step))
    return any(Levenshtein.normalized_similarity(one, read, score_cutoff=UNLIKE) > 0 for one in windows)


def _is_elsewhere(read: str, passages_of_reference: Callable[[int], frozenset[str]]) -> bool:
    """Whether most of a text stands somewhere in the reference: a line read twice is not invented."""
    size = _HAN_PASSAGE if 2 * sum(map(is_han, read)) > len(read) else _PASSAGE
    passages, known = _passages(read, size), passages_of_reference(size)
    return 2 * len(passages & known) > len(passages)


def _passages(text: str, size: int) -> frozenset[str]:
    return frozenset(text[start : start + size] for start in range(len(text) - size + 1))


def weight(text: str) -> int:
    """Letters and digits; Chinese, Japanese and Korean ones count two, as they say as much."""
    wide = ("Han", "Hiragana", "Katakana", "Hangul")
    return sum(1 + (script_of(character) in wide) for character in text if character.isalnum())
