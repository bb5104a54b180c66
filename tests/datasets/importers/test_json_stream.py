"""JSON files, item by item."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrsmith.datasets.importers import json_text
from ocrsmith.datasets.importers.json_stream import Item, first_object, open_json
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.records import Excluded


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def items(path: Path, encoding: str = "utf-8") -> list[Item | Excluded]:
    return list(open_json(path, encoding).items())


def values(path: Path, encoding: str = "utf-8") -> list[Any]:
    return [item.value for item in items(path, encoding) if isinstance(item, Item)]


def until_damage(path: Path) -> tuple[list[Item | Excluded], DataError]:
    """What comes before the error, and the error."""
    given_items: list[Item | Excluded] = []
    with pytest.raises(DataError) as caught:
        given_items.extend(_collected(open_json(path, "utf-8").items(), given_items))
    return given_items, caught.value


def _collected(source: Iterator[Item | Excluded], into: list[Item | Excluded]) -> list[Item | Excluded]:
    for item in source:
        into.append(item)
    return []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("array.json", '[{"a": 1},\n{"a": 2}]'),
        ("object.json", '{"version": {"n": [1]}, "samples": [{"a": 1},\n{"a": 2}], "more": "]}"}'),
        ("lines.jsonl", '{"a": 1}\n{"a": 2}\n'),
        ("lines.json", '{"a": 1}\n{"a": 2}'),
        ("blank.jsonl", '\n{"a": 1}\r\n\n{"a": 2}\r\n'),
        ("comma.json", '[{"a": 1}, {"a": 2},]'),
        ("bom.json", '\ufeff[{"a": 1}, {"a": 2}]'),
        ("bom.jsonl", '\ufeff{"a": 1}\n{"a": 2}'),
    ],
)
def test_all_layouts(tmp_path: Path, name: str, text: str) -> None:
    assert values(write(tmp_path / name, text)) == [{"a": 1}, {"a": 2}]


def test_one_object_is_one_item_unless_it_holds_a_list_of_items(tmp_path: Path) -> None:
    row = {"image": "a.png", "text": "x", "boxes": [{"x": 1}]}
    assert values(write(tmp_path / "a.json", json.dumps(row, indent=2).replace("\n", " "))) == [row]
    assert values(write(tmp_path / "b.json", json.dumps({"data": [row, row]}, indent=2))) == [row, row]


def test_a_row_of_json_lines_may_hold_a_list(tmp_path: Path) -> None:
    row = {"image": "a.png", "annotations": [{"x": 1}]}
    file = write(tmp_path / "a.json", f"{json.dumps(row)}\n{json.dumps(row)}\n")
    assert values(file) == [row, row]


def test_items_have_the_line_on_which_they_begin(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '[\n  {"a":\n 1},\n\n  {"a": 2}, {"a": 3}]')
    assert [(item.line) for item in items(file)] == [2, 5, 5]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.dictionaries(
            st.text(max_size=4),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.text(max_size=8)
                | st.floats(allow_nan=False, width=16),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
                ),
                max_leaves=6,
            ),
            max_size=4,
        ),
        min_size=1,
        max_size=8,
    ),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    block=st.integers(1, 40),
    layout=st.sampled_from(["array", "object", "lines"]),
)
def test_gives_what_the_standard_library_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, Any]],
    ascii_only: bool,
    indent: int | None,
    block: int,
    layout: str,
) -> None:
    """Wherever the window ends: in an escape, a multi-byte character, a number."""
    monkeypatch.setattr(json_text, "_BLOCK", block)
    rows = json.loads(json.dumps(rows).replace("Infinity", "1"))
    if layout == "lines":
        text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
        file = write(tmp_path / "a.jsonl", text)
    else:
        value = rows if layout == "array" else {"x": "[{", "samples": rows, "y": {"z": "]"}}
        file = write(tmp_path / "a.json", json.dumps(value, ensure_ascii=ascii_only, indent=indent))
    assert values(file) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    text=st.text(alphabet='[]{}",:\\ \n01aé-.tu', max_size=40),
    start=st.sampled_from(["", "[{", '{"samples":[', "["]),
)
def test_no_text_ends_in_anything_but_items_or_a_data_error(tmp_path: Path, text: str, start: str) -> None:
    file = write(tmp_path / "a.json", start + text)
    try:
        assert all(isinstance(item, (Item, Excluded)) for item in items(file))
    except DataError as error:
        if str(file) not in (error.place or "") or not error.mend:
            pytest.fail(f"no place or no mend: {error}")


def test_cut_in_half_gives_what_comes_before_and_says_where_it_ends(tmp_path: Path) -> None:
    whole = json.dumps([{"image": f"{n}.png", "text": "one two three"} for n in range(100)], indent=1)
    file = write(tmp_path / "a.json", whole[: len(whole) // 2])
    before, error = until_damage(file)
    assert 40 < len(before) < 60
    assert "breaks off inside item" in error.problem
    assert f"{len(before)} items come before" in error.problem
    assert "a.json, line" in (error.place or "")


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}',
        '[{"a": 1},',
        '{"samples": [{"a": 1}',
        '{"samples": [{"a": 1}]',
        '{"samples": [{"a": 1}], "b',
    ],
)
def test_cut_between_items_is_an_error_too(tmp_path: Path, text: str) -> None:
    before, error = until_damage(write(tmp_path / "a.json", text))
    assert [item.value for item in before if isinstance(item, Item)] == [{"a": 1}]
    assert "breaks off" in error.problem


def test_a_broken_line_of_json_lines_costs_only_itself(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 2\n{"a": 3}\n[4]\n{"a": 5')
    good, bad = values(file), [item for item in items(file) if isinstance(item, Excluded)]
    assert good == [{"a": 1}, {"a": 3}]
    assert [item.line for item in bad] == [2, 4, 5]
    assert {item.reason for item in bad} == {"malformed"}
    assert "line 2, column" in bad[0].detail
    assert "a list, not an object" in bad[1].detail
    assert "may be cut" in bad[2].detail


def test_a_broken_item_of_an_array_costs_only_itself(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '[{"a": 1},\n{\'a\': 2},\n{"a": 3, }, 4, null, "five",\n{"a": 6}]')
    assert values(file) == [{"a": 1}, {"a": 6}]
    assert [item.line for item in items(file) if isinstance(item, Excluded)] == [2, 3, 3, 3, 3]


def test_a_missing_comma_and_a_second_document_are_errors(tmp_path: Path) -> None:
    _, error = until_damage(write(tmp_path / "a.json", '[{"a": 1}\n{"a": 2}]'))
    assert "where a comma" in error.problem
    _, error = until_damage(write(tmp_path / "b.json", '[{"a": 1}]\n[{"a": 2}]'))
    assert "follows after the end" in error.problem


def test_objects_with_commas_but_no_array_are_explained(tmp_path: Path) -> None:
    for text in ('{"a": 1},\n{"a": 2}', '{\n"a": 1}\n{\n"a": 2}'):
        with pytest.raises(DataError, match="without an array"):
            open_json(write(tmp_path / "a.json", text), "utf-8")


def test_duplicate_keys_are_no_guess(tmp_path: Path) -> None:
    good, bad = items(write(tmp_path / "a.json", '[{"a": 1}, {"text": "x", "text": "y"}]'))
    assert isinstance(good, Item)
    assert isinstance(bad, Excluded)
    assert "'text' is there twice" in bad.detail


def test_a_second_list_is_never_passed_over_in_silence(
    tmp_path: Path,
) -> None:
    before, error = until_damage(write(tmp_path / "a.json", '{"data": [{"a": 1}], "data": [{"a": 2}]}'))
    assert len(before) == 1
    assert "'data' is there twice" in error.problem
    file = write(tmp_path / "b.json", '{"images": [{"a": 1}], "categories": [{"a": 2}]}')
    good, other = items(file)
    assert isinstance(good, Item)
    assert isinstance(other, Excluded)
    assert "'categories' was not read" in other.detail


def test_missing_numbers_become_null_and_no_value_is_infinite(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '[{"a": NaN, "b": -Infinity, "c": 1e999, "d": 1.5}]')
    assert values(file) == [{"a": None, "b": "-Infinity", "c": "1e999", "d": 1.5}]


def test_deep_nesting_costs_only_the_item(tmp_path: Path) -> None:
    deep = '{"a":' * 90 + "1" + "}" * 90
    bottomless = '{"a":' + "[" * 200_000 + "]" * 200_000 + "}"
    file = write(tmp_path / "a.json", f'[{deep}, {bottomless}, {{"a": 1}}]')
    assert values(file) == [{"a": 1}]
    assert ["nested" in item.detail for item in items(file) if isinstance(item, Excluded)] == [True, True]


def test_half_a_surrogate_pair_costs_only_the_item(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", r'[{"a": "\ud83d\ude00"}, {"a": "\ud83d"}, {"a": "\udc00x"}]')
    assert values(file) == [{"a": "\U0001f600"}]
    assert "surrogate" in str(items(file)[1])


def test_a_number_of_thousands_of_digits_costs_only_the_item(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", f'[{{"a": 1}}, {{"a": {"9" * 5000}}}]')
    assert values(file) == [{"a": 1}]


def test_items_too_long_to_hold_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_VALUE", 1000)
    monkeypatch.setattr(json_text, "_BLOCK", 100)
    monkeypatch.setattr("ocrsmith.datasets.importers.json_stream.MAX_VALUE", 1000)
    long = json.dumps({"a": 'x\\"]}' * 5000})
    array = write(tmp_path / "a.json", f'[{{"a": 1}}, {long}, {{"a": 2}}]')
    lines = write(tmp_path / "a.jsonl", f'{{"a": 1}}\n{long}\n{{"a": 2}}')
    for file in (array, lines):
        first, too_long, last = items(file)
        assert isinstance(first, Item)
        assert isinstance(last, Item)
        assert isinstance(too_long, Excluded)
        assert too_long.reason == "too_large"


def test_chinese_in_gbk_is_named_and_read_when_asked(tmp_path: Path) -> None:
    rows = [{"text": "第一行文字，测试数据"} for _ in range(200)]
    file = write(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False), "gb18030")
    with pytest.raises(DataError, match="not utf-8") as caught:
        open_json(file, "utf-8")
    assert "--encoding gb18030" in (caught.value.mend or "")
    assert values(file, "gb18030") == rows


def test_the_place_of_a_wrong_byte_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_BLOCK", 7)
    data = '[{"a": "é"},\n'.encode() * 3 + b'{"a": "\xff"}]'
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DataError) as caught:
        items(tmp_path / "a.json")
    assert caught.value.place is not None
    assert caught.value.place.endswith(f"line 4, byte {data.index(0xFF) + 1} of the file")


def test_utf_16_is_named_and_read_when_asked(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '[{"a": "é"}]', "utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        open_json(file, "utf-8")
    assert values(file, "utf-16") == [{"a": "é"}]
    assert first_object(file, file.read_bytes()) == {"a": "é"}


def test_an_unknown_encoding_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no text encoding"):
        open_json(write(tmp_path / "a.json", "[]"), "utf-9")


@pytest.mark.parametrize("text", ["", "   \n", "[]", '{"samples": []}', "hello", "[1, 2]", '"text"'])
def test_files_without_items_are_errors(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError):
        open_json(write(tmp_path / "a.json", text), "utf-8")


def test_recognition_never_raises(tmp_path: Path) -> None:
    for text in ("", "x", "[", "{", "[1", '{"a', "[[]]", '{"a": 1}'):
        file = write(tmp_path / "a.json", text)
        assert first_object(file, text.encode()) == ({"a": 1} if text == '{"a": 1}' else None)
    assert first_object(tmp_path / "none.json", b"[{") is None


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    row = json.dumps({"image": "a.png", "text": "一" * 200}, ensure_ascii=False)
    with file.open("w", encoding="utf-8") as stream:
        stream.write("[" + ",".join([row] * 30_000) + "]")
    assert file.stat().st_size > 15_000_000
    source = open_json(file, "utf-8")
    tracemalloc.start()
    count = sum(1 for _ in source.items())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 4_000_000
