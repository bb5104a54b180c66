"""Kinds of the wrong characters and words that no rule about whole passages has explained: rules 6 to 9 of
`evaluation.error_kinds`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby

from ocrsmith.evaluation.alignment import Edit, clusters, hull
from ocrsmith.evaluation.error_spans import LabelledEdits
from ocrsmith.evaluation.lexicon import MAX_WORD, WORD, Lexicon, is_han, shape_distance

FAR = 0.5
"""Shape distance, as a share of the word's length, from which a word does not look like the true one: half of
its letters."""
GROUP = 3
"""Longest group that is read as another as a whole (rn as m, iii as m)."""
_CONTEXT = 8
_WORDS = 3

_MARKUP = re.compile(
    r"</?[a-zA-Z][^<>]{0,200}>|<\|/?[a-zA-Z_]{1,20}\|>|^[ \t]*(?:#{1,6}|[-*+>]|\d{1,3}[.)])[ \t]+"
    r"|(?<=\|)[ \t]*:?-+:?[ \t]*(?=\|)|[|`]|\*{1,3}",
    re.MULTILINE,
)


def label_small(page: LabelledEdits, lexicon: Lexicon | None) -> None:
    """Rules 6 to 9."""
    for cluster in page.groups(clusters):
        if _vanishes(page, cluster):
            page.label(cluster, "normalisation")
    page.split(lambda edit: _pieces(page, edit))
    for index in page.open():
        true, read = page.sides([index])
        if true and read and _same(page, true, read):
            page.label([index], "normalisation")
    marks = _marked(page.reference), _marked(page.prediction)
    for cluster in page.groups(clusters):
        if _is_markup(page, cluster, *marks):
            page.label(cluster, "structure")
    if lexicon is not None:
        for group in page.groups(lambda edits: _same_word(page, edits)):
            if _is_substitution(page, group, lexicon):
                page.label(group, "substitution")
    _label_swaps(page)
    for cluster in page.groups(clusters):
        _label_rest(page, cluster)


def _same(page: LabelledEdits, true: str, read: str) -> bool:
    """Whether two replacements for each other agree under the policy. The letters around them keep a space that
    parts words from being taken for one at the end of a text."""
    return page.normalise(f"x{true}x") == page.normalise(f"x{read}x")


def _vanishes(page: LabelledEdits, cluster: Sequence[int]) -> bool:
    """Whether the texts agree under the policy, seen with their neighbours: a lost space joins two words,
    and an accent belongs to the letter before it."""
    place = hull([page.edits[index] for index in cluster])
    first, last = cluster[0], cluster[-1]
    free_left = page.edits[first - 1].ref_end if first else 0
    free_right = page.edits[last + 1].ref_start if last + 1 < len(page.edits) else len(page.reference)
    left = right = 0
    while left < min(_CONTEXT, place.ref_start - free_left):
        left += 1
        if _stands_alone(page.reference[place.ref_start - left]):
            break
    while right < min(_CONTEXT, free_right - place.ref_end):
        right += 1
        if _stands_alone(page.reference[place.ref_end + right - 1]):
            break
    true = page.reference[place.ref_start - left : place.ref_end + right]
    read = page.prediction[place.pred_start - left : place.pred_end + right]
    return page.normalise(true) == page.normalise(read)


def _pieces(page: LabelledEdits, edit: Edit) -> list[Edit]:
    """A replacement, cut where what vanishes under the policy meets what does not."""
    length = edit.ref_end - edit.ref_start
    if length != edit.pred_end - edit.pred_start or length < 2:
        return [edit]
    true = page.reference[edit.ref_start : edit.ref_end]
    read = page.prediction[edit.pred_start : edit.pred_end]
    same = [_same(page, one, other) for one, other in zip(true, read, strict=True)]
    runs = [list(run) for _, run in groupby(range(length), key=same.__getitem__)]
    return [
        Edit(
            edit.ref_start + run[0],
            edit.ref_start + run[-1] + 1,
            edit.pred_start + run[0],
            edit.pred_start + run[-1] + 1,
        )
        for run in runs
    ]


def _is_markup(
    page: LabelledEdits, cluster: Sequence[int], ref_marks: bytearray, pred_marks: bytearray
) -> bool:
    place = hull([page.edits[index] for index in cluster])
    sides = page.sides(cluster)
    if not any(sides) or not "".join(sides).strip():
        return any("\n" in side for side in sides)
    marks = ref_marks[place.ref_start : place.ref_end] + pred_marks[place.pred_start : place.pred_end]
    return all(marked or character.isspace() for marked, character in zip(marks, "".join(sides), strict=True))


def _same_word(page: LabelledEdits, edits: Sequence[Edit]) -> list[list[int]]:
    """Indices of edits between which there are only letters, or nothing."""
    found: list[list[int]] = []
    for index, edit in enumerate(edits):
        before = edits[found[-1][-1]] if found else None
        if before and edit.ref_start - before.ref_end == edit.pred_start - before.pred_end:
            between = page.reference[before.ref_end : edit.ref_start]
            if len(between) <= MAX_WORD and all(map(_is_letter, between)):
                found[-1].append(index)
                continue
        found.append([index])
    return found


def _is_substitution(page: LabelledEdits, group: Sequence[int], lexicon: Lexicon) -> bool:
    place = hull([page.edits[index] for index in group])
    if max(place.ref_end - place.ref_start, place.pred_end - place.pred_start) > MAX_WORD:
        return False
    true, read = page.sides(group)
    if all(map(is_han, true + read)):
        fitting = abs(len(true) - len(read)) <= 1 and bool(true)
        words = [read]
    else:
        true, read = _whole_words(page, place)
        words = read.split()
        numbers = len(true.split()), len(words)
        fitting = min(numbers) > 0 and max(numbers) <= _WORDS and all(map(_is_word, true.split() + words))
    if not fitting or max(len(true), len(read)) > MAX_WORD or not all(map(lexicon.knows, words)):
        return False
    return shape_distance(true, read) >= FAR * max(len(true), len(read))


def _whole_words(page: LabelledEdits, place: Edit) -> tuple[str, str]:
    """Both stretches with the equal letters beside them."""
    left = right = 0
    room = min(place.ref_start, place.pred_start, MAX_WORD)
    while left < room and _is_letter(page.reference[place.ref_start - left - 1]):
        left += 1
    room = min(len(page.reference) - place.ref_end, len(page.prediction) - place.pred_end, MAX_WORD)
    while right < room and _is_letter(page.reference[place.ref_end + right]):
        right += 1
    return (
        page.reference[place.ref_start - left : place.ref_end + right],
        page.prediction[place.pred_start - left : place.pred_end + right],
    )


def _label_swaps(page: LabelledEdits) -> None:
    """Two neighbours in the wrong order, 12 for 21, are one confusion, not a missing and an added character."""
    for index in range(len(page.edits) - 1):
        first, second = page.edits[index], page.edits[index + 1]
        gaps = second.ref_start - first.ref_end, second.pred_start - first.pred_end
        if page.kinds[index] or page.kinds[index + 1] or gaps != (1, 1) or first.cost + second.cost != 2:
            continue
        (missing, added), (lost, gained) = page.sides([index]), page.sides([index + 1])
        if (missing, added) == (gained, lost) and not (missing and added):
            page.label([index, index + 1], "confusion")


def _label_rest(page: LabelledEdits, cluster: Sequence[int]) -> None:
    """Rule 9."""
    true, read = page.sides(cluster)
    if true and read and max(len(true), len(read)) <= GROUP:
        page.label(cluster, "confusion")
        return
    for index in cluster:
        true, read = page.sides([index])
        page.label([index], "confusion" if true and read else "insertion" if read else "omission")


def _stands_alone(character: str) -> bool:
    """Whether a character is no mark on another one, no joiner and no gap."""
    return not character.isspace() and unicodedata.category(character)[0] not in "MC" and character != "\u0640"


def _is_letter(character: str) -> bool:
    return (character.isalpha() and not is_han(character)) or character in "'’\u200c"


def _is_word(text: str) -> bool:
    return WORD.fullmatch(text) is not None


def _marked(text: str) -> bytearray:
    """One byte a character: 1 where it is markup."""
    marks = bytearray(len(text))
    for match in _MARKUP.finditer(text):
        marks[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    return marks
