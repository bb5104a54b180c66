"""Normalisation policies: each by example, every combination idempotent, errors that name what is known."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.errors import SettingsError
from ocrsmith.text.normalise import FA_TABLE, POLICIES, ZH_TABLE, Policy, parse_policy

NAMES = [name for name in POLICIES if name not in ("none", "nfc")]
COMBINATIONS = ["none", "nfc", "nfc+zh+fa+casefold+whitespace"] + [
    "+".join(names) for size in range(1, len(NAMES) + 1) for names in itertools.combinations(NAMES, size)
]
ODD = st.text(
    alphabet=st.sampled_from(
        "aA ß\u0130ǅﬁ²é\u0301\u0653\u064e\u0627\u0640يكى۴٤\u200c\u200d（。“…—ｶﾞﾊﾟ ー\u3000\t\nͅΑ\u0345ᾳﷺ"
    )
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", " Ａ  ", " Ａ  "),
        ("nfc", "e\u0301 ﬁ", "é ﬁ"),
        ("nfkc", "ﬁ Ａ１ ② ﻱ", "fi A1 2 ي"),
        ("zh", "（Ａ１２，“好”。）《诗》", '(A12,"好".)<诗>'),
        ("zh", "第１、２条：……——￥5　全", "第1,2条:......--¥5 全"),
        ("zh", "ﾊﾟｿｺﾝ ガ・ｱ", "パソコン ガ·ア"),
        ("fa", "كتابي", "کتابی"),
        ("fa", "می\u200cخواهم", "میخواهم"),
        ("fa", "مُحَمَّد کتـــاب", "محمد کتاب"),
        ("fa", "۱۲۳ ٤٥٦ 789", "123 456 789"),
        ("whitespace", "  a\t\n b\u3000c\u00a0 ", "a b c"),
        ("casefold", "Straße ΣΑΣ", "strasse σασ"),
        ("nfkc+fa+whitespace", " ﻛﺘﺎﺏ  ۱ ", "کتاب 1"),
        ("WHITESPACE + Zh", "（ａ）\u3000 ", "(a)"),
    ],
)
def test_policies_by_example(name: str, text: str, expected: str) -> None:
    assert parse_policy(name).apply(text) == expected


@pytest.mark.parametrize("name", COMBINATIONS)
@given(text=ODD)
def test_every_policy_is_idempotent(name: str, text: str) -> None:
    policy = parse_policy(name)
    once = policy.apply(text)
    assert policy.apply(once) == once


@given(st.text(), st.sampled_from(COMBINATIONS))
def test_idempotent_on_any_text(text: str, name: str) -> None:
    policy = parse_policy(name)
    once = policy.apply(text)
    assert policy.apply(once) == once
    if "nfkc" in policy.parts and "zh" not in policy.parts:
        assert unicodedata.is_normalized("NFKC", once)


@pytest.mark.parametrize("table", [ZH_TABLE, FA_TABLE])
def test_what_a_table_gives_it_leaves_alone(table: dict[str, str]) -> None:
    assert all(len(key) == 1 and key != value for key, value in table.items())
    assert not set("".join(table.values())) & set(table)


def test_parts_work_in_one_order_however_they_are_written() -> None:
    written = parse_policy("whitespace+fa+nfkc")
    assert written == parse_policy("nfkc + fa + whitespace")
    assert written.name == "nfkc+fa+whitespace"
    assert parse_policy("fa+fa").name == "fa"
    assert parse_policy("none") == Policy()
    assert parse_policy(written.name) == written


def test_many_texts_at_a_time() -> None:
    assert parse_policy("fa").apply_all(["ي", "۱"]) == ["ی", "1"]
    assert Policy().apply_all(iter([" a"])) == [" a"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nfd", "'nfd' is no normalisation policy."),
        ("nfkc+latin", "'latin' is no normalisation policy."),
        ("", "A normalisation policy has no name."),
        ("fa+", "A normalisation policy has no name."),
        ("none+fa", "`none` leaves the text as it is and stands alone."),
        ("nfc+nfkc", "`nfkc` goes beyond `nfc`: only one of them can be meant."),
    ],
)
def test_wrong_names_are_explained(name: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_policy(name)
    assert caught.value.problem == problem
    assert caught.value.place == f"normalisation {name!r}"
    assert caught.value.mend == (
        "use one of none, nfc, nfkc, zh, fa, casefold, whitespace, or several joined by +"
    )
