"""Which column of a table holds the image, which the text: one rule for CSV, JSON, Parquet and saved datasets.

Of our own names (`image`, `image_path`, `file_name`; `text`) the first that is there is taken. Other usual
names count where there is exactly one of them: with several, nobody can know which is meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from ocrsmith.datasets.importers.base import ImportOptions
from ocrsmith.errors import DataError

IMAGE_NAMES = ("image", "image_path", "file_name")
TEXT_NAMES = ("text",)
OTHER_IMAGE_NAMES = ("img", "img_path", "filename", "file", "filepath", "file_path", "path", "image_file")
OTHER_TEXT_NAMES = (
    *("transcription", "transcript", "label", "ground_truth", "groundtruth", "gt", "words", "markdown"),
    *("sentence", "ocr_text"),
)


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """Names as the table has them; None where it has no such column."""

    image: str
    text: str
    id: str | None
    group: str | None
    prompt: str | None
    others: tuple[str, ...]
    """Columns that are kept in `meta`."""


def choose_columns(names: Sequence[str], options: ImportOptions, *, place: str) -> ColumnNames:
    """Finds the columns by the options, else by their usual names (case does not matter).

    Raises:
        DataError: none is there, or several may be it; the message lists those that are and the option that
            names one.
    """
    names = [name.strip() for name in names]
    image = _choose(names, options.image_column, IMAGE_NAMES, "image", place, OTHER_IMAGE_NAMES)
    text = choose_text(names, options, place=place)
    group = _find(names, ("group",))
    if options.group_column is not None:
        group = _choose(names, options.group_column, (), "group", place)
    found = {image, text, group, _find(names, ("id",)), _find(names, ("prompt",))}
    return ColumnNames(
        image=image,
        text=text,
        id=_find(names, ("id",)),
        group=group,
        prompt=_find(names, ("prompt",)),
        others=tuple(name for name in names if name and name not in found),
    )


def choose_text(names: Sequence[str], options: ImportOptions, *, place: str) -> str:
    """The text column alone, as `choose_columns` finds it.

    Raises:
        DataError: none is there, or several may be it.
    """
    return _choose(names, options.text_column, TEXT_NAMES, "text", place, OTHER_TEXT_NAMES)


def _find(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    for candidate in wanted:
        for name in names:
            if name.lower() == candidate:
                return name
    return None


def _choose(
    names: Sequence[str],
    given: str | None,
    usual: Sequence[str],
    role: str,
    place: str,
    others: Sequence[str] = (),
) -> str:
    there = ", ".join(repr(name) for name in names if name) or "none"
    option = "--group-by column:NAME" if role == "group" else f"--{role}-column NAME"
    if given is not None:
        if given in names:
            return given
        close = difflib.get_close_matches(given, names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(
            f"There is no column {given!r}{hint}. The columns are: {there}.",
            place=place,
            mend=f"Name one of them with {option}.",
        )
    found = _find(names, usual)
    if found is None:
        likely = [name for name in names if name.lower() in others]
        if len(likely) == 1:
            return likely[0]
        if likely:
            raise DataError(
                f"Each of {', '.join(map(repr, likely))} may be the {role} column. The columns are: {there}.",
                place=place,
                mend=f"Say which holds the {role} with {option}.",
            )
        raise DataError(
            f"There is no {role} column ({' or '.join(map(repr, usual))}). The columns are: {there}.",
            place=place,
            mend=f"Say which column holds the {role} with {option}.",
        )
    return found
