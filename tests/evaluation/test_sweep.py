"""The resolution study: what is written, what is chosen, and what a stop or a wrong option does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.engines.base import Engine, PageRequest, ReadProgress
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import InputError, OutputError, SettingsError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.report.sweep import plot, seconds, size, ticks
from ocrsmith.evaluation.statistics import paired_interval, summarize
from ocrsmith.evaluation.sweep import SWEEP, SWEEP_REPORT, parse_modes, sweep
from ocrsmith.evaluation.sweep_choice import Choices, ModeReading, weigh
from ocrsmith.records import PageSample, Prediction, SplitName

KNOWN = ("tiny", "small", "base", "gundam")
TEXT = "abcdefghij" * 10


@dataclass
class Pages:
    """Pages in memory, two to a document, in the split `val`."""

    count_of_pages: int = 12
    content_hash: str = "sha256:pages"
    prompt: str = "<image>\nFree OCR."

    def count(self, split: SplitName) -> int:
        return self.count_of_pages if split == "val" else 0

    def iter_samples(self, split: SplitName) -> Iterator[PageSample]:
        for place in range(self.count(split)):
            yield PageSample(f"p{place}", b"", f"p{place}.png", TEXT, group=f"d{place // 2}")


@dataclass
class ModeEngine:
    """Makes `errors[mode]` mistakes on each page, in `times[mode]` seconds; `stop_at` pages a mode end it."""

    errors: dict[str, int]
    times: dict[str, float]
    mode: str = "gundam"
    adapter: str | None = None
    setting: int = 1
    stop_at: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    name: str = "table"

    def describe(self) -> dict[str, Any]:
        return {
            "model": {"name": "table"},
            "adapter": self.adapter,
            "setting": self.setting,
            "processing": {"mode": self.mode},
            "runtime": {"device": "cpu"},
        }

    def adjusted(self, *, mode: str | None = None, decoding: DecodingSettings | None = None) -> ModeEngine:
        if mode not in self.errors:
            raise SettingsError(f"No mode {mode!r} here.", place="--mode")
        return replace(self, mode=mode)

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        for place, request in enumerate(requests):
            if len(requests) > 1 and place == self.stop_at.get(self.mode, -1):
                raise KeyboardInterrupt
            self.asked.append((self.mode, request.id))
            wrong = self.errors[self.mode]
            text = "#" * wrong + TEXT[wrong:]
            yield Prediction(request.id, text, "stop", seconds=self.times[self.mode], tokens=50, mode=self.mode)


@dataclass
class Gauge:
    """Tells prepared peaks, one a stretch."""

    peaks: list[int | None]
    how: str = "from a list"
    running: int = 0

    def start(self) -> None:
        self.running += 1

    def stop(self) -> int | None:
        self.running -= 1
        return self.peaks.pop(0)


def engine(**options: Any) -> ModeEngine:
    errors = {"tiny": 30, "small": 4, "base": 4, "gundam": 4}
    return ModeEngine(errors, {"tiny": 0.1, "small": 0.25, "base": 0.5, "gundam": 1.0}, **options)


def count(reader: Engine, page: PageRequest) -> tuple[int, int]:
    if page.id == "p1":
        raise InputError("no image")
    assert isinstance(reader, ModeEngine)
    return {"tiny": 73, "small": 111, "base": 273, "gundam": 903}[reader.mode], 5


def test_each_mode_gets_its_evaluation_folder_and_the_study_sums_them_up(tmp_path: Path) -> None:
    peaks = Gauge([100, 200, 300])
    modes = ("tiny", "small", "gundam")
    made = sweep(engine(), Pages(), "val", tmp_path / "out", modes, count_tokens=count, memory=peaks, warm_up=2)
    found = json.loads((tmp_path / "out" / SWEEP).read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(made.to_json()))
    assert list(found["modes"]) == list(modes)
    small = found["modes"]["small"]
    assert (small["seconds_per_page"], small["pages_per_second"]) == (0.25, 4.0)
    assert small["cer.mean"] == pytest.approx(0.04)
    assert (small["image_tokens"], small["prompt_tokens"], small["generated_tokens"]) == (111, 5, 50)
    assert small["peak_memory"] == 200
    assert small["loss"]["estimate"] == 0
    assert found["modes"]["tiny"]["loss"]["estimate"] == pytest.approx(0.26)
    assert (found["n"], found["documents"], found["best"]) == (12, 6, "small")
    assert found["provenance"]["memory"] == "from a list"
    assert found["provenance"]["warm_up_pages"] == 2
    assert (found["choice"]["mode"], found["choice"]["certainty"]) == ("small", "surely")
    for mode in modes:
        assert store.load(tmp_path / "out" / mode).metrics.n == 12
        assert (tmp_path / "out" / mode / store.REPORT).is_file()


def test_warm_up_pages_are_read_in_each_mode_and_not_measured(tmp_path: Path) -> None:
    reader = engine()
    made = sweep(reader, Pages(), "val", tmp_path, ("tiny", "base"), warm_up=3)
    assert [mode for mode, _ in reader.asked].count("tiny") == 15
    assert made.choices.readings[0].metrics.seconds == pytest.approx(12 * 0.1)


def test_a_stopped_study_goes_on_and_counts_the_time_of_both_stretches(tmp_path: Path) -> None:
    reader = engine(stop_at={"small": 5})
    with pytest.raises(KeyboardInterrupt):
        sweep(reader, Pages(), "val", tmp_path, ("tiny", "small"), memory=Gauge([100, 900]))
    assert not (tmp_path / SWEEP).exists()
    reader = engine()
    gauge = Gauge([200])
    made = sweep(reader, Pages(), "val", tmp_path, ("tiny", "small"), memory=gauge)
    assert [page for mode, page in reader.asked if mode == "tiny"] == []
    assert len([page for mode, page in reader.asked if mode == "small"]) == 1 + 7
    small = made.choices.readings[1]
    assert small.metrics.seconds == pytest.approx(12 * 0.25)
    assert small.peak_memory == 900, "the highest of all stretches"
    assert gauge.running == 0


def test_a_mode_can_be_added_later(tmp_path: Path) -> None:
    sweep(engine(), Pages(), "val", tmp_path, ("tiny", "small"))
    reader = engine()
    made = sweep(reader, Pages(), "val", tmp_path, ("tiny", "small", "base"))
    assert {mode for mode, _ in reader.asked} == {"base"}
    assert [reading.mode for reading in made.choices.readings] == ["tiny", "small", "base"]


def test_other_settings_are_refused_before_a_page_is_read(tmp_path: Path) -> None:
    sweep(engine(), Pages(), "val", tmp_path, ("small", "base"), memory=Gauge([1, 2]))
    reader = engine(setting=2)
    with pytest.raises(OutputError, match=r"setting: 1, now 2"):
        sweep(reader, Pages(), "val", tmp_path, ("tiny", "small"), memory=Gauge([3, 4]))
    assert reader.asked == []
    assert json.loads((tmp_path / "small" / "memory.json").read_text())["peak"] == 1
    made = sweep(reader, Pages(), "val", tmp_path, ("tiny", "small"), memory=Gauge([3, 4]), overwrite=True)
    assert [reading.peak_memory for reading in made.choices.readings] == [3, 4]


def test_a_mode_that_the_engine_cannot_do_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="large") as caught:
        sweep(engine(), Pages(), "val", tmp_path / "out", ("tiny", "large"))
    assert caught.value.place == "--modes"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tiny,huge", "no mode 'huge'"),
        ("tiny,small,tiny", "'tiny' is named twice"),
        ("tiny", "'tiny' is alone"),
        ("", "No mode"),
        (" , ", "No mode"),
        ("tiny,<b>", "no mode '<b>'"),
    ],
    ids=["unknown", "repeated", "alone", "none", "blank", "markup"],
)
def test_wrong_modes_are_named(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)) as caught:
        parse_modes(text, KNOWN)
    assert caught.value.place == "--modes"
    assert "twice" in problem or "tiny, small, base, gundam" in str(caught.value)


def test_modes_are_read_from_text() -> None:
    assert parse_modes("tiny, base ,", KNOWN) == ("tiny", "base")


@pytest.mark.parametrize("within", [-0.1, 1.0, 5.0, float("nan")])
def test_a_bound_that_is_no_fraction_is_refused(within: float, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="bound") as caught:
        sweep(engine(), Pages(), "val", tmp_path, ("tiny", "small"), within=within)
    assert caught.value.place == "--within"


def test_that_an_adapter_belongs_to_one_mode_is_remarked_on(tmp_path: Path) -> None:
    made = sweep(engine(adapter="run/adapter"), Pages(), "val", tmp_path, ("tiny", "small"))
    assert "trained in mode gundam" in made.notes[0]
    assert "trained in mode gundam" in (tmp_path / SWEEP_REPORT).read_text(encoding="utf-8")


# --- the choice --------------------------------------------------------------------------------------------


def reading(mode: str, rates: Sequence[float], time: float, groups: Sequence[str], **more: Any) -> ModeReading:
    scores = [PageScore(round(rate * 1000), 1000, rate, rate == 0) for rate in rates]
    metrics = summarize(scores, ["stop"] * len(rates), groups, seconds=time * len(rates))
    return ModeReading(mode, metrics, tuple(rates), 10.0, **more)


def weighed(*modes: tuple[str, Sequence[float], float], within: float = 0.005, **more: Any) -> Choices:
    groups = [f"d{place}" for place in range(len(modes[0][1]))]
    return weigh([reading(*mode, groups, **more) for mode in modes], groups, within=within)


def chosen(choices: Choices) -> tuple[str, str]:
    assert choices.choice is not None
    return choices.choice.mode, choices.choice.certainty


def test_a_loss_whose_interval_is_within_the_bound_is_sure() -> None:
    made = weighed(("tiny", [0.012] * 20, 1), ("base", [0.010] * 20, 2))
    assert made.best == "base"
    assert chosen(made) == ("tiny", "surely")


def test_a_loss_whose_interval_reaches_beyond_the_bound_is_only_probable() -> None:
    uneven = [0.010] * 18 + [0.030, 0.045]
    made = weighed(("tiny", uneven, 1), ("base", [0.010] * 20, 2))
    assert chosen(made) == ("tiny", "probably")
    assert made.choice is not None
    assert made.choice.loss < 0.005 < made.choice.at_most
    assert "above the bound" in made.choice.reason


def test_a_cheaper_mode_that_may_be_good_enough_is_named() -> None:
    uneven = [0.010] * 16 + [0.050] * 4
    made = weighed(("tiny", uneven, 1), ("base", [0.010] * 20, 2))
    assert chosen(made)[0] == "base"
    assert made.choice is not None
    assert made.choice.maybe == ("tiny",)
    assert "tiny may be good enough" in made.choice.reason


def test_few_documents_are_never_sure_and_it_is_said() -> None:
    made = weighed(("tiny", [0.010] * 4, 1), ("base", [0.010] * 4, 2))
    assert chosen(made) == ("tiny", "probably")
    assert made.choice is not None
    assert "4 documents are too few" in made.choice.reason


def test_of_modes_that_take_the_same_time_the_one_with_fewer_tokens_is_taken() -> None:
    groups = [f"d{place}" for place in range(10)]
    fewer = reading("small", [0.01] * 10, 1.01, groups, image_tokens=111.0)
    more = reading("base", [0.01] * 10, 1.00, groups, image_tokens=273.0)
    slow = reading("tiny", [0.01] * 10, 1.05, groups, image_tokens=73.0)
    made = weigh([more, fewer, slow], groups, within=0.005)
    assert chosen(made)[0] == "small"


def test_where_nothing_could_be_read_nothing_is_chosen(tmp_path: Path) -> None:
    groups = ["a", "b"]
    scores = [PageScore(10, 10, 1.0, False)] * 2
    metrics = summarize(scores, ["error", "error"], groups, seconds=0.0)
    readings = [ModeReading(mode, metrics, (1.0, 1.0), 0.0) for mode in ("tiny", "small")]
    made = weigh(readings, groups, within=0.005)
    assert made.choice is None
    assert readings[0].pages_per_second is None


rates = st.lists(st.floats(0, 2), min_size=6, max_size=6)


@given(st.lists(st.tuples(rates, st.floats(0.01, 10)), min_size=2, max_size=5), st.floats(0, 0.5))
def test_the_choice_is_the_cheapest_that_keeps_the_bound(
    modes: list[tuple[list[float], float]], within: float
) -> None:
    made = weighed(*[(f"m{n}", rate, time) for n, (rate, time) in enumerate(modes)], within=within)
    assert made.choice is not None
    by_name = {item.mode: item for item in made.readings}
    best = min(item.metrics.cer.mean for item in made.readings)
    taken = by_name[made.choice.mode]
    assert taken.metrics.cer.mean <= best + within + 1e-9
    good = [item for item in made.readings if item.metrics.cer.mean <= best + within - 1e-9]
    assert all(taken.seconds_per_page <= item.seconds_per_page * 1.02 + 1e-9 for item in good)
    groups = [f"d{place}" for place in range(6)]
    for item, loss in zip(made.readings, made.losses, strict=True):
        assert loss == paired_interval(by_name[made.best].rates, item.rates, groups)
    if made.choice.certainty == "surely":
        assert made.choice.at_most <= within


# --- the page ----------------------------------------------------------------------------------------------


def test_the_page_shows_every_mode_with_plots_and_runs_nothing(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    sweep(engine(adapter=hostile), Pages(), "val", tmp_path, ("tiny", "gundam"), count_tokens=count)
    page = (tmp_path / SWEEP_REPORT).read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert all(f'href="{mode}/report.html"' in page for mode in ("tiny", "gundam"))
    assert "alert(1)" in page
    assert "<script>alert" not in page
    sweep(engine(adapter=hostile), Pages(), "val", tmp_path, ("tiny", "gundam"))
    assert (tmp_path / SWEEP_REPORT).read_text(encoding="utf-8").count("<svg") == 1, "no plot of unknown tokens"


def test_labels_of_points_that_stand_close_do_not_cover_each_other() -> None:
    made = weighed(("tiny", [0.1, 0.1], 1), ("small", [0.1, 0.1], 1.01), ("base", [0.1, 0.1], 1.02))
    places = sorted(point.label_y for point in plot(made, [1, 1.01, 1.02], "Seconds").points)
    assert all(after - before >= 15 for before, after in pairwise(places))


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_ticks_are_few_and_hold_the_range(first: float, second: float) -> None:
    low, high = sorted((first, second))
    found = ticks(low, high)
    slack = 1e-6 * max(1.0, high)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))


def test_times_and_sizes_are_written_for_people() -> None:
    assert [seconds(value).replace("\u00a0", " ") for value in (0.0482, 0.348, 1.74, 12.3)] == [
        "0.048 s",
        "0.35 s",
        "1.7 s",
        "12 s",
    ]
    assert [size(value).replace("\u00a0", " ") for value in (None, 612 * 2**20, 7 * 2**30)] == [
        "–",
        "612 MiB",
        "7.0 GiB",
    ]
