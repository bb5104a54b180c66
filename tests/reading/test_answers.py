"""From answers to pages: boxes in pixels, clean text, and confidence that follows its characters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.engines.confidence import Calibration, Temperature
from ocrsmith.reading.answers import Bounds, to_page
from ocrsmith.reading.document import Block, Box, Page
from ocrsmith.reading.readings import PageReading
from ocrsmith.records import Prediction

GROUNDED = (
    "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 100]]<|/det|>\n# Roads\n\n"
    "<|ref|>image<|/ref|><|det|>[[100, 200, 300, 400]]<|/det|>\n\n"
    "<|ref|>text<|/ref|><|det|>[[0, 500, 999, 999]]<|/det|>\nThe bridge fell.\n"
)


def page(
    text: str, *, unsure: str = "", bounds: Bounds | None = None, size: tuple[int, int] = (1998, 999)
) -> Page:
    """The page of an answer of one token a character, of which those in `unsure` have probability 0.2."""
    start = text.find(unsure) if unsure else len(text)
    low = range(start, start + len(unsure))
    logprobs = tuple(math.log(0.2) if place in low else -0.001 for place in range(len(text)))
    prediction = Prediction(
        "1",
        text,
        "stop",
        1.0,
        logprob_mean=sum(logprobs) / max(1, len(logprobs)),
        token_ends=tuple(range(1, len(text) + 1)),
        token_logprobs=logprobs,
    )
    return to_page(PageReading(0, 3, 1998, 999, None, prediction), bounds or Bounds())


def test_grounded_answers_become_text_and_blocks_with_pixels() -> None:
    read = page(GROUNDED)
    assert read.text == "# Roads\n\nThe bridge fell."
    assert read.answer == GROUNDED
    assert read.blocks == (
        Block("title", "# Roads", 0, 7, (Box(0, 0, 1998, 100),)),
        Block("image", "", 7, 7, (Box(200, 200, 600, 400),)),
        Block("text", "The bridge fell.", 9, 25, (Box(0, 500, 1998, 999),)),
    )


def test_labels_that_are_the_text_stay() -> None:
    lines = "".join(f"<|ref|>{line}<|/ref|><|det|>[[0, 0, 9, 9]]<|/det|>\n" for line in ("Total", "12 €"))
    read = page(lines)
    assert read.text == "Total\n12 €"
    assert [block.text for block in read.blocks] == ["Total", "12 €"]
    assert {block.kind for block in read.blocks} == {"text"}


def test_boxes_that_nobody_can_read_are_none() -> None:
    read = page("<|ref|>text<|/ref|><|det|>[[a, 1], [5000, 5000, 6000, 6000]]<|/det|>\nx")
    assert read.blocks == (Block("text", "x", 0, 1, ()),)
    assert page("<|ref|>text<|/ref|><|det|>[[1,").text == "<|ref|>text<|/ref|><|det|>[[1,"


def test_uncertain_places_are_those_of_the_clean_text() -> None:
    read = page(GROUNDED, unsure="bridge")
    assert [(span.start, span.end, span.text) for span in read.low_confidence] == [(13, 19, "bridge")]
    assert read.low_confidence[0].confidence == pytest.approx(0.2)
    assert read.confidence == pytest.approx(1 - 0.8 * 6 / len(GROUNDED), abs=0.01)


def test_uncertain_marks_are_not_told() -> None:
    assert page(GROUNDED, unsure="[[100, 200, 300, 400]]").low_confidence == ()


def test_bound_and_calibration_decide_what_is_uncertain() -> None:
    assert page("a word", unsure="word", bounds=Bounds(below=0.1)).low_confidence == ()
    sure = Calibration(characters=Temperature(1.0, 5.0), pages=Temperature(1.0, 0.0))
    assert page("a word", unsure="word", bounds=Bounds(calibration=sure)).low_confidence == ()


def test_without_probabilities_nothing_is_uncertain_and_the_confidence_unknown() -> None:
    read = to_page(PageReading(0, 1, 9, 9, None, Prediction("1", "text", "stop", 1.0)), Bounds())
    assert (read.confidence, read.low_confidence) == (None, ())


def test_json_has_boxes_as_lists_and_the_answer_only_where_it_differs() -> None:
    values = page(GROUNDED).to_json()
    assert next(iter(values)) == "page"
    assert values["page"] == 3
    assert values["blocks"][1]["boxes"] == [[200, 200, 600, 400]]
    assert values["answer"] == GROUNDED
    assert "answer" not in page("plain").to_json()


LABELS = st.sampled_from(["title", "text", "image", "table", "a line", ""])
BODIES = st.text(alphabet="ab \n<|>", max_size=12)


@given(BODIES, st.lists(st.tuples(LABELS, BODIES), max_size=4))
def test_blocks_are_what_stands_at_their_place(head: str, parts: list[tuple[str, str]]) -> None:
    answer = head + "".join(
        f"<|ref|>{label}<|/ref|><|det|>[[0, 0, 9, 9]]<|/det|>{body}" for label, body in parts
    )
    read = page(answer)
    for block in read.blocks:
        assert read.text[block.start : block.end] == block.text
    kept = [letter for letter in read.text if not letter.isspace()]
    rest = iter(answer)
    assert all(letter in rest for letter in kept), "every character of the text is one of the answer, in order"
