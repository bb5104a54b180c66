"""Guesses the language of a text from its script, and from a few common words and letters. No model, no list
of a language's words: good enough to split and count a dataset by language, not to label a corpus.

Answers are BCP 47 tags: `zh`, `fa`, `fr` …; `und-Latn` and the like where only the script is sure; `und` where
there are no letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

UNKNOWN = "und"

_READ = 4000
"""Characters that are looked at: the beginning of a long page says it."""

_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0041, 0x005A, "Latn"), (0x0061, 0x007A, "Latn"), (0x00AA, 0x00AA, "Latn"), (0x00BA, 0x00BA, "Latn"),
    (0x00C0, 0x024F, "Latn"), (0x1E00, 0x1EFF, "Latn"), (0xFF21, 0xFF5A, "Latn"),
    (0x0370, 0x03FF, "Grek"), (0x1F00, 0x1FFF, "Grek"),
    (0x0400, 0x052F, "Cyrl"), (0x0531, 0x058F, "Armn"), (0x0590, 0x05FF, "Hebr"),
    (0x0621, 0x064A, "Arab"), (0x066E, 0x06D3, "Arab"), (0x06D5, 0x06EF, "Arab"), (0x06FA, 0x06FF, "Arab"),
    (0x0750, 0x077F, "Arab"), (0x08A0, 0x08FF, "Arab"), (0xFB50, 0xFDFF, "Arab"), (0xFE70, 0xFEFC, "Arab"),
    (0x0900, 0x097F, "Deva"), (0x0980, 0x09FF, "Beng"), (0x0A00, 0x0A7F, "Guru"), (0x0A80, 0x0AFF, "Gujr"),
    (0x0B80, 0x0BFF, "Taml"), (0x0C00, 0x0C7F, "Telu"), (0x0C80, 0x0CFF, "Knda"), (0x0D00, 0x0D7F, "Mlym"),
    (0x0E00, 0x0E7F, "Thai"), (0x0E80, 0x0EFF, "Laoo"), (0x0F00, 0x0FFF, "Tibt"), (0x1000, 0x109F, "Mymr"),
    (0x10A0, 0x10FF, "Geor"), (0x1200, 0x139F, "Ethi"), (0x1780, 0x17FF, "Khmr"), (0x1800, 0x18AF, "Mong"),
    (0x1100, 0x11FF, "Hang"), (0x3130, 0x318F, "Hang"), (0xAC00, 0xD7AF, "Hang"),
    (0x3041, 0x30FF, "Kana"), (0x31F0, 0x31FF, "Kana"), (0xFF66, 0xFF9F, "Kana"),
    (0x2E80, 0x2FDF, "Hani"), (0x3005, 0x3007, "Hani"), (0x3400, 0x4DBF, "Hani"), (0x4E00, 0x9FFF, "Hani"),
    (0xF900, 0xFAFF, "Hani"), (0x20000, 0x3FFFF, "Hani"),
)  # fmt: skip

_OF_SCRIPT = {
    "Grek": "el", "Armn": "hy", "Hebr": "he", "Deva": "hi", "Beng": "bn", "Guru": "pa", "Gujr": "gu",
    "Taml": "ta", "Telu": "te", "Knda": "kn", "Mlym": "ml", "Thai": "th", "Laoo": "lo", "Tibt": "bo",
    "Mymr": "my", "Geor": "ka", "Ethi": "am", "Khmr": "km", "Mong": "mn", "Hang": "ko", "Kana": "ja",
    "Hani": "zh",
}  # fmt: skip
"""The language that is by far the most usual one in a script."""

_SCALE = {"Hani": 3, "Kana": 2, "Hang": 2}
"""One such character says as much as so many letters."""

_COMMON: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to in that is was for it with as his be by on not he this are or had at from which "
        "have an they you were her all she there their one we my has been would who will no if more when its",
        "fr": "le la les de des du et à un une est en que qui dans pour ce il par au aux sur ne pas vous nous "
        "je se plus avec cette sont ou son ses leur elle être été où même sans votre notre mais l d qu n c s j",
        "de": "der die das und in den von zu mit dem des ist ein eine nicht sich auf für als auch es an werden "
        "aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war zur ich",
        "es": "el la los las de que y en un una es se del por con no su para al lo como más pero sus le ha "
        "este esta son fue está muy sin sobre también hasta donde desde todo nos ya o cuando",
        "it": "il lo la gli le di che e un una è in per non con del della dei delle si al da sono come anche "
        "più nel alla ma questo questa suo loro ha dal nella degli l dell all",
        "pt": "o os as de que e do da em um uma para com não por mais dos das ao se na no como mas foi ele "
        "são sua seu ou quando muito nos já está também só pelo pela até isso à",
        "nl": "de het een van en in is dat op te met voor zijn niet aan er om dan als door die bij ook naar "
        "uit werd wordt deze heeft hij was nog wel geen tot",
        "pl": "i w z na nie się do że jest to o jak po co za od przez przy ale dla był są oraz jego już tylko",
        "cs": "a v se na je že s z do o ve pro by jako si nebo jsou byl za po při ale tak jeho než který",
        "sv": "och i att det som en på är av för med till den har de inte om ett han men var jag från vi så",
        "da": "og i at det er en til på af for med den der de ikke som et har han var jeg om men fra",
        "tr": "ve bir bu da de için ile olarak olan çok daha gibi en ne o var sonra kadar ise ya mi",
        "id": "dan yang di untuk dengan pada ini itu dari dalam tidak adalah ke akan oleh juga atau",
        "vi": "và của là có trong được cho không các một với người những này đã để khi đến từ về",
    }.items()
}
_LETTERS: dict[str, str] = {
    "fr": "çœêèùûëïâîô", "de": "ßäöü", "es": "ñ¿¡áíóú", "it": "òìàèù", "pt": "ãõçâê", "pl": "łżśćźńęą",
    "cs": "řěůčšž", "sv": "åäö", "da": "åæø", "tr": "ığşç", "vi": "đơưạảấầậắặẹếềệọốồộớờợụứừựỹ",
}  # fmt: skip
"""Letters that speak for a language; several share some."""


def _inverted(known: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """From what languages have to the languages that have it."""
    found: dict[str, list[str]] = {}
    for language, items in known.items():
        for item in items:
            found.setdefault(item, []).append(language)
    return found


_BY_WORD, _BY_LETTER = _inverted(_COMMON), _inverted(_LETTERS)
_WORD = re.compile(r"[^\W\d_]+")
_ENOUGH = 2.0
"""Evidence below which a Latin text stays `und-Latn`: two common words, or one and some letters."""


def guess_language(text: str) -> str:
    """The language of a text as a BCP 47 tag, `und` if it has no letters."""
    text = text[:_READ]
    scripts = _count_scripts(text)
    if not scripts:
        return UNKNOWN
    main = max(scripts, key=lambda name: (scripts[name], name))
    if main in ("Hani", "Kana") or scripts["Kana"]:
        kana = scripts["Kana"]
        if kana > 0.1 * (kana + scripts["Hani"]) and kana + scripts["Hani"] >= scripts[main]:
            return "ja"
    if main == "Arab":
        return _arabic(text)
    if main == "Cyrl":
        return _cyrillic(text)
    return _latin(text) if main == "Latn" else _OF_SCRIPT[main]


def _count_scripts(text: str) -> Counter[str]:
    """Letters of each script, weighted by what they say."""
    found: Counter[str] = Counter()
    for char, count in Counter(text).items():
        script = _script_of(ord(char))
        if script:
            found[script] += count * _SCALE.get(script, 1)
    return found


@cache
def _script_of(code: int) -> str:
    return next((name for low, high, name in _RANGES if low <= code <= high), "")


def _arabic(text: str) -> str:
    """Persian, Urdu or Arabic by the letters that the others lack; Persian and Arabic write yeh and kaf with
    different code points."""
    urdu = sum(text.count(char) for char in "ٹڈڑےںھہ")
    persian = sum(text.count(char) for char in "پچژگیک")
    arabic = sum(text.count(char) for char in "ةىيكأإؤ")
    if urdu and urdu * 4 > persian:
        return "ur"
    if persian or arabic:
        return "fa" if persian >= arabic else "ar"
    return "und-Arab"


def _cyrillic(text: str) -> str:
    lowered = text.lower()
    ukrainian = sum(lowered.count(char) for char in "іїєґ")
    russian = sum(lowered.count(char) for char in "ыэъё")
    serbian = sum(lowered.count(char) for char in "јљњћђџ")
    if serbian > max(ukrainian, russian):
        return "sr"
    return "uk" if ukrainian > russian else "ru"


def _latin(text: str) -> str:
    """The language with the most common words and letters of its own, if it is ahead of the next."""
    lowered = text.lower()
    scores = dict.fromkeys(_COMMON, 0.0)
    for word in _WORD.findall(text):
        for language in _BY_WORD.get(word.lower(), ()):
            scores[language] += 1
    for char, count in Counter(lowered).items():
        for language in _BY_LETTER.get(char, ()):
            scores[language] += 0.75 * count
    best, second = sorted(scores, key=lambda name: (-scores[name], name))[:2]
    if scores[best] >= _ENOUGH and scores[best] > scores[second]:
        return best
    return "und-Latn"
