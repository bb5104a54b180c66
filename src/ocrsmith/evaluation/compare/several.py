"""From evaluation folders to comparisons: one evaluation or several, every one against the same base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ocrsmith.errors import SettingsError
from ocrsmith.evaluation.compare.comparison import Comparison, compare_pairs
from ocrsmith.evaluation.compare.effects import correct
from ocrsmith.evaluation.compare.figures import rises
from ocrsmith.evaluation.compare.forgetting import MAX_FORGETTING, Forgetting, check_forgetting
from ocrsmith.evaluation.compare.pages import pair_pages
from ocrsmith.evaluation.store import Evaluation, load, load_figures


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in all evaluations.

    Attributes:
        name: key of the figure.
        values: the base's first, then the others'.
        best: places in `values` of the best; empty where all are alike.
    """

    name: str
    values: tuple[float, ...]
    best: tuple[int, ...]


@dataclass(frozen=True)
class Comparisons:
    """Several evaluations, every one against the same base.

    Attributes:
        names: what they are called, the base first.
        comparisons: one for each but the base; p-values corrected for their number (Holm).
    """

    names: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def rows(self) -> list[Row]:
        """Each figure that all have, in the order of the tables."""
        tables = [{change.name: change for change in item.changes} for item in self.comparisons]
        shared = [name for name in tables[0] if all(name in table for table in tables)]
        return [_row(name, (tables[0][name].a, *(table[name].b for table in tables))) for name in shared]

    def to_json(self) -> dict[str, Any]:
        """The figures side by side, then each comparison as it is for two."""
        pairs = zip(self.names[1:], self.comparisons, strict=True)
        return {
            "base": self.names[0],
            "names": list(self.names),
            "n": len(self.comparisons[0].pairs),
            "left_out": self.comparisons[0].left_out,
            "correction": "holm" if len(self.comparisons) > 1 else None,
            "figures": {
                row.name: {
                    "values": list(row.values),
                    "best": [self.names[place] for place in row.best],
                }
                for row in self.rows
            },
            "comparisons": [{"name": name, **item.to_json()} for name, item in pairs],
        }


def compare(a: Path, b: Path, *, intersect: bool = False) -> Comparison:
    """Compares two evaluation folders page by page.

    Args:
        a: the evaluation before.
        b: the evaluation after.
        intersect: compare the pages that both have (same id and reference), whatever else differs.

    Raises:
        DataError: a folder holds no finished evaluation, or the two are not of the same pages.
    """
    return compare_all([a, b], intersect=intersect)[0]


def compare_all(
    folders: Sequence[Path],
    *,
    intersect: bool = False,
    forgetting: Sequence[Path] = (),
    max_forgetting: float = MAX_FORGETTING,
) -> tuple[Comparison, ...]:
    """Compares every evaluation with the first.

    Args:
        folders: at least two, the base first.
        intersect: compare the pages that all have (same id and reference), whatever else differs.
        forgetting: evaluations of the same models on other pages, in the same order; or none.
        max_forgetting: rise of mean CER on those pages that is still allowed.

    Returns:
        A comparison for each folder but the first; p-values of several are corrected for their number (Holm).

    Raises:
        DataError: a folder holds no finished evaluation, or they are not of the same pages.
        SettingsError: fewer than two folders, or not as many for forgetting.
    """
    _check_numbers(folders, forgetting)
    loaded = [load(folder) for folder in folders]
    pairs, left_out = pair_pages(folders, loaded, intersect=intersect)
    stored = [{} if left_out else load_figures(folder) for folder in folders]
    base = loaded[0].provenance
    found = [
        compare_pairs(some, left_out, base, other.provenance, stored=(stored[0], figures))
        for some, other, figures in zip(pairs, loaded[1:], stored[1:], strict=True)
    ]
    effects = correct([item.effect for item in found])
    checks: Sequence[Forgetting | None] = [None] * len(found)
    if forgetting:
        checks = _forgetting(loaded, forgetting, intersect=intersect, margin=max_forgetting)
    return tuple(
        replace(item, effect=effect, forgetting=check)
        for item, effect, check in zip(found, effects, checks, strict=True)
    )


def _check_numbers(folders: Sequence[Path], forgetting: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise SettingsError(
            "One evaluation alone cannot be compared.",
            place="ocrsmith compare",
            mend="Give at least two evaluation folders: BASE TUNED.",
        )
    if forgetting and len(forgetting) != len(folders):
        raise SettingsError(
            f"{len(folders)} evaluations are compared, but --forgetting is given {len(forgetting)} "
            f"time{'' if len(forgetting) == 1 else 's'}.",
            place="--forgetting",
            mend="Give it once for each evaluation, in the same order: the same models on other pages.",
        )


def _forgetting(
    compared: Sequence[Evaluation], folders: Sequence[Path], *, intersect: bool, margin: float
) -> list[Forgetting]:
    loaded = [load(folder) for folder in folders]
    pairs, _ = pair_pages(folders, loaded, intersect=intersect)
    return [
        check_forgetting(
            some,
            (compared[0].provenance, compared[place].provenance),
            (loaded[0].provenance, loaded[place].provenance),
            margin,
        )
        for place, some in enumerate(pairs, start=1)
    ]


def _row(name: str, values: tuple[float, ...]) -> Row:
    best = max(values) if rises(name) else min(values)
    alike = all(value == best for value in values)
    return Row(name, values, () if alike else tuple(n for n, value in enumerate(values) if value == best))
