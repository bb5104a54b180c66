"""The confusion table: what is counted, in which order, and files that the synthesis takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsmith.datasets.synth.emphasis import read_emphasis
from ocrsmith.evaluation import confusions
from ocrsmith.evaluation.confusions import Confusion, ConfusionTable, write_characters, write_table
from ocrsmith.evaluation.error_kinds import find_errors


def table(*pairs: tuple[str, str]) -> ConfusionTable:
    return ConfusionTable.of(find_errors(reference, prediction) for reference, prediction in pairs)


def test_pairs_are_counted_and_the_commonest_come_first() -> None:
    found = table(("一月一日", "二月一日"), ("一人", "二人"), ("未来", "末来"), ("modern", "modem"))
    assert found.top() == [
        Confusion("一", "二", 2, 2 / 3),
        Confusion("rn", "m", 1, None),
        Confusion("未", "末", 1, 1.0),
    ]
    assert found.top(1) == [Confusion("一", "二", 2, 2 / 3)]


def test_neighbours_are_counted_one_by_one_but_swapped_ones_together() -> None:
    assert set(table(("ab12", "xy12")).pairs) == {("a", "x"), ("b", "y")}
    assert set(table(("No. 12", "No. 21")).pairs) == {("12", "21")}


def test_single_characters_left_out_or_added_count_and_longer_texts_do_not() -> None:
    found = table(("12.50", "1250"), ("total", "total."), ("one\ntwo lines\nthree", "one\nthree"))
    assert dict(found.pairs) == {(".", ""): 1, ("", "."): 1}
    assert [item.rate for item in found.top()] == [None, 1.0]


def test_what_is_no_confusion_is_not_counted() -> None:
    found = table(("全角，", "全角,"), ("<td>a</td>", "<th>a</th>"), ("right", "right"))
    assert not found.pairs
    failed = ConfusionTable.of([find_errors("abc", "", finish_reason="error")])
    assert not failed.pairs
    assert not failed.references


def test_characters_that_are_never_written() -> None:
    found = table(("一二三 龘龘", "一二二 一一"), ("三", "二"))
    assert found.never_written() == [("三", 2), ("龘", 2)]
    assert table(("a", "a")).never_written() == []
    assert found.never_written(least=3) == []


def test_memory_is_bounded_and_what_went_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusions, "MAX_PAIRS", 20)
    pages = [("一", "二"), ("一", "二"), *((chr(0x5000 + n), chr(0x7000 + n)) for n in range(100))]
    found = table(*pages)
    assert found.pairs["一", "二"] == 2
    assert len(found.pairs) <= 21
    assert found.dropped + len(found.pairs) == 101


def test_the_synthesis_takes_the_files(tmp_path: Path) -> None:
    found = table(
        *[("一", "二")] * 3,
        ("modern", "modem"),  # a group
        ("foot ball", "football"),  # a space
        ("12.50", "1250"),
        ("می‌روم", "می‌ردم"),
        ("龘字", "一字"),
        ("ab", "a\u200bb"),  # cannot be seen
    )
    file, chars = tmp_path / "confusions.tsv", tmp_path / "chars.txt"
    assert found.write_for_synthesis(file) == 4
    assert file.read_text(encoding="utf-8").splitlines()[0] == "一\t二\t3"
    assert write_characters(chars, found.never_written()) == 5
    emphasis = read_emphasis([chars], [file])
    assert emphasis is not None
    assert emphasis.weights["二"] == 3
    assert emphasis.partners["一"] == ("二", "龘")
    assert emphasis.weights["龘"] == 2
    assert found.write_for_synthesis(file, 1) == 1


def test_where_there_is_nothing_for_the_synthesis_there_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "confusions.tsv"
    assert table(("modern", "modem")).write_for_synthesis(file) == 0
    assert write_characters(file, {" ": 3, "\t": 1}) == 0
    assert not file.exists()


def test_the_whole_table_has_groups_and_escaped_signs(tmp_path: Path) -> None:
    file = tmp_path / "table.tsv"
    write_table(file, table(("modern", "modem"), ("a\\b", "a/b"), ("foot ball", "football")).top())
    assert file.read_text(encoding="utf-8").splitlines() == [
        "reference\tprediction\tcount",
        " \t\t1",
        "\\\\\t/\t1",
        "rn\tm\t1",
    ]
