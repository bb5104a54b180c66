"""Labels that are likely wrong, told from weaknesses of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ocrsmith.evaluation.error_kinds import classify
from ocrsmith.evaluation.mine.cases import find_cases, typical_confidence
from ocrsmith.evaluation.mine.suspects import Suspect, find_suspects
from ocrsmith.evaluation.store import PageResult

from .conftest import Read, line

EXACT = [Read(line(number), line(number), 0.97) for number in range(30)]


def suspects_of(reads: Sequence[Read]) -> dict[int, Suspect]:
    results = [
        PageResult(
            index,
            f"p{index}",
            "",
            "",
            read.reference,
            read.prediction,
            read.finish,
            logprob_mean=None if read.confidence is None else math.log(read.confidence),
        )
        for index, read in enumerate(reads)
    ]
    scores = [result.score for result in results]
    typical = typical_confidence(results, scores)
    cases = find_cases(results, scores, classify(results), typical)
    return {one.case.result.index: one for one in find_suspects(cases, results, typical)}


def test_labels_that_changed_places_are_found_without_confidences() -> None:
    reads = [Read(read.reference, read.prediction) for read in EXACT]
    reads[4], reads[9] = Read(line(4), line(9)), Read(line(9), line(4).replace("a", "o"))
    found = suspects_of(reads)
    assert {index: one.rule for index, one in found.items()} == {4: "swapped", 9: "swapped"}
    assert found[4].reason == "What was read is the reference of 'p9'."


def test_a_short_text_is_not_told_from_others() -> None:
    assert not suspects_of([Read("Total", "Nr. 7"), Read("Nr. 7", "Nr. 7")])


def test_a_confident_reading_of_another_text_is_a_suspect_and_an_unsure_one_a_hard_page() -> None:
    other = Read("Ferry to the island at 08:40", "Timber sold by weight only", 0.98)
    assert suspects_of([*EXACT, other])[30].rule == "confident"
    assert not suspects_of([*EXACT, Read(other.reference, other.prediction, 0.7)])
    assert not suspects_of([*EXACT, Read(other.reference, other.prediction, None)])


def test_what_the_model_confuses_everywhere_is_its_weakness() -> None:
    weak = [Read(f"{a}1711 71{b} 1177", f"{a}7777 77{b} 7777", 0.98) for a, b in ("ab", "cd", "ef", "gh")]
    assert not suspects_of([*EXACT, *weak])
    alone = suspects_of([*EXACT, weak[0]])
    assert alone[30].rule == "confident"  # once only: nothing says that it is the model


def test_references_that_lack_text_or_have_too_much() -> None:
    more = "Received from the harbour office, 12 crates of lamps"
    less = "Received from the harbour office"
    other = "Ferry to the island at 08:40"
    found = suspects_of([*EXACT, Read(less, more, 0.98), Read(f"{other}, daily but Sundays", other, 0.98)])
    assert {index: one.rule for index, one in found.items()} == {30: "length", 31: "length"}
    assert found[30].reason == "More text was seen than the reference has (52 characters against 32)."
    assert found[31].reason == "The reference has more text than was seen (47 characters against 28)."


def test_cut_off_pages_say_nothing_about_their_reference() -> None:
    cut = Read("Received from the harbour office, 12 crates", "Received from the", 0.99, "length")
    assert not suspects_of([*EXACT, cut])


def test_spelling_alone_is_a_matter_of_convention() -> None:
    found = suspects_of([*EXACT, Read("Ｎｏ．１２ paid", "No.12 paid", 0.5)])
    assert found[30].rule == "convention"


def test_the_strongest_evidence_comes_first() -> None:
    reads = [
        *EXACT,
        Read("Ｎｏ．１２ paid", "No.12 paid", 0.98),
        Read("Ferry to the island at 08:40", "Timber sold by weight only", 0.98),
        Read("Lamp oil, two barrels left", line(3), 0.98),
    ]
    assert [one.rule for one in suspects_of(reads).values()] == ["swapped", "confident", "convention"]
