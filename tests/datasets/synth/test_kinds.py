"""Kinds: what they say is what they draw, in the format of each."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.kinds import KINDS, find_kind
from ocrsmith.datasets.synth.kinds.paragraphs import Paragraphs
from ocrsmith.datasets.synth.kinds.tables import Cell, Table
from ocrsmith.datasets.synth.locales import LOCALES
from ocrsmith.datasets.synth.sheet import Setter, Strike, break_pieces
from ocrsmith.datasets.synth.texts import LineStoreWriter, Written
from ocrsmith.datasets.synth.typeset import best_engine, draw_run, needed
from ocrsmith.datasets.synth.writer import Writer, shorten, units_of
from ocrsmith.errors import SettingsError

from .conftest import CHINESE, LATIN, PERSIAN

LANGUAGES = {"zh": CHINESE, "fa": PERSIAN, "en": LATIN}


@pytest.fixture(params=LANGUAGES)
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Writer:
    store = LineStoreWriter(tmp_path, frozenset())
    for number, line in enumerate(LANGUAGES[request.param], start=1):
        store.add(Written(line, "t.txt", number))
    return Writer(store.close(), (), None, 0.0, request.param)


def setter(face: Face, strike: Strike | None = None) -> Setter:
    return Setter(face, 24, best_engine(), strike, random.Random(1))


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_draws_within_its_sheet_and_comes_again(name: str, writer: Writer, faces: FaceSet) -> None:
    kind = find_kind(name)
    drawn = 0
    for seed in range(20):
        content = kind.write(writer, random.Random(seed), True)
        assert content.text == kind.write(writer, random.Random(seed), True).text
        characters = frozenset().union(*(needed(text, best_engine()) or () for text in content.strings))
        face = faces.choose(characters, random.Random(seed), best_engine())
        if face is None:  # these small fonts have no £ and €
            continue
        drawn += 1
        sheet, again = (content.draw(setter(face), random.Random(seed)) for _ in range(2))
        assert np.array_equal(sheet.ink, again.ink)
        assert sheet.ink.max() == 255
        edge = np.concatenate([sheet.ink[0], sheet.ink[-1], sheet.ink[:, 0], sheet.ink[:, -1]])
        assert edge.max() == 0, "nothing is cut off"
        assert all(cut.origin.startswith("t.txt:") for cut in content.cuts)
    assert drawn >= 5


def test_a_line_is_the_text_with_margins(cjk: Face, tmp_path: Path) -> None:
    store = LineStoreWriter(tmp_path, frozenset())
    store.add(Written("你好世界", "t", 1))
    line = find_kind("lines").write(Writer(store.close(), (), None, 0, None), random.Random(1), False)
    ink = line.draw(setter(cjk), random.Random(1)).ink
    rows, columns = np.nonzero(ink)
    inner = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.array_equal(inner, draw_run("你好世界", cjk, 24).ink)


def test_a_forms_text_has_a_line_for_each_field(writer: Writer) -> None:
    form = find_kind("forms").write(writer, random.Random(3), False)
    title, *fields = form.text.split("\n")
    locale = LOCALES[writer.language or ""]
    assert title in locale.titles
    labels = {label for labels in locale.fields.values() for label in labels}
    for line in fields:
        match = re.fullmatch(r"(.+?):<value>(.+)</value>", line)
        assert match, line
        assert match[1] in labels
        assert match[2] in form.strings


def test_a_receipts_text_is_its_lines(writer: Writer) -> None:
    receipt = find_kind("receipts").write(writer, random.Random(5), False)
    shop, *lines = receipt.text.split("\n")
    assert shop in LOCALES[writer.language or ""].shops
    assert len(lines) >= 4
    assert " ".join(receipt.strings) == receipt.text.replace("\n", " ")


class _Cells(HTMLParser):
    """The independent oracle: lays a table's cells on a grid as browsers do."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.grid: dict[tuple[int, int], str] = {}
        self.row, self.text, self.here = -1, "", [(0, 0)]
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.row += 1
        elif tag == "td":
            spans = {name: int(value or 1) for name, value in attrs}
            column = 0
            while (self.row, column) in self.grid:
                column += 1
            rows, columns = spans.get("rowspan", 1), spans.get("colspan", 1)
            self.here = [(self.row + i, column + j) for i in range(rows) for j in range(columns)]
            assert not any(place in self.grid for place in self.here), "cells overlap"
            self.grid |= dict.fromkeys(self.here, "")

    def handle_data(self, data: str) -> None:
        self.grid |= dict.fromkeys(self.here, data)


def test_a_tables_html_is_a_full_grid(writer: Writer) -> None:
    spans = 0
    for seed in range(40):
        table = find_kind("tables").write(writer, random.Random(seed), False)
        assert isinstance(table, Table)
        assert re.fullmatch(r"<table>(<tr>(<td[^>]*>[^<]*</td>)*</tr>)+</table>", table.text)
        grid = _Cells(table.text).grid
        assert set(grid) == {(r, c) for r in range(table.rows) for c in range(table.columns)}
        for cell in table.cells:
            assert grid[cell.row, cell.column] == cell.text
        spans += "span=" in table.text
    assert 3 < spans < 30


def test_a_tables_text_is_escaped() -> None:
    assert Cell("a < b & c", 0, 0).html == "<td>a &lt; b &amp; c</td>"
    assert Cell("x", 0, 0, 2, 3).html == '<td rowspan="2" colspan="3">x</td>'


def test_persian_tables_begin_at_the_right(dejavu: Face) -> None:
    cells = [Cell("شماره" if c == 0 else "12", r, c) for r in range(3) for c in range(2)]
    for rtl in (True, False):
        ink = Table(cells, 3, 2, frozenset(), [], rtl).draw(setter(dejavu), random.Random(3)).ink
        widths = draw_run("شماره", dejavu, 24).ink.shape[1], draw_run("12", dejavu, 24).ink.shape[1]
        assert widths[0] > widths[1]
        half = ink.shape[1] // 2
        heavier_at_right = (ink[:, half:] > 0).sum() > (ink[:, :half] > 0).sum()
        assert heavier_at_right == rtl


def test_paragraphs_are_joined_in_the_text_and_broken_in_the_picture(writer: Writer, faces: FaceSet) -> None:
    content = find_kind("paragraphs").write(writer, random.Random(2), False)
    assert isinstance(content, Paragraphs)
    assert content.text == "\n\n".join(content.parts)
    face = faces.choose(frozenset("".join(content.parts)) - set("\u200c"), random.Random(1), best_engine())
    assert face is not None
    for part in content.parts:
        lines = setter(face).wrap(part, 300)
        assert len(lines) > 2
        assert "".join(lines).replace(" ", "") == part.replace(" ", "")
        assert all(setter(face).width(line) <= 300 for line in lines)


def test_columns_begin_at_the_right(cjk: Face) -> None:
    part = "一" * 12 + "王" * 3  # in columns of 12 and more: the full one stands at the right
    ink = Paragraphs([], [part], True).draw(setter(cjk), random.Random(7)).ink
    half = ink.shape[1] // 2
    assert np.nonzero(ink[:, half:])[0].max() > np.nonzero(ink[:, :half])[0].max()


def test_what_must_not_be_torn_apart() -> None:
    assert break_pieces("ab cd") == ["ab ", "cd"]
    assert break_pieces("你好，世（界）") == ["你", "好，", "世", "（界）"]
    assert break_pieces("用 USB 口") == ["用 ", "USB ", "口"]
    assert break_pieces("e\u0301 x") == ["e\u0301 ", "x"]


def test_a_long_text_is_cut_between_words() -> None:
    text = "The committee met on Tuesday and approved the minutes"
    for seed in range(60):
        cut, start = shorten(text, 20, random.Random(seed))
        assert text[start : start + len(cut)] == cut
        assert units_of(cut) <= 20
        assert f" {cut} " in f" {text} "
        kept, start = shorten(text, 20, random.Random(seed), text.index("proved"))
        assert "approved" in kept
        assert start <= text.index("proved") < start + len(kept)
    assert shorten("x" * 50, 20, random.Random(1))[0] == "x" * 10


def test_a_typewriter_strikes_unevenly(dejavu: Face) -> None:
    even = setter(dejavu).run("nnnnnnnn")
    struck = setter(dejavu, Strike(0.08, 0.5)).run("nnnnnnnn")
    tops = {int(np.nonzero(struck.ink[:, x] > 30)[0].min()) for x in np.flatnonzero(struck.ink.max(0) > 60)}
    assert len(tops) > len({int(np.nonzero(even.ink[:, x])[0].min()) for x in np.flatnonzero(even.ink.max(0))})
    assert struck.ink.shape[1] == even.ink.shape[1]


def test_an_unknown_kind_lists_the_known() -> None:
    with pytest.raises(SettingsError, match="no kind 'letters'") as caught:
        find_kind("letters")
    assert all(name in str(caught.value.mend) for name in KINDS)


def test_every_locale_writes_every_value() -> None:
    rng = random.Random(1)
    for code, locale in LOCALES.items():
        for kind in locale.fields:
            if kind != "text":
                assert locale.value(kind, rng)
        assert locale.code == code
    assert not re.search(
        "[0-9]", LOCALES["fa"].date(rng) + LOCALES["fa"].amount(rng) + LOCALES["fa"].phone(rng)
    )
