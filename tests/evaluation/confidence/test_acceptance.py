"""Which pages pass: the promise holds in simulation, and plenty of data lets a useful share pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ocrsmith.engines.confidence import AcceptRule
from ocrsmith.errors import SettingsError
from ocrsmith.evaluation.confidence.acceptance import (
    accept,
    apply_rule,
    choose_threshold,
    upper_bound,
)
from ocrsmith.evaluation.confidence.estimate import likely_threshold
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import FinishReason

TARGET = 0.05
SURE = 0.8
"""In the simulations, pages above it have a CER of 1 % on average, others of 15 %."""


def risk(threshold: float) -> float:
    """True CER of the pages from a threshold on; confidences are uniform between 0.5 and 1."""
    sure = min(1 - threshold, 1 - SURE)
    return (0.01 * sure + 0.15 * max(0.0, SURE - threshold)) / (1 - threshold)


def draw(generator: np.random.Generator, documents: int, pages: int, *, alike: bool, harsh: bool) -> tuple:
    """Confidences, CERs and documents; harsh: a page is perfect or lost, which is the worst CER can do."""
    shape = (documents, 1) if alike else (documents, pages)
    confidence = np.broadcast_to(generator.uniform(0.5, 1, shape), (documents, pages)).ravel()
    mean = np.where(confidence > SURE, 0.01, 0.15)
    chance = np.broadcast_to(generator.uniform(size=shape), (documents, pages)).ravel()
    rates = (chance < mean).astype(float) if harsh else np.minimum(-np.log(chance) * mean, 1.0)
    return confidence, rates, np.repeat(np.arange(documents), pages)


@pytest.mark.parametrize("harsh", [False, True], ids=["even", "perfect-or-lost"])
@pytest.mark.parametrize(("documents", "pages", "alike"), [(400, 1, False), (300, 3, True), (300, 3, False)])
def test_the_promise_is_broken_in_less_than_5_percent_of_worlds(
    documents: int, pages: int, alike: bool, harsh: bool
) -> None:
    worlds, broken = 250, 0
    for seed in range(worlds):
        generator = np.random.default_rng(seed)
        data = draw(generator, documents, pages, alike=alike, harsh=harsh)
        threshold = choose_threshold(*data, TARGET, 0.95, seed=seed)
        broken += threshold is not None and risk(threshold) > TARGET
    assert broken / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)


def test_the_promise_holds_where_confidence_says_nothing_and_cer_is_just_too_high() -> None:
    broken = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        rates = (generator.uniform(size=500) < TARGET * 1.001).astype(float)
        threshold = choose_threshold(
            generator.uniform(size=500), rates, np.arange(500), TARGET, 0.95, seed=seed
        )
        broken += threshold is not None
    assert broken / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("alike", [False, True], ids=["pages-differ", "pages-alike"])
def test_with_plenty_of_data_most_of_what_could_pass_does(alike: bool) -> None:
    # From 0.72 on the CER is exactly the target: 56 % of the pages could pass.
    assert risk(0.72) == pytest.approx(TARGET)
    shares = []
    for seed in range(20):
        data = draw(np.random.default_rng(seed), 3000, 2, alike=alike, harsh=False)
        threshold = choose_threshold(*data, TARGET, 0.95, seed=seed)
        assert threshold is not None
        shares.append((1 - threshold) / 0.5)
    assert np.mean(shares) > 0.5


@pytest.mark.parametrize("harsh", [False, True], ids=["even", "perfect-or-lost"])
def test_the_upper_bound_is_above_the_truth_as_often_as_it_says(harsh: bool) -> None:
    missed, bounds = 0, []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        chance = generator.uniform(size=300)
        rates = (chance < 0.03).astype(float) if harsh else np.minimum(-np.log(chance) * 0.03, 1.0)
        bounds.append(upper_bound(rates, np.ones(300), 1, 0.95))
        missed += bounds[-1] < 0.0299
    assert missed / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert np.median(bounds) < 0.07


def test_the_bound_of_flawless_pages_is_near_the_rule_of_three() -> None:
    bound = upper_bound(np.zeros(300), np.ones(300), 1, 0.95)
    assert 3 / 300 < bound < 4 / 300  # half the stake is on the best bet: log(2) more than 3
    assert upper_bound(np.zeros(0), np.zeros(0), 1, 0.95) == pytest.approx(1)
    assert upper_bound(np.ones(50), np.ones(50), 1, 0.95) == pytest.approx(1)
    assert upper_bound(np.zeros(300), np.ones(300), 4, 0.95) > 3 * bound  # documents may have four pages


# --- on pages ----------------------------------------------------------------------------------------------


def results(
    count: int, *, wrong: float = 0.0, documents: int | None = None, finish: FinishReason = "stop"
) -> list[PageResult]:
    """Pages of ten characters with confidences from 0.5 to 1; the less sure half has one character wrong on
    the share `wrong` of its pages."""
    made = []
    for place in range(count):
        chance = 0.5 + 0.5 * (place + 1) / (count + 1)
        bad = chance < 0.75 and (place * 0.618) % 1 < wrong
        made.append(
            PageResult(
                index=place,
                id=f"p{place}",
                group="" if documents is None else f"d{place % documents}",
                image_path="",
                reference="abcdefghij",
                prediction="abcdefghix" if bad else "abcdefghij",
                finish_reason=finish,
                token_ends=(10,),
                token_logprobs=(math.log(chance),),
            )
        )
    return made


def test_flawless_pages_pass_and_the_figures_say_how_many() -> None:
    pages = results(600)
    found = accept(pages, [page.score for page in pages], target=0.02)
    assert found.threshold is not None
    assert found.threshold < 0.51
    assert found.coverage > 0.98
    assert found.pages == found.documents == round(found.coverage * 600)
    assert found.cer == 0
    assert found.cer_upper is not None
    assert found.cer_upper < 0.02
    assert found.reason is None


def test_the_threshold_parts_good_pages_from_bad_ones() -> None:
    pages = results(2000, wrong=0.9)
    found = accept(pages, [page.score for page in pages], target=0.02)
    assert found.threshold is not None
    assert 0.65 < found.threshold < 0.75
    assert found.cer is not None
    assert found.cer < 0.02


def test_few_pages_pass_nothing_and_say_how_many_it_takes() -> None:
    pages = results(40)
    found = accept(pages, [page.score for page in pages], target=0.02)
    assert found.threshold is None
    assert (found.pages, found.coverage, found.cer, found.cer_upper) == (0, 0.0, None, None)
    assert found.needs_documents is not None
    assert 150 < found.needs_documents < 300
    assert found.reason == (
        "40 pages are too few to show, 95 % sure, that the CER of the surest pages is below 0.02: "
        f"it needs about {found.needs_documents} pages like these."
    )
    enough = results(found.needs_documents)
    assert accept(enough, [page.score for page in enough], target=0.02).threshold is not None


def test_documents_count_not_their_pages() -> None:
    pages = results(800, documents=20)
    found = accept(pages, [page.score for page in pages], target=0.02)
    assert found.threshold is None
    assert str(found.reason).startswith("20 documents are too few")


def test_what_likely_passes_is_told_apart_from_what_was_shown() -> None:
    pages = results(800, wrong=0.9, documents=60)
    found = accept(pages, [page.score for page in pages], target=0.02)
    assert found.threshold is None
    assert found.likely is not None
    assert 0.65 < found.likely.threshold < 0.75
    assert found.likely.cer <= found.likely.cer_upper <= 0.02
    assert found.likely.coverage == pytest.approx(found.likely.pages / 800)
    few = results(800, wrong=0.9, documents=19)
    assert accept(few, [page.score for page in few], target=0.02).likely is None


def test_the_bootstrap_bound_is_near_the_normal_one() -> None:
    generator = np.random.default_rng(8)
    rates = generator.uniform(0, 0.2, 400)
    confidence, documents = np.full(400, 0.9), np.arange(400)
    found = likely_threshold(confidence, rates, documents, np.array([0.9]), 0.5, 0.95)
    assert found is not None
    normal = rates.mean() + 1.645 * rates.std() / math.sqrt(400)
    assert found.cer_upper == pytest.approx(normal, abs=0.001)
    assert likely_threshold(confidence, rates, documents, np.array([0.95]), 0.5, 0.95) is None


def test_bad_pages_do_not_pass_whatever_their_number() -> None:
    pages = [
        PageResult(n, f"p{n}", "", "", "abcde", "abcdx", "stop", token_ends=(5,), token_logprobs=(-0.01 * n,))
        for n in range(500)
    ]
    found = accept(pages, [page.score for page in pages], target=0.02)
    assert (found.threshold, found.needs_documents) == (None, None)
    assert found.reason == "Even the surest pages do not have a CER clearly below 0.02."


@pytest.mark.parametrize("finish", ["loop", "length", "error"])
def test_pages_that_did_not_end_by_themselves_never_pass(finish: FinishReason) -> None:
    pages = results(300, finish=finish)
    found = accept(pages, [page.score for page in pages])
    assert (found.threshold, found.reason) == (None, "No page was read to its end.")


def test_a_threshold_from_elsewhere_is_held_against_the_pages() -> None:
    pages = results(400, wrong=1.0)
    scores = [page.score for page in pages]
    found = apply_rule(pages, scores, AcceptRule(0.02, 0.95, 0.625))
    assert (found.target, found.threshold, found.chosen_on) == (0.02, 0.625, "calibration")
    assert found.coverage == pytest.approx(0.75, abs=0.01)
    assert found.cer == pytest.approx(0.1 / 3, abs=0.002)  # a third of the accepted has CER 10 %
    assert found.cer_upper is not None
    assert found.cer_upper > 0.02
    unsure = apply_rule(pages, scores, AcceptRule(0.02, 0.95, 1.0))
    assert (unsure.pages, unsure.cer, unsure.reason) == (0, None, "No page here is that sure.")
    none = apply_rule(pages, scores, AcceptRule(0.02, 0.95, None, {"reason": "40 pages are too few."}))
    assert (none.threshold, none.reason) == (None, "40 pages are too few.")


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_an_impossible_cer_is_refused(target: float) -> None:
    with pytest.raises(SettingsError, match="CER to accept"):
        accept(results(3), [page.score for page in results(3)], target=target)
