"""Receipts: a narrow strip with a shop, what was bought, and totals. The text has a line for each line."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ocrsmith.datasets.synth.kinds.content import Kind
from ocrsmith.datasets.synth.locales import Locale
from ocrsmith.datasets.synth.shaping import is_rtl
from ocrsmith.datasets.synth.sheet import Setter, Sheet
from ocrsmith.datasets.synth.writer import Cut, Writer, units_of

Row = tuple[str, ...]
"""One text stands in the middle; two at both sides; three with one between. None: a dashed rule."""


@dataclass(frozen=True)
class Receipt:
    """The content of a receipt."""

    rows: list[Row]
    cuts: list[Cut]
    rtl: bool
    vertical: bool = False

    @property
    def text(self) -> str:
        """The lines, their parts with a space between; rules are not text."""
        return "\n".join(" ".join(row) for row in self.rows if row)

    @property
    def strings(self) -> list[str]:
        """The parts of the lines."""
        return [part for row in self.rows for part in row]

    def draw(self, setter: Setter, rng: random.Random) -> Sheet:
        """A strip as wide as its widest line needs."""
        size = setter.size
        needed = max(sum(setter.width(part) for part in row) + 1.2 * size * (len(row) - 1) for row in self.rows)
        width = max(needed, 14 * size)
        margin = rng.uniform(0.6, 1.4) * size
        step = rng.uniform(1.3, 1.6) * size
        sheet = Sheet(round(width + 2 * margin), round(len(self.rows) * step + 2 * margin))
        y = margin + 0.9 * size
        for row in self.rows:
            if not row:
                self._dashes(sheet, margin, width, y - 0.3 * size, size)
            for part, place in zip(row, _places(len(row)), strict=True):
                run = setter.run(part, is_rtl(part) or self.rtl)
                place = 1 - place if self.rtl else place
                sheet.put(run, margin + place * (width - setter.width(part)), y)
            y += step
        return sheet

    @staticmethod
    def _dashes(sheet: Sheet, margin: float, width: float, y: float, size: int) -> None:
        x = margin
        while x < margin + width:
            sheet.line(x, y, x + 0.35 * size, y, thick=max(1, size // 16), shade=200)
            x += 0.6 * size


def _places(count: int) -> tuple[float, ...]:
    """Where the parts of a line stand: 0 at its beginning, 1 at its end."""
    return {0: (), 1: (0.5,), 2: (0.0, 1.0), 3: (0.0, 0.68, 1.0)}[count]


def write_receipt(writer: Writer, rng: random.Random, vertical: bool) -> Receipt:
    """A receipt of two to nine things; half of them are named by pieces of the given texts."""
    first = writer.line(rng, 18)
    locale = writer.locale(first.text)
    cuts = [first]
    rows: list[Row] = [(rng.choice(locale.shops),)]
    if rng.random() < 0.7:
        rows.append((locale.phone(rng),))
    rows += [(locale.date(rng), locale.serial(rng)), ()]
    for number in range(rng.randint(2, 9)):
        name = rng.choice(locale.items)
        if number == 0:
            name = first.text
        elif rng.random() < 0.5:
            cut = writer.like(first, rng, 18)
            if units_of(cut.text) <= 24:
                cuts.append(cut)
                name = cut.text
        rows.append(_bought(name, locale, rng))
    rows.append(())
    rows += [(label, _money(locale, rng)) for label in locale.total[rng.randint(0, 2) :]]
    if rng.random() < 0.7:
        rows += [(), (rng.choice(locale.thanks),)]
    return Receipt(rows, cuts, is_rtl(locale.titles[0]))


def _bought(name: str, locale: Locale, rng: random.Random) -> Row:
    count = locale.write(str(rng.randint(1, 12)))
    if rng.random() < 0.6:
        return name, f"x{count}" if locale.digits is None else count, _money(locale, rng)
    return name, _money(locale, rng)


def _money(locale: Locale, rng: random.Random) -> str:
    return locale.price(rng, 3)


RECEIPTS = Kind("receipts", "a shop's receipt, line by line", (18, 26), write_receipt)
