"""Which document a sample belongs to."""

from __future__ import annotations

import pytest

from ocrsmith.datasets.groups import GroupIndex, GroupRule
from ocrsmith.datasets.importers import Candidate
from ocrsmith.errors import SettingsError


def group(rule: str | None, path: str, given: str = "") -> str:
    candidate = Candidate(image=None, image_path=path, text="x", source="s", line=1, group=given)
    return GroupRule.parse(rule).group_of(candidate)


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        ("parent", "images/doc1/3.png", "images/doc1"),
        ("parent", "images\\doc1\\3.png", "images/doc1"),
        ("stem-prefix", "images/doc1_3.png", "images/doc1"),
        ("stem-prefix", "doc1-page-12.png", "doc1-page"),
        ("stem-prefix", "page.png", "page"),
        ("stem-prefix:__", "lines/doc_1__p2__l3.png", "lines/doc_1"),
        ("stem-prefix:__", "doc_1.png", "doc_1"),
        (None, "a/b.png", "given"),
        ("column:book", "a/b.png", "given"),
    ],
)
def test_rules(rule: str | None, path: str, expected: str) -> None:
    assert group(rule, path, "given") == expected


@pytest.mark.parametrize("rule", ["folder", "parent:2", "column", "column:"])
def test_unknown_rules_are_refused(rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        GroupRule.parse(rule)
    assert "stem-prefix" in (caught.value.mend or "")


def test_a_copy_joins_whole_documents() -> None:
    index = GroupIndex(seed=42)
    for sample, name, image in (
        ("1", "a", b"x"),
        ("2", "a", b"y"),
        ("3", "b", b"y"),
        ("4", "b", b"z"),
        ("5", "", b"q"),
    ):
        index.add(sample, name, image, b"text")
    of_sample, sizes, keys = index.resolve()
    assert of_sample.tolist() == [0, 0, 0, 0, 1]
    assert sizes.tolist() == [4, 1]
    assert len(keys) == 2
    assert index.copies == 1
    assert index.contradictions == 0
