"""Character error rate: Levenshtein edits on code points, divided by the reference's length.

No normalisation happens here: case, white space, digits and Unicode forms count as they are. A prediction that
runs on (a loop) can need more edits than the reference has characters, so the rate may exceed 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True, slots=True)
class PageScore:
    """How one page was read.

    Attributes:
        edits: insertions, deletions and substitutions that turn the prediction into the reference.
        length: code points of the reference.
        cer: the page's character error rate, 0 for a perfect page, may exceed 1.
        exact: the prediction is the reference, character for character.
    """

    edits: int
    length: int
    cer: float
    exact: bool


def cer(reference: str, prediction: str) -> float:
    """Character error rate of a prediction.

    Returns:
        edits / len(reference), at least 0, possibly above 1. For an empty reference, where the quotient has no
        meaning: 0 if the prediction is empty too, otherwise 1, however long it is.
    """
    return score_page(reference, prediction).cer


def score_page(reference: str, prediction: str, *, failed: bool = False) -> PageScore:
    """Scores one page.

    Args:
        reference: the true text.
        prediction: what was read.
        failed: the page gave no result (unreadable image, exception). Its text, if any, is not looked at: every
            character of the reference counts as an error (one error where the reference is empty), so CER is 1.
    """
    length = len(reference)
    if failed:
        return PageScore(edits=max(1, length), length=length, cer=1.0, exact=False)
    edits = Levenshtein.distance(reference, prediction)
    if length == 0:
        return PageScore(edits=edits, length=0, cer=1.0 if edits else 0.0, exact=edits == 0)
    return PageScore(edits=edits, length=length, cer=edits / length, exact=edits == 0)
