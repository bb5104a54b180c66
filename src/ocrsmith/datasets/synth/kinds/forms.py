"""Forms: a title and labelled fields, on lines or in boxes. The text has `label:<value>…</value>` for each."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ocrsmith.datasets.synth.kinds.content import Kind
from ocrsmith.datasets.synth.shaping import is_rtl
from ocrsmith.datasets.synth.sheet import Setter, Sheet
from ocrsmith.datasets.synth.writer import Cut, Writer


@dataclass(frozen=True)
class Form:
    """The content of a form."""

    title: str
    fields: list[tuple[str, str]]
    """Label and value."""
    colon: str
    cuts: list[Cut]
    vertical: bool = False

    @property
    def text(self) -> str:
        """The title, then a line for each field."""
        return "\n".join([self.title, *(f"{label}:<value>{value}</value>" for label, value in self.fields)])

    @property
    def strings(self) -> list[str]:
        """Title, labels and values."""
        return [self.title, *(label + self.colon for label, _ in self.fields), *(v for _, v in self.fields)]

    def draw(self, setter: Setter, rng: random.Random) -> Sheet:
        """One or two fields side by side; read row by row, from the side where the language begins."""
        size = setter.size
        rtl = is_rtl(self.title)
        boxed = rng.random() < 0.45
        labels = [label if boxed else label + self.colon for label, _ in self.fields]
        label_width = max(setter.width(label) for label in labels) + 0.8 * size
        value_width = max(setter.width(value) for _, value in self.fields) + 1.2 * size
        across = 2 if label_width + value_width < 17 * size and rng.random() < 0.6 else 1
        cell = label_width + value_width
        step = rng.uniform(1.9, 2.5) * size
        margin = rng.uniform(1, 2.2) * size
        rows = -(-len(self.fields) // across)
        title = setter.run(self.title, rtl, round(1.4 * size))
        title_width = setter.width(self.title, round(1.4 * size))
        width = max(across * cell, title_width) + 2 * margin
        top = margin + 2.6 * size
        sheet = Sheet(round(width), round(top + rows * step + margin))
        sheet.put(title, (width - title_width) / 2, margin + 1.3 * size)
        for number, (label, (_, value)) in enumerate(zip(labels, self.fields, strict=True)):
            row, column = divmod(number, across)
            x, y = margin + column * cell, top + row * step
            for text, start, room in ((label, 0.0, label_width), (value, label_width, value_width)):
                run = setter.run(text, is_rtl(text) or rtl)
                left = x + start + 0.3 * size
                if rtl:  # the mirror image of the place
                    left = width - left - setter.width(text)
                sheet.put(run, left, y + 0.66 * step)
                self._frame(sheet, boxed, text is label, x + start, y, room, step, rtl)
        return sheet

    @staticmethod
    def _frame(
        sheet: Sheet, boxed: bool, is_label: bool, x: float, y: float, room: float, step: float, rtl: bool
    ) -> None:
        x = sheet.ink.shape[1] - x - room if rtl else x
        if boxed:
            sheet.box(x, y, x + room, y + step)
        elif not is_label:
            sheet.line(x, y + 0.86 * step, x + room - 0.2 * step, y + 0.86 * step, shade=150)


def write_form(writer: Writer, rng: random.Random, vertical: bool) -> Form:
    """A form of three to nine fields; half of those with free text hold pieces of the given texts."""
    first = writer.line(rng, 24)
    locale = writer.locale(first.text)
    kinds = [kind for kind, labels in locale.fields.items() for _ in labels]
    labels = [label for labels in locale.fields.values() for label in labels]
    chosen = sorted(rng.sample(range(len(labels)), min(len(labels), rng.randint(3, 9))))
    if not any(kinds[i] == "text" for i in chosen):
        chosen.append(rng.choice([i for i, kind in enumerate(kinds) if kind == "text"]))
    rng.shuffle(chosen)
    fields: list[tuple[str, str]] = []
    cuts: list[Cut] = []
    for i in chosen:
        if kinds[i] == "text":
            cut = writer.like(first, rng, 24) if cuts else first
            cuts.append(cut)
            fields.append((labels[i], cut.text))
        else:
            fields.append((labels[i], locale.value(kinds[i], rng)))
    colon = "：" if locale.code == "zh" and rng.random() < 0.7 else ":"
    return Form(rng.choice(locale.titles), fields, colon, cuts)


FORMS = Kind("forms", "labels with values, `label:<value>…</value>`", (20, 30), write_form)
