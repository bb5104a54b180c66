"""Alignment: as few edits as Levenshtein counts, at borders that people see, and bounded for loops."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation import alignment
from ocrsmith.evaluation.alignment import Edit, align, clusters, zones
from ocrsmith.evaluation.repetition import Repetition, find_repetitions

texts = st.text(st.sampled_from("ab \n一二می\u200c<td>"), max_size=40)


def changed(reference: str, prediction: str) -> list[tuple[str, str]]:
    return [
        (reference[e.ref_start : e.ref_end], prediction[e.pred_start : e.pred_end])
        for e in align(reference, prediction).edits
    ]


def rebuilt(reference: str, prediction: str) -> str:
    """The prediction, made from the reference by its edits."""
    parts, at = [], 0
    for edit in align(reference, prediction).edits:
        parts += [reference[at : edit.ref_start], prediction[edit.pred_start : edit.pred_end]]
        at = edit.ref_end
    return "".join([*parts, reference[at:]])


@settings(deadline=None)
@given(texts, texts)
def test_edits_sum_to_the_distance_and_make_the_prediction(reference: str, prediction: str) -> None:
    found = align(reference, prediction)
    assert found.exact
    assert sum(edit.cost for edit in found.edits) == Levenshtein.distance(reference, prediction)
    assert rebuilt(reference, prediction) == prediction


@settings(deadline=None)
@given(texts, texts)
def test_clusters_and_zones_hold_every_edit_once_and_in_order(reference: str, prediction: str) -> None:
    edits = align(reference, prediction).edits
    for groups in (clusters(edits), zones(edits)):
        assert [index for group in groups for index in group] == list(range(len(edits)))


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ("the cat\nthe cow\nthe cod", "the cat\nthe cod", [("the cow\n", "")]),
        ("one two two three", "one two three", [("two ", "")]),
        ("<td>a</td><td>b</td>", "<td>a</td><td>x</td><td>b</td>", [("", "<td>x</td>")]),
        ("同上同上。", "同上。", [("同上", "")]),
    ],
)
def test_what_is_added_or_missing_begins_where_a_line_word_or_tag_does(
    reference: str, prediction: str, expected: list[tuple[str, str]]
) -> None:
    assert changed(reference, prediction) == expected


def test_specks_of_chance_agreement_do_not_part_a_zone() -> None:
    reference = "right start. Committee of seven members. right end"
    prediction = "right start. Zusammen fahren wir dahin heute. right end"
    edits = align(reference, prediction).edits
    assert len(clusters(edits)) > 3
    assert len(zones(edits)) == 1


def test_words_that_were_read_part_zones() -> None:
    edits = [Edit(0, 1, 0, 1), Edit(3, 4, 3, 4)]  # one wrong, two right, one wrong
    assert zones(edits) == [[0], [1]]


def test_texts_beyond_the_bound_are_cut_where_they_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    lines = ["".join(rng.choices("abcdefghijklmnop ", k=60)) for _ in range(40)]
    reference = "\n".join(lines)
    prediction = reference.replace("a", "o", 30).replace(lines[20], lines[20] + " more")
    monkeypatch.setattr(alignment, "MAX_CELLS", 300_000)
    found = align(reference, prediction)
    assert not found.exact
    assert rebuilt(reference, prediction) == prediction
    assert Levenshtein.distance(reference, prediction) <= sum(edit.cost for edit in found.edits) <= 40


@pytest.mark.parametrize(
    ("reference", "prediction"), [("a" * 50, "b" * 70), ("ab" * 300, "ab" * 250), ("", "b" * 300)]
)
def test_texts_beyond_the_bound_that_share_no_such_passage_are_cut_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, reference: str, prediction: str
) -> None:
    monkeypatch.setattr(alignment, "MAX_CELLS", 100)
    distance = Levenshtein.distance(reference, prediction)
    assert rebuilt(reference, prediction) == prediction
    assert distance <= sum(edit.cost for edit in align(reference, prediction).edits) <= 2 * distance


# --- repetitions -------------------------------------------------------------------------------------------


def test_a_loop_is_found_with_its_unit() -> None:
    (found,) = find_repetitions("A page that begins well. " + "۱۲۳۴ " * 40)
    assert found.period == 5
    assert (found.start, found.end) == (24, 225)  # the space before is like the unit's


def test_a_loop_of_megabytes_is_found() -> None:
    text = "Some text first, then: " + "the same sentence again and " * 40_000
    (found,) = find_repetitions(text)
    assert found.period == 28
    assert found.end == len(text)


def test_a_loop_with_stray_characters_is_one() -> None:
    text = "".join("all work and no play makes a loop" + (str(n % 10)) for n in range(20))
    (found,) = find_repetitions(text)
    assert found.period == 34


def test_two_loops_are_two() -> None:
    text = "abcde" * 20 + "Here the page goes on with quite another text, line by line. " + "xyz" * 40
    assert [found.period for found in find_repetitions(text)] == [5, 3]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "-" * 60,
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut",
        "<tr><td>1</td><td>20</td></tr><tr><td>47</td><td>5</td></tr><tr><td>3</td><td>611</td></tr>",
        "第一章 总则第一条为了规范公司的组织和行为，保护公司、股东和债权人的合法权益，"
        "维护社会经济秩序，促进社会主义市场经济的发展，制定本法。",
    ],
)
def test_usual_text_is_no_loop(text: str) -> None:
    assert find_repetitions(text) == []


@settings(deadline=None)
@given(st.text(max_size=200) | st.builds(lambda unit, n: unit * n, st.text(max_size=9), st.integers(0, 60)))
def test_repetitions_lie_within_the_text_and_apart(text: str) -> None:
    end = 0
    for found in find_repetitions(text):
        assert isinstance(found, Repetition)
        assert end <= found.start < found.end <= len(text)
        assert found.end - found.start >= 3 * found.period
        end = found.end
