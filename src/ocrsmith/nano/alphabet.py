"""The characters that nano knows, grouped by what they are used for.

The hanzi are those of GB 2312: level 1 (3,755 characters by pronunciation, the everyday ones) and level 2
(3,008 by radical). They are read from Python's own codec, so no table is kept here.
"""

from __future__ import annotations

from functools import cache

ASCII = "".join(map(chr, range(0x20, 0x7F)))
FRENCH = "àâäæçéèêëîïôöœùûüÿ" + "ÀÂÄÆÇÉÈÊËÎÏÔÖŒÙÛÜŸ"
# Seen now and then in names; French and English need none of them.
LATIN_RARE = "áãåíñóõøúßÁÃÅÍÑÓÕØÚ"
TYPOGRAPHY = "«»‘’“”–—…€£¥°·•×÷±§©®²³½†№"
CHINESE_PUNCTUATION = "，。、；：？！（）《》〈〉【】「」『』〔〕～￥％○〇"
# Tokens only: a full-width letter or digit cannot be told from a half-width one with wide spacing.
FULL_WIDTH = "".join(c for c in map(chr, range(0xFF01, 0xFF5F)) if c not in CHINESE_PUNCTUATION)

ZWNJ = "\u200c"
PERSIAN_LETTERS = "آابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی" + "ءأؤئإة"
# Look the same as their Persian twins in most positions, so the text source uses them sparingly.
ARABIC_TWINS = "كيىۀ"
PERSIAN_DIGITS = "۰۱۲۳۴۵۶۷۸۹"
ARABIC_DIGITS = "٠١٢٣٤٥٦٧٨٩"
PERSIAN_PUNCTUATION = "،؛؟٪٫٬ـ"
# Tokens only: placing them needs a shaping engine.
PERSIAN_MARKS = "\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0654\u0670"

LAYOUT = "\n\t"


def _gb2312(first_row: int, last_row: int) -> str:
    """The characters of rows `first_row`..`last_row` (1-based "qu") of GB 2312, in the standard's order."""
    out = []
    for row in range(first_row, last_row + 1):
        for cell in range(1, 95):
            try:
                out.append(bytes((0xA0 + row, 0xA0 + cell)).decode("gb2312"))
            except UnicodeDecodeError:  # the last cells of row 55 are empty
                continue
    return "".join(out)


@cache
def hanzi_level1() -> str:
    """The 3,755 common hanzi of GB 2312."""
    return _gb2312(16, 55)


@cache
def hanzi_level2() -> str:
    """The 3,008 rarer hanzi of GB 2312."""
    return _gb2312(56, 87)


LATIN = ASCII + FRENCH + LATIN_RARE + TYPOGRAPHY
PERSIAN = PERSIAN_LETTERS + ARABIC_TWINS + PERSIAN_DIGITS + ARABIC_DIGITS + PERSIAN_PUNCTUATION + ZWNJ


@cache
def alphabet() -> tuple[str, ...]:
    """Every character with a token of its own, without repeats, in a fixed order."""
    groups = (
        ASCII,
        LAYOUT,
        FRENCH,
        LATIN_RARE,
        TYPOGRAPHY,
        CHINESE_PUNCTUATION,
        FULL_WIDTH,
        PERSIAN,
        PERSIAN_MARKS,
        hanzi_level1(),
        hanzi_level2(),
    )
    return tuple(dict.fromkeys("".join(groups)))
