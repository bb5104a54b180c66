"""Samples and other lines in the terminal, exactly as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ocrsmith.cli import output

if TYPE_CHECKING:
    from ocrsmith.records import PageSample

_SHOWN_CHARACTERS = 100


def sample_lines(sample: PageSample) -> list[str]:
    return [f"  {sample.id}", f"    {shorten(sample.text)}"]


def shorten(text: str) -> str:
    """One line of a text; line breaks and control characters as escapes."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in shown)


def print_lines(lines: list[str]) -> None:
    """Plain text: brackets in texts and paths are no markup, long lines are not broken."""
    output.console().print("\n".join(lines), markup=False, emoji=False, soft_wrap=True)
