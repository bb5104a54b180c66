"""`ocrsmith gate`: parse → check → print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocrsmith.evaluation.gate import Compared, Outcome


def gate(
    evaluation: Annotated[Path, typer.Argument(metavar="EVAL", help="Evaluation folder.")],
    rules: Annotated[
        list[str] | None, typer.Argument(metavar="RULE…", help="Rules, each in quotes: 'p90 < 0.05'.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(metavar="EVAL", help="Evaluation folder that `base.` stands for.")
    ] = None,
    rules_files: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="FILE", help="File of rules, one a line; # begins a comment."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Say yes or no: hold the figures of an evaluation against rules.

    A rule compares figures: `p90 < 5%`, `loops == 0`, `cer.mean < base.cer.mean`,
    `exact_match >= 0.9 or n < 50`. Known are + - * / and brackets, and, or.

    Exit code 0 if all rules hold, 1 if one fails, 2 if one cannot be understood.
    """
    from ocrsmith.evaluation.gate import all_hold, check_rules, flatten, read_rules
    from ocrsmith.evaluation.rules import parse_rule
    from ocrsmith.evaluation.store import load_figures, load_metrics

    parsed = [parse_rule(text) for text in rules or ()]
    for path in rules_files or ():
        parsed += read_rules(path)
    if not parsed:
        raise SettingsError(
            "There is no rule to check.",
            place="ocrsmith gate",
            mend="Give rules in quotes, such as 'p90 < 0.05', or a file of them with --rules.",
        )
    _, provenance = load_metrics(evaluation)
    base_figures = None
    if base is not None:
        _, base_provenance = load_metrics(base)
        base_figures = flatten(load_figures(base))
        _warn_if_other_pages(provenance, base_provenance)
    outcomes = check_rules(parsed, flatten(load_figures(evaluation)), base_figures)
    holds = all_hold(outcomes)
    if as_json:
        results = [outcome.to_json() for outcome in outcomes]
        output.print_json({"holds": holds, "evaluation": evaluation, "base": base, "rules": results})
    else:
        _print(outcomes, holds)
    if not holds:
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _warn_if_other_pages(provenance: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """A base of other pages says nothing about progress."""
    first, second = (side.get("dataset") or {} for side in (provenance, base))
    if any(first.get(key) != second.get(key) for key in ("content_hash", "split", "limit")):
        output.warn("The base was read from other pages: differences may come from the pages, not the model.")


def _print(outcomes: list[Outcome], holds: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("rule", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("")
    for outcome in outcomes:
        rows = outcome.compared
        alone = len(rows) == 1
        value = _number(rows[0].left) if alone else ""
        verdict = _verdict(rows[0]) if alone else "holds" if outcome.holds else "fails"
        table.add_row(Text(outcome.rule), value, Text(verdict, style="green" if outcome.holds else "bold red"))
        if not alone:
            for item in rows:
                table.add_row(Text(f"  {item.text}"), _number(item.left), Text(_verdict(item)))
    console = output.console()
    console.print(table)
    failed = sum(not outcome.holds for outcome in outcomes)
    total = f"{len(outcomes):,} {'rule' if len(outcomes) == 1 else 'rules'}"
    console.print(f"Pass: {total}, all hold." if holds else f"Fail: {failed:,} of {total} failed.")


def _verdict(item: Compared) -> str:
    if item.holds:
        return "holds"
    if item.relation in ("==", "!="):
        return f"fails: {_number(item.right)} {'wanted' if item.relation == '==' else 'not wanted'}"
    if not item.off:
        return f"fails: equal, {item.relation} wanted"
    return f"fails: {_number(item.off)} too {'high' if item.left > item.right else 'low'}"


def _number(value: float) -> str:
    return f"{value:.6g}"
