"""Reports in a real browser: nothing a model writes runs, filters and keys work, and it fits every screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.evaluation import Evaluation
from ocrsmith.evaluation.report import render_evaluation
from ocrsmith.evaluation.store import PageResult

from ..browser import Browser, find_browser
from ..conftest import png

HOSTILE = (
    "</script><script>window.pwned = 1; alert(1)</script><img src=x onerror='window.pwned = 1'>"
    '<a href="javascript:window.pwned=1">a</a> "\'&{{ 7*7 }}{% raw %} ]]> <!-- <script> \\u003c ${1} '
    "\u202eturned\u2066 \u200b\u200d \x00\x1b \ud83d \u2028 "
)
PAGES = 130


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    opened = Browser(path)
    yield opened
    opened.close()


def figures_of(made: Evaluation) -> dict[str, Any]:
    from ocrsmith.evaluation.analysis import Analysis
    from ocrsmith.evaluation.strata import strata_of

    strata = strata_of(made.results, made.scores).to_json()
    return {**made.metrics.to_json(), **Analysis.of(made.results).to_json(), "strata": strata}


def page(place: int, reference: str, prediction: str, **more: Any) -> PageResult:
    fields = {
        "id": f"p{place}",
        "group": f"g{place // 4}",
        "image_path": f"p{place}.png",
        "finish_reason": "stop",
    }
    return PageResult(index=place, reference=reference, prediction=prediction, **(fields | more))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 pages: Chinese, Persian, English; one loop; one low confidence; a base evaluation that is worse."""
    texts = ("关于加强管理工作的通知", "کتاب‌های قدیمی", "The Surveyor reported O on the harbour dues")
    wrong = ("关于加强管理工作的通如", "کتابهای قدیمی", "The Surveyor reported 0 on the harbour dues")
    results = []
    for place in range(PAGES):
        reference = f"{texts[place % 3]} {place}"
        prediction = f"{wrong[place % 3]} {place}" if place % 2 else reference
        results.append(page(place, reference, prediction, source=("zh", "fa", "en")[place % 3]))
    results[5] = page(5, "loop here", "loop " * 40, finish_reason="loop", source="en")
    ends, sure = (4, 8), (-0.01, -2.0)
    results[6] = page(6, "well done", "welldone", token_ends=ends, token_logprobs=sure, logprob_mean=-1.0)
    now = Evaluation.of(results, {"engine": {"name": "tuned"}})
    base = Evaluation.of(
        [page(place, result.reference, result.reference[2:]) for place, result in enumerate(results)],
        {"engine": {"name": "base"}},
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    images = dict.fromkeys((f"p{place}" for place in range(PAGES)), png(300, 40))
    written = render_evaluation(now, figures_of(now), lambda ids: images, base=(base, figures_of(base)))
    path.write_text(written, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every field that others fill holds something hostile."""
    results = [
        page(
            place,
            text,
            other,
            id=f"{HOSTILE}{place}",
            group=HOSTILE,
            image_path=HOSTILE,
            source=f"{HOSTILE}{place % 2}",
            mode=HOSTILE,
            meta={HOSTILE: f"{HOSTILE}{place % 3}", "__proto__": place % 2, "constructor": f"x{place % 2}"},
        )
        for place, (text, other) in enumerate(
            [
                (HOSTILE, HOSTILE * 3),
                ("a", HOSTILE),
                (HOSTILE, ""),
                ("x" * 5000, "W" * 1_000_000),
                ("a b", "a\u202eb"),
            ]
        )
    ]
    results.append(page(5, "text", "", finish_reason="error", error=HOSTILE))
    provenance = {"engine": {"name": HOSTILE, "model": {"name": HOSTILE}}, "created": HOSTILE, HOSTILE: HOSTILE}
    made = Evaluation.of(results, provenance)
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    figures = {**figures_of(made), "retries": {"pages": 0}}
    written = render_evaluation(made, figures, lambda ids: {HOSTILE: b"no image"}, base=(made, figures))
    path.write_text(written, encoding="utf-8")
    return path


def listed(browser: Browser) -> list[str]:
    found: list[str] = browser.value(
        "[...document.querySelectorAll('#list .name')].map(name => name.textContent)"
    )
    return found


def choose(browser: Browser, name: str, label: str) -> None:
    browser.value(
        f"""(() => {{
          const select = document.getElementById('filters').elements.namedItem('{name}');
          select.value = [...select.options].find((option) => option.textContent === '{label}').value;
          select.dispatchEvent(new Event('change'));
        }})()"""
    )


def search(browser: Browser, text: str) -> None:
    browser.value(
        f"""(() => {{
          const field = document.querySelector('[name=q]');
          field.value = '{text}';
          field.dispatchEvent(new Event('input'));
          return new Promise((done) => setTimeout(done, 200));
        }})()"""
    )


def focused(browser: Browser) -> str:
    text: str = browser.value("document.activeElement.querySelector('.name')?.textContent ?? ''")
    return text


def count(browser: Browser) -> str:
    text: str = browser.value("document.getElementById('count').textContent")
    return text


def test_nothing_that_a_model_writes_runs(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    for _ in range(6):
        browser.press("j", "Enter")
    assert browser.complaints() == []
    assert browser.value("window.pwned") is None
    assert browser.value("document.querySelectorAll('script').length") == 3
    assert browser.value("document.querySelectorAll('[onerror], [href^=javascript]').length") == 0
    assert browser.value("document.querySelectorAll('#list li').length") == 6
    assert "window.pwned" in browser.value("document.body.textContent")  # it is there, as text


def test_injected_scripts_and_images_are_refused(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    browser.value("document.body.append(Object.assign(document.createElement('script'), {text: 'pwned = 1'}))")
    browser.value("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
    assert browser.value("window.pwned") is None
    assert sum("Content Security Policy" in line for line in browser.complaints()) == 2


def test_overrides_of_direction_are_shown_by_name(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    assert (
        browser.value("/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.querySelector('main').innerText)")
        is False
    )
    assert "U+202E" in browser.value("document.querySelector('main').innerText")


@pytest.mark.parametrize("name", ["report", "hostile"])
def test_it_fits_a_phone(browser: Browser, name: str, request: pytest.FixtureRequest) -> None:
    for width in (390, 360):
        browser.open(request.getfixturevalue(name), width=width, height=800)
        browser.press("j", "Enter")
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.complaints() == []


def test_the_scheme_follows_the_system_and_can_be_turned(browser: Browser, report: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(report)
    light = browser.value(ground)
    browser.open(report, dark=True)
    dark = browser.value(ground)
    assert light != dark
    browser.value("document.getElementById('theme').click()")
    assert browser.value(ground) == light


def test_without_scripts_the_worst_and_the_best_are_there(browser: Browser, report: Path) -> None:
    browser.open(report, script=False)
    assert browser.value("document.querySelectorAll('article.card').length") == 15
    assert browser.value("document.getElementById('pages').hidden") is True
    assert "With JavaScript, all pages" in browser.value("document.querySelector('main').innerText")


def test_filters_reduce_the_list(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert count(browser) == f"{PAGES} pages"
    assert len(listed(browser)) == 50
    choose(browser, "ended", "loop")
    assert listed(browser) == ["p5"]
    choose(browser, "ended", "all")
    choose(browser, "band", "exact")
    choose(browser, "by.0", "fa")
    choose(browser, "sort", "as in the dataset")
    assert listed(browser) == [f"p{place}" for place in range(4, PAGES, 6)]
    assert count(browser) == f"{len(listed(browser))} of {PAGES} pages"
    browser.value("document.getElementById('all').click()")
    choose(browser, "change", "worse")
    assert listed(browser) == ["p5"]
    choose(browser, "change", "all")
    choose(browser, "kind", "loop")
    assert listed(browser) == ["p5"]


def test_search_finds_ids_references_and_predictions_in_every_script(browser: Browser, report: Path) -> None:
    browser.open(report)
    choose(browser, "sort", "as in the dataset")
    for text, found in (
        ("P12", ["p12", *(f"p{n}" for n in range(120, 130))]),
        ("通如 3", ["p3", "p33", "p39"]),  # only in predictions
        ("SURVEYOR REPORTED O ON THE HARBOUR DUES 2", [f"p{n}" for n in (2, 20, 23, 26, 29)]),
        (
            "كتابهاي قديمي 1",
            ["p1", *(f"p{n}" for n in (10, 13, 16, 19, *range(100, 130, 3)))],
        ),  # Arabic letters
        ("nowhere", []),
    ):
        search(browser, text)
        assert listed(browser) == found
    assert count(browser) == f"0 of {PAGES} pages"
    assert browser.complaints() == []


def test_rows_of_tables_show_their_pages(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.value(
        "[...document.querySelectorAll('.strata button')].find((b) => b.textContent === 'zh').click()"
    )
    assert count(browser) == f"43 of {PAGES} pages"
    browser.value(
        "[...document.querySelectorAll('.kinds button')].find((b) => b.textContent === 'loop').click()"
    )
    assert listed(browser) == ["p5"]
    confused = (
        "[...document.querySelectorAll('.confusions tr')].find((row) => /^\\s*O\\s*0/.test(row.innerText))"
    )
    browser.value(f"{confused}.querySelector('button').click()")
    assert set(listed(browser)) == {f"p{n}" for n in range(11, PAGES, 6)}


def test_keys_move_through_the_pages(browser: Browser, report: Path) -> None:
    browser.open(report)
    choose(browser, "sort", "as in the dataset")
    browser.press("j", "j")
    assert focused(browser) == "p1"
    browser.press("Enter")
    assert browser.value("document.querySelector('.opened del')?.textContent") is not None
    browser.press("ArrowDown")
    assert focused(browser) == "p2"
    assert browser.value("document.querySelectorAll('.opened').length") == 1
    browser.press("k", "Escape")
    assert focused(browser) == "p1"
    assert browser.value("document.querySelectorAll('.opened').length") == 0
    browser.press("n", "n")
    assert focused(browser) == "p100"
    assert browser.value("document.getElementById('where').textContent") == "101–130 of 130"
    browser.press("k")
    assert focused(browser) == "p99"
    browser.press("/")
    assert browser.value("document.activeElement.name") == "q"
    browser.press("j")
    assert browser.value("document.activeElement.value") == "j"  # letters are typed there
    browser.press("Escape", "?")
    assert browser.value("document.getElementById('keys').open") is True
    browser.press("Escape")
    assert browser.value("document.getElementById('keys').open") is False


def test_an_opened_page_shows_all_of_it(browser: Browser, report: Path) -> None:
    browser.open(report)
    search(browser, "well done")
    browser.press("j", "Enter")
    shown = browser.value("document.querySelector('.opened').innerText")
    for words in ("well done", "welldone", "Before, ", "confidence", "document g1"):
        assert words in shown
    assert browser.value("document.querySelector('.opened mark').textContent") == "welldone"
    assert browser.value("[...document.querySelectorAll('.opened del')].at(-1).textContent") == "␣"
    assert browser.value("document.querySelector('.opened img').naturalWidth") == 300


def test_right_to_left_and_chinese_are_set_right(browser: Browser, report: Path) -> None:
    browser.open(report)
    choose(browser, "sort", "as in the dataset")
    style = "getComputedStyle(document.querySelector('.opened .page.diff'))"
    for text, language, direction in (("p7", "fa", "rtl"), ("p9", "zh", "ltr")):
        search(browser, text)
        browser.press("j", "Enter")
        assert browser.value("document.querySelector('.opened .page').lang") == language
        assert browser.value(f"{style}.direction") == direction
        browser.press("Escape")


def test_the_address_keeps_what_is_chosen(browser: Browser, report: Path) -> None:
    browser.open(report)
    choose(browser, "by.0", "fa")
    search(browser, "قدیمی")
    browser.press("j", "j", "Enter")
    address, name = browser.value("location.href"), focused(browser)
    browser.go("about:blank")
    browser.go(address)
    assert (
        browser.value(
            "document.querySelector('.opened').previousElementSibling.querySelector('.name').textContent"
        )
        == name
    )
    assert count(browser) == f"43 of {PAGES} pages"
    browser.value("location.hash = '#sort=nonsense&page=nobody&by.0=99&keys=1&part=7'")
    assert (
        browser.value(
            "new Promise((done) => setTimeout(() => done(document.querySelectorAll('#list li').length), 50))"
        )
        > 0
    )
    assert browser.complaints() == []
