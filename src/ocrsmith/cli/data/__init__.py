"""`ocrsmith data`: everything about datasets, a file for each command."""

from __future__ import annotations

import typer

from ocrsmith.cli.data.build import build
from ocrsmith.cli.data.check import check
from ocrsmith.cli.data.diff import diff
from ocrsmith.cli.data.encode import encode
from ocrsmith.cli.data.export import export
from ocrsmith.cli.data.leaks import leaks
from ocrsmith.cli.data.pdf import pdf
from ocrsmith.cli.data.show import show
from ocrsmith.cli.data.synth import synth

app = typer.Typer(help="Make datasets from sources, PDFs or fonts; check, show, compare and export them.")

app.command()(build)
app.command()(show)
app.command()(check)
app.command()(leaks)
app.command()(diff)
app.command()(export)
app.command()(pdf)
app.command()(synth)
app.command()(encode)
