"""Chinese and Japanese from top to bottom: upright characters, Latin turned to the right, marks in their
vertical forms."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.scripts import is_unseen, is_wide, scripts_of
from ocrsmith.datasets.synth.typeset import Engine, Gray, advance, draw_run, draws

FORMS = dict(zip("，、。：；！？…", "︐︑︒︓︔︕︖︙", strict=True)) | dict(
    zip("—–（）｛｝〔〕【】《》〈〉「」『』［］", "︱︲︵︶︷︸︹︺︻︼︽︾︿﹀﹁﹂﹃﹄﹇﹈", strict=True)
)
"""Horizontal to vertical presentation forms (U+FE10…U+FE48)."""
_CORNER = "，、。"  # in the upper right of their square
_TURNED = "—–…～（）｛｝〔〕【】《》〈〉「」『』［］：；ー"  # turned where a font lacks the form
_UPRIGHT_SCRIPTS = {"Han", "Kana", "Hangul", "Bopomofo"}


def can_stand(text: str) -> bool:
    """Whether a text is one that is set in columns: mostly wide characters, no script that only lies."""
    wide = sum(is_wide(character) for character in text)
    return wide >= 0.6 * len(text) > 0 and scripts_of(text) <= _UPRIGHT_SCRIPTS | {"Latin"}


def draw_column(text: str, face: Face, size: int, *, engine: Engine, gap: float = 0.06) -> Gray:
    """The ink of one column, (height, 1.3 · size), the middle of the column in its middle.

    Args:
        gap: between the squares of characters, in sizes.
    """
    pieces = [_upright(piece, face, size, engine) if upright else _turned(piece, face, size, engine)
              for piece, upright in _pieces(text)]  # fmt: skip
    step = round(gap * size)
    column = np.zeros((sum(len(p) for p in pieces) + step * (len(pieces) - 1), _width(size)), np.uint8)
    y = 0
    for piece in pieces:
        column[y : y + len(piece)] = piece
        y += len(piece) + step
    return column


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Wide characters one by one (upright), and what stands between them as a whole (turned)."""
    run = ""
    for character in text:
        if is_unseen(character):
            continue
        if is_wide(character) or character in FORMS or character == "·":
            if run.strip():
                yield run.strip(), False
            run = ""
            yield character, True
        else:
            run += character
    if run.strip():
        yield run.strip(), False


def _width(size: int) -> int:
    return round(1.3 * size)


def _upright(character: str, face: Face, size: int, engine: Engine) -> Gray:
    """One character in its square."""
    form = FORMS.get(character)
    if form is not None and _has(face, form):
        return _in_square(form, face, size, engine)
    square = _in_square(character, face, size, engine)
    if character in _CORNER:
        return _in_corner(square, size)
    return _spin(square, size) if character in _TURNED else square


def _has(face: Face, character: str) -> bool:
    return bool(bisect_right(face.ranges, ord(character)) % 2) and draws(face, frozenset(character), "own")


def _in_square(character: str, face: Face, size: int, engine: Engine) -> Gray:
    """The character as it stands between its baseline and its neighbours, in (size, 1.3 · size)."""
    run = draw_run(character, face, size, rtl=False, engine=engine)
    square = np.zeros((size, _width(size)), np.uint8)
    x = round((_width(size) - advance(character, face, size, engine)) / 2) + run.left
    _paste(square, run.ink, x, round(0.87 * size) + run.top)
    return square


def _in_corner(square: Gray, size: int) -> Gray:
    """Moves a comma or full stop from below on the left to above on the right."""
    rows, columns = np.nonzero(square)
    if not len(rows):
        return square
    mark = square[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    moved = np.zeros_like(square)
    margin = (_width(size) - size) // 2
    _paste(moved, mark, _width(size) - margin - mark.shape[1] - size // 12, size // 12)
    return moved


def _spin(square: Gray, size: int) -> Gray:
    """The square turned by 90° to the right."""
    margin = (_width(size) - size) // 2
    turned = np.zeros_like(square)
    turned[:, margin : margin + size] = np.rot90(square[:, margin : margin + size], -1)
    return turned


def _turned(text: str, face: Face, size: int, engine: Engine) -> Gray:
    """Latin words and numbers, lying on their side: their top to the right."""
    run = draw_run(text, face, size, rtl=False, engine=engine)
    flat = np.zeros((_width(size), max(1, round(advance(text, face, size, engine)))), np.uint8)
    _paste(flat, run.ink, run.left, round(0.5 * _width(size) + 0.36 * size) + run.top)
    return np.ascontiguousarray(np.rot90(flat, -1))


def _paste(target: Gray, ink: Gray, x: int, y: int) -> None:
    """Puts `ink` at (x, y); what lies outside is moved in as far as it fits, else cut."""
    height, width = target.shape
    ink = ink[:height, :width]
    x = min(max(x, 0), width - ink.shape[1])
    y = min(max(y, 0), height - ink.shape[0])
    part = target[y : y + ink.shape[0], x : x + ink.shape[1]]
    np.maximum(part, ink, out=part)
