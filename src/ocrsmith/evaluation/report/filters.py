"""What the list of pages can be filtered by, and which rows of tables do so when they are clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from ocrsmith.evaluation.error_kinds import KINDS
from ocrsmith.evaluation.report.chart import LABELS
from ocrsmith.evaluation.report.diff import visible
from ocrsmith.evaluation.report.wording import FINISH

MOST_LABELS = 100
"""A dimension with more labels is no help as a menu (a name of its own for each page); search finds it."""
MOST_DIMENSIONS = 12


@dataclass(frozen=True, slots=True)
class Choice:
    """One menu: the name of its field, its title, and (value, label) of what can be chosen."""

    name: str
    title: str
    options: Sequence[tuple[str, str]]
    dimension: int | None = None
    """Which of a row's labels it looks at; None for menus that are not strata."""


@dataclass(frozen=True)
class Filters:
    """All menus.

    Attributes:
        dimensions: names of the strata that have a menu, in the order of the rows' labels.
        confidence: whether pages can be ordered by confidence.
    """

    choices: Sequence[Choice]
    dimensions: Mapping[str, Choice]
    confidence: bool

    @classmethod
    def of(
        cls,
        kinds: Sequence[str],
        confusions: Sequence[tuple[str, str]],
        labels: Mapping[str, Sequence[str]],
        *,
        ended: Sequence[str],
        before: bool,
        confidence: bool,
    ) -> Filters:
        """Menus for what there is.

        Args:
            kinds: kinds of errors that occur.
            confusions: rows of the confusion table, as they are shown.
            labels: dimension → its labels.
            ended: finish reasons that occur.
            before: whether there is a base evaluation.
            confidence: whether confidences are known.
        """
        choices = [Choice("band", "CER, %", [(str(n), label) for n, label in enumerate(LABELS)])]
        if len(set(ended)) > 1:
            choices.append(Choice("ended", "Ended", [(key, FINISH[key]) for key in FINISH if key in ended]))
        if kinds:
            options = [(str(n), kind) for n, kind in enumerate(KINDS) if kind in kinds]
            choices.append(Choice("kind", "Kind of error", options))
        if confusions:
            pairs = [f"{true} → {read}" for true, read in confusions]
            choices.append(Choice("confusion", "Read as", [(str(n), pair) for n, pair in enumerate(pairs)]))
        if before:
            choices.append(Choice("change", "Change", [("-1", "better"), ("1", "worse"), ("0", "the same")]))
        dimensions = {
            name: Choice(
                f"by.{number}",
                visible(name.removeprefix("meta.").replace("_", " ").capitalize(), 40),
                [(str(n), visible(label, 80) or "(none)") for n, label in enumerate(found)],
                number,
            )
            for number, (name, found) in enumerate(labels.items())
        }
        return cls([*choices, *dimensions.values()], dimensions, confidence)

    def attributes(self, name: str, key: str | int) -> Markup:
        """Marks a row's heading so that a click shows its pages; nothing where there is no menu for it.

        Args:
            name: of a menu, or of a dimension.
            key: a label of the dimension, a kind, or the number of a confusion.
        """
        choice = self.dimensions.get(name) or next((c for c in self.choices if c.name == name), None)
        if choice is None:
            return Markup()
        wanted = str(key) if name == "confusion" else visible(key, 80) or "(none)"
        position = 0 if name == "confusion" else 1
        value = next((option[0] for option in choice.options if option[position] == wanted), None)
        if value is None:
            return Markup()
        return Markup(' data-filter="{}" data-value="{}"').format(escape(choice.name), escape(value))


def useful(labels: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The dimensions that make a menu: more than one label, and not too many."""
    good = [name for name, found in labels.items() if 1 < len(set(found)) <= MOST_LABELS]
    return {name: labels[name] for name in good[:MOST_DIMENSIONS]}
