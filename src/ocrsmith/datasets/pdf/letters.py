"""What letters a glyph stands for: ligatures taken apart, radicals and vertical forms as what they mean.

Fonts give one shape to several code points, and files that are made by printing often name the wrong one.
"""

from __future__ import annotations

import unicodedata

_LIGATURES = dict(zip(range(0xFB00, 0xFB07), ("ff", "fi", "fl", "ffi", "ffl", "ft", "st"), strict=True))
_RADICALS = dict(
    zip(
        "⺁⺄⺎⺒⺓⺝⺟⺠⻁⻄⻅⻆⻉⻋⻑⻓⻔⻗⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻪⻫⻬⻭⻮⻯⻰⻱⻲⻳",
        "厂乙兀巳幺月母民虎西见角贝车長长门雨青韦页风飞食马骨鬼鱼鸟卤麦黄黾斉齐歯齿竜龙龜亀龟",
        strict=True,
    )
)
_VERTICAL = dict(
    zip(
        "︐︑︒︓︔︕︖︗︘︙︱︵︶︷︸︹︺︻︼︽︾︿﹀﹁﹂﹃﹄",
        "，、。：；！？〖〗…—（）｛｝〔〕【】《》〈〉「」『』",
        strict=True,
    )
)
_TABLE = str.maketrans(
    {
        **_LIGATURES,
        **{ord(sign): meant for sign, meant in (_RADICALS | _VERTICAL).items()},
        **{code: unicodedata.normalize("NFKC", chr(code)) for code in range(0x2F00, 0x2FD6)},
    }
)


def real_letters(text: str) -> tuple[str, bool]:
    """Letters of a glyph, and whether they are real.

    Args:
        text: as pdfminer gives it; `(cid:N)` where the file has no Unicode value for the glyph.

    Returns:
        (letters, whether none is missing, private, unassigned or a control character); U+FFFD where missing.
    """
    if text.startswith("(cid:"):
        return "\ufffd", False
    return text.translate(_TABLE), all(map(_is_real, text))


def _is_real(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return letter != "\ufffd" and kind not in ("Co", "Cn", "Cs") and (kind != "Cc" or letter in "\t\n\r")
