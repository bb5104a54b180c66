"""Normalisation policies: what two texts may differ in and still count as the same reading.

A policy is named and recorded with every figure made under it: `none`, `nfc`, `nfkc`, `zh`, `fa`, `casefold`,
`whitespace`, or several joined by `+` ("nfkc+fa+whitespace"). However they are written, the parts work in the
order of `POLICIES`: Unicode form, then the language's tables, then case, then white space. Because one part
can make work for an earlier one (a dropped mark lets two characters compose), the row is run until nothing
changes any more, so every policy is idempotent: applied twice, it gives what it gave once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType

from ocrsmith.errors import SettingsError
from ocrsmith.text.characters import DIGITS

POLICIES = MappingProxyType(
    {
        "none": "the text as it is",
        "nfc": "Unicode form NFC: é is one character, however it was written",
        "nfkc": "Unicode form NFKC: also full and half width, ligatures, presentation forms, ² as 2",
        "zh": "Chinese: full-width letters, digits and punctuation as ASCII; see ZH_TABLE",
        "fa": "Persian: Arabic yeh and kaf, digits; without ZWNJ, tatweel and harakat; see FA_TABLE",
        "casefold": "case does not count (Unicode full case folding: ß as ss)",
        "whitespace": "runs of white space, line ends among them, as one space; none at the ends",
    }
)
"""The known policies, in the order in which they work, and what each does."""

ZH_TABLE = MappingProxyType(
    {
        **{chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)},  # ！ to ～
        "\u3000": " ",
        **dict.fromkeys("。｡", "."),
        **dict.fromkeys("、､", ","),
        **dict.fromkeys("“”„〝〞「」『』｢｣", '"'),
        **dict.fromkeys("‘’‚", "'"),
        **dict.fromkeys("【〔〖", "["),
        **dict.fromkeys("】〕〗", "]"),
        **dict.fromkeys("〈《", "<"),
        **dict.fromkeys("〉》", ">"),
        **dict.fromkeys("—–―‐‑", "-"),
        **dict.fromkeys("〜", "~"),
        **dict.fromkeys("・･•‧", "·"),
        "…": "...",
        "￥": "¥",
        "￠": "¢",
        "￡": "£",
        "￦": "₩",
    }
)
"""`zh`, character by character. Half-width Katakana become full-width ones too, with their voicing marks."""

FA_TABLE = MappingProxyType(
    {
        "\u064a": "\u06cc",  # ي Arabic yeh
        "\u0649": "\u06cc",  # ى alef maksura, the same shape at a word's end
        "\u0643": "\u06a9",  # ك Arabic kaf
        **dict(zip(DIGITS["Persian"], DIGITS["ASCII"], strict=True)),
        **dict(zip(DIGITS["Arabic"], DIGITS["ASCII"], strict=True)),
        "\u200c": "",  # zero-width non-joiner
        "\u0640": "",  # tatweel, which only makes a line longer
        **{chr(code): "" for code in range(0x064B, 0x0653)},  # harakat: fathatan to sukun
        "\u0670": "",  # superscript alef
    }
)
"""`fa`, character by character; "" where the character is dropped."""

_ZH = str.maketrans(dict(ZH_TABLE))
_FA = str.maketrans(dict(FA_TABLE))
_HALF_WIDTH_KATAKANA = re.compile("[\uff66-\uff9f]+")
_ROUNDS = 8
"""More than any text has needed: the second round rarely changes anything."""


def _zh(text: str) -> str:
    widened = _HALF_WIDTH_KATAKANA.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    return widened.translate(_ZH)


_STEPS: dict[str, Callable[[str], str]] = {
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "zh": _zh,
    "fa": lambda text: text.translate(_FA),
    "casefold": str.casefold,
    "whitespace": lambda text: " ".join(text.split()),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """A normalisation policy; `parse_policy` makes it from a name."""

    parts: tuple[str, ...] = ()
    """Names out of `POLICIES`, in the order in which they work; none of them: the text stays as it is."""

    @property
    def name(self) -> str:
        """As it is recorded: "nfkc+fa+whitespace", in the order of work; "none" of no part."""
        return "+".join(self.parts) or "none"

    def apply(self, text: str) -> str:
        """The text with everything gone that the policy says does not count."""
        if not self.parts:
            return text
        for _ in range(_ROUNDS):
            before = text
            for part in self.parts:
                text = _STEPS[part](text)
            if text == before:
                break
        return text

    def apply_all(self, texts: Iterable[str]) -> list[str]:
        """`apply` to each text."""
        return [self.apply(text) for text in texts] if self.parts else list(texts)


def parse_policy(name: str) -> Policy:
    """The policy of that name; case and spaces around parts do not count.

    Raises:
        SettingsError: an unknown or empty part, `none` beside others, or both Unicode forms.
    """
    parts = [part.strip().lower() for part in name.split("+")]
    for part in parts:
        if part not in POLICIES:
            problem = f"{part!r} is no normalisation policy." if part else "A normalisation policy has no name."
            raise _error(problem, name)
    if "none" in parts and len(set(parts)) > 1:
        raise _error("`none` leaves the text as it is and stands alone.", name)
    if {"nfc", "nfkc"} <= set(parts):
        raise _error("`nfkc` goes beyond `nfc`: only one of them can be meant.", name)
    return Policy(tuple(part for part in POLICIES if part in parts and part != "none"))


def _error(problem: str, name: str) -> SettingsError:
    known = ", ".join(POLICIES)
    return SettingsError(
        problem, place=f"normalisation {name!r}", mend=f"use one of {known}, or several joined by +"
    )
