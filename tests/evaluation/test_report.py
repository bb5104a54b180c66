"""Reports: complete, self-contained, harmless whatever a model writes, and right in every script."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.evaluation import Evaluation
from ocrsmith.evaluation.analysis import Analysis
from ocrsmith.evaluation.compare import Comparison, PagePair, compare_pairs
from ocrsmith.evaluation.error_kinds import KINDS
from ocrsmith.evaluation.report import render_comparison, render_evaluation
from ocrsmith.evaluation.report.chart import LABELS, chart, histogram
from ocrsmith.evaluation.report.diff import language, segments
from ocrsmith.evaluation.report.layout import asset
from ocrsmith.evaluation.report.picture import LONGEST_SIDE, picture
from ocrsmith.evaluation.report.render import choose
from ocrsmith.evaluation.report.wording import KIND_WORDS, duration, percent, seen

Make = Callable[..., Evaluation]
HOSTILE = "</p><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


class Reader(HTMLParser):
    """Collects what a browser would see: tags with attributes, and text by enclosing tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(buffer, format=kind)
    return buffer.getvalue()


def images_of(ids: Any) -> dict[str, bytes]:
    return {name: encoded(300, 40) for name in ids}


def no_images(ids: Any) -> dict[str, bytes]:
    return {}


def rendered(made: Evaluation, images: Any) -> str:
    figures = {**made.metrics.to_json(), **Analysis.of(made.results).to_json()}
    return render_evaluation(made, figures, images)


def cards(page: str) -> list[str]:
    """Ids of the samples shown, in order."""
    return re.findall(r'<bdi class="name">([^<]*)</bdi>', page)


def comparison_of(a: Evaluation, b: Evaluation) -> Comparison:
    rows = zip(a.results, b.results, a.scores, b.scores, strict=True)
    return compare_pairs([PagePair(*row) for row in rows], 0, a.provenance, b.provenance)


def test_the_ten_worst_and_the_best_are_shown_with_their_images(evaluation: Make) -> None:
    made = evaluation(*[("a" * 20, "a" * (20 - n)) for n in range(20)])
    page = rendered(made, images_of)
    assert cards(page) == [f"p{n}" for n in range(19, 9, -1)] + ["p0", "p1", "p2", "p3", "p4"]
    assert len([tag for tag, _ in read(page).tags if tag == "img"]) == 15


def test_figures_are_in_the_report(evaluation: Make) -> None:
    made = evaluation(("abcd", "abcd"), ("abcd", "abcx"), ("abcd", "", "error"))
    page = rendered(made, no_images).replace("\u00a0", " ")
    assert percent(made.metrics.cer.mean) == "41.67 %"
    for figure in ("41.67 %", "25.00 %", "33.3 %"):
        assert figure in page


@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_nothing_that_a_model_writes_becomes_code(evaluation: Make, kind: str) -> None:
    hostile = (HOSTILE + "reference", HOSTILE * 2)
    provenance = {"engine": {"name": HOSTILE, "model": {"name": HOSTILE}}, "created": HOSTILE}
    made = evaluation(hostile, ("b", HOSTILE), **provenance)
    clean = evaluation(("a", "x"), ("b", "b"))
    if kind == "evaluation":
        page, plain = rendered(made, no_images), rendered(clean, no_images)
    else:
        better = evaluation((hostile[0], hostile[0]), ("b", "b"), **provenance)
        page = render_comparison(comparison_of(made, better), (HOSTILE, HOSTILE), no_images)
        plain = render_comparison(comparison_of(clean, clean), ("a", "b"), no_images)
    tags = [tag for tag, _ in read(page).tags]
    assert tags.count("script") == (3 if kind == "evaluation" else 0)
    shown = {
        "article",
        "del",
        "ins",
        "dl",
        "dt",
        "dd",
        "small",
        "ul",
        "li",
        "section",
        "h3",
        "svg",
        "line",
        "title",
    }
    assert set(tags) <= {tag for tag, _ in read(plain).tags} | shown | {"circle", "rect", "select", "option"}
    assert not [name for _, attributes in read(page).tags for name in attributes if name.startswith("on")]
    assert "alert" in "".join(read(page).texts)  # it is there, as text
    assert "default-src 'none'" in page
    assert "{{ 7*7 }}" in "".join(read(page).texts)


def test_the_page_loads_nothing(evaluation: Make) -> None:
    page = rendered(evaluation(("abcd", "abxd")), images_of)
    for tag, attributes in read(page).tags:
        assert tag not in ("link", "iframe", "object")
        assert tag != "script" or "src" not in attributes
        for name in ("src", "href", "srcset"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "url(" not in page
    assert "@import" not in page


def test_right_to_left_text_is_isolated_and_keeps_its_direction(evaluation: Make) -> None:
    page = rendered(evaluation(("می‌خواهم", "میخواهم")), no_images)
    blocks = [attributes for tag, attributes in read(page).tags if tag == "p" and "dir" in attributes]
    assert len(blocks) == 3  # reference, prediction, difference
    assert [block["dir"] for block in blocks] == ["auto", "auto", "rtl"]
    assert {block["lang"] for block in blocks} == {"fa"}
    assert "unicode-bidi: plaintext" in page
    assert "ZWNJ" in page  # the one difference, which is invisible otherwise


def test_marks_do_not_cut_arabic_letters_apart() -> None:
    style = asset("style.css")
    rules = re.findall(r"((?:del|ins)\.[a-z]+)\s*\{([^}]*)\}", style)
    assert len(rules) == 4
    for _, rule in rules:
        assert not re.search(r"padding|margin|border|isolate|inline-block", rule)
        assert "text-decoration" in rule  # never colour alone


def test_long_texts_are_cut_and_the_cut_is_said(evaluation: Make) -> None:
    page = rendered(evaluation(("short", "0 " * 4_000, "loop")), no_images)
    assert f"{8_000 - 405:,} more characters are not shown" in page
    assert len(page) - len(rendered(evaluation(("short", "shirt")), no_images)) < 10_000


def test_an_image_that_cannot_be_opened_is_said_to_be_missing(evaluation: Make) -> None:
    made = evaluation(("a", "b"))
    for images in (no_images, lambda ids: dict.fromkeys(ids, b"not an image")):
        page = rendered(made, images)
        assert "The image is not at hand" in page
        assert "<img" not in page


def test_large_images_are_made_small_and_low_ones_enlarged() -> None:
    large, line = picture(encoded(4000, 3000, "JPEG")), picture(encoded(300, 20))
    assert large is not None
    assert large.width == LONGEST_SIDE
    assert large.uri.startswith("data:image/jpeg;base64,")
    assert line is not None
    assert line.width == 780  # 52 / 20 times
    assert line.uri.startswith("data:image/png;base64,")


def test_one_perfect_page_is_a_report(evaluation: Make) -> None:
    page = rendered(evaluation(("abc", "abc")), no_images)
    assert "no other page has an error" in page


@given(st.lists(st.sampled_from(["", "a", "ab", "xxxx"]), min_size=1, max_size=25))
def test_no_page_is_both_among_the_worst_and_the_best(predictions: list[str]) -> None:
    from ocrsmith.evaluation.store import PageResult

    results = [PageResult(n, str(n), "", "", "ab", text, "stop") for n, text in enumerate(predictions)]
    worst, best = choose(Evaluation.of(results, {}))
    assert best
    assert len(worst) <= 10
    assert not set(worst) & set(best)
    assert all(results[place].prediction != "ab" for place in worst)


def test_the_comparison_shows_both_readings(evaluation: Make) -> None:
    a, b = evaluation(("abcd", "abxd"), ("efgh", "efgh")), evaluation(("abcd", "abcd"), ("efgh", "ef"))
    page = render_comparison(comparison_of(a, b), ("base", "tuned"), images_of)
    text = " ".join("".join(read(page).texts).split())
    assert "1 better" in text
    assert "1 worse, 0 the same" in text
    assert "Now exact: 1" in text
    assert "No longer exact: 1" in text
    assert '<del class="wrong" title="read wrongly">x</del><ins class="wrong" title="should be">c</ins>' in page


def plain(items: Any) -> str:
    return "".join(piece.text for piece in items if not piece.named)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_a_difference_holds_both_texts(reference: str, prediction: str) -> None:
    found = segments(reference, prediction)
    assert "".join(plain(segment.true) for segment in found) == reference
    assert "".join(plain(segment.read) for segment in found) == prediction


def test_differences_are_told_apart() -> None:
    found = segments("abcdefg", "acdXfgz")
    assert [(segment.kind, plain(segment.read), plain(segment.true)) for segment in found] == [
        ("same", "a", "a"),
        ("missing", "", "b"),
        ("same", "cd", "cd"),
        ("wrong", "X", "e"),
        ("same", "fg", "fg"),
        ("extra", "z", ""),
    ]


@pytest.mark.parametrize(
    ("reference", "prediction", "shown"),
    [
        ("a b", "ab", "␣"),
        ("a\nb", "ab", "↵"),
        ("می‌شود", "میشود", "ZWNJ"),
        ("ab", "a\u202eb", "U+202E"),  # an override would turn the rest of the line around
        ("ab", "a\u3000b", "IDSP"),
    ],
)
def test_invisible_differences_are_shown_by_name(reference: str, prediction: str, shown: str) -> None:
    (changed,) = [segment for segment in segments(reference, prediction) if segment.kind != "same"]
    assert (changed.read or changed.true)[0].text == shown


def test_a_combining_mark_alone_gets_a_base() -> None:
    (changed,) = [segment for segment in segments("e", "e\u0301") if segment.kind != "same"]
    assert changed.read[0].text == "\u25cc\u0301"


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("hello", "und"),
        ("编号", "zh"),
        ("カナ漢字", "ja"),
        ("한국", "ko"),
        ("کتاب", "fa"),
        ("مرحبا", "ar"),
        ("", "und"),
    ],
)
def test_languages_by_script(text: str, tag: str) -> None:
    assert language(text) == tag


def test_ranges_of_the_plot() -> None:
    rates = [0, 0.001, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.0001, 35]
    assert histogram(rates) == [1, 2, 1, 1, 1, 1, 1, 1, 1, 2]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50))
def test_bars_stay_within_the_drawing(rates: list[float]) -> None:
    drawing = chart([rates, rates[:1]])
    assert len(drawing.bars) == 2 * len(LABELS)
    assert sum(bar.count for bar in drawing.bars) == len(rates) + 1
    for bar in drawing.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= drawing.width
        assert 0 <= bar.y <= bar.y + bar.height <= drawing.base + 1e-6


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0.00 %"),
        (0.05123, "5.12 %"),
        (35, "3,500.00 %"),
        (-0.1, "−10.00 %"),
        (1e-6, "< 0.01 %"),
        (None, "–"),
    ],
)
def test_rates_are_written_for_people(rate: float | None, text: str) -> None:
    assert percent(rate) == text


def test_durations_are_written_for_people() -> None:
    assert [duration(seconds) for seconds in (0.26, 93.4, 7325)] == ["0.3 s", "1 min 33 s", "2 h 02 min"]


def test_kinds_of_errors_confusions_and_policies_are_shown(evaluation: Make) -> None:
    page = rendered(evaluation(("O0 cat", "00 cat"), ("Ａbc", "Abc")), no_images)
    said = " ".join(" ".join(read(page).texts).split())
    assert "confusion 50.0 %" in said.replace(" ", " ")
    assert "normalisation 50.0 %" in said.replace(" ", " ")
    assert "What was read as what" in said
    assert "nfkc + zh + fa" in said


def test_every_kind_is_explained() -> None:
    assert set(KIND_WORDS) == set(KINDS)


def test_invisible_characters_are_named() -> None:
    assert seen("‌") == "zero width non-joiner"
    assert seen(" ") == "space"
    assert seen("") == "nothing"
    assert seen("rn") == "r n"
