"""Whether a PDF page's text may become a label: figures, each with its rule, and one score.

A PDF draws glyphs; what text they mean is told beside, and may be missing, wrong, invisible or the guess of an
OCR program. So each page is drawn twice, with its text objects and without, and the figures below are taken. A
figure up to `good` costs nothing, from `bad` on it costs all, between them in proportion; the score is the
product of what is left, from 0 (never) to 1 (nothing found).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from PIL import Image

from ocrsmith.datasets.pdf.ink import Ink
from ocrsmith.datasets.pdf.page import Char, PageContent

DEFAULT_THRESHOLD = 0.8
"""Pages that score less are left out."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a figure costs, and what a person reads about it."""

    reason: str
    """Ledger code."""
    figure: str
    good: float
    bad: float
    words: str
    """Says the figure; `{:.0%}` or the like takes its value."""

    def grade(self, value: float) -> float:
        """1 up to `good`, 0 from `bad` on."""
        return min(1.0, max(0.0, (self.bad - value) / (self.bad - self.good)))


# The order decides which reason is named first where several are equally bad.
RULES = (
    # A scan with the invisible text of an OCR program; its mistakes would become the truth.
    Rule("ocr_layer", "ocr_layer", 0, 1, "its text is the invisible layer of an OCR program over a scan"),
    # Pictures with something on them cover the page, and hardly any text does.
    Rule("scanned_page", "pictures", 0.3, 0.5, "it is a picture ({:.0%} of the page) with hardly any text"),
    # Characters whose code leads to no Unicode value, or to a private one.
    Rule("unmapped_text", "unmapped", 0.01, 0.05, "{:.1%} of its characters have no Unicode value"),
    # Words no language has: mixed alphabets, doubly encoded letters, long runs of consonants.
    Rule("garbled_text", "garbled", 0.03, 0.15, "{:.0%} of its words are garbled"),
    # Latin letters of which few are vowels: the codes stand for other letters than the glyphs show.
    Rule("garbled_text", "consonants", 0.76, 0.84, "{:.0%} of its Latin letters are consonants"),
    # Invisible by render mode or transparency. It never enters the label, but tells of a strange file.
    Rule("hidden_text", "hidden", 0.1, 0.5, "{:.0%} of its characters are invisible"),
    # Characters where nothing shows: white on white, under a picture, clipped away.
    Rule("hidden_text", "unseen", 0.02, 0.15, "where {:.0%} of its characters should be, nothing is seen"),
    # Outside the visible page. It never enters the label either.
    Rule("outside_text", "outside", 0.1, 0.5, "{:.0%} of its characters lie outside the page"),
    # Text is drawn where the text layer has no character.
    Rule("unread_text", "unread", 0.1, 0.35, "{:.0%} of its drawn text is not in the text layer"),
    # Shapes of the size of letters that are no text objects, beside the characters that are.
    Rule("drawn_text", "drawn", 0.25, 0.5, "{:.0%} of what looks like letters is drawn as shapes"),
    # Lines that run neither from left to right nor from right to left.
    Rule("turned_text", "turned", 0.15, 0.5, "{:.0%} of its characters are turned"),
    Rule(
        "vertical_text",
        "vertical",
        0.1,
        0.4,
        "{:.0%} of its Chinese or Japanese characters stand one below the other",
    ),
    # Nothing to learn from.
    Rule("blank_page", "blank", 0, 1, "it has no text"),
)

_WIDE_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")
_OCR_FONTS = re.compile(r"glyphless|invisible|hiddenhor", re.IGNORECASE)
_MOJIBAKE = re.compile(r"[ÃÂâÐÑ][\u0080-\u00bf€™œžš‚„…†‡ˆ‰‹›“”•–—˜]|ï¿½|â€|锟斤拷|烫烫|屯屯")
_MOST_CONSONANTS = 7
_ONE_SOUND = re.compile("sch|[cst]h|[sc]z")
_VOWELS = frozenset("aeiouyıøæœ")
_ENOUGH_LETTERS = 150
_ENOUGH_SHAPES = 15
_TEXT_SHARE = 0.1
"""Of the page: with so much text over it, a picture is a background."""
_BUSY = 0.05
"""Share of cells with edges from which a picture has something on it."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is thought of a page's text."""

    score: float
    figures: dict[str, float]
    """Value of each figure that could be taken, by name; see `RULES`."""
    reasons: tuple[str, ...]
    """In words, what costs something, the worst first."""
    reason: str
    """Ledger code of the worst; empty if nothing costs anything."""


def judge(page: PageContent, rendered: Image.Image, bare: Image.Image) -> Trust:
    """Judges a page.

    Args:
        page: what the file says.
        rendered: RGB, without annotations.
        bare: the same without its text objects.
    """
    ink = Ink.compare(rendered, bare, page.width)
    figures = _figures(page, ink)
    graded = [(rule.grade(figures[rule.figure]), rule) for rule in RULES if rule.figure in figures]
    costly = sorted((item for item in graded if item[0] < 1), key=lambda item: item[0])
    return Trust(
        score=round(math.prod(grade for grade, _ in graded), 3),
        figures={name: round(value, 4) for name, value in figures.items()},
        reasons=tuple(rule.words.format(figures[rule.figure]) for _, rule in costly),
        reason=costly[0][1].reason if costly else "",
    )


def shown_text(page: PageContent) -> PageContent:
    """The page with the characters that a reader may see: not invisible, not outside the page."""
    return replace(page, chars=[char for char in page.chars if not char.hidden and _inside(char, page)])


def _figures(page: PageContent, ink: Ink) -> dict[str, float]:
    marks = [char for char in page.chars if char.text.strip()]
    inside = [char for char in marks if _inside(char, page)]
    shown = [char for char in inside if not char.hidden]
    text_boxes = ink.mask(shown, 1.5)
    pictures = [picture for picture in page.pictures if ink.busy(picture) >= _BUSY]
    covered = float(ink.mask(pictures).mean())
    hidden = _share(len(inside) - len(shown), len(inside))
    text_share = min(1.0, float(text_boxes.mean()) / _TEXT_SHARE)
    figures = {
        "ocr_layer": float(_is_ocr(inside, hidden, covered)),
        "pictures": covered * (1 - text_share),
        "unmapped": _share(sum(not char.mapped for char in shown), len(shown)),
        "hidden": hidden,
        "outside": _share(len(marks) - len(inside), len(marks)),
        "unseen": _share(sum(_is_glyph(char) and not ink.shows(char) for char in shown), len(shown)),
        "unread": _share(int((ink.text & ~ink.mask(shown, 4.0)).sum()), int(ink.text.sum())),
        "drawn": _drawn(page, ink, len(shown)),
        "turned": _share(sum(_is_turned(char) for char in shown), len(shown)),
        "vertical": _vertical(shown),
        "blank": float(not shown),
    }
    words = list(_words([char for char in page.chars if not char.hidden and _inside(char, page)]))
    figures["garbled"] = _share(sum(map(_is_garbled, words)), max(len(words), 20))
    letters = [letter for word in words for letter in _latin(word)]
    if len(letters) >= _ENOUGH_LETTERS:
        figures["consonants"] = 1 - _share(sum(letter in _VOWELS for letter in letters), len(letters))
    return figures


def _is_ocr(inside: Sequence[Char], hidden: float, covered: float) -> bool:
    named = sum(bool(_OCR_FONTS.search(char.font)) for char in inside)
    return (hidden >= 0.5 and covered >= 0.3) or named > len(inside) / 2


def _drawn(page: PageContent, ink: Ink, characters: int) -> float:
    shapes = ink.letter_shapes(ink.mask(page.pictures, 2.0) | ink.mask(page.rules, 2.0))
    return _share(shapes, shapes + characters) if shapes >= _ENOUGH_SHAPES else 0.0


def _vertical(shown: Sequence[Char]) -> float:
    """Share of the steps from one wide character to the next that go down, not sideways.

    Fonts for vertical writing say so themselves (angle 270) and are read right; here single characters are
    placed one below the other.
    """
    shown = [char for char in shown if char.angle == 0]
    steps = down = 0
    for one, other in pairwise(shown):
        if not (_is_wide(one.text) and _is_wide(other.text)):
            continue
        across = abs(other.x0 - one.x0)
        along = other.top - one.top
        steps += 1
        down += 0 < along < 2.5 * one.size and across < 0.3 * one.size
    return _share(down, steps)


def _words(chars: Sequence[Char]) -> Iterator[str]:
    """Runs of characters without white space or a gap between them, in the order of drawing."""
    word = ""
    before: Char | None = None
    for char in chars:
        if word and before and (_is_gap(before, char) or not char.text.strip()):
            yield word
            word = ""
        word += char.text.strip()
        before = char
    if word:
        yield word


def _is_gap(one: Char, other: Char) -> bool:
    across, down = abs(other.x0 - one.x1), abs(other.top - one.top)
    return across > 0.2 * max(one.size, 1) or down > 0.5 * one.size


def _is_garbled(word: str) -> bool:
    if _MOJIBAKE.search(word) or any(unicodedata.category(letter) == "Cc" for letter in word):
        return True
    # Parts between marks: "km/h", "e.g." and "well-known" are several.
    return any(_is_garbled_part(part) for part in re.findall(r"[^\W\d_]{2,}", word))


def _is_garbled_part(part: str) -> bool:
    scripts = {_script(letter) for letter in part} - {""}
    # Greek letters stand in formulas and units beside Latin ones.
    if len(scripts & {"LATIN", "CYRILLIC", "ARABIC", "HEBREW"}) > 1:
        return True
    run = 0
    for letter in _ONE_SOUND.sub("c", _latin(part)):
        run = 0 if letter in _VOWELS else run + 1
        if run >= _MOST_CONSONANTS and not part.isupper():
            return True
    return False


def _latin(word: str) -> str:
    """Its Latin letters, small and without accents."""
    plain = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in plain if letter.isalpha() and _script(letter) == "LATIN")


def _script(letter: str) -> str:
    if "a" <= letter <= "z" or "A" <= letter <= "Z":
        return "LATIN"
    return unicodedata.name(letter, "").partition(" ")[0]


def _is_wide(text: str) -> bool:
    return unicodedata.name(text[0], "").startswith(_WIDE_SCRIPTS) if text else False


def _is_turned(char: Char) -> bool:
    return not (char.angle <= 5 or char.angle >= 355) and not (char.angle == 270 and char.upright)


def _is_glyph(char: Char) -> bool:
    """Whether something of it should be seen: no joiner, no accent without a width of its own."""
    return any(unicodedata.category(letter)[0] not in "MCZ" for letter in char.text)


def _inside(char: Char, page: PageContent) -> bool:
    x, y = (char.x0 + char.x1) / 2, (char.top + char.bottom) / 2
    return -1 <= x <= page.width + 1 and -1 <= y <= page.height + 1


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
