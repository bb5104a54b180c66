"""Which document a sample belongs to, and which documents stay together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.groups import GroupIndex, GroupRule, Groups, infer_document
from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.similar import REPEATED
from ocrsmith.datasets.split import KeptSplits, hash_key
from ocrsmith.datasets.traits import PLAIN, Traits
from ocrsmith.errors import SettingsError


def group(rule: str | None, path: str, given: str = "") -> str:
    candidate = Candidate(image=None, image_path=path, text="x", source="s", line=1, group=given)
    return GroupRule.parse(rule).group_of(candidate)


def digest(value: str) -> bytes:
    return hashlib.blake2b(value.encode(), digest_size=16).digest()


def traits(picture: str, text: str = "text", file: str = "") -> Traits:
    """Equal names, equal pixels, texts and files; nothing is near."""
    return Traits(digest(file or picture), digest(picture), PLAIN, digest(text), 0, "en", len(text))


def index_of(
    rows: Iterable[tuple[str, str, str]], rule: str | None = None, source: str = "s.tsv", seed: int = 42
) -> Groups:
    """Of (id, group, picture)."""
    index = GroupIndex(seed, GroupRule.parse(rule))
    for sample_id, name, picture in rows:
        index.add(sample_id, name, source, traits(picture), sample_id)
    return index.resolve()


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
        ("auto", "a/b.png", "given"),
        ("column:book", "a/b.png", "given"),
        ("none", "a/b.png", ""),
    ],
)
def test_rules(rule: str | None, path: str, expected: str) -> None:
    assert group(rule, path, "given") == expected


@pytest.mark.parametrize("rule", ["folder", "parent:2", "column", "column:", "none:1", "auto:x"])
def test_unknown_rules_are_refused(rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        GroupRule.parse(rule)
    assert "stem-prefix" in (caught.value.mend or "")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("doc12_page003_line07.png", ("doc12", "")),
        ("scans/doc12-p3.tif", ("scans/doc12", "")),
        ("images/dossier-01_line-01.jpg", ("images/dossier-01", "")),
        ("12148-btv1__0_4a125_default__eSc_line_28a5a538.jpg", ("12148-btv1__0_4a125_default__eSc", "")),
        ("letters/ms7/page_1.png", ("letters/ms7", "")),
        ("letters\\ms7\\page_1.png", ("letters/ms7", "")),
        ("report.pdf#page=3", ("report.pdf", "")),
        ("report.pdf/page-0003.png", ("report.pdf", "")),
        ("page.xml#line_12", ("page.xml", "")),
        ("卷12_第3页.png", ("卷12", "")),
        ("00012_3.png", ("00012", "3")),
        ("ms7/0001.png", ("ms7", "0001")),
        ("word_001.jpg", ("", "")),
        ("images/word_001.jpg", ("images", "")),
        ("fr_0001.png", ("", "")),
        ("images/cover.png", ("", "")),
        ("interface12.png", ("", "")),
        ("", ("", "")),
    ],
)
def test_documents_are_read_from_names(path: str, expected: tuple[str, str]) -> None:
    assert infer_document(path) == expected


@given(st.text(max_size=60))
def test_any_name_can_be_looked_at(path: str) -> None:
    document, number = infer_document(path)
    assert document or not number


def names(documents: int, pages: int, pattern: str) -> list[str]:
    return [pattern.format(d=document, p=page) for document in range(documents) for page in range(pages)]


@pytest.mark.parametrize(
    "pattern", ["doc{d}_page{p}.png", "d{d}/page_{p}.png", "{d:05d}_{p}.png", "b{d}/{p:04d}.png"]
)
def test_documents_are_inferred_where_they_convince(pattern: str) -> None:
    found = index_of((name, "", name) for name in names(6, 4, pattern))
    assert found.sizes.tolist() == [4] * 6
    assert found.named == 6
    assert found.inferred == {"s.tsv": 6}
    assert found.document_of("s.tsv", pattern.format(d=1, p=2), "id").startswith(("doc1", "d1", "00001", "b1"))
    assert found.document_of("other.tsv", pattern.format(d=1, p=2), "id") == ""
    assert "6 documents were inferred" in next(found.notes())


@pytest.mark.parametrize(
    "paths",
    [
        names(4, 4, "doc{d}_page{p}.png"),  # too few documents
        names(12, 1, "doc{d}_page{p}.png"),  # one page each
        [f"IMG_20210{n // 7 + 100}_{n:06d}.jpg" for n in range(42)],  # the numbers just go on
        [f"images/{n:04d}.png" for n in range(50)],  # one folder
        names(5, 1, "doc{d}_page{p}.png") + [f"doc9_page{n}.png" for n in range(9)],  # one has most
        names(5, 2, "doc{d}_page{p}.png") + [f"letter-{n}.png" for n in range(90)],  # most have none
    ],
    ids=["few", "single pages", "running numbers", "one folder", "one large", "few named"],
)
def test_documents_are_not_inferred_from_thin_evidence(paths: list[str]) -> None:
    found = index_of((name, "", name) for name in paths)
    assert found.inferred == {}
    assert len(found.sizes) == len(paths)


def test_inference_can_be_switched_off_and_yields_to_what_is_given() -> None:
    rows = [(name, "", name) for name in names(6, 4, "doc{d}_page{p}.png")]
    assert len(index_of(rows, "none").sizes) == 24
    assert index_of([(name, "book", name) for name, _, _ in rows]).sizes.tolist() == [24]


def test_sources_are_judged_each_for_itself() -> None:
    index = GroupIndex(42)
    for name in names(6, 4, "doc{d}_page{p}.png"):
        index.add(name, "", "good.tsv", traits(name), name)
    for number in range(40):
        index.add(f"x{number}", "", "plain.tsv", traits(f"x{number}"), f"scan {number}.png")
    found = index.resolve()
    assert dict(found.inferred) == {"good.tsv": 6}
    assert len(found.sizes) == 46
    assert found.sources == ("good.tsv", "plain.tsv")


def test_a_copy_joins_whole_documents() -> None:
    rows = [("1", "a", "x"), ("2", "a", "y"), ("3", "b", "y"), ("4", "b", "z"), ("5", "", "q")]
    found = index_of(rows)
    assert sorted(found.sizes.tolist()) == [1, 4]
    assert len(set(found.of_sample[:4].tolist())) == 1
    assert found.copies == 1
    assert found.contradictions == 0
    assert "1 samples have the very image file of an earlier one" in " ".join(found.notes())


def test_a_picture_with_two_texts_is_a_contradiction_and_stays_on_one_side() -> None:
    index = GroupIndex(42)
    index.add("1", "", "s", traits("x", "one"))
    index.add("2", "", "s", traits("x", "two"))
    index.add("3", "", "s", traits("x", "two", file="saved otherwise"))
    found = index.resolve()
    assert found.sizes.tolist() == [3]
    assert (found.copies, found.contradictions) == (1, 1)
    assert "another text" in " ".join(found.notes())


def test_joined_documents_go_where_the_one_of_train_goes() -> None:
    """The train split takes the largest keys, so the largest of the documents decides; copies have no say."""
    rows = [("1", "a", "x"), ("2", "b", "x"), ("3", "", "x"), ("4", "", "x")]
    expected = max(hash_key(42, "group", "a"), hash_key(42, "group", "b"), hash_key(42, "sample", "3"))
    assert index_of(rows).keys.tolist() == [expected]
    alone = [("1", "", "x"), ("2", "", "x"), ("3", "", "x")]
    assert index_of(alone).keys.tolist() == [hash_key(42, "sample", "1")]


def test_letterheads_join_nothing() -> None:
    rows = [
        row
        for document in range(REPEATED + 1)
        for row in (
            (f"{document}/head", f"d{document}", "head"),
            (f"{document}/a", f"d{document}", str(document)),
        )
    ]
    found = index_of(rows)
    assert len(found.sizes) == REPEATED + 1
    assert len(found.repeated) == REPEATED + 1
    assert "letterheads" in " ".join(found.notes())
    assert index_of(rows[: 2 * REPEATED]).sizes.tolist() == [2 * REPEATED]


def test_nothing_is_nothing() -> None:
    found = index_of([])
    assert found.sizes.tolist() == []
    assert list(found.notes()) == []


def test_an_earlier_dataset_is_looked_up_by_document_and_by_sample() -> None:
    keys = np.array([hash_key(42, "group", "a"), hash_key(42, "sample", "5"), hash_key(42, "group", "b")])
    earlier = KeptSplits(keys, np.array([2, 1, 0]))
    rows = [("1", "a", "x"), ("2", "a", "y"), ("5", "", "q"), ("6", "", "r"), ("7", "b", "z"), ("8", "a", "z")]
    found = index_of(rows[:5])
    splits, torn = found.kept(earlier)
    assert splits[found.of_sample].tolist() == [2, 2, 1, -1, 0]
    assert torn == 0
    joined = index_of(rows)
    splits, torn = joined.kept(earlier)
    assert splits[joined.of_sample].tolist() == [0, 0, 1, -1, 0, 0]
    assert torn == 1
    assert joined.kept(None)[0].tolist() == [-1] * len(joined.sizes)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), max_size=30), st.randoms())
def test_what_stays_together_does_not_depend_on_the_order(rows: list[tuple[int, int]], random: object) -> None:
    samples = [
        (str(number), f"d{name}" if name else "", str(picture)) for number, (name, picture) in enumerate(rows)
    ]
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def sets(order: list[tuple[str, str, str]]) -> set[frozenset[str]]:
        found = index_of(order)
        return {
            frozenset(order[number][0] for number in np.flatnonzero(found.of_sample == group))
            for group in range(len(found.sizes))
        }

    assert sets(samples) == sets(shuffled)
