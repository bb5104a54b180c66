"""A calibration from an evaluation: chosen and judged on other documents; figures on other pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrsmith.engines.confidence import Calibration, Isotonic, Temperature, logit, sigmoid
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.evaluation.confidence.curves import METHODS, fit_curve
from ocrsmith.evaluation.confidence.figures import confidence_of
from ocrsmith.evaluation.confidence.fitting import cross_validated, fit
from ocrsmith.evaluation.confidence.observations import Observations
from ocrsmith.evaluation.confidence.origin import warnings_of
from ocrsmith.evaluation.store import PageResult

ALPHABET = np.array(list("abcdefghijklmnopqrstuvwxyz"))
PROVENANCE = {
    "engine": {
        "name": "native",
        "model": {"name": "nano", "hash": "sha256:aaaaaaaaaaaa"},
        "adapter": {"name": "runs/first/adapter", "hash": "sha256:bbbbbbbbbbbb"},
        "processing": {"mode": "tiny"},
    },
    "dataset": {"content_hash": "sha256:data", "split": "val", "limit": None, "path": "/data"},
}


def made_up(documents: int, *, seed: int, length: int = 20, boast: float = 2.0) -> list[PageResult]:
    """Pages of a model that boasts: the odds it names are the true ones to the power `boast`."""
    generator = np.random.default_rng(seed)
    results = []
    for place in range(documents * 2):
        quality = generator.normal(2.5, 1.5)
        true = sigmoid(generator.normal(quality, 1.0, length))
        right = generator.uniform(size=length) < true
        reference = generator.choice(ALPHABET, length)
        prediction = np.where(right, reference, np.char.upper(reference))
        logprobs = np.log(sigmoid(boast * logit(true)))
        results.append(
            PageResult(
                index=place,
                id=f"{seed}-{place}",
                group=f"d{place // 2}",
                image_path="",
                reference="".join(reference),
                prediction="".join(prediction),
                finish_reason="stop",
                logprob_mean=float(logprobs.mean()),
                token_ends=(*range(1, length + 1), length),
                token_logprobs=(*logprobs.tolist(), -0.001),
            )
        )
    return results


VALIDATION, TEST = made_up(150, seed=1), made_up(150, seed=2)


def scores(results: list[PageResult]) -> list[Any]:
    return [result.score for result in results]


@pytest.mark.parametrize("method", ["auto", "isotonic", "temperature"])
def test_a_calibration_makes_the_confidences_of_other_pages_come_true(method: Any) -> None:
    fitted = fit(VALIDATION, scores(VALIDATION), PROVENANCE, method=method)
    figures = confidence_of(TEST, scores(TEST), calibration=fitted.calibration)
    assert figures is not None
    assert fitted.characters is not None
    for told, seen in ((fitted.characters, figures.characters), (fitted.pages, figures.pages)):
        assert told.ece_before > 0.05
        assert seen.before == pytest.approx(told.ece_before, abs=0.03)
        assert seen.after == pytest.approx(told.ece_after, abs=0.02)
        assert seen.after is not None
        assert seen.after < 0.03


def test_temperature_finds_the_boast_and_auto_takes_it() -> None:
    fitted = fit(VALIDATION, scores(VALIDATION), PROVENANCE)
    assert fitted.characters is not None
    curve = fitted.characters.curve
    assert isinstance(curve, Temperature)  # it is exactly the model that made the data
    assert curve.slope == pytest.approx(0.5, abs=0.05)
    assert curve.shift == pytest.approx(0.0, abs=0.15)
    for side in (fitted.characters, fitted.pages):
        losses = side.log_losses
        assert losses[side.curve.method] == min(losses["isotonic"], losses["temperature"]) < losses["none"]


def test_auto_takes_isotonic_where_the_shape_is_another() -> None:
    generator = np.random.default_rng(4)
    results = []
    for place in range(400):
        named = generator.uniform(0.05, 0.95, 10)
        right = generator.uniform(size=10) < np.where(named > 0.5, 0.95, 0.3)  # a step
        text = "".join("a" if good else "x" for good in right)
        ends = tuple(range(1, 11))
        results.append(
            PageResult(
                place,
                f"p{place}",
                "",
                "",
                "a" * 10,
                text,
                "stop",
                token_ends=ends,
                token_logprobs=tuple(np.log(named)),
            )
        )
    fitted = fit(results, scores(results), PROVENANCE)
    assert fitted.characters is not None
    assert isinstance(fitted.characters.curve, Isotonic)


@pytest.mark.parametrize("method", METHODS)
def test_no_document_is_judged_by_a_curve_that_has_seen_it(method: str) -> None:
    generator = np.random.default_rng(6)
    data = Observations(
        generator.uniform(size=50),
        (generator.uniform(size=50) < 0.5).astype(float),
        np.ones(50),
        np.arange(50) % 5,
    )
    predicted = cross_validated(data, method)
    inside = data.fold == 3
    turned = np.where(inside, 1 - data.truth, data.truth)
    other = cross_validated(Observations(data.confidence, turned, data.weight, data.fold), method)
    assert other[inside] == pytest.approx(predicted[inside])
    assert fit_curve(method, data.where(~inside))(data.confidence[inside]) == pytest.approx(predicted[inside])


def test_the_calibration_keeps_where_it_comes_from_and_its_threshold(tmp_path: Path) -> None:
    fitted = fit(VALIDATION, scores(VALIDATION), PROVENANCE, accept_cer=0.3)
    assert fitted.acceptance is not None
    assert fitted.acceptance.threshold is not None
    fitted.calibration.save(tmp_path / "calibration.json")
    loaded = Calibration.load(tmp_path)
    assert loaded.accept is not None
    assert loaded.accept.threshold == fitted.acceptance.threshold
    assert loaded.accept.figures["coverage"] == fitted.acceptance.coverage
    told = loaded.fitted_on
    assert (told["pages"], told["documents"], told["dataset"]["split"]) == (300, 150, "val")
    assert told["model"]["name"] == "nano"
    assert told["fits"]["pages"]["ece"]["after"] == fitted.pages.ece_after
    json.dumps(fitted.to_json(), allow_nan=False)


def test_looping_pages_change_no_curve_but_count_as_accepted_last() -> None:
    looping = [
        PageResult(
            999 + n,
            f"loop{n}",
            f"l{n}",
            "",
            "abc",
            "xyz" * 50,
            "loop",
            token_ends=(150,),
            token_logprobs=(0.0,),
        )
        for n in range(30)
    ]
    alone = fit(VALIDATION, scores(VALIDATION), PROVENANCE, method="temperature")
    both = [*VALIDATION, *looping]
    together = fit(both, scores(both), PROVENANCE, method="temperature")
    assert together.calibration.pages == alone.calibration.pages
    curves = alone.calibration.characters, together.calibration.characters
    assert all(isinstance(curve, Temperature) for curve in curves)
    grid = np.linspace(0, 1, 50)  # other folds, so counted in other lots
    assert curves[0](grid) == pytest.approx(curves[1](grid), abs=1e-3)  # type: ignore[misc]
    figures = confidence_of(both, scores(both))
    assert figures is not None
    last, before = figures.curve.points[-1], figures.curve.points[-2]
    assert (last.coverage, last.threshold) == (1.0, 0.0)
    assert before.coverage <= 300 / 330
    assert last.cer > before.cer


def test_an_engine_that_tells_the_mean_only_gets_pages_calibrated() -> None:
    results = [
        PageResult(
            n, f"p{n}", "", "", "ab", "ab" if n % 3 else "ax", "stop", logprob_mean=-0.1 if n % 3 else -1.0
        )
        for n in range(60)
    ]
    fitted = fit(results, scores(results), PROVENANCE)
    assert fitted.characters is None
    assert fitted.calibration.characters is None
    assert fitted.pages.n == 60
    figures = confidence_of(results[:30], scores(results[:30]), calibration=fitted.calibration)
    assert figures is not None
    assert figures.characters.before is None
    assert figures.to_json()["reliability"] == []


# --- figures -----------------------------------------------------------------------------------------------


def test_the_figures_of_metrics_json() -> None:
    fitted = fit(VALIDATION, scores(VALIDATION), PROVENANCE, accept_cer=0.3)
    found = confidence_of(TEST, scores(TEST), calibration=fitted.calibration, accept_cer=0.3)
    assert found is not None
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["pages_with"] == 300
    assert set(told["ece"]) == {"characters", "pages"}
    assert set(told["ece"]["pages"]) == {"before", "after", "n"}
    assert told["calibration"]["method"] == fitted.calibration.method
    assert told["calibration"]["fitted_on"]["dataset"]["split"] == "val"
    assert {"low", "high", "n", "confidence", "accuracy"} == set(told["reliability"][0])
    assert len(told["risk_coverage"]) == 101
    assert set(told["risk_coverage"][0]) == {"coverage", "threshold", "cer"}
    assert 0 < told["aurc"] < np.mean([score.cer for score in scores(TEST)])
    assert told["accept"]["cer"] == 0.3
    assert told["accept"]["threshold"] == fitted.acceptance.threshold  # type: ignore[union-attr]
    assert told["accept"]["chosen_on"] == "calibration"
    assert told["accept"]["accepted_cer"] < 0.3


def test_without_a_calibration_there_is_no_after_and_no_threshold_unless_asked_for() -> None:
    found = confidence_of(TEST, scores(TEST))
    assert found is not None
    told = found.to_json()
    assert (told["calibration"], told["accept"]) == (None, None)
    assert told["ece"]["characters"]["after"] is None
    asked = confidence_of(TEST, scores(TEST), accept_cer=0.3)
    assert asked is not None
    assert asked.accept is not None
    assert asked.accept.chosen_on == "these pages"


def test_a_threshold_for_another_cer_is_not_used() -> None:
    fitted = fit(VALIDATION, scores(VALIDATION), PROVENANCE, accept_cer=0.3)
    found = confidence_of(TEST, scores(TEST), calibration=fitted.calibration, accept_cer=0.4)
    assert found is not None
    assert found.accept is not None
    assert (found.accept.target, found.accept.chosen_on) == (0.4, "these pages")


def test_a_calibration_does_not_praise_itself_on_the_pages_it_was_fitted_to() -> None:
    fitted = fit(VALIDATION, scores(VALIDATION), PROVENANCE, accept_cer=0.3)
    found = confidence_of(VALIDATION, scores(VALIDATION), calibration=fitted.calibration)
    assert found is not None
    assert (found.same_pages, found.characters.after, found.pages.after) == (True, None, None)
    assert found.accept is not None
    assert found.accept.chosen_on == "these pages"


def test_an_engine_without_probabilities_has_no_figures() -> None:
    silent = [PageResult(n, f"p{n}", "", "", "ab", "ab", "stop") for n in range(3)]
    assert confidence_of(silent, scores(silent)) is None
    with pytest.raises(DataError, match=r"no token probabilities: its engine \(tesseract\) tells none"):
        fit(silent, scores(silent), {"engine": {"name": "tesseract"}})


def test_a_single_document_is_not_enough() -> None:
    with pytest.raises(DataError, match="two documents at least, and this evaluation has 1 "):
        fit(VALIDATION[:2], scores(VALIDATION[:2]), PROVENANCE)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(SettingsError, match="There is no method 'magic'"):
        fit(VALIDATION, scores(VALIDATION), PROVENANCE, method="magic")  # type: ignore[arg-type]


# --- does it fit -------------------------------------------------------------------------------------------


def warned(**changes: Any) -> list[str]:
    calibration = fit(VALIDATION[:20], scores(VALIDATION[:20]), PROVENANCE).calibration
    engine = {**PROVENANCE["engine"], **changes.get("engine", {})}
    dataset = {**PROVENANCE["dataset"], "split": "test", **changes.get("dataset", {})}
    return warnings_of(calibration, {"engine": engine, "dataset": dataset})


def test_another_split_of_the_same_model_is_what_it_is_for() -> None:
    assert warned() == []
    moved = {"model": {"name": "elsewhere/nano", "hash": "sha256:aaaaaaaaaaaa"}}
    assert warned(engine=moved) == []  # the same weights at another place


def test_another_model_or_adapter_is_warned_of() -> None:
    (line,) = warned(engine={"model": {"name": "big", "hash": "sha256:cccccccccccc"}})
    assert "fitted with the model nano (aaaaaaaa)" in line
    assert "read with the model big (cccccccc)" in line
    (line,) = warned(engine={"adapter": None})
    assert "read with no adapter" in line


def test_another_engine_or_mode_is_warned_of() -> None:
    (line,) = warned(engine={"name": "vllm"})
    assert line == "The calibration was fitted with the engine native, this evaluation was read with vllm."
    (line,) = warned(engine={"processing": {"mode": "gundam"}})
    assert "mode tiny" in line


def test_the_very_same_split_is_warned_of() -> None:
    (line,) = warned(dataset={"split": "val", "limit": 10})
    assert "this very split (val)" in line
