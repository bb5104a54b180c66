"""Figures beside CER: against jiwer and sacrebleu, by hand, over the right pages, failed pages as the worst."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from ocrsmith.evaluation.figures import Texts, figures_of, score_texts, structure
from ocrsmith.evaluation.figures.normalised import POLICIES, normalised_figures
from ocrsmith.evaluation.figures.text import bleu_statistics, bleu_tokens, bleu_values
from ocrsmith.evaluation.metrics import bleu, chrf, score_page, score_words, sentence_bleu
from ocrsmith.evaluation.statistics import RESAMPLES, SEED, Figure
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import FinishReason
from ocrsmith.text.normalise import parse_policy

Page = tuple[str, str] | tuple[str, str, FinishReason]

TABLE = "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>"
PIPES = "| a | b |\n|---|---|\n| c | d |"
FORM = "<name>Ann</name>\n<city>Ghent</city>"
DOCUMENT = "# Title\n\nThe first paragraph.\n\nAnother paragraph here."
BOX = "<|ref|>title<|/ref|><|det|>[[0, 0, 100, 100]]<|/det|>"
ALL = f"{DOCUMENT}\n\n{TABLE}\n\n$$x + y$$\n\n{BOX}"


def results_of(*pages: Page) -> list[PageResult]:
    return [
        PageResult(
            index=place,
            id=f"p{place}",
            group=f"g{place // 2}",
            image_path="",
            reference=page[0],
            prediction=page[1],
            finish_reason=page[2] if len(page) == 3 else "stop",
        )
        for place, page in enumerate(pages)
    ]


def found(*pages: Page) -> dict[str, Any]:
    figures = figures_of(results_of(*pages)).to_json()
    json.dumps(figures, allow_nan=False)
    return figures


# --- text --------------------------------------------------------------------------------------------------

LINES: list[Page] = [
    ("the quick brown fox jumps over the dog", "the quick brown fox jumped over the dog"),
    ("a line that is right in all its words", "a line that is right in all its words"),
    ("total amount due on the first of May", "total amount on the first of the May"),
    ("seven words stand in this short line", "seven word stands in this line"),
    ("one two three four five", "one two three four five six"),
]
TRUE, READ = [page[0] for page in LINES], [page[1] for page in LINES]


def test_wer_is_that_of_jiwer() -> None:
    wer = found(*LINES)["wer"]
    each = [jiwer.wer(true, read) for true, read in zip(TRUE, READ, strict=True)]
    assert wer["n"] == 5
    assert wer["mean"] == pytest.approx(np.mean(each))
    assert wer["micro"] == pytest.approx(jiwer.wer(TRUE, READ))
    assert (wer["min"], wer["max"]) == (0, pytest.approx(max(each)))
    assert wer["p50"] == wer["median"] == pytest.approx(np.percentile(each, 50))
    assert wer["p99"] == pytest.approx(np.percentile(each, 99))


def test_bleu_and_chrf_over_the_set_are_those_of_sacrebleu() -> None:
    figures = found(*LINES)
    assert figures["bleu"]["tokens"] == "13a"
    assert figures["bleu"]["micro"] == pytest.approx(BLEU().corpus_score(READ, [TRUE]).score / 100)
    assert figures["chrf"]["micro"] == pytest.approx(CHRF().corpus_score(READ, [TRUE]).score / 100)


def test_chinese_is_counted_by_character() -> None:
    true, read = ["中文识别的结果很好", "第二行也在这里"], ["中文识别的结果很坏", "第二行也在那里"]
    figures = found(*zip(true, read, strict=True))
    oracle = BLEU(tokenize="char").corpus_score(read, [true]).score / 100
    assert figures["bleu"]["tokens"] == "char"
    assert figures["bleu"]["micro"] == pytest.approx(oracle)
    assert bleu_tokens(["中文 and English words"]) == "13a"
    assert bleu_tokens(["سلام دنیا"]) == "13a"
    assert bleu_tokens(["ภาษาไทย"]) == "char"
    assert bleu_tokens([""]) == "13a"


def test_the_interval_of_corpus_bleu_is_that_of_drawing_documents_one_by_one() -> None:
    pages = [[0, 1], [2, 3], [4]]  # of the documents g0, g1, g2
    draws = np.random.default_rng(SEED).integers(0, 3, size=(RESAMPLES, 3))
    known = {}
    for draw in set(map(tuple, np.sort(draws).tolist())):
        own = [page for document in draw for page in pages[document]]
        known[draw] = bleu([TRUE[page] for page in own], [READ[page] for page in own])
    values = [known[tuple(draw)] for draw in np.sort(draws).tolist()]
    assert found(*LINES)["bleu"]["micro_ci95"] == pytest.approx(np.percentile(values, (2.5, 97.5)))


TEXT = st.text(alphabet=st.sampled_from("aab ,.1é中文می\u200cک۱\n"), max_size=14)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)


@given(PAIRS, st.sampled_from(["13a", "char"]))
def test_bleu_from_counts_is_bleu(pairs: list[tuple[str, str]], tokens: Any) -> None:
    true, read = map(list, zip(*pairs, strict=True))
    counts = bleu_statistics(true, read, tokens)
    each = [sentence_bleu(*pair, tokens=tokens) for pair in pairs]
    assert bleu_values(counts, effective_order=True) == pytest.approx(each)
    whole = bleu_values(counts.sum(axis=0, keepdims=True), effective_order=False)
    assert whole[0] == pytest.approx(bleu(true, read, tokens=tokens))


@settings(max_examples=60)
@given(PAIRS)
def test_figures_of_a_set_are_those_of_the_metrics(pairs: list[tuple[str, str]]) -> None:
    figures = found(*pairs)
    true, read = map(list, zip(*pairs, strict=True))
    assert figures["chrf"]["micro"] == pytest.approx(chrf(true, read))
    assert figures["bleu"]["micro"] == pytest.approx(bleu(true, read, tokens=bleu_tokens(true)))
    assert figures["exact"]["mean"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    for name in ("wer", "ned", "exact", "chrf", "rouge_l", "bleu"):
        leaf = figures[name]
        order = [leaf[key] for key in ("min", "p50", "p90", "p95", "p99", "max")]
        assert order == sorted(order)
        low, high = leaf["mean_ci95"]
        assert leaf["min"] - 1e-9 <= low <= high <= leaf["max"] + 1e-9
        assert low - 1e-9 <= leaf["mean"] <= high + 1e-9 or len(pairs) > 2


def test_a_failed_page_is_the_worst_in_each() -> None:
    for reference in (ALL, ALL.replace("\n", "\n\n")):
        figures = figures_of(results_of((reference, reference, "error")))
        worst = {name for name, figure in figures.figures.items() if figure.mean == 1}
        assert worst == {"wer", "ned", "order.text", "order.formulas", "order.reading"}
        assert all(figure.mean == 0 for name, figure in figures.figures.items() if name not in worst)
    form = found((FORM, "", "error"))["fields"]
    assert [form[name]["mean"] for name in ("exact", "normalised", "f1")] == [0, 0, 0]


def test_a_failed_page_without_a_reference_is_the_worst_all_the_same() -> None:
    figures = found(("", "", "error"), (" ", "", "error"))
    assert [figures[name]["mean"] for name in ("wer", "ned", "exact", "chrf", "rouge_l", "bleu")] == [
        *(1, 1),
        *(0, 0, 0, 0),
    ]
    assert (figures["wer"]["micro"], figures["ned"]["micro"], figures["chrf"]["micro"]) == (1, 1, 0)


def test_lines_have_no_figures_of_what_they_do_not_hold() -> None:
    assert set(found(*LINES)) == {"wer", "ned", "exact", "chrf", "rouge_l", "bleu"}


# --- tables ------------------------------------------------------------------------------------------------


def test_tables_are_scored_on_the_pages_whose_references_have_some() -> None:
    tables = found((TABLE, TABLE), (PIPES, TABLE), ("no table", TABLE), (TABLE, "no table"))["tables"]
    assert tables["teds"]["n"] == tables["cells"]["f1"]["n"] == 3
    # a table in Markdown is the same table in HTML; its heading and body count only where both have them
    assert tables["teds"]["mean"] == tables["structure"]["mean"] == pytest.approx(2 / 3)
    assert tables["cells"]["recall"]["micro"] == pytest.approx(8 / 12)
    assert tables["cells"]["precision"]["mean"] == pytest.approx(2 / 3)
    assert tables["cells"]["precision"]["micro"] == 1  # eight cells were read, all right
    assert tables["skipped"] == 0


def test_one_cell_of_four_by_hand() -> None:
    tables = found((TABLE, TABLE.replace(">d<", ">x<")))["tables"]
    assert tables["teds"]["mean"] == pytest.approx(1 - 1 / 6)  # two rows and four cells
    assert tables["structure"]["mean"] == 1
    assert tables["cells"]["f1"]["mean"] == pytest.approx(3 / 4)


def test_sections_count_where_both_have_them() -> None:
    headed = TABLE.replace("<table>", "<table><thead>").replace("</tr><tr>", "</tr></thead><tbody><tr>")
    assert found((headed, headed.replace("thead", "tbody")))["tables"]["teds"]["mean"] < 1
    assert found((headed, TABLE))["tables"]["teds"]["mean"] == 1


def test_a_table_is_compared_with_the_likest_and_then_in_order() -> None:
    other = TABLE.replace(">a<", ">w<").replace(">b<", ">x<").replace(">c<", ">y<").replace(">d<", ">z<")
    swapped = found((TABLE + other, other + TABLE))["tables"]
    assert swapped["teds"]["mean"] == 1
    unlike = found((TABLE, TABLE.replace("<td>", "<td>nothing of the kind ")))["tables"]
    assert unlike["structure"]["mean"] == 1  # read wrong all over, but the same table
    assert 0 < unlike["teds"]["mean"] < 0.5
    assert found((TABLE, TABLE + other))["tables"]["teds"]["mean"] == pytest.approx(1 / 2)  # one made up


def test_micro_counts_each_table_the_same() -> None:
    teds = found((TABLE, TABLE), (TABLE * 3, ""))["tables"]["teds"]
    assert (teds["mean"], teds["micro"]) == (pytest.approx(1 / 2), pytest.approx(1 / 4))


def test_tables_too_large_to_compare_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    large = "<table>" + "<tr><td>1</td><td>2</td></tr>" * 30 + "</table>"
    pages = [(TABLE, TABLE.replace("a", "x")), (large, large.replace("2", "3")), (large, large)]
    assert found(*pages)["tables"]["skipped"] == 0
    monkeypatch.setattr(structure, "TEDS_WORK", 1000)
    tables = found(*pages)["tables"]
    assert tables["skipped"] == 1
    assert tables["teds"]["n"] == 2  # the small one, and the one that is the same
    assert tables["cells"]["f1"]["n"] == 3


# --- fields ------------------------------------------------------------------------------------------------


def test_fields_are_counted_by_value_by_page_and_by_name() -> None:
    fields = found(
        (FORM, FORM.replace("Ann", "Anna")),
        ('{"name": "Ben", "city": "Rome", "zip": 1}', '{"name": "ben", "city": "Rome", "zip": 1}'),
        (FORM, FORM + "\n<age>7</age>"),
        ("no form", "<name>Ann</name>"),
    )["fields"]
    assert fields["exact"]["n"] == 3
    assert fields["exact"]["mean"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert fields["exact"]["micro"] == pytest.approx(5 / 7)
    assert fields["normalised"]["micro"] == pytest.approx(6 / 7)
    assert fields["f1"]["micro"] == pytest.approx(2 * 5 / (7 + 8))
    assert fields["macro"]["exact"] == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert fields["by_name"]["name"] == {
        "n": 3,
        "exact": pytest.approx(1 / 3),
        "normalised": pytest.approx(2 / 3),
        "missing": 0,
        "invented": 0,
    }
    assert fields["by_name"]["age"]["invented"] == 1
    assert (fields["names"], fields["unreadable"]) == (4, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FORM, True),
        ("姓名:<value>张三</value>\n出生:<value>1990</value>", True),
        ('{"total": "12.50"}', True),
        ('```json\n{"a": {"b": 1}}\n```', True),
        ("A page of text.\n\nWith <note>a tag</note> in it.\n\nAnd more.\n\nAnd more.", False),
        (TABLE, False),
        ("{not json}", False),
        ("plain", False),
        ("", False),
    ],
)
def test_what_looks_like_fields(text: str, expected: bool) -> None:
    assert structure.has_fields(text) is expected


# --- documents and boxes -----------------------------------------------------------------------------------


def test_paragraphs_that_changed_places_are_out_of_order_and_read_right() -> None:
    swapped = "# Title\n\nAnother paragraph here.\n\nThe first paragraph."
    order = found((DOCUMENT, swapped), (DOCUMENT, DOCUMENT), ("one paragraph", "x"))["order"]
    assert order["text"]["n"] == order["reading"]["n"] == 2
    assert order["text"]["max"] == 0
    assert order["reading"]["mean"] == pytest.approx((2 / 3 + 0) / 2)
    assert order["reading"]["micro"] == pytest.approx(2 / 6)
    assert "formulas" not in order
    assert order["skipped"] == 0


def test_formulas_stand_apart() -> None:
    order = found((ALL, ALL.replace("x + y", "x - y")))["order"]
    assert order["formulas"]["mean"] == pytest.approx(1 / 3)
    assert order["text"]["mean"] == 0


def test_documents_too_long_to_compare_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocrsmith.evaluation.figures.layout.TEDS_WORK", 10)
    order = found((DOCUMENT, DOCUMENT), (DOCUMENT + "\n\nMore." * 200, DOCUMENT))["order"]
    assert order["skipped"] == 1
    assert order["text"]["n"] == 1


def test_boxes_by_hand() -> None:
    half = BOX.replace("100, 100", "100, 60")  # IoU 0.6
    boxes = found((BOX, half), (BOX + BOX.replace("title", "text"), BOX), ("none", BOX), (BOX, "none"))["boxes"]
    assert boxes["f1"]["n"] == 3
    assert boxes["f1"]["mean"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert boxes["recall"]["micro"] == pytest.approx(2 / 4)
    assert boxes["precision"]["micro"] == 1
    assert boxes["iou"]["mean"] == pytest.approx((0.6 + 1 / 2 + 0) / 3)  # a box not found counts 0


# --- all ---------------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        TABLE,
        PIPES,
        FORM,
        DOCUMENT,
        BOX,
        "$$a$$",
        '{"a": [1]}',
        "<td>",
        "|-|",
        "\ud800",
        "\0",
        "text",
        " ",
        "\n\n",
    ]
)
WRITTEN = st.lists(PARTS | TEXT, max_size=4).map("".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(WRITTEN, WRITTEN, st.sampled_from(["stop", "loop", "error"])), min_size=1, max_size=4)
)
def test_no_text_breaks_the_figures(pages: Sequence[Any]) -> None:
    whole = figures_of(results_of(*pages))
    json.dumps(whole.to_json(), allow_nan=False)
    for name, figure in whole.figures.items():
        assert 1 <= figure.n <= len(pages)
        assert 0 <= figure.min <= figure.mean <= figure.max + 1e-9, name
        assert name == "wer" or figure.max <= 1 + 1e-9


def test_right_pages_are_right_in_all() -> None:
    figures: dict[str, Figure] = dict(figures_of(results_of((ALL, ALL), (FORM, FORM))).figures)
    errors = {"wer", "ned", "order.text", "order.formulas", "order.reading"}
    assert {name for name, figure in figures.items() if figure.max == 0} == errors
    assert all(figure.min == figure.micro == 1 for name, figure in figures.items() if name not in errors | ONES)
    assert all(figures[name].min == 1 for name in ONES)


ONES = {"exact", "rouge_l"}


# --- normalised --------------------------------------------------------------------------------------------

NORMALISED: list[Page] = [
    ("Ｆｕｌｌ width", "Full width"),
    ("same", "same"),
    ("کتاب ۱۲", "كتاب 12"),
    ("a  b\nc", "A b c"),
    ("", "", "error"),
    ("ﬁ", "", "error"),
]


def scores_apart(pages: list[Page], apply: Callable[[str], str]) -> dict[str, float]:
    """Page by page with the single metrics."""
    pairs = [(apply(page[0]), apply(page[1]), len(page) == 3) for page in pages]
    scores = [score_page(true, read, failed=failed) for true, read, failed in pairs]
    words = [score_words(true, read) for true, read, _ in pairs]
    edits = [
        max(1, word.length) if failed else word.edits for word, (*_, failed) in zip(words, pairs, strict=True)
    ]
    rates = [1 if failed else word.wer for word, (*_, failed) in zip(words, pairs, strict=True)]
    return {
        "cer.mean": float(np.mean([score.cer for score in scores])),
        "cer.micro": sum(score.edits for score in scores) / sum(score.length for score in scores),
        "wer.mean": float(np.mean(rates)),
        "wer.micro": sum(edits) / sum(word.length for word in words),
        "exact_match": float(np.mean([score.exact for score in scores])),
    }


def test_normalised_figures_are_those_of_normalised_texts() -> None:
    texts = Texts.of(results_of(*NORMALISED))
    made = normalised_figures(texts, score_texts(texts))
    assert tuple(made) == POLICIES
    for policy, figures in made.items():
        apart = scores_apart(NORMALISED, parse_policy(policy).apply)
        assert {name: figures[name] for name in apart} == pytest.approx(apart), policy
        assert set(figures) == {*apart, "ned.mean", "chrf.mean"}
        assert all(math.isfinite(value) for value in figures.values())
    assert made[POLICIES[-1]]["exact_match"] == pytest.approx(4 / 6)
