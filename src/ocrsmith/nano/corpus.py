"""Texts to render for pretraining: made up from word frequencies, number formats and random characters.

No sentence is taken from anywhere, so any real text is held out by construction.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

from ocrsmith.datasets.synth.shaping import joins_forward
from ocrsmith.nano import alphabet
from ocrsmith.nano.alphabet import ZWNJ
from ocrsmith.nano.words import WordList, load_words

SCRIPTS = ("latin", "chinese", "persian")
FREQUENCY_POWER = 0.7

_TO_PERSIAN_DIGITS = str.maketrans("0123456789", alphabet.PERSIAN_DIGITS)
_TO_ARABIC_DIGITS = str.maketrans("0123456789", alphabet.ARABIC_DIGITS)
_FRENCH_ELISION = {"l", "d", "c", "j", "m", "n", "s", "t", "qu"}
_PERSIAN_SUFFIXES = ("ها", "های", "هایی", "ای", "تر", "ترین", "ام", "اند", "مان", "شان")
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_MOIS = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
]
_MAH = ["فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور", "مهر", "آبان", "آذر", "دی", "بهمن", "اسفند"]
_UNITS = ("km", "kg", "m²", "cm", "%", "°C", "€", "h", "min", "MB", "ml", "£", "kW")
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SEPARATORS = "-/.·:_ #"
_CHINESE_MARKS = "，，，，。。。、、；：？！"
_CHINESE_BRACKETS = [(p[0], p[1]) for p in ("（）", "《》", "“”", "【】", "「」", "‘’", "〈〉", "『』")]
_LATIN_BRACKETS = [(p[0], p[1]) for p in ("()", "[]", "“”", '""', "«»", "''", "{}", "<>", "‘’")]
_SPACES = re.compile(r"\s+")


class _Sampler:
    """Draws words with probability frequency ** FREQUENCY_POWER."""

    def __init__(self, words: WordList, keep: Callable[[str], bool] | None = None) -> None:
        pairs = [
            (w, f**FREQUENCY_POWER)
            for w, f in zip(words.words, words.frequencies, strict=True)
            if keep is None or keep(w)
        ]
        self._words = [w for w, _ in pairs]
        self._cumulative = list(accumulate(p for _, p in pairs))

    def draw(self, rng: random.Random, count: int) -> list[str]:
        return rng.choices(self._words, cum_weights=self._cumulative, k=count)


class TextSource:
    """An endless, seeded source of single lines.

    Args:
        words: the file of `words.export_words`.
        seed: two sources with one seed give the same lines for the same calls.
        hanzi_limit: only so many of the most frequent hanzi (None: all 6,763 of GB 2312).
    """

    def __init__(self, words: Path, seed: int = 0, hanzi_limit: int | None = None) -> None:
        self.rng = random.Random(seed)
        self._lists = load_words(words)
        self._samplers = {name: _Sampler(self._lists[name]) for name in ("en", "fr", "fa")}
        self._hanzi_by_rank = self._rank_hanzi()
        self._hanzi_limit: int | None = -1
        self.set_hanzi_limit(hanzi_limit)
        self._persian = alphabet.PERSIAN_LETTERS * 4 + alphabet.PERSIAN_DIGITS + "،؛؟.:!()-/«»"
        self._latin = alphabet.ASCII[1:] * 2 + alphabet.FRENCH + alphabet.LATIN_RARE + alphabet.TYPOGRAPHY

    def _rank_hanzi(self) -> list[str]:
        weight = dict.fromkeys(alphabet.hanzi_level1() + alphabet.hanzi_level2(), 0.0)
        for word, frequency in zip(self._lists["zh"].words, self._lists["zh"].frequencies, strict=True):
            for c in word:
                weight[c] += frequency
        return sorted(weight, key=lambda c: -weight[c])

    def set_hanzi_limit(self, limit: int | None) -> None:
        """Use only the `limit` most frequent hanzi from now on (None: all)."""
        if limit == self._hanzi_limit:
            return
        self._hanzi_limit = limit
        kept = set(self._hanzi_by_rank[:limit])
        self._samplers["zh"] = _Sampler(self._lists["zh"], kept.issuperset)
        self._level1 = [c for c in alphabet.hanzi_level1() if c in kept]
        self._level2 = [c for c in alphabet.hanzi_level2() if c in kept] or self._level1

    def line(self, script: str, max_chars: int, alphabet_share: float = 0.15, min_chars: int = 1) -> str:
        """One line of `min_chars`..`max_chars` characters, never empty, without outer or double spaces.

        Args:
            script: "latin", "chinese" or "persian".
            alphabet_share: the part of the words replaced by uniformly random characters, 0..1.
        """
        length = self.rng.randint(min(min_chars, max_chars), max_chars)
        make = {"latin": self._latin_line, "chinese": self._chinese_line, "persian": self._persian_line}[script]
        for _ in range(8):
            text = _tidy(make(length, alphabet_share), length)
            if text:
                return text
        return self.rng.choice({"latin": "aeiou", "chinese": "一人大", "persian": "آبد"}[script])

    # -- Latin ---------------------------------------------------------------------------------------------

    def _latin_line(self, length: int, share: float) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.14:
            return " ".join(self.number("fr" if rng.random() < 0.4 else "en") for _ in range(1 + length // 14))
        if kind < 0.14 + share / 2:
            return self._random_latin(length)
        words = self._latin_words("fr" if rng.random() < 0.45 else "en", length, share)
        style = rng.random()
        if style < 0.10:
            words = [w.upper() for w in words]
        elif style < 0.2:
            words = [w[:1].upper() + w[1:] for w in words]
        elif style < 0.8:
            words[0] = words[0][:1].upper() + words[0][1:]
        return self._punctuated(words)

    def _latin_words(self, language: str, length: int, share: float) -> list[str]:
        rng = self.rng
        words: list[str] = []
        drawn = self._samplers[language].draw(rng, length // 4 + 2)
        for i, word in enumerate(drawn):
            chance = rng.random()
            if chance < share / 2:
                word = self._random_latin(rng.randint(1, 8)).replace(" ", "")
            elif chance < share / 2 + 0.05:
                word = self.number(language)
            elif chance < share / 2 + 0.12:
                word = word[:1].upper() + word[1:]
            elif language == "fr" and word in _FRENCH_ELISION and i + 1 < len(drawn):
                drawn[i + 1] = word + rng.choice("'’") + drawn[i + 1]
                continue
            elif language == "en" and len(word) == 1 and word != "a":
                word = "I" if word == "i" else word.upper()
            words.append(word)
        return words or ["a"]

    def _punctuated(self, words: list[str]) -> str:
        rng = self.rng
        out = []
        for word in words:
            chance = rng.random()
            if chance < 0.10:
                word += rng.choice(",,,,.;:!?")
            elif chance < 0.13:
                left, right = rng.choice(_LATIN_BRACKETS)
                word = f"{left} {word} {right}" if left == "«" and rng.random() < 0.7 else left + word + right
            elif chance < 0.15:
                word += rng.choice((" –", " —", " -", "…", " &", " /", " •", " +", " ="))
            out.append(word)
        return " ".join(out) + rng.choice(("", "", "", ".", ".", "!", "?", "…", ":"))

    def _random_latin(self, length: int) -> str:
        rng = self.rng
        pool = rng.choice((self._latin, self._latin, _UPPER + "0123456789", "0123456789", alphabet.FRENCH))
        text = rng.choices(pool, k=length)
        for i in range(1, length - 1):
            if rng.random() < 0.15:
                text[i] = " "
        return "".join(text)

    # -- Chinese -------------------------------------------------------------------------------------------

    def _chinese_line(self, length: int, share: float) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.08:
            return self.number("zh")
        if kind < 0.08 + share / 3:
            return "".join(self._random_hanzi() for _ in range(length))
        mixed = rng.random() < 0.2
        out: list[str] = []
        size = 0
        for word in self._samplers["zh"].draw(rng, length // 2 + 2):
            chance = rng.random()
            if chance < share:
                word = "".join(self._random_hanzi() for _ in range(rng.randint(1, 3)))
            elif chance < share + 0.13 and out:
                word += rng.choice(_CHINESE_MARKS)
            elif chance < share + 0.16:
                left, right = rng.choice(_CHINESE_BRACKETS)
                word = left + word + right
            elif chance < share + 0.20 or (mixed and chance > 0.75):
                word = self._latin_insert() if mixed else word + self.number("zh")
            elif chance < share + 0.21:
                word += rng.choice(("……", "——", "·", "…", " "))
            out.append(word)
            size += len(word)
            if size >= length:
                break
        return "".join(out)

    def _latin_insert(self) -> str:
        rng = self.rng
        if rng.random() < 0.35:
            word = "".join(rng.choices(_UPPER + "0123456789", k=rng.randint(1, 8)))
        else:
            word = " ".join(self._samplers["en"].draw(rng, rng.randint(1, 2)))
            word = rng.choice((word, word.capitalize(), word.upper()))
        return f" {word} " if rng.random() < 0.5 else word

    def _random_hanzi(self) -> str:
        chance = self.rng.random()
        if chance < 0.05:
            return self.rng.choice(alphabet.CHINESE_PUNCTUATION)
        return self.rng.choice(self._level1 if chance < 0.68 else self._level2)

    # -- Persian -------------------------------------------------------------------------------------------

    def _persian_line(self, length: int, share: float) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.10:
            return " ".join(self.number("fa") for _ in range(1 + length // 14))
        out: list[str] = []
        for word in self._samplers["fa"].draw(rng, length // 4 + 2):
            chance = rng.random()
            if chance < share / 2:
                word = "".join(rng.choices(self._persian, k=rng.randint(1, 7)))
            elif chance < share / 2 + 0.05:
                word = self.number("fa")
            elif chance < share / 2 + 0.13 and joins_forward(word[-1]):
                word += ZWNJ + rng.choice(_PERSIAN_SUFFIXES)
            elif chance < share / 2 + 0.16:
                word = rng.choice(("می", "نمی", "بی")) + ZWNJ + word
            elif chance < share / 2 + 0.24:
                word += rng.choice("،،،.؛:؟!")
            elif chance < share / 2 + 0.27:
                word = rng.choice(("«{}»", "({})", "[{}]")).format(word)
            elif chance < share / 2 + 0.28:
                word = rng.choice(self._samplers["en"].draw(rng, 1))
            elif chance < share / 2 + 0.285:
                word += rng.choice((" –", " -", " /", "ـــ"))
            out.append(word)
        return " ".join(out) + rng.choice(("", "", ".", "؟", "!", "،"))

    # -- numbers and codes ---------------------------------------------------------------------------------

    def number(self, language: str) -> str:
        """A date, time, amount, telephone number, code or plain number as `language` writes it."""
        rng = self.rng
        text = rng.choice((self._date, self._amount, self._phone, self._code, self._plain, self._date))(
            language
        )
        if language == "fa":
            arabic = rng.random() < 0.1 and any(c in "456" for c in text)
            return text.translate(_TO_ARABIC_DIGITS if arabic else _TO_PERSIAN_DIGITS)
        return text

    def _date(self, language: str) -> str:
        rng = self.rng
        year = rng.randint(1300, 1410) if language == "fa" else rng.randint(1750, 2035)
        month, day = rng.randint(1, 12), rng.randint(1, 31)
        form = rng.randint(0, 4)
        if form == 0:
            mark = rng.choice("-/.")
            return f"{year}{mark}{month:02}{mark}{day:02}"
        if form == 1:
            mark = rng.choice("-/.")
            return f"{day:02}{mark}{month:02}{mark}{year if rng.random() < 0.7 else f'{year % 100:02}'}"
        if form == 2:
            seconds = f":{rng.randint(0, 59):02}" if rng.random() < 0.3 else ""
            return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}{seconds}"
        if language == "zh":
            return f"{year}年{month}月" + (f"{day}日" if form == 3 else "")
        if language == "fa":
            return f"{day} {_MAH[month - 1]} {year}"
        if language == "fr":
            return f"{day} {_MOIS[month - 1]} {year}"
        name = _MONTHS[month - 1]
        return f"{name} {day}, {year}" if form == 3 else f"{day} {name[:3]} {year}"

    def _amount(self, language: str) -> str:
        rng = self.rng
        value = int(10 ** rng.uniform(0, 7))
        grouped = f"{value:,}"
        if language == "fa":
            return rng.choice((grouped.replace(",", "٬"), str(value), f"{value % 100}٪")) + rng.choice(
                ("", " تومان", " ریال", " نفر")
            )
        if language == "zh":
            return rng.choice(
                (f"¥{grouped}.00", f"{grouped}元", f"{value}万元", f"{value % 100}%", f"第{value}号")
            )
        if language == "fr":
            grouped = grouped.replace(",", " ") + rng.choice(("", f",{rng.randint(0, 99):02}"))
            return grouped + rng.choice(("", " €", " F", " %", " " + rng.choice(_UNITS)))
        cents = f".{rng.randint(0, 99):02}" if rng.random() < 0.5 else ""
        return (
            rng.choice(("$", "£", "€", "", ""))
            + grouped
            + cents
            + rng.choice(("", "", " " + rng.choice(_UNITS)))
        )

    def _phone(self, language: str) -> str:
        rng = self.rng
        digits = "".join(rng.choices("0123456789", k=11))
        if language == "zh":
            return rng.choice(
                (f"1{digits[1:]}", f"0{digits[:3]}-{digits[3:]}", f"1{digits[1:3]} {digits[3:7]} {digits[7:]}")
            )
        if language == "fa":
            return rng.choice((f"09{digits[:9]}", f"0{digits[:2]}{digits[2:10]}"))
        if language == "fr":
            return "0" + digits[0] + " " + " ".join(digits[i : i + 2] for i in (1, 3, 5, 7))
        return rng.choice(
            (f"+{digits[:2]} {digits[2:5]} {digits[5:]}", f"({digits[:3]}) {digits[3:6]}-{digits[6:10]}")
        )

    def _code(self, language: str) -> str:
        rng = self.rng
        if language == "fa":
            return "".join(rng.choices("0123456789", k=rng.randint(4, 14)))
        pool = rng.choice((_UPPER + "0123456789", "0123456789", "0123456789", "0123456789ABCDEF"))
        parts = ["".join(rng.choices(pool, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 3))]
        prefix = rng.choice(("", "", "No. ", "N° ", "№ ", "ID ", "Ref. ")) if language != "zh" else ""
        return prefix + rng.choice(_SEPARATORS).join(parts)

    def _plain(self, language: str) -> str:
        rng = self.rng
        digits = str(int(10 ** rng.uniform(0, 9)))
        return (
            digits
            if rng.random() < 0.7
            else f"{digits[:4]}{rng.choice('.,') if language != 'fa' else '٫'}{digits[-2:]}"
        )


def _tidy(text: str, length: int) -> str:
    """`text` cut to `length` (between words where that loses little), single spaces, nothing invisible at the
    ends."""
    text = _SPACES.sub(" ", text).strip(" " + ZWNJ)
    if len(text) > length:
        space = text.rfind(" ", 0, length + 1)
        text = text[: space if space > 0.6 * length else length]
    text = re.sub(f"{ZWNJ}+(?=[^{alphabet.PERSIAN_LETTERS}]|$)", "", text)
    return text.strip(" " + ZWNJ)
