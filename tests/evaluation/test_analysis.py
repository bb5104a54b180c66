"""The analysis as metrics.json holds it, and as rules of the gate name it."""

from __future__ import annotations

import json

import pytest

from ocrsmith.errors import SettingsError
from ocrsmith.evaluation.analysis import Analysis
from ocrsmith.evaluation.gate import check_rules, flatten
from ocrsmith.evaluation.rules import parse_rule
from ocrsmith.evaluation.statistics import summarize
from ocrsmith.evaluation.store import PageResult

TABLE = "<table><tr><td>a</td><td>b</td></tr></table>"


@pytest.fixture(scope="module")
def written() -> dict[str, object]:
    """What metrics.json holds of a few pages."""
    texts = [
        ("中文识别", "中文识別", 'old "scans"'),
        ("the cat and the dog of the house", "the cat and the dog of the mouse", "v1.2 new"),
        (TABLE, TABLE, "v1.2 new"),
        ("Ｆｕｌｌ", "full", "v1.2 new"),
        ("", "", "a\nb"),
    ]
    results = [
        PageResult(place, str(place), "", "", true, read, "stop", source=source, meta={"font size": place % 2})
        for place, (true, read, source) in enumerate(texts)
    ]
    scores = [result.score for result in results]
    metrics = summarize(scores, ["stop"] * len(results), [""] * len(results), seconds=1)
    analysis = Analysis.of(results, scores)
    assert Analysis.of(results).to_json() == analysis.to_json()
    return json.loads(json.dumps({**metrics.to_json(), **analysis.to_json()}, allow_nan=False))


def test_metrics_json_has_the_promised_keys(written: dict[str, object]) -> None:
    text = {"wer", "ned", "exact", "chrf", "rouge_l", "bleu"}
    assert text | {"errors", "confusions", "normalised", "strata", "tables"} <= set(written)
    assert not {"fields", "order", "boxes"} & set(written)
    assert set(written["strata"]) == {"source", "language", "length", "meta.font size", "cer_band"}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "rule",
    [
        "wer.p99 <= 1",
        "tables.teds.mean == 1",
        "tables.cells.f1.micro == 1",
        "bleu.micro_ci95.low >= 0",
        "p99 <= 1 and cer.min == 0",
        "cer.micro_ci95.high < 1",
        "normalised.nfkc.wer.mean < 1",
        'normalised."nfkc+zh+fa+whitespace+casefold".exact_match > exact_match',
        "strata.language.zh.cer.mean == 25%",
        'strata.length."1-9".cer.mean_ci95.high <= 1',
        'strata.cer_band."10-30%".n == 1',
        'strata."meta.font size".0.documents == 3',
        'strata.source."v1.2 new".share_of_edits <= 1',
        "strata.source.\"old 'scans'\".n == 1",  # a double quote within a label is said as a single one
        'strata.source."a b".n == 1',  # and a line end as a space
    ],
)
def test_rules_find_figures_by_name(written: dict[str, object], rule: str) -> None:
    assert check_rules([parse_rule(rule)], flatten(written))[0].holds


def test_a_misspelt_name_is_answered_with_what_is_there(written: dict[str, object]) -> None:
    figures = flatten(written)
    with pytest.raises(SettingsError) as caught:
        check_rules([parse_rule("strata.language.deutsch.cer.mean < 1")], figures)
    assert 'Known: strata.language."und-Latn".…, strata.language.en.…, ' in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        check_rules([parse_rule("strata.length.1_9.n == 1")], figures)
    assert 'Did you mean strata.length."1-9".n' in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        check_rules([parse_rule("qqqqqqqq < 1")], figures)
    assert "cer.p99, " in str(caught.value)
    assert ", strata.…, tables.…, truncated, wer.…." in str(caught.value)
