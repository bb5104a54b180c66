"""Word lists for the text source: one small compressed file, exported once from the package `wordfreq`.

The exported file is a derived work of wordfreq's data (CC BY-SA 4.0), so it is made locally and not shipped.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

from ocrsmith.errors import InputError, require
from ocrsmith.nano import alphabet

# language: (wordfreq's list, words kept)
_LISTS = {"en": ("large", 45000), "fr": ("large", 45000), "zh": ("large", 60000), "fa": ("small", 31000)}
_ARABIC_TO_PERSIAN = str.maketrans("يىك", "ییک")


@dataclass(frozen=True)
class WordList:
    """Words of one language with their relative frequencies, most frequent first."""

    words: tuple[str, ...]
    frequencies: tuple[float, ...]


def _allowed(language: str) -> frozenset[str]:
    letters = "abcdefghijklmnopqrstuvwxyz'-"
    hanzi = alphabet.hanzi_level1() + alphabet.hanzi_level2()
    return frozenset(
        {"en": letters, "fr": letters + alphabet.FRENCH, "zh": hanzi, "fa": alphabet.PERSIAN_LETTERS}[language]
    )


def export_words(out: Path) -> None:
    """Write the word lists of all languages to the gzip file `out` (about 1 MB): lines `language word zipf100`.

    Raises MissingExtraError without wordfreq, OSError when the disk refuses."""
    wordfreq = require("wordfreq", extra="pretrain", why="to export word lists")
    from math import log10

    lines = []
    for language, (size, count) in _LISTS.items():
        allowed = _allowed(language)
        kept: dict[str, float] = {}
        for word, frequency in wordfreq.get_frequency_dict(language, size).items():
            if language == "fa":
                word = word.translate(_ARABIC_TO_PERSIAN)
            if len(word) <= 18 and allowed.issuperset(word):
                kept[word] = kept.get(word, 0.0) + frequency
        ranked = sorted(kept.items(), key=lambda item: (-item[1], item[0]))[:count]
        lines += [f"{language}\t{word}\t{round(100 * (log10(f) + 9))}" for word, f in ranked]
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(out.name + ".tmp")
    scratch.write_bytes(gzip.compress("\n".join(lines).encode(), 9, mtime=0))
    os.replace(scratch, out)


def load_words(path: Path) -> dict[str, WordList]:
    """The lists that `export_words` wrote, by language.

    Raises InputError when the file is absent or damaged."""
    if not path.is_file():
        raise InputError(
            "there is no word list",
            place=str(path),
            mend="run `python -m ocrsmith.nano.words` where wordfreq is",
        )
    found: dict[str, tuple[list[str], list[float]]] = {}
    try:
        for line in gzip.decompress(path.read_bytes()).decode().split("\n"):
            language, word, zipf = line.split("\t")
            words, frequencies = found.setdefault(language, ([], []))
            words.append(word)
            frequencies.append(10 ** (int(zipf) / 100 - 9))
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            f"the word list cannot be read: {error}", place=str(path), mend="export it again"
        ) from error
    return {language: WordList(tuple(w), tuple(f)) for language, (w, f) in found.items()}


def main() -> None:
    """`python -m ocrsmith.nano.words [FILE]`: export the word lists (default build/nano/words.txt.gz)."""
    import sys

    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/nano/words.txt.gz")
    export_words(out)
    sys.stderr.write(f"{out}: {out.stat().st_size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
