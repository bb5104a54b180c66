"""`ocrsmith calibrate`: parse → fit → print."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output

if TYPE_CHECKING:
    from ocrsmith.evaluation import Evaluation
    from ocrsmith.evaluation.confidence.acceptance import Acceptance
    from ocrsmith.evaluation.confidence.fitting import Fitted
    from ocrsmith.evaluation.confidence.selective import RiskCoverage

SHOWN = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Coverages whose CER is printed."""
FEW_DOCUMENTS = 30


class Method(StrEnum):
    """How confidences are turned into shares that come true."""

    auto = "auto"
    isotonic = "isotonic"
    temperature = "temperature"


def calibrate(
    evaluation: Annotated[
        Path, typer.Argument(metavar="VAL_EVAL", help="Evaluation folder of the validation split.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File to write.", show_default="VAL_EVAL/calibration.json"),
    ] = None,
    method: Annotated[
        Method, typer.Option(help="auto: the one that does better on documents it has not seen.")
    ] = Method.auto,
    accept_cer: Annotated[
        float | None,
        typer.Option(
            metavar="CER", help="Choose the threshold whose accepted pages keep this CER, 95 % sure, e.g. 0.02."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Make confidences come true: fit a calibration on a validation evaluation.

    Prints the calibration error before and after (on documents that were not
    fitted to), the CER of the surest pages, and with --accept-cer which pages
    may pass unseen. `ocrsmith eval --calibration FILE` applies it elsewhere.
    """
    from ocrsmith.engines.confidence import CALIBRATION
    from ocrsmith.evaluation.confidence.fitting import fit
    from ocrsmith.evaluation.store import load

    opened = load(evaluation)
    fitted = fit(opened.results, opened.scores, opened.provenance, method=method.value, accept_cer=accept_cer)
    file = out or evaluation / CALIBRATION
    fitted.calibration.save(file)
    _warn(opened, fitted)
    if as_json:
        output.print_json({**fitted.to_json(), "file": file})
    else:
        _print(fitted, file)


def _warn(evaluation: Evaluation, fitted: Fitted) -> None:
    """What one should know before relying on it."""
    split = (evaluation.provenance.get("dataset") or {}).get("split")
    if split == "test":
        output.warn("This is the test split: after fitting on it, its figures are no test of the calibration.")
    documents = fitted.calibration.fitted_on["documents"]
    if documents < FEW_DOCUMENTS:
        output.warn(f"{documents:,} documents are few: another choice of them would give another curve.")
    if fitted.characters is None:
        output.warn(
            "Too few pages tell the probability of each token: only pages are calibrated, characters are not."
        )


def _print(fitted: Fitted, file: Path) -> None:
    from rich.table import Table

    fitted_on = fitted.calibration.fitted_on
    console = output.console()
    console.print(f"{fitted_on['pages']:,} pages, {fitted_on['documents']:,} documents")
    table = Table(box=None, pad_edge=False)
    table.add_column("calibration error (ECE)")
    for name in ("n", "before", "after", "method"):
        table.add_column(name, justify="right")
    for name, side in (("characters", fitted.characters), ("pages", fitted.pages)):
        if side is not None:
            figures = (f"{side.n:,}", f"{side.ece_before:.2%}", f"{side.ece_after:.2%}", side.curve.method)
            table.add_row(name, *figures)
    console.print(table)
    console.print()
    console.print(_coverage_table(fitted.curve))
    if fitted.acceptance is not None:
        console.print()
        console.print(_verdict(fitted.acceptance), markup=False, soft_wrap=True)
    console.print(f"Calibration: {file}", markup=False, soft_wrap=True)


def _coverage_table(curve: RiskCoverage) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("pages accepted", "from confidence", "their mean CER"):
        table.add_column(name, justify="right")
    shown = []
    for wanted in SHOWN:
        point = next(point for point in curve.points if point.coverage >= wanted - 1e-9)
        if point not in shown:
            shown.append(point)
            table.add_row(f"{point.coverage:.1%}", f"{point.threshold:.4f}", f"{point.cer:.2%}")
    return table


def _verdict(item: Acceptance) -> str:
    """The threshold in words, or why there is none."""
    if item.threshold is None or item.cer is None or item.cer_upper is None:
        likely = item.likely
        words = f"No page passes at CER {item.target:.3g}. {item.reason}"
        if likely is not None:
            words += (
                f"\nLikely, but not shown: pages of confidence {likely.threshold:.4f} and above, "
                f"{likely.coverage:.1%} of all, with a mean CER of {likely.cer:.2%} (bootstrap: up to "
                f"{likely.cer_upper:.2%}). That does not reckon with ruined documents unlike these."
            )
        return words
    return (
        f"Accept pages of confidence {item.threshold:.4f} and above: {item.coverage:.1%} of all "
        f"({item.pages:,} pages of {item.documents:,} documents). Their mean CER is {item.cer:.2%}, and below "
        f"{item.target:.3g} with {item.level * 100:.3g} % certainty (bound {item.cer_upper:.2%})."
    )
