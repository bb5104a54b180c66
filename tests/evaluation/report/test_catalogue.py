"""The data that a report carries: all pages if they fit, those that matter if not, never more than 15 MB."""

from __future__ import annotations

import io
import json
import random
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.evaluation import Evaluation
from ocrsmith.evaluation.report import render_evaluation
from ocrsmith.evaluation.report.catalogue import Source, catalogue, find_page_errors, priority, script_json
from ocrsmith.evaluation.report.diff import UNSAFE, edits, readable, visible
from ocrsmith.evaluation.report.picture import Album
from ocrsmith.evaluation.report.render import LARGEST
from ocrsmith.evaluation.store import PageResult


def evaluation_of(*pairs: tuple[str, str], **more: Any) -> Evaluation:
    results = [
        PageResult(place, f"p{place}", f"g{place}", f"p{place}.png", *pair, "stop", **more)
        for place, pair in enumerate(pairs)
    ]
    return Evaluation.of(results, {"engine": {"name": "table"}})


def source_of(made: Evaluation, **more: Any) -> Source:
    given: dict[str, Any] = {"labels": {}, "confusions": [], "before": {}}
    confidences = [None] * len(made.results)
    return Source(made, more.pop("confidences", confidences), find_page_errors(made), **(given | more))


def noise(width: int, height: int, seed: int = 0) -> bytes:
    """A picture that hardly compresses."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def block(page: str, name: str) -> Any:
    found = re.search(f'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def replay(reference: str, found: list[int | str]) -> str:
    """What `edits` say was read, as the report's script puts it together."""
    text, at = "", 0
    for place in range(0, len(found), 3):
        same, gone, read = found[place : place + 3]
        assert isinstance(same, int)
        assert isinstance(gone, int)
        text += reference[at : at + same] + str(read)
        at += same + gone
    return text + reference[at:]


@given(st.text("ab\n\u202e", max_size=14), st.text("ab\n\u202e", max_size=14))
def test_edits_give_the_prediction_back(reference: str, prediction: str) -> None:
    assert replay(reference, edits(reference, prediction)) == prediction


@given(st.text())
def test_nothing_unsafe_is_left_in_what_is_shown(text: str) -> None:
    pieces = readable(text)
    assert not any(UNSAFE.search(piece.text) for piece in pieces)
    assert "".join(piece.text for piece in pieces if not piece.named) == UNSAFE.sub("", text)
    assert not UNSAFE.search(visible(text))
    assert "\n" not in visible(text)


@given(st.lists(st.text() | st.integers() | st.dictionaries(st.text(max_size=5), st.text()), max_size=5))
def test_json_in_a_script_element_stays_there(value: Any) -> None:
    written = str(script_json(value))
    assert not re.search("[<>&\u2028\u2029]", written)
    assert json.loads(written) == value


def test_all_pages_are_listed_in_the_order_of_the_dataset() -> None:
    made = evaluation_of(("abc", "abc"), ("abc", "abd"), ("abc", ""))
    source = source_of(made, labels={"source": ("x", "y", "x")}, confusions=[("c", "d")])
    listed = catalogue(source, priority(source, []), 10_000)
    assert [row["id"] for row in listed.rows] == ["p0", "p1", "p2"]
    assert [row["labels"] for row in listed.rows] == [[0], [1], [0]]
    assert listed.choices == {"source": ["x", "y"]}
    assert [row.get("confusions") for row in listed.rows] == [None, [0], None]
    assert [row["cer"] for row in listed.rows] == [0, 0.33333, 1]
    assert listed.longest == 3000


def test_the_worst_the_least_sure_and_the_most_changed_come_first() -> None:
    made = evaluation_of(*[("abcdefghij", "abcdefghij"[: 10 - place % 5]) for place in range(40)])
    sure: list[float | None] = [0.9] * 40
    sure[17] = 0.1
    source = source_of(made, confidences=sure, before={22: (1.0, "")})
    order = priority(source, [3])
    assert sorted(order) == list(range(40))
    assert order[0] == 3
    assert set(order[1:5]) >= {4, 17, 22}


def test_texts_are_cut_before_pages_are_left_out() -> None:
    generator = random.Random(1)
    texts = ["".join(generator.choices("abcdefgh ", k=2500)) for _ in range(30)]
    made = evaluation_of(*[(text, text[1:]) for text in texts])
    source = source_of(made)
    order = priority(source, [])
    cut = catalogue(source, order, 60_000)
    assert len(cut.rows) == 30
    assert cut.longest < 2500
    assert all(row["cut"][0] == 2500 - cut.longest for row in cut.rows)
    few = catalogue(source, order, 8_000)
    assert 5 < len(few.rows) < 30
    assert {row["id"] for row in few.rows} == {f"p{place}" for place in order[: len(few.rows)]}
    assert len(str(script_json(few.rows)).encode()) <= 8_000 + 100


def test_images_that_do_not_compress_stay_within_the_budget() -> None:
    album = Album(8, 200_000)
    made = [album.add(noise(600, 300, seed)) for seed in range(8)]
    assert all(made)
    assert sum(len(picture.uri) for picture in made if picture) <= 200_000
    assert Album(1, 500).add(noise(300, 300)) is None


@pytest.mark.parametrize("share", [1, 0.03])
def test_a_report_is_never_too_large(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    from ocrsmith.evaluation.report import render

    monkeypatch.setattr(render, "LARGEST", int(LARGEST * share))
    monkeypatch.setattr(render, "IMAGES", 16)
    generator = random.Random(2)
    texts = ["".join(generator.choices("关于加强城市道路照明设施管理工作", k=120)) for _ in range(500)]
    made = evaluation_of(*[(text, text if place % 2 else text[5:]) for place, text in enumerate(texts)])
    clean = find_page_errors(evaluation_of(*[("a", "a")] * 500))  # of no interest here, and slow
    monkeypatch.setattr(render, "find_page_errors", lambda _: clean)
    picture = noise(500, 400)
    page = render_evaluation(made, made.metrics.to_json(), lambda ids: dict.fromkeys(ids, picture))
    assert len(page.encode()) <= LARGEST * share
    rows = block(page, "data")["rows"]
    said = f"Listed are {len(rows):,} of 500 pages" in page
    assert said == (len(rows) < 500) == (share < 1)
    assert "data:image/webp" in page
    assert len(block(page, "images")) <= 1


def test_halves_of_characters_and_nul_do_not_stop_a_report() -> None:
    made = evaluation_of(("a\ud83d\x00b", "a\ude00b\x00"), ("x", "y"), source="\udfff\x00")
    page = render_evaluation(made, made.metrics.to_json(), lambda ids: {})
    page.encode("utf-8")
    assert "\x00" not in page
    assert block(page, "data")["rows"][0]["reference"] == "a\ufffd\x00b"
