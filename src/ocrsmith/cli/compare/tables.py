"""What `ocrsmith compare` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ocrsmith.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ocrsmith.evaluation.compare import Comparison, Comparisons, Effect, PagePair
    from ocrsmith.evaluation.compare.strata import StratumEffect

_WORST = 5  # regressions named
_STRATA = 10  # strata shown

_VERDICTS = {"better": "B is better", "worse": "B is worse", "unclear": "no clear difference"}


def print_comparison(result: Comparison, report: Path | None) -> None:
    """Two evaluations side by side, the verdict, and where the report is (None: nowhere)."""
    console = output.console()
    _print_pages(result, console)
    console.print(_figures(result))
    _print_verdict(result, console)
    _print_worst("Worst regressions (CER before → after):", result.worsened, console)
    if result.strata:
        _print_strata(result.strata, console)
    _print_forgetting(result, console)
    if result.forgetting is not None:
        _print_worst("Worst of the other pages:", result.forgetting.worsened, console)
    console.print(
        f"Pages: {len(result.improved):,} improved, {len(result.worsened):,} worsened; "
        f"{len(result.became_exact):,} became exact, {len(result.lost_exact):,} are no longer exact."
    )
    ends = _ends(result)
    if ends:
        console.print(f"Ends of readings: {ends}.")
    _print_warnings(result.warnings, console)
    if report is not None:
        console.print(f"Report: {report}", markup=False, soft_wrap=True)


def print_comparisons(result: Comparisons, report: Path | None) -> None:
    """Several evaluations side by side, the best of each line marked, and a verdict for each."""
    from rich.text import Text

    from ocrsmith.evaluation.report.comparison import figure_name
    from ocrsmith.evaluation.report.wording import figure, points

    table = _table("", *result.names)
    for row in result.rows:
        values = [
            Text(f"{'★ ' if place in row.best else ''}{figure(row.name, value)}")
            for place, value in enumerate(row.values)
        ]
        table.add_row(Text(figure_name(row.name)), *values)
    console = output.console()
    _print_pages(result.comparisons[0], console)
    console.print(table)
    console.print("★ best of the line. Each against the first, p-values corrected for their number (Holm):")
    for name, item in zip(result.names[1:], result.comparisons, strict=True):
        change = f"mean CER {points(item.effect.change)} points ({_bounds(item.effect)}, 95 % interval)"
        console.print(f"{name}: {change}: {item.verdict} ({item.reason}).", markup=False, soft_wrap=True)
        for pair in item.worsened[:1]:
            console.print(f"  worst regression: {_line(pair)}", markup=False, soft_wrap=True)
        _print_forgetting(item, console)
        _print_warnings(item.warnings, console)
    if report is not None:
        console.print(f"Report: {report}", markup=False, soft_wrap=True)


def _figures(result: Comparison) -> Table:
    from rich.text import Text

    from ocrsmith.evaluation.report.comparison import figure_name
    from ocrsmith.evaluation.report.wording import figure, figure_change, signed

    table = _table("", "A", "B", "change", "relative")
    table.add_column("")
    for change in result.changes:
        name = figure_name(change.name)
        table.add_row(
            Text(name),
            figure(change.name, change.a),
            figure(change.name, change.b),
            figure_change(change.name, change.absolute),
            signed(change.relative),
            change.verdict,
        )
    return table


def _print_pages(result: Comparison, console: Console) -> None:
    left_out = f", {result.left_out:,} left out" if result.left_out else ""
    console.print(f"{len(result.pairs):,} pages of {result.documents:,} documents{left_out}")


def _print_verdict(result: Comparison, console: Console) -> None:
    """Mean CER with its interval and verdict; then other figures, more briefly."""
    from ocrsmith.evaluation.report.comparison import figure_name
    from ocrsmith.evaluation.report.wording import points, signed

    effect = result.effect
    relative = ""
    if result.relative is not None:
        low, high = result.relative
        relative = f" (relative {signed(low)} to {signed(high)})"
    console.print(
        f"Mean CER {points(effect.change)} points, 95 % interval {_bounds(effect)}{relative}: "
        f"{_VERDICTS[result.verdict]} ({result.reason})."
    )
    others = [
        f"{figure_name(name)} {points(item.change)} ({_bounds(item)}): {item.verdict}"
        for name, item in result.line_effects.items()
    ]
    console.print(f"{'; '.join(others)}.")


def _print_strata(strata: Sequence[StratumEffect], console: Console) -> None:
    """The strata with the largest rise of CER."""
    from rich.text import Text

    from ocrsmith.evaluation.report.wording import percent, points

    worst = sorted(strata, key=lambda item: (-item.effect.change, item.name))
    table = _table("Largest rises by part", "pages", "A", "B", "change", "95 % interval")
    table.add_column("")
    for item in worst[:_STRATA]:
        effect = item.effect
        rates = (percent(effect.a, 1), percent(effect.b, 1))
        style = "red" if effect.verdict == "worse" else ""
        table.add_row(
            Text(item.name),
            f"{effect.n:,}",
            *rates,
            points(effect.change),
            _bounds(effect),
            effect.verdict,
            style=style,
        )
    console.print(table)
    if len(worst) > _STRATA:
        console.print(f"… and {len(worst) - _STRATA:,} more with -o or --json.")


def _print_forgetting(result: Comparison, console: Console) -> None:
    from ocrsmith.evaluation.report.wording import percent, points

    check = result.forgetting
    if check is None:
        return
    effect = check.effect
    rates = f"{percent(effect.a)} → {percent(effect.b)}"
    change = f"{points(effect.change)} points, 95 % interval {_bounds(effect)}"
    console.print(
        f"Other pages ({check.data}, {effect.n:,}): mean CER {rates}, {change}. "
        f"Forgotten: {check.forgot} ({check.reason}).",
        markup=False,
        soft_wrap=True,
    )


def _print_worst(title: str, worsened: Sequence[PagePair], console: Console) -> None:
    if worsened:
        console.print(title)
    for pair in worsened[:_WORST]:
        console.print(f"  {_line(pair)}", markup=False, soft_wrap=True)


def _print_warnings(warnings: Sequence[str], console: Console) -> None:
    for text in warnings:
        console.print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)


def _ends(result: Comparison) -> str:
    from ocrsmith.evaluation.report.wording import FINISH

    return "; ".join(
        f"{FINISH[item.reason]}: {len(item.became):,} became, {len(item.recovered):,} recovered"
        for item in result.end_flips
        if item.became or item.recovered
    )


def _line(pair: PagePair) -> str:
    from ocrsmith.evaluation.report.wording import percent

    return f"{pair.a.id}  {percent(pair.score_a.cer, 1)} → {percent(pair.score_b.cer, 1)}"


def _bounds(effect: Effect) -> str:
    from ocrsmith.evaluation.report.wording import points

    return f"{points(effect.interval.low)} to {points(effect.interval.high)}"


def _table(first: str, *names: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in names:
        table.add_column(Text(name), justify="right")
    return table
