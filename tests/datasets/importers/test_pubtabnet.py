"""Tables in the manner of PubTabNet."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.pubtabnet import FORMAT, TableError, table_html
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

STRUCTURE = [
    *("<thead>", "<tr>", "<td", ' colspan="2"', ">", "</td>", "</tr>", "</thead>"),
    *("<tbody>", "<tr>", "<td>", "</td>", "<td>", "</td>", "</tr>", "</tbody>"),
]
CELLS = [
    {"tokens": ["<b>", "H", "2", "<sub>", "O", "</sub>", "</b>"], "bbox": [1, 2, 3, 4]},
    {"tokens": ["a", "<", "b", "&"]},
    {"tokens": []},
]
HTML = '<table><tr><td colspan="2">H2<sub>O</sub></td></tr><tr><td>a&lt;b&amp;</td><td></td></tr></table>'


def row(**others: Any) -> dict[str, Any]:
    html = {"structure": {"tokens": STRUCTURE}, "cells": CELLS}
    return {"filename": "a.png", "split": "train", "imgid": 3, "html": html, **others}


def table(structure: list[Any], cells: list[Any]) -> dict[str, Any]:
    return {"html": {"structure": {"tokens": structure}, "cells": cells}}


def read(folder: Path, *rows: Any) -> list[Candidate | Excluded]:
    file = folder / "tables.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return list(FORMAT.open(file, ImportOptions()).read())


def test_a_table_keeps_its_spans_and_loses_its_typography(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row())
    assert isinstance(found, Candidate)
    assert (found.text, found.image_path, found.line) == (HTML, "a.png", 1)
    assert found.meta == {"split": "train", "imgid": 3}


def test_images_lie_in_the_folder_of_their_split_or_beside(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val/a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    rows = [row(split="val"), row(filename="b.png"), row(filename="none.png")]
    found = [item.image for item in read(tmp_path, *rows) if isinstance(item, Candidate)]
    assert found == [tmp_path / "val/a.png", tmp_path / "b.png", tmp_path / "train/none.png"]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (
            {"html": {"structure": {"tokens": STRUCTURE}, "cells": CELLS[:2]}},
            "malformed",
            "3 cells, but there are 2",
        ),
        (table(["<tr>", "<script>"], []), "malformed", "'<script>'"),
        (table(["<td", ' onload="x"', ">"], []), "malformed", "onload"),
        (
            {"html": {"structure": {"tokens": ["<tr>", "<td>", "</td>"]}, "cells": [{"tokens": []}]}},
            "malformed",
            "<tr>",
        ),
        (
            {"html": {"structure": {"tokens": ["<td>", "</td>"]}, "cells": [{"text": "x"}]}},
            "malformed",
            "Cell 1",
        ),
        (table(["<td>", "</td>"], [5]), "malformed", "Cell 1"),
        ({"html": None}, "empty_text", "test split"),
        ({"filename": None}, "missing", "'filename'"),
    ],
)
def test_what_cannot_be_used_goes_to_the_ledger(
    tmp_path: Path, change: dict[str, Any], reason: str, words: str
) -> None:
    good, bad = read(tmp_path, row(), row(**change))
    assert isinstance(good, Candidate)
    assert isinstance(bad, Excluded)
    assert (bad.reason, bad.line) == (reason, 2)
    assert words in bad.detail


def test_a_table_of_empty_cells_has_no_text(tmp_path: Path) -> None:
    html = {
        "structure": {"tokens": ["<tr>", "<td>", "</td>", "</tr>"]},
        "cells": [{"tokens": ["<b>", " ", "</b>"]}],
    }
    (found,) = read(tmp_path, row(html=html))
    assert isinstance(found, Candidate)
    assert found.text == ""


class Cells(HTMLParser):
    """The standard library's reading of a table: rows of (text, colspan, rowspan)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[list[Any]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            spans = dict(attrs)
            self.rows[-1].append(["", int(spans.get("colspan") or 1), int(spans.get("rowspan") or 1)])

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1][0] += data


cell = st.tuples(st.text(alphabet="ab<>&\"' é一;#x", max_size=6), st.integers(1, 3), st.integers(1, 3))


@given(rows=st.lists(st.lists(cell, min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_html_says_what_the_tokens_say(rows: list[list[tuple[str, int, int]]]) -> None:
    structure: list[str] = ["<tbody>"]
    cells = []
    for cells_of_row in rows:
        structure.append("<tr>")
        for text, across, down in cells_of_row:
            spans = [f' colspan="{across}"'] * (across > 1) + [f' rowspan="{down}"'] * (down > 1)
            structure += ["<td", *spans, ">", "</td>"] if spans else ["<td>", "</td>"]
            cells.append({"tokens": ["<i>", *text, "</i>"]})
        structure.append("</tr>")
    parser = Cells()
    parser.feed(table_html([*structure, "</tbody>"], cells))
    parser.close()
    assert parser.rows == [[[text.strip(), across, down] for text, across, down in one] for one in rows]


def test_recognition_and_refusal(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row()) + "\n", encoding="utf-8")
    assert FORMAT.recognises(file, file.read_bytes()[:8192])
    file.write_text('{"filename": "a.png", "html": "<table>"}\n', encoding="utf-8")
    assert not FORMAT.recognises(file, file.read_bytes()[:8192])
    with pytest.raises(DataError, match="'filename', 'html'"):
        FORMAT.open(file, ImportOptions())
    with pytest.raises(TableError):
        table_html([5], [])
