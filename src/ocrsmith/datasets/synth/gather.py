"""Gathers what can be drawn: every text and word is held against the fonts, what none covers is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ocrsmith.datasets.synth.emphasis import Emphasis
from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.scripts import font_package, script_of
from ocrsmith.datasets.synth.settings import SynthSettings
from ocrsmith.datasets.synth.texts import LineStore, LineStoreWriter, WordList, Written, read_texts
from ocrsmith.datasets.synth.typeset import Engine, needed
from ocrsmith.datasets.synth.writer import Writer
from ocrsmith.errors import InputError
from ocrsmith.records import Excluded

_LETTERS_OF = dict.fromkeys("پچژگکی", "fa") | dict.fromkeys("يكةى", "ar")
_TOLERATED = 0.01
"""Of the texts may be in scripts without any font; more is an error, for it is hardly meant so."""


class Gatherer:
    """One gathering: first `words`, then `lines`, then there is a `writer`."""

    def __init__(
        self,
        settings: SynthSettings,
        faces: FaceSet,
        emphasis: Emphasis | None,
        words: Sequence[WordList],
        engine: Engine,
    ) -> None:
        self.settings, self.faces, self.engine = settings, faces, engine
        self._emphasis, self._given = emphasis, words
        self._words: list[WordList] = []
        self._store: LineStore | None = None
        self._total = self._kept = 0
        self._lost: Counter[str] = Counter()  # texts that have characters of a script without a font
        self._known: dict[str, bool] = {}  # character → whether any face has it
        self._covered: set[str] = set()  # scripts of which some character is covered
        self._letters: Counter[str] = Counter()  # of Persian, and of Arabic alone

    def words(self) -> Iterator[Excluded]:
        """Takes emphasised characters and words; gives those that are left out."""
        if self._emphasis is not None:
            lost = frozenset(c for c in self._emphasis.weights if not self._has(c))
            for character in sorted(lost):
                place = ", ".join(map(str, (*self.settings.chars, *self.settings.confusions)))
                yield Excluded("no_font", self._why(character), "", place)
            kept = self._emphasis.without(lost)
            self._emphasis = kept if kept.weights else None
        for given in self._given:
            kept_words: list[tuple[str, float]] = []
            before = 0.0
            for number, (word, total) in enumerate(zip(given.words, given.sums, strict=True), start=1):
                if self._can_draw(word):
                    kept_words.append((word, total - before))
                else:
                    yield Excluded("no_font", self._why(word), "", given.name, number)
                before = total
            if kept_words:
                self._words.append(replace(WordList.of(given.name, kept_words), language=given.language))

    def lines(self, folder: Path) -> Iterator[Excluded]:
        """Stores the texts that can be drawn in `folder`; gives those that are left out.

        Raises:
            InputError: there is no font for a script of the texts, or no text is left.
        """
        wanted = frozenset(self._emphasis.weights) if self._emphasis else frozenset()
        store = LineStoreWriter(folder, wanted)
        try:
            for written in read_texts(self.settings.texts, self.settings.encoding):
                if self._can_draw(written.text):
                    store.add(written)
                    self._count_letters(written.text)
                else:
                    yield self._left_out(written)
        finally:
            self._store = store.close()
        self._require_fonts()

    def writer(self) -> Writer:
        """Writes with what was gathered."""
        language = self.settings.language
        if language is None and self._letters:
            language = self._letters.most_common(1)[0][0]
        return Writer(self._store, tuple(self._words), self._emphasis, self.settings.emphasis, language)

    def close(self) -> None:
        """Lets go of the lines."""
        if self._store is not None:
            self._store.close()

    def _count_letters(self, text: str) -> None:
        """Persian and Arabic texts are told apart by the letters that only one of them writes."""
        if not text.isascii():
            for character in text:
                if character in _LETTERS_OF:
                    self._letters[_LETTERS_OF[character]] += 1

    def _left_out(self, written: Written) -> Excluded:
        return Excluded("no_font", self._why(written.text), "", written.file, written.line)

    def _can_draw(self, text: str) -> bool:
        """Whether a face has all of the text; counts what the error about missing fonts needs."""
        self._total += 1
        characters = needed(text, self.engine)
        if characters is not None and self.faces.covering(characters):
            self._kept += 1
            self._covered.update(script_of(c) for c in characters if c not in self._known)
            self._known.update(dict.fromkeys(characters, True))
            return True
        self._lost.update({script_of(c) for c in text if not self._has(c)})
        return False

    def _has(self, character: str) -> bool:
        """Whether any face has a character by itself."""
        if character not in self._known:
            characters = needed(character, self.engine)
            has = characters is not None and self.faces.covering(characters) != 0
            self._known[character] = has
            if has:
                self._covered.add(script_of(character))
        return self._known[character]

    def _why(self, text: str) -> str:
        if needed(text, self.engine) is None:
            return "It needs a shaping engine: install a Pillow with Raqm and FriBidi."
        lost = dict.fromkeys(c for c in text if not self._has(c))
        if lost:
            shown = " ".join(f"{c} (U+{ord(c):04X})" for c in list(lost)[:5])
            return f"No font draws {shown}: install one that does, or give it with --fonts."
        return "No single font has all characters of the text: part it, or give a font with --fonts."

    def _require_fonts(self) -> None:
        missing = {
            script: count
            for script, count in self._lost.items()
            if script and script not in self._covered and count > _TOLERATED * self._total
        }
        if not missing and self._kept:
            return
        where = ", ".join(map(str, self.settings.fonts)) or "the system's font folders"
        if missing:
            counted = ", ".join(f"{name} ({count} of {self._total} texts)" for name, count in missing.items())
            packages = " ".join(sorted({font_package(script) for script in missing}))
            hint = "" if self.engine == "raqm" else " Some scripts also need a Pillow with Raqm and FriBidi."
            raise InputError(
                f"There is no font for {counted}.",
                place=where,
                mend=f"Install one (Debian: `apt-get install {packages}`), give --fonts FILE, or take these "
                f"texts out.{hint}",
            )
        raise InputError(
            f"No font draws any of the {self._total} texts and words.",
            place=where,
            mend="Give fonts that have their characters with --fonts.",
        )
