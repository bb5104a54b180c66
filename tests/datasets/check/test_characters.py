"""The inventory of a set: what is mixed in it, rare, or never trained."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ocrsmith.datasets.check.characters import Inventory
from ocrsmith.datasets.check.findings import Finding, Part

from .conftest import WORDS, sample

ENOUGH = ("Aa" + "".join(WORDS)) * 3
"""Every character often, so that none is rare."""


def _inventory(texts: Sequence[str], parts: Sequence[Part] = ()) -> Inventory:
    inventory = Inventory()
    for number, text in enumerate(texts):
        inventory.add(sample(number, b"", text), parts[number] if parts else "train")
    return inventory


def _findings(texts: Sequence[str], parts: Sequence[Part] = ()) -> dict[str, Finding]:
    return {item.code: item for item in _inventory(texts, parts).findings()}


@pytest.mark.parametrize(
    "texts",
    [
        [ENOUGH],
        ["کتاب‌ها را می‌خوانم پ۱۲۳" * 3] * 2,
        ["كتاب اللغة العربية إلى ١٢٣" * 3] * 2,
        ["今天天气很好，我们去公园。" * 3] * 2,
        ["今天天气很好，我们去公园。" * 3, "The weather is fine, we go out. " * 3 + "end" * 3],
        ["café déjà vu" * 3] * 2,
        ["کتاب‌ها را می‌خوانم پ" * 3, "كتاب اللغة العربية إلى" * 3],  # two languages, each written its way
    ],
    ids=["english", "persian", "arabic", "chinese", "chinese and english", "accents", "persian and arabic"],
)
def test_clean_sets_have_no_findings(texts: list[str]) -> None:
    assert _findings(texts) == {}


def test_counts_scripts_and_examples() -> None:
    inventory = _inventory(["aab", "中文a"], ["train", "val"])
    entries = {entry.character: entry for entry in inventory.entries()}
    assert (entries["a"].count, entries["a"].samples, entries["a"].splits) == (3, 2, {"train": 2, "val": 1})
    assert entries["中"].examples == ("s1",)
    assert inventory.scripts == {"Latin": 4, "Han": 2}
    result = inventory.to_json()
    assert (result["different"], result["total"]) == (4, 6)
    assert result["counts"]["a"] == 3


def test_an_odd_character_is_told_with_sample_and_place() -> None:
    found = _findings([ENOUGH, f"{WORDS[0]} p\u0430ge"])
    finding = found["lookalike_letter"]
    assert (finding.severity, finding.count, finding.share) == ("warning", 1, 0.5)
    example = finding.examples[0]
    assert example.id == "s1"
    assert example.mark is not None
    assert example.text[slice(*example.mark)] == "\u0430"
    assert "CYRILLIC SMALL LETTER A" in example.note
    assert finding.mend


def test_a_sample_counts_once_for_each_kind() -> None:
    assert _findings(["a\ufffd\ufffd", "b\ufffd", "c"])["replacement"].count == 2


def test_long_texts_are_shown_around_the_place() -> None:
    text = "x" * 5000 + "\u200b" + "y" * 5000
    example = _findings([text])["zero_width"].examples[0]
    assert len(example.text) < 120
    assert example.mark is not None
    assert example.text[slice(*example.mark)] == "\u200b"


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (["کتاب پارسی", "کتابي"], 1),  # both in one word
        (["کتاب پارسی", "گل زيبا", "چای"], 1),  # Persian letters with an Arabic yeh
        (["کتاب", "کار", "كار"], 1),  # nothing says which language: the lesser form
        (["كتاب", "کار"], 1),
    ],
)
def test_arabic_and_persian_letters_mixed(texts: list[str], count: int) -> None:
    finding = _findings(texts)["arabic_persian_letters"]
    assert finding.count == count
    assert "with ی/ک: " in finding.detail


@pytest.mark.parametrize(
    ("texts", "mixed"),
    [
        (["سال ۱۲ پ", "سال ٣"], True),
        (["۱۲ و ٣"], True),
        (["سال ۱۲", "سال ۱۳"], False),
        (["سال ۱۲ پ", "سنة ١٢ إ"], False),
        (["سال ۱۲", "2024"], False),
    ],
)
def test_arabic_and_persian_digits_mixed(texts: list[str], mixed: bool) -> None:
    assert ("arabic_persian_digits" in _findings(texts)) is mixed


def test_full_width_letters_beside_plain_ones() -> None:
    assert "full_width" not in _findings(["ＡＢＣ１２３"])
    finding = _findings(["ABC 123", "型号Ａ１"])["full_width"]
    assert finding.count == 1
    assert finding.examples[0].id == "s1"


def test_both_kinds_of_punctuation_after_chinese_characters() -> None:
    found = _findings(["你好，世界。" * 9, "你好,世界"])["mixed_punctuation"]
    assert found.severity == "info"
    assert "9 full-width, 1 plain" in found.detail
    assert found.examples[0].id == "s1"


def test_mixed_normal_forms() -> None:
    mixed = _findings(["cafe\u0301", "caf\u00e9"])["mixed_normal_forms"]
    assert (mixed.count, mixed.examples[0].id) == (1, "s0")
    assert set(_findings(["cafe\u0301" * 3, "cafe\u0301"])) == {"separate_accents"}


def test_characters_that_train_never_has() -> None:
    texts = [ENOUGH, ENOUGH + "龍", ENOUGH + "龍龍虎"]
    inventory = _inventory(texts, ["train", "val", "test"])
    assert [(entry.character, entry.count) for entry in inventory.unseen()] == [("龍", 3), ("虎", 1)]
    finding = next(item for item in inventory.findings() if item.code == "unseen_characters")
    assert finding.detail.endswith("龍 虎")
    assert [(example.id, example.split) for example in finding.examples] == [("s1", "val"), ("s2", "test")]
    assert inventory.to_json()["unseen_total"] == 2


def test_without_train_nothing_is_unseen() -> None:
    assert _inventory(["ab", "cd"], ["test", "test"]).unseen() == []
    assert _inventory(["ab", "cd"], [None, None]).unseen() == []


def test_rare_characters_are_listed_with_their_samples() -> None:
    inventory = _inventory([ENOUGH, ENOUGH + "ß\u2063"])
    assert [entry.character for entry in inventory.rare()] == ["\u2063", "ß"]
    assert inventory.to_json()["rare"][1]["examples"] == ["s1"]
    title = next(item.detail for item in inventory.findings() if item.code == "rare_characters")
    assert title.endswith("2: U+2063 ß")


def test_a_few_letters_of_other_scripts() -> None:
    found = _findings([ENOUGH * 3, ENOUGH * 3 + "дд"])
    assert found["stray_script"].detail.endswith("Cyrillic 2")
    assert found["stray_script"].examples[0].id == "s1"


def test_signs_that_people_type_for_one_another() -> None:
    found = _findings(["it's " * 3, "it\u2019s " * 3])["alternative_signs"]
    assert found.severity == "info"
    assert "' 3×" in found.detail
    assert "\u2019 3×" in found.detail
