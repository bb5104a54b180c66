"""Fields are read from tags and JSON, and their values compared; missing and invented ones are counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics.fields import MAX_FIELDS, FieldScore, parse_fields, score_fields
from ocrsmith.text.normalise import parse_policy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<name>张三</name>\n<sum>12.50</sum>", (("name", "张三"), ("sum", "12.50"))),
        ("姓名:<value>张三</value>\n日期： <value>2024</value>", (("姓名", "张三"), ("日期", "2024"))),
        ("名字 <value>x</value>", (("value", "x"),)),  # no colon: the tag names it
        ("a: 1, b: <value>2</value>; c:<value>3</value>", (("1, b", "2"), ("; c", "3"))),
        ("<نام>علی</نام>", (("نام", "علی"),)),
        ("<person><name>A</name><age> 3 </age></person>", (("name", "A"), ("age", "3"))),
        ("<table><tr><td>x</td></tr></table><b>y</b>", ()),
        ("<name>never closed", ()),
        ("<name></name>", (("name", ""),)),
        ('{"a": {"b": "x"}, "c": [1.50, null]}', (("a.b", "x"), ("c[0]", "1.50"), ("c[1]", "null"))),
        ('{"c": [true, false]}', (("c[0]", "true"), ("c[1]", "false"))),
        ('```json\n{"a": 1}\n```', (("a", "1"),)),
        ('{"a": 1, "a": 2}', (("a", "1"), ("a", "2"))),
        ('{"a": NaN}', (("a", "NaN"),)),
        ('{"a": {}, "b": []}', ()),
        ('{"a": 1', ()),
        ("", ()),
        ("plain text", ()),
    ],
)  # fmt: skip
def test_fields_are_read(text: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert parse_fields(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        '{"a":' + "[" * 900 + "]" * 900 + "}",
        "<a>" * 50_000,
        "<a" * 50_000,
        "x" * 200_000 + ":<value>1</value>",
        ":" * 50_000 + "<value>1</value>" * 20_000,
        "```" + "\n" * 100_000,
        '{"a":' + "9" * 100_000 + "}",
    ],
)
def test_hostile_texts_are_bounded(text: str) -> None:
    assert len(parse_fields(text)) <= MAX_FIELDS


@given(st.text(alphabet=st.sampled_from('<>/value:{}[]",a中\n `1')))
def test_any_text_is_read_without_an_error(text: str) -> None:
    fields = parse_fields(text)
    score = score_fields([text], [text])
    assert score.micro.reference == score.micro.exact == len(fields)
    assert score.micro.accuracy == score.macro_accuracy == score.f1 == 1


NAMES = st.dictionaries(st.sampled_from(["a", "b", "名"]), st.sampled_from(["1", "x", "中"]))


@given(NAMES, NAMES)
def test_counts_fit_together(true: dict[str, str], read: dict[str, str]) -> None:
    score = score_fields([json.dumps(true)], [json.dumps(read)])
    total = score.micro
    assert (total.reference, total.missing) == (len(true), len(set(true) - set(read)))
    assert total.invented == len(set(read) - set(true))
    assert total.exact == sum(read.get(name) == value for name, value in true.items())
    assert total.exact <= total.normalised
    assert 0 <= score.f1 <= 1
    assert 0 <= score.macro_accuracy <= 1
    assert score.unreadable == (bool(true) and not read)


def test_scores_by_hand() -> None:
    true = ["姓名:<value>张三</value>\n日期:<value>2024</value>", '{"姓名": "Li Si", "金额": "1"}']
    read = ["姓名:<value>张三</value>\n地址:<value>x</value>", '{"姓名": "ＬＩ  si", "金额": "1"}']
    score = score_fields(true, read)
    assert dict(score.by_name) == {
        "姓名": FieldScore(reference=2, exact=1, normalised=2),
        "日期": FieldScore(reference=1, missing=1),
        "地址": FieldScore(invented=1),
        "金额": FieldScore(reference=1, exact=1, normalised=1),
    }
    assert score.micro == FieldScore(reference=4, exact=2, normalised=3, missing=1, invented=1)
    assert (score.micro.accuracy, score.micro.normalised_accuracy) == (2 / 4, 3 / 4)
    assert score.macro_accuracy == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert score.macro_normalised_accuracy == pytest.approx((1 + 0 + 1) / 3)
    assert score.f1 == pytest.approx(2 * 2 / (4 + 4))
    assert score.by_name["地址"].accuracy == 0
    assert score.policy == "nfkc+casefold+whitespace"


def test_repeated_fields_are_compared_one_after_the_other() -> None:
    score = score_fields(["<i1>a</i1><i1>b</i1>"], ["<i1>a</i1><i1>x</i1><i1>b</i1>"])
    assert score.by_name["i1"] == FieldScore(reference=2, exact=1, normalised=1, invented=1)


def test_the_policy_can_be_chosen_and_unreadable_predictions_are_counted() -> None:
    score = score_fields(["<k>ي۱</k>", "<k>1</k>"], ["<k>ی1</k>", '{"k": '], policy=parse_policy("fa"))
    assert score.by_name["k"] == FieldScore(reference=2, exact=0, normalised=1, missing=1)
    assert (score.unreadable, score.policy) == (1, "fa")
    with pytest.raises(ValueError):
        score_fields(["a"], [])
