"""More of what a model gets wrong: the files, their mistakes, and the share that comes of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ocrsmith.datasets.synth.emphasis import Emphasis, kind_of, put_in, read_emphasis, string_of
from ocrsmith.datasets.synth.texts import LineStore, LineStoreWriter, WordList, Written
from ocrsmith.datasets.synth.writer import Writer, units_of
from ocrsmith.errors import DataError

from .conftest import TextMaker

LINES = [
    "春天来了，花园里的花开了。",
    "王小明一九年三月",
    "他说明天见面",
    "Invoice No. 70415",
    "二楼服务台",
    "三月十二日",
]


def store(folder: Path, wanted: str) -> LineStore:
    writer = LineStoreWriter(folder, frozenset(wanted))
    for number, line in enumerate(LINES, start=1):
        writer.add(Written(line, "t.txt", number))
    lines = writer.close()
    assert lines is not None
    return lines


def share_with(characters: str, lines: LineStore, emphasis: Emphasis | None, share: float = 0.5) -> float:
    writer = Writer(lines, (), emphasis, share, None)
    rng = random.Random(3)
    made = [writer.line(rng, 24).text for _ in range(1500)]
    return sum(not set(characters).isdisjoint(text) for text in made) / len(made)


def test_characters_and_confusions_are_read(texts: TextMaker) -> None:
    chars = texts(["一\t3", "二", "#", "é 0.5", "", "\t"][:5], "chars.txt")
    confusions = texts(["一\t二\t10", "0\tO\t4", "，\t\t2", "\t丶\t1"], "confusions.tsv")
    emphasis = read_emphasis([chars], [confusions])
    assert emphasis is not None
    assert emphasis.weights == {"一": 13, "二": 11, "#": 1, "é": 0.5, "0": 4, "O": 4, "，": 2, "丶": 1}
    assert emphasis.partners == {"一": ("二",), "二": ("一",), "0": ("O",), "O": ("0",)}
    assert read_emphasis([], []) is None


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("chars", "一二", "'一二' is not one character"),
        ("chars", "一\tmuch", "'much' is no weight"),
        ("chars", "一\t0", "'0' is no weight; it must be above 0"),
        ("chars", "一\t-2", "'-2' is no weight"),
        ("chars", "一\tinf", "'inf' is no weight"),
        ("chars", "一\t2\t3", "3 values"),
        ("confusions", "一\t二", "2 values, not three"),
        ("confusions", "一 二 3", "1 values, not three"),
        ("confusions", "一\t二\tx", "'x' is no weight"),
        ("confusions", "一\t一\t2", "no confusion"),
        ("confusions", "\t\t2", "no confusion"),
        ("confusions", "rn\tm\t2", "'rn' is not one character"),
    ],
)
def test_a_bad_line_is_named(texts: TextMaker, name: str, line: str, problem: str) -> None:
    good = "二\t2" if name == "chars" else "三\t二\t2"
    path = texts([good, "", line], f"{name}.tsv")
    with pytest.raises(DataError, match=problem) as caught:
        read_emphasis(*(([path], []) if name == "chars" else ([], [path])))
    assert caught.value.place == f"{path}, line 3"
    assert "a line" in str(caught.value.mend)


def test_a_file_that_is_not_there_or_empty(tmp_path: Path, texts: TextMaker) -> None:
    with pytest.raises(DataError, match="There is no file"):
        read_emphasis([tmp_path / "none.txt"], [])
    with pytest.raises(DataError, match="no lines"):
        read_emphasis([], [texts(["", " "], "empty.tsv")])


def test_the_share_rises_as_stated(tmp_path: Path) -> None:
    """At least `share` of the texts have such a character; without, 一 or 二 is in three lines of six."""
    lines = store(tmp_path, "丶乙")
    assert share_with("丶乙", lines, None) == 0
    emphasis = Emphasis({"丶": 1, "乙": 1})
    for share in (0.25, 0.5, 0.9):
        assert share_with("丶乙", lines, emphasis, share) == pytest.approx(share, abs=0.04)
    lines = store(tmp_path, "一二")
    usual = share_with("一二", lines, None)
    rival = Emphasis({"一": 1, "二": 1}, {"一": ("二",), "二": ("一",)})
    assert share_with("一二", lines, rival) == pytest.approx(0.5 + 0.5 * usual, abs=0.05)


def test_weights_decide_which_comes_more(tmp_path: Path) -> None:
    writer = Writer(store(tmp_path, "一0"), (), Emphasis({"一": 3, "0": 1}), 1.0, None)
    rng = random.Random(5)
    made = [writer.line(rng, 24).emphasised for _ in range(1200)]
    assert made.count("一") / len(made) == pytest.approx(0.75, abs=0.04)


def test_every_text_that_was_made_has_its_character(tmp_path: Path) -> None:
    emphasis = Emphasis({"一": 1, "0": 1, "۰": 1, "Ω": 1}, {"0": ("O",)})
    writer = Writer(store(tmp_path, "一0"), (), emphasis, 1.0, None)
    rng = random.Random(7)
    for units in (4, 12, 40):
        for _ in range(200):
            cut = writer.line(rng, units)
            assert cut.emphasised in cut.text


def test_it_works_with_words_alone() -> None:
    words = WordList.of("w", [("hello", 5.0), ("book", 3.0), ("room", 2.0)])
    writer = Writer(None, (words,), Emphasis({"0": 1}, {"0": ("o",)}), 1.0, None)
    rng = random.Random(1)
    made = [writer.line(rng, 30).text for _ in range(50)]
    assert all("0" in text for text in made)
    assert any(part in text for text in made for part in ("b0ok", "bo0k", "hell0", "r0om", "ro0m"))


def test_a_character_takes_the_place_of_its_rival() -> None:
    rng = random.Random(1)
    assert put_in("第二楼", "一", ("二",), rng) == ("第一楼", 1)
    assert put_in("Room 70", "O", ("0",), rng) == ("Room 7O", 6)
    made = put_in("سال ۱۴", "۰", (), rng)
    assert made is not None
    assert made[0] in ("سال ۰۴", "سال ۱۰")
    assert put_in("abc", "一", (), rng) is None


def test_digits_of_one_script_are_of_a_kind() -> None:
    assert kind_of("3") == kind_of("7") != kind_of("٣")
    assert kind_of("٣") != kind_of("۳")
    assert kind_of("一") == kind_of("龍") != kind_of("あ")


def test_a_string_has_the_character_and_its_rivals() -> None:
    rng = random.Random(2)
    made = [string_of("0", ("O", "Q"), 5, rng) for _ in range(60)]
    assert all("0" in text and set(text) <= set("0OQ") and len(text) <= 5 for text in made)
    assert string_of("0", (), 1, rng) == "0"


def test_texts_keep_to_the_length(tmp_path: Path) -> None:
    writer = Writer(store(tmp_path, ""), (), None, 0.0, None)
    rng = random.Random(2)
    for units in (4, 9, 16):
        for _ in range(200):
            cut = writer.line(rng, units)
            assert 0 < units_of(cut.text) <= units
            assert cut.text == cut.text.strip()
            assert any(cut.text in line for line in LINES)
