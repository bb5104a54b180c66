"""What a text file with a line for each sample can hold."""

from __future__ import annotations

import re

ESCAPED = "Texts have line breaks, so \\n, \\t and \\\\ stand for line break, tab and backslash in all of them"

_ESCAPE = str.maketrans({"\\": r"\\", "\n": r"\n", "\t": r"\t"})
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_SEPARATORS = re.compile(r"[\t\n\r]")


def escape(text: str) -> str:
    """Backslashes doubled, line breaks and tabs as `\\n` and `\\t`: what `importers.lines.unescape` undoes."""
    return text.translate(_ESCAPE)


def fault_of(text: str, *, one_line: bool = False) -> tuple[str, str] | None:
    """Ledger reason and detail where a text file cannot hold a text; None where it can.

    Args:
        text: without surrounding white space.
        one_line: the format has no escapes, so that line breaks and tabs cannot stand in a text.
    """
    if not text:
        return "empty_text", "The text is empty: the line would have a path alone."
    found = _UNWRITABLE.search(text)
    if found is not None:
        return "malformed", f"The text has U+{ord(found[0]):04X} at character {found.start() + 1}: remove it."
    found = _SEPARATORS.search(text) if one_line else None
    if found is not None:
        name = "tab" if found[0] == "\t" else "line break"
        return (
            "not_one_line",
            f"The text has a {name} at character {found.start() + 1}, and the format no escapes.",
        )
    return None
