"""Evaluating a split: figures and files, going on after a stop, refusing to mix settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocrsmith.errors import DataError, OutputError, SettingsError
from ocrsmith.evaluation import Evaluation, Metrics, evaluate, load, store
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import PageSample, Prediction
from ocrsmith.settings.differences import differences
from ocrsmith.settings.files import write_file

MakePages = Callable[..., Any]
MakeEngine = Callable[..., Any]


def test_an_evaluation_writes_predictions_figures_and_report(
    pages: MakePages, engine: MakeEngine, tmp_path: Path
) -> None:
    dataset = pages(a="hello", b="world", c="damaged")
    reader = engine({"b": "loop"}, a="hello", b="wor", c=None)
    metrics = evaluate(reader, dataset, "test", tmp_path / "out")

    assert metrics.cer.mean == pytest.approx((0 + 2 / 5 + 1) / 3)
    assert metrics.cer.micro == pytest.approx((0 + 2 + 7) / 17)
    assert (metrics.n, metrics.loops, metrics.failed, metrics.truncated) == (3, 1, 1, 0)
    assert metrics.exact_match == pytest.approx(1 / 3)
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert table["id"].to_pylist() == ["a", "b", "c"]  # the dataset's order, not the engine's
    assert table["cer"].to_pylist() == pytest.approx([0, 0.4, 1])
    assert table["error"].to_pylist() == [None, None, "The image is damaged."]
    assert table["confidence"].to_pylist() == pytest.approx([0.9048374, 0.0, 0.0]), "a loop is sure of itself"
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "metrics.json",
        "predictions.parquet",
        "report.html",
    ]


def test_metrics_json_says_where_the_figures_come_from(
    pages: MakePages, engine: MakeEngine, tmp_path: Path
) -> None:
    evaluate(engine(a="hello"), pages(a="hello"), "test", tmp_path, limit=5)
    content = json.loads((tmp_path / "metrics.json").read_text())
    provenance = content["provenance"]
    assert content["cer"]["mean"] == 0
    assert provenance["engine"]["model"] == {"name": "table", "hash": "sha256:t"}
    assert provenance["dataset"] == {
        "content_hash": "sha256:pages",
        "prompt": "<image>\nFree OCR.",
        "split": "test",
        "limit": 5,
        "path": None,
    }
    assert provenance["runtime"] == {"batch_size": 4}
    assert provenance["versions"]["ocrsmith"]
    assert "type 7" in provenance["methods"]["cer.percentiles"]
    assert Metrics.from_json(content) == load(tmp_path).metrics


def test_the_samples_prompt_wins_over_the_datasets(
    pages: MakePages, engine: MakeEngine, tmp_path: Path
) -> None:
    dataset = pages(a="x", b="y")
    dataset.samples[1] = replace(dataset.samples[1], prompt="<image>\nOwn.")
    reader = engine(a="x", b="y")
    evaluate(reader, dataset, "test", tmp_path)
    assert {request.id: request.prompt for request in reader.asked} == {
        "a": "<image>\nFree OCR.",
        "b": "<image>\nOwn.",
    }


def test_the_limit_takes_the_first_pages(pages: MakePages, engine: MakeEngine, tmp_path: Path) -> None:
    assert evaluate(engine(a="1", b="2"), pages(a="1", b="2", c="3"), "test", tmp_path, limit=2).n == 2
    assert [result.id for result in load(tmp_path).results] == ["a", "b"]


def test_a_stopped_evaluation_goes_on_where_it_stopped(
    pages: MakePages, engine: MakeEngine, tmp_path: Path
) -> None:
    dataset = pages(a="1", b="2", c="3", d="4")
    stopped = engine(a=KeyboardInterrupt(), b=KeyboardInterrupt(), c="3", d="wrong")
    seen: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, dataset, "test", tmp_path, progress=lambda *state: seen.append(state))
    assert seen[-1] == (2, 4)
    assert not (tmp_path / "metrics.json").exists()
    with pytest.raises(DataError, match="not finished"):
        load(tmp_path)

    seen.clear()
    again = engine(a="1", b="2")  # c and d are not asked again: they are not in its table
    again.batch_size = 16  # what only decides the speed may change
    metrics = evaluate(again, dataset, "test", tmp_path, progress=lambda *state: seen.append(state))
    assert seen[0] == (2, 4)
    assert [result.prediction for result in load(tmp_path).results] == ["1", "2", "3", "wrong"]
    assert metrics.n == 4
    assert metrics.seconds == pytest.approx(2.0)  # both stretches
    assert not (tmp_path / "journal.jsonl").exists()


def test_going_on_gives_what_one_run_gives(pages: MakePages, engine: MakeEngine, tmp_path: Path) -> None:
    dataset = pages(a="one", b="two", c="three")
    whole = evaluate(engine(a="on", b="two", c=None), dataset, "test", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(engine(a=KeyboardInterrupt(), b="two", c=None), dataset, "test", tmp_path / "parts")
    parts = evaluate(engine(a="on"), dataset, "test", tmp_path / "parts")
    assert parts == whole
    assert load(tmp_path / "parts").results == load(tmp_path / "whole").results


def test_a_line_torn_by_a_kill_is_read_again(pages: MakePages, engine: MakeEngine, tmp_path: Path) -> None:
    dataset = pages(a="1", b="2", c="3")
    with pytest.raises(KeyboardInterrupt):
        evaluate(engine(a=KeyboardInterrupt(), b="2", c="3"), dataset, "test", tmp_path)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])  # the last line, b, loses its end
    reader = engine(a="1", b="2")
    assert evaluate(reader, dataset, "test", tmp_path).exact_match == 1
    assert sorted(request.id for request in reader.asked) == ["a", "b"]


def test_a_finished_evaluation_is_not_read_again(pages: MakePages, engine: MakeEngine, tmp_path: Path) -> None:
    dataset = pages(a="1")
    first = evaluate(engine(a="1"), dataset, "test", tmp_path)
    (tmp_path / "report.html").unlink()
    idle = engine()  # its table is empty: any question would fail
    assert evaluate(idle, dataset, "test", tmp_path) == first
    assert idle.asked == []
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("changed", ["engine", "data", "limit"])
def test_another_evaluation_in_the_folder_is_refused_and_named(
    pages: MakePages, engine: MakeEngine, tmp_path: Path, finished: bool, changed: str
) -> None:
    dataset = pages(a="1", b="2")
    reader = engine(a="1" if finished else KeyboardInterrupt(), b="2")
    try:
        evaluate(reader, dataset, "test", tmp_path)
    except KeyboardInterrupt:
        assert not finished
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other, limit = engine(a="1", b="2"), None
    if changed == "engine":
        other.settings = {"model": {"name": "table", "hash": "sha256:other"}}
        named = "engine.model.hash: 'sha256:t', now 'sha256:other'"
    elif changed == "data":
        dataset.content_hash = "sha256:changed"
        named = "dataset.content_hash: 'sha256:pages', now 'sha256:changed'"
    else:
        limit, named = 1, "dataset.limit: None, now 1"
    with pytest.raises(OutputError) as caught:
        evaluate(other, dataset, "test", tmp_path, limit=limit)
    assert named in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    assert evaluate(other, dataset, "test", tmp_path, limit=limit, overwrite=True).exact_match == 1


def test_pages_that_the_engine_forgets_count_as_failed(
    pages: MakePages, engine: MakeEngine, tmp_path: Path
) -> None:
    forgetful = engine(a="1", b="2")
    answer = forgetful.read
    forgetful.read = lambda requests, **_: (item for item in answer(requests) if item.id != "b")
    assert evaluate(forgetful, pages(a="1", b="2"), "test", tmp_path).failed == 1
    assert load(tmp_path).results[1].error == "the engine gave no answer"


def test_large_splits_are_read_in_stretches(
    pages: MakePages, engine: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # by module object: the package exports the function under the module's name
    monkeypatch.setattr(sys.modules[evaluate.__module__], "WINDOW_PAGES", 3)
    texts = {f"p{n}": str(n) for n in range(8)}
    reader = engine(**texts)
    sizes: list[int] = []
    answer = reader.read
    reader.read = lambda requests, **_: (sizes.append(len(requests)), answer(requests))[1]
    assert evaluate(reader, pages(**texts), "test", tmp_path).exact_match == 1
    assert sizes == [3, 3, 2]


@pytest.mark.parametrize(
    ("split", "limit", "error", "message"),
    [
        ("dev", None, SettingsError, "no split 'dev'"),
        ("train", None, DataError, "no samples"),
        ("test", 0, SettingsError, "limit is 0"),
    ],
)
def test_a_request_that_makes_no_sense_leaves_no_folder(
    pages: MakePages, engine: MakeEngine, tmp_path: Path, split: Any, limit: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(engine(a="1"), pages(a="1"), split, tmp_path / "out", limit=limit)
    assert not (tmp_path / "out").exists()


def test_differences_are_named_down_to_the_value() -> None:
    old = {"decoding": {"ngram": 30, "max": 5}, "adapter": None}
    new = {"decoding": {"ngram": 20, "max": 5}, "adapter": {"hash": "x"}}
    assert differences(old, new) == ["decoding.ngram: 30, now 20", "adapter: None, now {'hash': 'x'}"]
    assert differences(old, old) == []


def test_files_replace_older_ones_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def half(file: Any) -> None:
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(target, half)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_known_of_a_page_comes_back_from_the_folder(tmp_path: Path) -> None:
    sample = PageSample("a", b"", "a.png", "ab中", "g", source="scans", meta={"language": "zh", "page": 3})
    answer = Prediction(
        "a",
        "ab中",
        "stop",
        0.5,
        tokens=4,
        token_ends=(1, 2, 2, 3),
        token_logprobs=(-0.5, -0.25, -1.0, -2.0),
        mode="base",
        attempts=2,
    )
    result = PageResult.join(0, sample, answer)
    store.save(Evaluation.of([result], {}), tmp_path)
    assert store.load(tmp_path).results == [result]


def test_a_folder_of_an_earlier_version_still_loads(saved: Callable[..., Path]) -> None:
    folder = saved("old", ("abc", "abd"))
    table = pq.read_table(folder / store.PREDICTIONS)
    pq.write_table(table.drop_columns(list(store.LATER_COLUMNS)), folder / store.PREDICTIONS)
    (result,) = store.load(folder).results
    assert (result.source, result.meta, result.mode, result.attempts, result.token_ends) == ("", {}, "", 1, ())


@pytest.mark.parametrize(
    ("column", "value"),
    [("meta", "[1]"), ("meta", "{"), ("token_ends", [1, 2]), ("attempts", None), ("mode", None)],
    ids=["list", "broken", "more ends than probabilities", "no attempts", "no mode"],
)
def test_a_wrong_value_in_a_later_column_is_named(saved: Callable[..., Path], column: str, value: Any) -> None:
    folder = saved("wrong", ("abc", "abd"))
    table = pq.read_table(folder / store.PREDICTIONS)
    place = table.column_names.index(column)
    kind = table.schema.field(place).type
    pq.write_table(table.set_column(place, column, pa.array([value], kind)), folder / store.PREDICTIONS)
    with pytest.raises(DataError, match="not a page's result"):
        store.load(folder)
