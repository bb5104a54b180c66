"""Error kinds on constructed cases: each kind, each border between two kinds, and what must always hold."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation import alignment
from ocrsmith.evaluation.error_kinds import KINDS, ErrorKind, classify, find_errors, weight
from ocrsmith.evaluation.kind_shares import summarise
from ocrsmith.evaluation.lexicon import Lexicon
from ocrsmith.evaluation.metrics import score_page
from ocrsmith.records import FinishReason

DATA = Path(__file__).parents[2] / "../shared/data"

LEXICON = Lexicon.of(
    ["The contract was signed in Paris by the buyer and the seller on Monday morning."] * 80
    + ["公司在北京成立，上海的工厂昨天开工，总经理今天在广州讲话。"] * 200
    + ["او می‌رود و کتاب را می‌خواند و نامه می‌نویسد"] * 50
)

PARAGRAPH = "The buyer pays the agreed price within thirty days of delivery, without any deduction."
INVENTED = "Furthermore our young scholars have gladly unveiled bronze statues."


def kinds(reference: str, prediction: str, finish: FinishReason = "stop", **options: Any) -> list[str]:
    return [span.kind for span in find_errors(reference, prediction, finish_reason=finish, **options).spans]


def spans(
    reference: str, prediction: str, finish: FinishReason = "stop", **options: Any
) -> list[tuple[str, ...]]:
    found = find_errors(reference, prediction, finish_reason=finish, **options)
    return [
        (
            span.kind,
            reference[span.ref_start : span.ref_end],
            prediction[span.pred_start : span.pred_end],
        )
        for span in found.spans
    ]


def test_the_list_of_kinds_is_complete() -> None:
    assert set(KINDS) == set(get_args(ErrorKind))


# --- confusion, insertion, omission ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ("一九八二年", "二九八二年", [("confusion", "一", "二")]),
        ("the cat sat", "the cot sat", [("confusion", "a", "o")]),
        ("modern", "modem", [("confusion", "rn", "m")]),
        ("شماره ۱۲۳", "شماره ۱۳۳", [("confusion", "۲", "۳")]),
        ("کتاب", "کباب", [("confusion", "ت", "ب")]),
        ("No. 4711", "No. 4717", [("confusion", "1", "7")]),
        ("Case c", "Case C", [("confusion", "c", "C")]),
        ("No. 12", "No. 21", [("confusion", "12", "21")]),
        ("price 12.50", "price 1250", [("omission", ".", "")]),
        ("第一行", "第行", [("omission", "一", "")]),
        ("foot ball", "football", [("omission", " ", "")]),
        ("می‌روم", "می روم", [("confusion", "\u200c", " ")]),
        ("total", "total.", [("insertion", "", ".")]),
        ("北京", "北京市", [("insertion", "", "市")]),
        ("", "a", [("insertion", "", "a")]),
        ("a", "", [("omission", "a", "")]),
    ],
)
def test_single_characters(reference: str, prediction: str, expected: list[tuple[str, ...]]) -> None:
    assert spans(reference, prediction, lexicon=LEXICON) == expected


def test_a_missing_line_is_one_omission() -> None:
    assert spans("one\ntwo lines\nthree", "one\nthree") == [("omission", "two lines\n", "")]


def test_a_right_page_has_no_errors() -> None:
    assert kinds("同じ", "同じ") == []
    assert kinds("", "") == []


def test_a_failed_page_is_one_omission_that_counts_as_cer_does() -> None:
    for reference in ("three lines\nwere\nhere", ""):
        found = find_errors(reference, "", finish_reason="error")
        assert found.failed
        assert [span.kind for span in found.spans] == ["omission"]
        assert found.edits == score_page(reference, "", failed=True).edits


# --- loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["loop", "length", "stop"])
def test_a_loop_is_one_span_with_what_was_lost_behind_it(finish: FinishReason) -> None:
    reference = "Invoice 12, 13, 14.\nTotal due within thirty days.\nThank you."
    prediction = "Invoice 12, 12, " + "12, " * 200
    (span,) = find_errors(reference, prediction, finish_reason=finish).spans
    assert span.kind == "loop"
    assert span.ref_end == len(reference)


def test_loops_of_persian_digits_and_of_chinese() -> None:
    assert kinds("شماره ۱۲۳۴", "شماره ۱۲۳۴" + "۱۲۳۴" * 100, "loop") == ["loop"]
    assert kinds("甲方和乙方", "甲方和乙方" + "的" * 500, "length") == ["loop"]


def test_a_loop_of_megabytes_is_bounded() -> None:
    found = find_errors(PARAGRAPH * 20, PARAGRAPH * 3 + "and so on, " * 100_000, finish_reason="length")
    assert {span.kind for span in found.spans} == {"loop"}
    assert found.exact


def test_what_is_wrong_before_a_loop_keeps_its_own_kind() -> None:
    found = spans("The cat sat on the mat.", "The cot sat on the mat." + " and on" * 60, "loop")
    assert [span[0] for span in found] == ["confusion", "loop"]


def test_a_short_repetition_is_a_loop_only_where_the_engine_says_so() -> None:
    reference, prediction = "No. 12 and more of it", "No. 12 12 12 12 12 12 12 12 12 12"
    assert "loop" in kinds(reference, prediction, "loop")
    assert "loop" not in kinds(reference, prediction, "stop")


def test_a_loop_that_the_engine_saw_without_a_repetition_is_the_wrong_end() -> None:
    assert spans("The end.", "The end. 1. a 2. b 3. c", "loop") == [("loop", "", " 1. a 2. b 3. c")]


def test_leaders_that_stand_on_the_page_are_no_loop() -> None:
    reference, prediction = "Contents" + "." * 90 + "5", "Contents" + "." * 99 + "5"
    assert kinds(reference, prediction) == ["insertion"]
    assert kinds("| |" * 40, "| |" * 40 + "x") == ["insertion"]


def test_a_page_that_goes_on_after_a_broken_loop_is_judged_on() -> None:
    reference = "First line of it.\n" + PARAGRAPH + "\nLast line."
    prediction = (
        "First line of it.\n" + "abc " * 50 + "\n" + PARAGRAPH.replace("buyer", "buyar") + "\nLast line."
    )
    assert kinds(reference, prediction) == ["loop", "confusion"]


# --- truncation --------------------------------------------------------------------------------------------


def test_a_cut_answer_is_truncated_and_an_early_end_is_an_omission() -> None:
    reference, prediction = PARAGRAPH, PARAGRAPH[:40]
    assert spans(reference, prediction, "length") == [("truncation", PARAGRAPH[40:], "")]
    assert spans(reference, prediction, "stop") == [("omission", PARAGRAPH[40:], "")]


def test_only_the_end_is_truncated() -> None:
    found = spans("第一行缺字\n第二行\n第三行被截断了", "第一行字\n第二行", "length")
    assert found == [("omission", "缺", ""), ("truncation", "\n第三行被截断了", "")]


def test_a_misread_letter_before_the_cut_is_no_truncation() -> None:
    assert spans("The sum of 12 EUR is due", "The sum of l2 E", "length") == [
        ("confusion", "1", "l"),
        ("truncation", "UR is due", ""),
    ]
    assert kinds("the name", "the nane", "length") == ["confusion"]


def test_letters_that_agree_by_chance_behind_the_cut_do_not_hide_it() -> None:
    assert set(kinds("a name and more", "a nane", "length")) == {"truncation"}


# --- structure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        ("line one is here\nsecond thing follows\nend", "second thing follows\nline one is here\nend"),
        ("第一行文字内容\n第二行完全不同\n尾", "第二行完全不同\n第一行文字内容\n尾"),
        ("سطر نخست این برگه\nنوشته‌ای دیگر در پایین", "نوشته‌ای دیگر در پایین\nسطر نخست این برگه"),
        (f"short\n{PARAGRAPH}\nmiddle words\nend", f"short\nmiddle words\nend\n{PARAGRAPH}"),
    ],
)
def test_lines_in_the_wrong_order(reference: str, prediction: str) -> None:
    assert set(kinds(reference, prediction)) == {"structure"}


def test_moved_lines_with_a_misread_letter_are_still_moved() -> None:
    reference = f"{PARAGRAPH}\nAnother line that says nothing of it."
    prediction = f"Another line that says nothing of it.\n{PARAGRAPH.replace('thirty', 'thirly')}"
    assert "hallucination" not in kinds(reference, prediction)
    assert "structure" in kinds(reference, prediction)


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        ("<tr><td>a</td><td>b</td></tr>", "| a | b |"),
        ("<td>7</td>", "<th>7</th>"),
        ("<td>7</td>", '<td colspan="2">7</td>'),
        ("# Title\n- one", "Title\none"),
        ("**bold** words", "bold words"),
        ("one\ntwo", "onetwo"),
        ("<table><tr><td>姓名</td></tr></table>", "<tr><td>姓名</td></tr>"),
        ("x", "x" + "<td></td>" * 6),
    ],
)
def test_markup_that_differs(reference: str, prediction: str) -> None:
    assert set(kinds(reference, prediction)) == {"structure"}


def test_markup_that_goes_with_missing_text_is_an_omission() -> None:
    assert kinds("<tr><td>a</td><td>Meier</td></tr>", "<tr><td>a</td></tr>") == ["omission"]


def test_a_comparison_sign_in_a_text_is_no_markup() -> None:
    assert kinds("a < b", "a b") == ["omission"]


# --- hallucination -----------------------------------------------------------------------------------------


def test_text_without_a_counterpart() -> None:
    assert spans("Total: 5 EUR", f"Total: 5 EUR {INVENTED}") == [("hallucination", "", f" {INVENTED}")]
    assert kinds("合计五元整", "合计五元整根据有关规定特此通知请知悉") == ["hallucination"]
    assert kinds("جمع کل", "جمع کل با سپاس فراوان از همراهی شما") == ["hallucination"]


def test_an_unlike_text_in_the_place_of_the_true_one() -> None:
    reference = f"Dear Sir,\n{PARAGRAPH}\nYours"
    assert kinds(reference, f"Dear Sir,\n{INVENTED}\nYours") == ["hallucination"]


def test_a_few_letters_too_many_are_an_insertion() -> None:
    assert kinds("Total: 5", "Total: 5 and so") == ["insertion"]
    assert kinds("Total: 5", "Total: 5 and so forth on") == ["hallucination"]
    assert kinds("合计五元", "合计五元整根据有") == ["insertion"]
    assert kinds("合计五元", "合计五元整根据有关规") == ["hallucination"]


def test_a_smudged_word_is_misread_and_a_sentence_in_its_place_invented() -> None:
    assert "hallucination" not in kinds("of the acquaintances here", "of the bljvmdrsfkxs here")
    assert "hallucination" in kinds("of the acquaintances here", f"of the {INVENTED} here")


def test_a_badly_read_line_is_no_hallucination() -> None:
    rng = random.Random(3)
    bad = "".join(rng.choice("aeiou") if n % 3 == 0 else c for n, c in enumerate(PARAGRAPH))
    assert "hallucination" not in kinds(PARAGRAPH, bad)


def test_a_line_read_twice_is_an_insertion() -> None:
    assert kinds(f"Head\n{PARAGRAPH}\nFoot", f"Head\n{PARAGRAPH}\n{PARAGRAPH}\nFoot") == ["insertion"]


def test_a_long_omission_beside_an_invented_text_stays_an_omission() -> None:
    found = kinds(f"Start {PARAGRAPH * 6} end", f"Start {INVENTED} end")
    assert set(found) == {"hallucination", "omission"}


def test_many_spaces_or_full_width_digits_are_no_hallucination() -> None:
    assert kinds("a b", "a" + " " * 40 + "b") == ["normalisation"]
    assert kinds("No. 123456789012", "No. １２３４５６７８９０１２") == ["normalisation"]


# --- normalisation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        ("全角，是", "全角,是"),
        ("（１）", "(1)"),
        ("كتاب علي", "کتاب علی"),
        ("۱۲۳", "123"),
        ("می‌روم", "میروم"),
        ("مُحَمَّد", "محمد"),
        ("é", "e\u0301"),
        ("ﬁne", "fine"),
        ("wait…", "wait..."),
        ("a  b\nc", "a b c"),
        ("line\n", "line"),
    ],
)
def test_differences_that_vanish(reference: str, prediction: str) -> None:
    assert set(kinds(reference, prediction)) == {"normalisation"}


def test_beside_an_error_only_the_sign_is_normalisation() -> None:
    assert spans("全角，未", "全角,末") == [("normalisation", "，", ","), ("confusion", "未", "末")]


def test_the_policy_decides() -> None:
    assert kinds("Abc", "abc") == ["confusion"]
    assert kinds("Abc", "abc", normalise=str.casefold) == ["normalisation"]
    assert kinds("１", "1", normalise=str) == ["confusion"]


# --- substitution ------------------------------------------------------------------------------------------


def test_a_known_word_that_does_not_look_like_the_true_one() -> None:
    assert spans("sold by Dupont & Co", "sold by buyer & Co", lexicon=LEXICON)[0][0] == "substitution"
    assert kinds("公司在武汉", "公司在上海", lexicon=LEXICON) == ["substitution"]
    assert kinds("او دفتر را", "او کتاب را", lexicon=LEXICON) == ["substitution"]


def test_one_span_for_a_word_of_which_some_letters_agree() -> None:
    (span,) = find_errors("in Prague now", "in Paris now", lexicon=LEXICON).spans
    assert span.kind == "substitution"
    assert span.edits == Levenshtein.distance("Prague", "Paris")


@pytest.mark.parametrize(
    ("reference", "prediction"),
    [
        ("on Mondav", "on Monday"),  # looks like it
        ("sold by Dupont", "sold by huyez"),  # no word
        ("公司在末来", "公司在未来"),  # looks like it
        ("第二京", "第北京"),  # one character
        ("in 1986", "in 2024"),  # a number
        ("we", "by"),  # too short
    ],
)
def test_what_is_no_substitution(reference: str, prediction: str) -> None:
    assert "substitution" not in kinds(reference, prediction, lexicon=LEXICON)


def test_without_a_vocabulary_the_kind_is_not_used_and_that_is_said() -> None:
    pair = ("sold by Dupont & Co", "sold by buyer & Co")
    for lexicon, words in ((None, "No vocabulary"), (Lexicon.of(["buyer"]), "too small")):
        found = find_errors(*pair, lexicon=lexicon)
        assert "substitution" not in {span.kind for span in found.spans}
        assert words in found.note
        assert any(words in note for note in summarise([found]).notes)


# --- what always holds -------------------------------------------------------------------------------------

pieces = st.sampled_from(
    (
        *("a", "b", " ", "\n", "<td>", "</td>", "|", "一", "二", "北京", "，", ",", "می", "\u200c", "e\u0301"),
        *(PARAGRAPH, INVENTED, "12 " * 30, "第二行完全不同"),
    )
)
pages = st.lists(pieces, max_size=8).map("".join)


@settings(max_examples=300, deadline=None)
@given(pages | st.text(max_size=30), pages | st.text(max_size=30), st.sampled_from(get_args(FinishReason)))
def test_spans_are_apart_in_order_and_sum_to_the_edits_of_cer(
    reference: str, prediction: str, finish: FinishReason
) -> None:
    found = find_errors(reference, prediction, finish_reason=finish, lexicon=LEXICON)
    assert found.exact
    assert sum(span.edits for span in found.spans) == found.edits
    expected = score_page(reference, prediction, failed=finish == "error")
    assert found.edits == expected.edits
    ref_at = pred_at = 0
    for span in found.spans:
        assert ref_at <= span.ref_start <= span.ref_end <= len(reference)
        assert pred_at <= span.pred_start <= span.pred_end <= len(prediction)
        assert span.edits > 0
        if not found.failed:  # what lies between spans is equal
            assert reference[ref_at : span.ref_start] == prediction[pred_at : span.pred_start]
        ref_at, pred_at = span.ref_end, span.pred_end
    if not found.failed:
        assert reference[ref_at:] == prediction[pred_at:]


def test_a_page_beyond_the_bound_says_that_its_edits_may_be_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "MAX_CELLS", 1000)
    found = find_errors(PARAGRAPH, INVENTED)
    assert not found.exact
    assert found.edits >= Levenshtein.distance(PARAGRAPH, INVENTED)
    assert any("too long" in note for note in summarise([found]).notes)


# --- over all pages ----------------------------------------------------------------------------------------


def test_shares_counts_pages_and_examples(evaluation: Any) -> None:
    results = evaluation(
        ("一二三四", "二二三四"),
        ("一二三四，一", "二二三四,二"),
        ("right", "right"),
        ("gone", "", "error"),
    ).results
    shares = summarise(classify(results))
    assert (shares.pages, shares.wrong, shares.failed, shares.edits) == (4, 3, 1, 8)
    assert shares["confusion"].spans == 3
    assert shares["confusion"].pages == 2
    assert shares["confusion"].share == 3 / 8
    assert shares["omission"].edits == 4
    assert sum(kind.edits for kind in shares.kinds) == shares.edits
    assert sum(kind.share for kind in shares.kinds) == pytest.approx(1)
    first, second = shares["confusion"].examples
    assert (first.page, first.reference, first.prediction, first.after) == ("p0", "一", "二", "二三四")
    assert second.page == "p1"
    assert any("failed: 1" in note for note in shares.notes)
    assert shares.to_json()["kinds"]["normalisation"]["spans"] == 1


def test_examples_are_few_and_short() -> None:
    found = [find_errors("x", f"x {INVENTED} {PARAGRAPH}", id=str(number)) for number in range(20)]
    examples = summarise(found)["hallucination"].examples
    assert len(examples) == 5
    assert all(len(item.prediction) < 100 and len(item.before) <= 20 for item in examples)


def test_no_pages_is_no_error() -> None:
    shares = summarise([])
    assert (shares.pages, shares.edits) == (0, 0)
    assert all(kind.share == 0 for kind in shares.kinds)


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real data is not here")
@pytest.mark.parametrize("name", ["tapus_alto", "pdx_zh"])
def test_two_unrelated_real_lines_are_hallucinations_and_noisy_ones_are_not(name: str) -> None:
    rows = (DATA / name / "labels.tsv").read_text(encoding="utf-8").splitlines()
    lines = [row.split("\t", 1)[1] for row in rows if "\t" in row]
    lines = [line for line in lines if weight(line) >= 30]
    rng = random.Random(7)
    invented = noisy = 0
    for _ in range(60):
        true, other = rng.sample(lines, 2)
        invented += "hallucination" in kinds(true, other)
        noise = "".join(rng.choice(other) if rng.random() < 0.3 else letter for letter in true)
        noisy += "hallucination" in kinds(true, noise)
    assert invented >= 54
    assert noisy <= 1
