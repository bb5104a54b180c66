"""Reports of comparisons: regressions first, warnings, several side by side; nothing in them runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.evaluation.compare import (
    Comparison,
    Comparisons,
    compare,
    compare_all,
    save_comparison,
    save_comparisons,
)
from ocrsmith.evaluation.report.comparison import (
    figure_name,
    render_comparison,
    render_comparisons,
)

Saved = Callable[..., Path]
TEN = "abcdefghij"
FARSI = "پژوهش تازه"
HOSTILE = "</p><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


class Reader(HTMLParser):
    """Collects what a browser would see: tags with attributes, and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, white space made single spaces."""
        return " ".join("".join(self.texts).split())


def no_images(ids: Sequence[str]) -> Mapping[str, bytes]:
    return {}


def shown(result: Comparison) -> Reader:
    return Reader(render_comparison(result, ("base", "tuned"), no_images))


def pages(*wrong: int) -> list[tuple[str, str]]:
    return [(TEN, TEN[: 10 - number]) for number in wrong]


def test_the_comparison_shows_both_readings(saved: Saved) -> None:
    a = saved("a", ("abcd", "abxd"), ("efgh", "efgh"))
    b = saved("b", ("abcd", "abcd"), ("efgh", "ef"))
    page = render_comparison(compare(a, b), ("base", "tuned"), no_images)
    text = Reader(page).text
    assert "1 better" in text
    assert "1 worse, 0 the same" in text
    assert "Now exact: 1" in text
    assert "No longer exact: 1" in text
    assert '<del class="wrong" title="read wrongly">x</del><ins class="wrong" title="should be">c</ins>' in page


def test_regressions_come_before_improvements(saved: Saved) -> None:
    a, b = saved("a", *pages(0, 5, 1, 9)), saved("b", *pages(3, 0, 8, 1))
    page = shown(compare(a, b))
    text = page.text
    worst = text.index("Worst regressions")
    assert worst < text.index("Figures") < text.index("Most worsened") < text.index("Most improved")
    assert re.search(r"Page A B p2 10\.0 % 80\.0 % p0 0\.0 % 30\.0 %", text[worst:])


def test_no_regression_is_said(saved: Saved) -> None:
    text = shown(compare(saved("a", *pages(2, 2)), saved("b", *pages(1, 2)))).text
    assert "None: no page is worse in B." in text


def test_verdict_interval_and_p_value_are_in_the_report(saved: Saved) -> None:
    result = compare(saved("a", *pages(*[5] * 20)), saved("b", *pages(*[1] * 20)))
    text = shown(result).text
    assert "Mean CER, %50.0 → 10.0change" in text
    assert "change −40.00 points, 95 % interval −40.00 to −40.00; relative −80.0 %, −80.0 % to −80.0 %" in text
    assert "Yesthe whole interval is below zero, p = 0.002" in text  # 2 of 2^10 patterns
    assert "all 1,024 patterns" in text
    for name in ("WER", "Edit distance", "chrF"):
        assert re.search(rf"{name} [\d.,]+ % [\d.,]+ % [+−][\d.]+ pp", text), name


def test_a_hidden_regression_is_a_warning_and_a_line_of_the_table(saved: Saved) -> None:
    persian = [(FARSI, FARSI)] * 16
    a = saved("a", *pages(*[5] * 24), *persian)
    b = saved("b", *pages(*[1] * 24), *[(FARSI, FARSI[:8])] * 16)
    page = shown(compare(a, b))
    assert "Improved overall, but worse on language fa: +20.0 points." in page.text
    assert "language fa 16 8 0.0 % 20.0 % +20.00 +20.00 to +20.00 worse" in page.text


def test_forgetting_is_in_the_report(saved: Saved) -> None:
    main = [saved("a", *pages(*[5] * 16)), saved("b", *pages(*[1] * 16))]
    other = [saved("a2", *pages(*[1] * 16)), saved("b2", *pages(*[4] * 16))]
    (result,) = compare_all(main, forgetting=other)
    text = shown(result).text
    assert "Has it forgotten other pages?Yesthe whole interval is above the 1 pp allowed" in text
    assert "mean CER 10.00 % → 40.00 %, change +30.00 points" in text


def test_readings_that_ended_badly_are_named(saved: Saved) -> None:
    a = saved("a", (TEN, TEN), (TEN, TEN, "loop"))
    b = saved("b", (TEN, "", "error"), (TEN, TEN))
    text = shown(compare(a, b)).text
    assert "Now failed: 1" in text
    assert "No longer loop: 1" in text


def test_many_strata_are_cut_and_the_cut_is_said(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocrsmith.evaluation import strata

    labels = tuple(f"s{n:02d}" for n in range(20))
    monkeypatch.setattr(strata, "assign", lambda results: {"source": labels})
    result = compare(saved("a", *pages(*[5] * 20)), saved("b", *pages(*[1] * 20)))
    text = shown(result).text
    assert "source s11" in text
    assert "source s12" not in text
    assert "source: 8 more in comparison.json" in text


def hostile(saved: Saved) -> tuple[Path, Path]:
    provenance: dict[str, Any] = {"engine": {"name": HOSTILE, "model": {"name": HOSTILE}}, "created": HOSTILE}
    pair = [(HOSTILE + "reference", HOSTILE * 2), ("b", HOSTILE)]
    better = [(HOSTILE + "reference", HOSTILE + "reference"), ("b", "b")]
    return saved("a", *pair, **provenance), saved("b", *better, **provenance)


def test_nothing_that_a_model_writes_becomes_code(saved: Saved) -> None:
    a, b = hostile(saved)
    page = render_comparison(compare(a, b), (HOSTILE, HOSTILE), no_images)
    check_harmless(page)
    many = Comparisons((HOSTILE, HOSTILE, HOSTILE), compare_all([a, b, b]))
    check_harmless(render_comparisons(many, ["comparison-1.html", "comparison-2.html"]))


def check_harmless(page: str) -> None:
    read = Reader(page)
    assert not {tag for tag, _ in read.tags} & {"script", "iframe", "object", "link", "img"}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert "alert" in read.text  # it is there, as text
    assert "{{ 7*7 }}" in read.text
    for _, attributes in read.tags:
        assert re.fullmatch(r"comparison-\d\.html", attributes.get("href") or "comparison-1.html")
    assert "default-src 'none'" in page.replace("&#39;", "'")


def test_several_are_side_by_side_with_the_best_marked(saved: Saved, tmp_path: Path) -> None:
    folders = [
        saved("base", *pages(*[5] * 16)),
        saved("one", *pages(*[1] * 16)),
        saved("two", *pages(*[6] * 16)),
    ]
    many = Comparisons(("base", "one", "two"), compare_all(folders))
    save_comparisons(many, tmp_path / "out")
    page = Reader((tmp_path / "out" / "comparison.html").read_text(encoding="utf-8"))
    assert "Mean CER 50.00 % ★ 10.00 % 60.00 %" in page.text
    assert "chrF" in page.text
    assert "corrected for being 2 comparisons (Holm)" in page.text
    assert "Forgotten" not in page.text  # not asked for
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["comparison-1.html", "comparison-2.html"]
    for link, name in zip(links, ("one", "two"), strict=True):
        assert f"base → {name}" in Reader((tmp_path / "out" / str(link)).read_text(encoding="utf-8")).text


def test_a_comparison_of_two_is_one_page(saved: Saved, tmp_path: Path) -> None:
    result = compare(saved("a", *pages(1)), saved("b", *pages(0)))
    save_comparison(result, tmp_path / "out", names=("a", "b"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"comparison.json", "comparison.html"}


def test_figures_have_names() -> None:
    assert figure_name("tables.teds.mean") == "Tables: TEDS"
    assert figure_name("boxes.something.mean") == "boxes.something.mean"
