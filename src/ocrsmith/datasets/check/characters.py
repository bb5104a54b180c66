"""Which characters the texts have: the inventory by split, and what in it is odd, mixed, rare or never trained.

Memory is bounded by the number of different characters there are, whatever the number of samples.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocrsmith.datasets.check.findings import MOST_EXAMPLES, Example, Finding, Group, Part, finding
from ocrsmith.datasets.check.rules import Severity
from ocrsmith.records import PageSample
from ocrsmith.text.characters import (
    ALTERNATIVES,
    ARABIC_FORMS,
    ARABIC_ONLY,
    DIGITS,
    PERSIAN_FORMS,
    PERSIAN_ONLY,
    digit_families,
    name_of,
    oddities,
    script_of,
)

RARE = 2
"""A character that occurs so often or less is rare."""
MOST_LISTED = 400
"""Characters that the report lists."""
_STRAY = 0.001
"""Share of all letters below which a script is a stray one."""
_EXAMPLES = 2
_UNSEEN_MATTERS = 0.001
"""Share of the characters of val and test from which unseen ones are a warning."""

_FULL_WIDTH = {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}
_FULL_ALNUM = frozenset(full for full, plain in _FULL_WIDTH.items() if plain.isalnum())
_AFTER_HAN = re.compile(r"[\u3400-\u9fff]([,:;!?()，：；！？（）])")
_MINOR = 0.2
"""Share of the lesser punctuation above which a set mixes widths on purpose or by nature, not by mistake."""


@dataclass
class _Character:
    """What is known of one character."""

    counts: Counter[Part] = field(default_factory=Counter)
    samples: int = 0
    examples: list[tuple[str, Part]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the inventory."""

    character: str
    name: str
    script: str
    count: int
    samples: int
    splits: dict[str, int]
    examples: tuple[str, ...]
    """Ids of samples that have it."""


class Inventory:
    """Counts characters and what is odd about them."""

    def __init__(self) -> None:
        self._characters: dict[str, _Character] = {}
        self._odd: dict[str, Group] = {}
        self._yeh = _Forms()
        self._digits = _Forms()
        self._full_width, self._plain_width = Group(), False
        self._punctuation: Counter[str] = Counter()
        self._punctuation_examples: dict[bool, list[Example]] = {True: [], False: []}
        self._separate, self._composed = Group(), 0
        self._signs: dict[str, Counter[str]] = {name: Counter() for name, _ in ALTERNATIVES}
        self._stray: dict[str, list[Example]] = {}
        self._unseen = Group()
        self._total = 0

    def add(self, sample: PageSample, split: Part) -> None:
        """Takes the text of a sample. All of train comes first: what val and test have besides is unseen."""
        self._total += 1
        text = sample.text
        counts = Counter(text)
        for character, count in counts.items():
            known = self._characters.setdefault(character, _Character())
            known.counts[split] += count
            known.samples += 1
            if len(known.examples) < _EXAMPLES:
                known.examples.append((sample.id, split))
        characters = counts.keys()
        if split in ("val", "test"):
            self._add_unseen(sample, split)
        self._add_odd(sample, split)
        self._add_forms(sample, split, set(characters))
        self._add_widths(sample, split, set(characters))
        if not text.isascii():
            self._add_normal_form(sample, split)
        for name, signs in ALTERNATIVES:
            for sign in signs:
                found = text.count(sign) if len(sign) > 1 else counts[sign]
                if found:
                    self._signs[name][sign] += found
        self._add_scripts(sample, split, counts)

    def _add_unseen(self, sample: PageSample, split: Part) -> None:
        for place, character in enumerate(sample.text):
            if not self._characters[character].counts["train"]:
                self._unseen.add(sample, split, place=(place, place + 1), note=name_of(character))
                return

    def _add_odd(self, sample: PageSample, split: Part) -> None:
        seen: set[str] = set()
        for oddity in oddities(sample.text):
            if oddity.kind in seen:
                continue
            seen.add(oddity.kind)
            place = (oddity.start, oddity.end)
            character = sample.text[oddity.start]
            note = name_of(character) if oddity.end - oddity.start == 1 else ""
            self._odd.setdefault(oddity.kind, Group()).add(sample, split, place=place, note=note)

    def _add_forms(self, sample: PageSample, split: Part, characters: set[str]) -> None:
        """ي/ك against ی/ک, Arabic against Persian digits: by sample, since a set may hold both languages."""
        persian = not characters.isdisjoint(PERSIAN_ONLY)
        arabic = not persian and not characters.isdisjoint(ARABIC_ONLY)
        first, second = characters & ARABIC_FORMS, characters & PERSIAN_FORMS
        if first or second:
            self._yeh.add(sample, split, first, second, arabic, persian)
        families = digit_families(characters)
        if "Arabic" in families or "Persian" in families:
            first = characters & set(DIGITS["Arabic"])
            second = characters & set(DIGITS["Persian"])
            self._digits.add(sample, split, first, second, arabic, persian)

    def _add_widths(self, sample: PageSample, split: Part, characters: set[str]) -> None:
        full = characters & _FULL_ALNUM
        if full:
            place = next(place for place, character in enumerate(sample.text) if character in full)
            self._full_width.add(sample, split, place=(place, place + 1))
        self._plain_width |= any(_FULL_WIDTH[character] in characters for character in _FULL_ALNUM)
        for match in _AFTER_HAN.finditer(sample.text):
            sign = match[1]
            self._punctuation[sign] += 1
            examples = self._punctuation_examples[sign in _FULL_WIDTH]
            if len(examples) < 3:
                examples.append(Example.of(sample, split, place=match.span(1)))

    def _add_normal_form(self, sample: PageSample, split: Part) -> None:
        text = sample.text
        if not unicodedata.is_normalized("NFC", text):
            normal = unicodedata.normalize("NFC", text)
            place = next((i for i, pair in enumerate(zip(text, normal, strict=False)) if pair[0] != pair[1]), 0)
            self._separate.add(sample, split, place=(place, min(len(text), place + 2)))
        elif not unicodedata.is_normalized("NFD", text):
            self._composed += 1

    def _add_scripts(self, sample: PageSample, split: Part, counts: Counter[str]) -> None:
        for script in {script_of(character) for character in counts} - {""}:
            examples = self._stray.setdefault(script, [])
            if len(examples) < 3:
                place = next(i for i, character in enumerate(sample.text) if script_of(character) == script)
                examples.append(Example.of(sample, split, place=(place, place + 1)))

    # What came of it

    @property
    def scripts(self) -> Counter[str]:
        """Letters by script."""
        counts: Counter[str] = Counter()
        for character, known in self._characters.items():
            script = script_of(character)
            if script:
                counts[script] += known.total
        return counts

    def entries(self) -> list[Entry]:
        """All characters, the most frequent first."""
        known = sorted(self._characters.items(), key=lambda item: (-item[1].total, item[0]))
        return [_entry(character, value) for character, value in known]

    def rare(self) -> list[Entry]:
        """Characters that occur once or twice, rarest first."""
        return [entry for entry in reversed(self.entries()) if entry.count <= RARE]

    def unseen(self) -> list[Entry]:
        """Characters of val and test that train does not have, the most frequent first."""
        if not any(known.counts["train"] for known in self._characters.values()):
            return []
        return [entry for entry in self.entries() if entry.splits and not entry.splits.get("train")]

    def findings(self) -> list[Finding]:
        """Everything odd, mixed, rare or never trained."""
        found = [finding(code, group.count, self._total, group.examples) for code, group in self._odd.items()]
        found += self._mixed()
        found += self._thin()
        return found

    def _mixed(self) -> Iterator[Finding]:
        total = self._total
        for code, forms, names in (
            ("arabic_persian_letters", self._yeh, ("ي/ك", "ی/ک")),
            ("arabic_persian_digits", self._digits, ("Arabic digits", "Persian digits")),
        ):
            count, examples = forms.misfits()
            if count:
                yield finding(code, count, total, examples, detail=forms.describe(names))
        if self._full_width.count and self._plain_width:
            yield finding("full_width", self._full_width.count, total, self._full_width.examples)
        yield from self._mixed_punctuation()
        if self._separate.count:
            mixed = self._composed > 0
            code = "mixed_normal_forms" if mixed else "separate_accents"
            detail = f"{self._separate.count:,} and {self._composed:,} samples" if mixed else ""
            yield finding(code, self._separate.count, total, self._separate.examples, detail=detail)
        parts = [
            ", ".join(f"{sign} {count:,}×" for sign, count in counts.most_common())
            for counts in self._signs.values()
            if len(counts) > 1
        ]
        if parts:
            yield finding("alternative_signs", 0, total, detail="; ".join(parts))

    def _mixed_punctuation(self) -> Iterator[Finding]:
        full = sum(count for sign, count in self._punctuation.items() if sign in _FULL_WIDTH)
        plain = sum(self._punctuation.values()) - full
        if not full or not plain:
            return
        fewer_are_full = full < plain
        detail = f"{full:,} full-width, {plain:,} plain"
        examples = self._punctuation_examples[fewer_are_full] + self._punctuation_examples[not fewer_are_full]
        yield finding("mixed_punctuation", 0, self._total, examples[:4], detail=detail)

    def _thin(self) -> Iterator[Finding]:
        total = self._total
        unseen = self.unseen()
        if unseen:
            occurrences = sum(entry.count for entry in unseen)
            tested = sum(
                count
                for known in self._characters.values()
                for part, count in known.counts.items()
                if part != "train"
            )
            severity: Severity = "warning" if occurrences >= _UNSEEN_MATTERS * tested else "info"
            share = f"{occurrences / tested:.2%} of those of val and test"
            detail = f"{len(unseen):,} characters, {share}: {_list(unseen)}"
            group = self._unseen
            yield finding(
                "unseen_characters", group.count, total, group.examples, severity=severity, detail=detail
            )
        rare = self.rare()
        if rare and len(rare) < len(self._characters):
            yield finding("rare_characters", 0, total, detail=f"{len(rare):,}: {_list(rare)}")
        scripts = self.scripts
        letters = scripts.total()
        stray = [(script, count) for script, count in scripts.most_common() if count < _STRAY * letters]
        if stray:
            detail = ", ".join(f"{script} {count:,}" for script, count in stray)
            examples = [example for script, _ in stray for example in self._stray[script]]
            yield finding("stray_script", 0, total, examples[:MOST_EXAMPLES], detail=detail)

    def to_json(self) -> dict[str, Any]:
        """Scripts, the characters (the most frequent `MOST_LISTED`), the rare and the unseen ones."""
        entries, rare, unseen = self.entries(), self.rare(), self.unseen()
        return {
            "different": len(entries),
            "total": sum(entry.count for entry in entries),
            "scripts": dict(self.scripts.most_common()),
            "counts": {entry.character: entry.count for entry in entries},
            "rare": [_json(entry) for entry in rare[:MOST_LISTED]],
            "rare_total": len(rare),
            "unseen": [_json(entry) for entry in unseen[:MOST_LISTED]],
            "unseen_total": len(unseen),
        }


class _Forms:
    """Samples with one or the other of two forms of the same letters or digits."""

    def __init__(self) -> None:
        self._both, self._first, self._second = Group(), Group(), Group()
        self._samples = [0, 0]

    def add(
        self,
        sample: PageSample,
        split: Part,
        first: set[str],
        second: set[str],
        is_first: bool,
        is_second: bool,
    ) -> None:
        """Takes a sample.

        Args:
            first, second: characters of the first and of the second form that it has.
            is_first, is_second: its other letters show that its language writes the first or the second form.
        """
        self._samples[0] += bool(first)
        self._samples[1] += bool(second)
        if first and second:
            group, shown = self._both, first if is_second or not is_first else second
        elif first and not is_first:
            group, shown = self._first, first
        elif second and not is_second:
            group, shown = self._second, second
        else:
            return
        place = next(place for place, character in enumerate(sample.text) if character in shown)
        group.add(sample, split, place=(place, place + 1), note=name_of(sample.text[place]))

    def misfits(self) -> tuple[int, list[Example]]:
        """How many samples have both forms, or the one that the set has less; and examples."""
        fewer = self._first if self._samples[0] <= self._samples[1] else self._second
        if not all(self._samples):
            return 0, []
        return self._both.count + fewer.count, (self._both.examples + fewer.examples)[:6]

    def describe(self, names: Sequence[str]) -> str:
        """`samples with ي/ك: 3, with ی/ک: 120, with both: 1`."""
        parts = [f"with {name}: {count:,}" for name, count in zip(names, self._samples, strict=True)]
        parts[0] = f"samples {parts[0]}"
        return ", ".join([*parts, f"with both: {self._both.count:,}"] if self._both.count else parts)


def _entry(character: str, known: _Character) -> Entry:
    splits: dict[str, int] = {part: count for part, count in known.counts.items() if part}
    ids = tuple(sample_id for sample_id, _ in known.examples)
    return Entry(character, name_of(character), script_of(character), known.total, known.samples, splits, ids)


def _json(entry: Entry) -> dict[str, Any]:
    return {
        "character": entry.character,
        "name": entry.name,
        "count": entry.count,
        "samples": entry.samples,
        "splits": entry.splits,
        "examples": list(entry.examples),
    }


def _list(entries: Sequence[Entry], most: int = 30) -> str:
    """The characters themselves; codes of those that cannot be seen."""
    shown = [
        entry.character if entry.character.isprintable() and entry.character != " " else entry.name.split()[0]
        for entry in entries[:most]
    ]
    return " ".join(shown) + (" …" if len(entries) > most else "")
