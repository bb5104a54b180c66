"""What is to be drawn, gathered before drawing begins: lines of text in a file of their own, words in memory.

The lines lie in a folder of the run with an index of where each begins, so a million of them take no memory
and any process can take any of them.
"""

from __future__ import annotations

import random
import re
import unicodedata
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ocrsmith.datasets.importers import ImportOptions, find_source
from ocrsmith.datasets.importers.lines import iterate_lines, read_head, require_text
from ocrsmith.datasets.synth.scripts import is_unseen, main_script
from ocrsmith.errors import DataError, SettingsError, require
from ocrsmith.records import Excluded

ZWNJ, ZWJ = "\u200c", "\u200d"
_TABLES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow")
_MOST_WORDS = 50_000
_KEPT_PLACES = 5_000
"""Of each emphasised character: in so many lines it is known to be."""
_UNSPACED = {"Han", "Kana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"}


class Piece(NamedTuple):
    """A text and where it comes from."""

    text: str
    origin: str
    """`FILE:LINE`, or the word list; samples of one origin stay on one side of a split. Empty: made up."""


class Written(NamedTuple):
    """A text of the user's, as it is read."""

    text: str
    file: str
    line: int | None


def clean(text: str) -> str:
    """`text` as it can be seen: single spaces, nothing invisible but joiners, composed characters."""
    seen = "".join(c for c in text if c in (ZWNJ, ZWJ) or c.isspace() or not is_unseen(c))
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", seen)).strip(f" {ZWNJ}{ZWJ}")


def read_texts(places: Sequence[Path], encoding: str = "utf-8") -> Iterator[Written]:
    """The lines of text files and the texts of datasets, cleaned; blank ones are left out.

    Raises:
        DataError: a file that is not there, not text, or has no text in it.
    """
    for place in places:
        if not place.exists():
            raise DataError(f"There is no file or folder {place}.", place="--texts", mend="Correct the path.")
        found = False
        for written in _dataset_texts(place) if _is_dataset(place) else _lines(place, encoding):
            text = clean(written.text)
            if text:
                found = True
                yield written._replace(text=text)
        if not found:
            raise DataError(
                "There is no text in it.", place=str(place), mend="Give a file with one text in each line."
            )


def _is_dataset(place: Path) -> bool:
    return place.is_dir() or place.suffix.lower() in _TABLES


def _lines(path: Path, encoding: str) -> Iterator[Written]:
    require_text(path, read_head(path), encoding)
    for number, line in iterate_lines(path, encoding):
        yield Written(line, str(path), number)


def _dataset_texts(place: Path) -> Iterator[Written]:
    for item in find_source(place, ImportOptions()).read():
        if not isinstance(item, Excluded):
            for line in (item.text or "").splitlines():
                yield Written(line, item.source, item.line)


class LineStoreWriter:
    """Writes the lines of a `LineStore` as they come, in constant memory."""

    def __init__(self, folder: Path, wanted: frozenset[str]) -> None:
        """`wanted`: characters of which it shall be known where they are."""
        self._folder = folder
        self._lines = (folder / "lines").open("wb")
        self._index = (folder / "starts").open("wb")
        self._wanted = wanted
        self._places: dict[str, list[int]] = {}
        self._seen = dict.fromkeys(wanted, 0)
        self._rng = random.Random(0)
        self._at = self._count = 0

    def add(self, written: Written) -> None:
        """Stores a line."""
        file = re.sub(r"[\t\n]", " ", written.file)
        data = f"{written.text}\t{file}\t{written.line or ''}\n".encode("utf-8", "replace")
        self._lines.write(data)
        self._index.write(self._at.to_bytes(8, "little"))
        self._at += len(data)
        for character in self._wanted.intersection(written.text):
            self._remember(character)
        self._count += 1

    def _remember(self, character: str) -> None:
        """Keeps a fair sample of the lines with a character."""
        self._seen[character] += 1
        kept = self._places.setdefault(character, [])
        if len(kept) < _KEPT_PLACES:
            kept.append(self._count)
        elif (slot := self._rng.randrange(self._seen[character])) < _KEPT_PLACES:
            kept[slot] = self._count

    def close(self) -> LineStore | None:
        """The store; None if it is empty."""
        self._lines.close()
        self._index.close()
        return LineStore(self._folder, self._places) if self._count else None


class LineStore:
    """Lines in a file, by number. Each process opens the file for itself."""

    def __init__(self, folder: Path, places: dict[str, list[int]]) -> None:
        """`places`: of emphasised characters the numbers of lines that have them."""
        self._folder, self._places = folder, places
        self._file: BinaryIO | None = None
        self._starts: np.ndarray | None = None
        self._count = (folder / "starts").stat().st_size // 8

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Piece:
        if self._file is None or self._starts is None:
            self._file = (self._folder / "lines").open("rb")
            self._starts = np.memmap(self._folder / "starts", "<u8", "r")
        self._file.seek(int(self._starts[number]))
        text, file, line = self._file.readline().decode("utf-8").rstrip("\n").split("\t")
        return Piece(text, f"{file}:{line}" if line else file)

    def draw(self, rng: random.Random) -> Piece:
        """A line, all alike."""
        return self[rng.randrange(self._count)]

    def draw_with(self, characters: Sequence[str], rng: random.Random) -> Piece | None:
        """A line with one of `characters`; None if no line has any."""
        known = [c for c in characters if c in self._places]
        return self[rng.choice(self._places[rng.choice(known)])] if known else None

    def close(self) -> None:
        """Lets go of the files."""
        if self._file is not None:
            self._file.close()
        self._file = self._starts = None

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_file": None, "_starts": None}


@dataclass(frozen=True)
class WordList:
    """Words of one language, drawn as often as they are used."""

    name: str
    """The file, or `wordfreq:LANGUAGE`."""
    words: tuple[str, ...]
    sums: tuple[float, ...]
    """Of the frequencies, rising."""
    script: str
    language: str | None

    @classmethod
    def of(cls, name: str, counts: Sequence[tuple[str, float]], language: str | None = None) -> WordList:
        """A list of words with their counts."""
        script = main_script("".join(word for word, _ in counts[:2000]))
        words, weights = zip(*counts, strict=True)
        return cls(name, words, tuple(accumulate(weights)), script, language)

    @property
    def space(self) -> str:
        """What stands between two words."""
        return "" if self.script in _UNSPACED else " "

    def draw(self, rng: random.Random, count: int) -> list[str]:
        """Words by frequency."""
        last = len(self.words) - 1
        return [self.words[min(bisect(self.sums, rng.random() * self.sums[-1]), last)] for _ in range(count)]


def read_word_file(path: Path, encoding: str = "utf-8") -> WordList:
    """A list from TSV lines `word<tab>count`.

    Raises:
        DataError: no such file, nothing in it, or a line that is not a word and a count.
    """
    mend = "Write `word<tab>count` a line, the count above 0."
    if not path.is_file():
        raise DataError(f"There is no file {path}.", place="--words", mend="Correct the path.")
    require_text(path, read_head(path), encoding)
    counts = []
    for number, line in iterate_lines(path, encoding):
        if not line.strip():
            continue
        word, tab, written = line.rpartition("\t")
        try:
            count = float(written)
        except ValueError:
            count = 0.0
        if not tab or not clean(word) or not isfinite(count) or count <= 0:
            raise DataError(
                f"This is no word with a count: {line!r}.", place=f"{path}, line {number}", mend=mend
            )
        counts.append((clean(word), count))
    if not counts:
        raise DataError("There is no word in it.", place=str(path), mend=mend)
    return WordList.of(str(path), counts)


def wordfreq_list(language: str) -> WordList:
    """The most frequent words of a language, from the package `wordfreq` (code Apache-2.0, data CC BY-SA 4.0).

    Raises:
        MissingExtraError: it is not installed.
        SettingsError: it has no such language.
    """
    wordfreq = require("wordfreq", extra="synth", why="--wordfreq")
    known = sorted(wordfreq.available_languages())
    if language not in known:
        raise SettingsError(
            f"wordfreq has no language {language!r}.", place="--wordfreq", mend=f"Use {', '.join(known)}."
        )
    listed = wordfreq.get_frequency_dict(language)
    ranked = sorted(listed.items(), key=lambda item: (-item[1], item[0]))
    words = [(clean(word), share) for word, share in ranked if _is_word(word)]
    return WordList.of(f"wordfreq:{language}", words[:_MOST_WORDS], language)


def _is_word(text: str) -> bool:
    """Whether it is made of letters; wordfreq also counts digits, written as zeros, and emoji."""
    return any(c.isalpha() for c in text) and all(
        unicodedata.category(c)[0] in "LM" or c in "'’-·\u200c\u200d" for c in text
    )
