"""Tables and plot say what the results say, and the documents are current."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks.peers import PEERS
from benchmarks.plot import PARTS, PLOT, draw_plot
from benchmarks.report import REPOSITORY
from benchmarks.results_store import PLAIN, Results, label_of
from benchmarks.tables import DOCUMENTS, NOTHING, TABLES, render, stale
from benchmarks.variants import SETTINGS

from benchmarks import plot, tables
from ocrsmith.errors import SettingsError

SVG = "{http://www.w3.org/2000/svg}"


def row(engine: str, seconds: float, **more: Any) -> dict[str, Any]:
    """A line of a training result; of `more`, what is a setting goes there."""
    settings = {**PLAIN, "engine": engine, "size": "3b", "batch": 2, "workers": None}
    settings |= {name: value for name, value in more.items() if name in PLAIN}
    figures = {name: value for name, value in more.items() if name not in PLAIN}
    parts = {"encode ms": 300 * seconds, "forward+backward ms": 600 * seconds, "optimizer ms": 100 * seconds}
    return {
        "engine": engine,
        "failure": None,
        "settings": settings,
        "s/step": seconds,
        "samples/s": 8 / seconds,
        "peak GiB": 9.0,
        "loss": 12.0,
        **parts,
        **figures,
    }


class Folder:
    """A folder of results that a test fills."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.day = 0

    def add(self, name: str, benchmark: str, rows: list[dict[str, Any]], **more: Any) -> None:
        self.day += 1
        settings = {"size": "3b", "device": "cuda", "workload": "L", **more.pop("settings", {})}
        circumstances = {
            "created": f"2026-11-{self.day:02}T10:00:00+00:00",
            "commit": "0123456789abcdef",
            "modified": False,
            "command": f"python -m benchmarks.{benchmark}",
            "machine": {"gpu": "NVIDIA H200"},
            "versions": {"torch": "2.11.0"},
        }
        content = {"benchmark": benchmark, "settings": settings, "rows": rows, "circumstances": circumstances}
        (self.path / f"{name}.json").write_text(json.dumps({**content, **more}))

    @property
    def results(self) -> Results:
        return Results(self.path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def measured(folder: Folder) -> Folder:
    ratios = {"× r1": 80.0, "× r2": 8.0}
    rows = [row("ours", 0.0625, **ratios), row("r1", 5.0), row("r2", 0.5)]
    folder.add("train-3b-L", "train", rows)
    rows = [row("ours", 0.08, data="folder", **{"idle %": 2.5}), row("ours", 0.02, cache=True)]
    folder.add("files-3b-L", "train", [*rows, {"engine": "floor", "s/step": 0.017}])
    return folder


def lines_of(table: str) -> dict[str, list[str]]:
    """First cell → the others."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {line[0]: line[1:] for line in cells}


# --- documents ------------------------------------------------------------------------------------------------


def test_the_documents_are_current() -> None:
    files = [str(path.relative_to(REPOSITORY)) for path in stale(Results())]
    assert not files, "run `python -m benchmarks.tables`"


def test_the_documents_have_tables() -> None:
    names = set()
    for document in DOCUMENTS:
        found = re.findall(r"<!-- table: (\S+) -->", (REPOSITORY / document).read_text(encoding="utf-8"))
        assert found, document
        names |= set(found)
    assert names == set(TABLES)


def test_what_is_not_current_is_written(folder: Folder, measured: Folder, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "performance.md"
    page.write_text("# Head\n<!-- table: training -->\nold\n<!-- end -->\nfoot\n")
    found = stale(measured.results, tmp_path)
    assert set(found) == {page, tmp_path / PLOT}
    assert "old" not in found[page]
    assert found[page].startswith("# Head\n<!-- table: training -->\n| workload")
    assert found[page].endswith("|\n<!-- end -->\nfoot\n")
    page.write_text(found[page])
    (tmp_path / PLOT).parent.mkdir()
    (tmp_path / PLOT).write_text(found[tmp_path / PLOT])
    assert stale(measured.results, tmp_path) == {}


@pytest.mark.parametrize("name", TABLES)
def test_without_results_a_table_says_so(name: str, folder: Folder) -> None:
    text = render(f"<!-- table: {name} -->\n<!-- end -->\n", folder.results)
    assert NOTHING in text or "not measured yet" in text
    assert render(text, folder.results) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [("<!-- table: none -->\n<!-- end -->", "no table"), ("<!-- table: training -->\nx", "does not end")],
)
def test_a_wrong_marker_is_refused(text: str, says: str, folder: Folder) -> None:
    with pytest.raises(SettingsError, match=says):
        render(text, folder.results)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_that_is_no_result_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(SettingsError, match=r"broken\.json"):
        Results(tmp_path)


# --- training -------------------------------------------------------------------------------------------------


def test_labels_name_what_is_not_plain() -> None:
    assert label_of(row("ours", 1)) == "ours"
    assert label_of(row("ours", 1, cache=True, data="folder")) == "ours, from files, cached features"
    assert label_of(row("ours", 1, quantization="nf4", micro=2)) == "ours, micro 2, NF4 base"
    assert label_of(row("r2", 1, compiled=False, checkpointing="full")) == "r2, checkpointing"
    assert set(PLAIN) < set(SETTINGS)


def test_the_newest_row_counts_and_one_of_a_curve_only_alone(folder: Folder) -> None:
    folder.add("a", "train", [row("ours", 0.3)])
    folder.add("b", "train", [row("ours", 0.2)])
    folder.add("c", "train", [row("ours", 0.9), row("ours", 0.5, experts="loop")], settings={"curve": 50})
    folder.add("d", "train", [row("ours", 7.0)], settings={"device": "cpu"})
    rows = folder.results.training()
    assert {label: found["s/step"] for (_, label), found in rows.items()} == {
        "ours": 0.2,
        "ours, expert loop": 0.5,
    }


def test_targets_stand_beside_what_was_measured(measured: Folder) -> None:
    found = lines_of(TABLES["targets"](measured.results))
    speed = "100/s from files; 128/s with tensors ready; 8× R2; 80× R1"
    assert found["training L, no feature cache"][-1] == speed
    assert found["training L, feature cache warm"][-1] == "400/s with tensors ready"
    assert found["GPU idle, training from image files"][-1] == "L 2.5 %"
    assert found["first step"][-1] == "not measured yet", "kernels were compiled before"


def test_only_a_cold_first_step_counts(folder: Folder) -> None:
    rows = [row("ours", 1, **{"first step s": 41.0}), row("ours", 1, compiled=False, **{"first step s": 7.5})]
    folder.add("cold", "train", rows, settings={"cold": True})
    found = lines_of(TABLES["targets"](folder.results))
    assert found["first step"][-1] == "L 41 s; L 7.5 s without compile"


def test_curves_are_compared_with_the_plain_one(folder: Folder) -> None:
    engines = {"ours": {"curve": [10.0, 8.0]}, "ours+loop": {"curve": [10.0, 8.8]}}
    rows = [row("ours", 1), {**row("ours", 1, experts="loop"), "engine": "ours+loop"}]
    folder.add("curves", "train", rows, engines=engines, settings={"curve": 2})
    head, _, plain, loop = TABLES["curves"](folder.results).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "workload",
        "engine",
        "loss 1",
        "mean difference %",
    ]
    assert plain.split("|")[4].strip() == "–"
    assert loop.split("|")[4].strip() == "5", "0 and 10 %"


def test_memory_is_shown_beside_the_prediction_and_the_least_counts(folder: Folder) -> None:
    def peak(workload: str, checkpointing: str, size: float) -> dict[str, Any]:
        settings = {"workload": workload, "base": "bf16", "optimizer": "adamw", "checkpointing": checkpointing}
        return {**settings, "measured GiB": size, "predicted GiB": 1.05 * size, "difference %": 5.0}

    rows = [peak("L", "none", 7.0), peak("L", "selective", 7.9), peak("L", "full", 7.5), peak("P", "full", 8.0)]
    folder.add("memory-3b", "memory", [*rows, {**peak("P", "none", 1), "failure": "x"}])
    assert TABLES["memory"](folder.results).count("bf16") == 5
    found = lines_of(TABLES["targets"](folder.results))
    assert found["peak memory, batch 2, bf16, L / P"][-1] == "L 7.5 GiB (full, adamw); P 8 GiB (full, adamw)"


def test_decoding_is_compared_at_the_same_length(folder: Folder) -> None:
    def line(adapter: str, batch: int, milliseconds: float) -> dict[str, Any]:
        kind = {"engine": "ours", "adapter": adapter, "batch": batch}
        return {**kind, "ms/token": milliseconds, "pages/s": 9.0}

    rows = [line("merged", 1, 2.0), line("unmerged", 1, 2.5), line("merged", 32, 5.0)]
    folder.add("decode-3b-P", "decode", rows, settings={"workload": "P", "tokens": 512})
    found = lines_of(TABLES["targets"](folder.results))
    assert found["decoding, batch 1"][-1] == "2 ms"
    assert found["pages a second, batch 32 / 128"][-1] == "9 at 32"
    assert found["decoding with an unmerged adapter"][-1] == "P 1.25× at 1"
    assert TABLES["decoding"](folder.results).count("ours") == 3


@pytest.mark.parametrize(("name", "word"), [("summary", "lines a second"), ("summary-zh", "每秒行数")])
def test_the_readme_shows_the_references_of_the_same_run(name: str, word: str, measured: Folder) -> None:
    head, _, plain, cached = TABLES[name](measured.results).splitlines()
    assert "H200" in head
    assert word in plain
    assert [cell.strip() for cell in plain.split("|")[2:5]] == ["**128**", "16", "1.6"]
    assert [cell.strip() for cell in cached.split("|")[2:5]] == ["**400**", "–", "–"]


def test_conditions_name_machine_commit_and_command(measured: Folder) -> None:
    text = TABLES["conditions"](measured.results)
    assert "NVIDIA H200" in text
    assert "012345678 " in text
    assert "`python -m benchmarks.train`" in text


def test_the_command_checks_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--check"]) == 0
    assert tables.main(["--check", "--results", "/nowhere"]) in (0, 1)
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("written")]


# --- the plot -------------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_their_parts_take(measured: Folder) -> None:
    tree = ElementTree.fromstring(draw_plot(measured.results))
    bars: dict[str, dict[str, float]] = {}
    for drawn in tree.iter(f"{SVG}rect"):
        if (title := drawn.find(f"{SVG}title")) is not None and title.text:
            name, _, part = title.text.partition(": ")[0], None, title.text.rpartition(": ")[2]
            key = next(word for word, _ in PARTS.values() if part.startswith(word))
            bars.setdefault(name + drawn.get("y", ""), {}).setdefault(key, float(drawn.get("width", "0")))
    slow = next(widths for name, widths in bars.items() if name.startswith("R1"))
    fast = next(widths for name, widths in bars.items() if name.startswith("R2"))
    assert slow["decoder, forward and backward"] == pytest.approx(2 * slow["image encoder"], abs=0.02)
    assert sum(slow.values()) == pytest.approx(10 * sum(fast.values()), rel=0.01)


def test_the_plot_says_in_words_what_it_shows(measured: Folder) -> None:
    tree = ElementTree.fromstring(draw_plot(measured.results))
    assert tree.get("role") == "img"
    said = tree.findtext(f"{SVG}desc") or ""
    assert "5.00 s" in said
    assert "ocrsmith 62 ms" in said or "ocrsmith 63 ms" in said
    assert "cached features 20 ms" in said
    texts = [text.text or "" for text in tree.iter(f"{SVG}text")]
    assert {"image encoder", "optimizer"} <= set(texts)
    assert "prefers-color-scheme: dark" in (tree.findtext(f"{SVG}style") or "")


def test_nothing_is_drawn_without_results(folder: Folder, tmp_path: Path) -> None:
    assert draw_plot(folder.results) == ""
    assert plot.main(["--results", str(folder.path), "--output", str(tmp_path / "x.svg")]) == 1
    assert not (tmp_path / "x.svg").exists()


def test_the_plot_is_written(measured: Folder, tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.svg"
    assert plot.main(["--results", str(measured.path), "--output", str(target)]) == 0
    assert target.read_text() == draw_plot(measured.results)


def test_every_reference_has_a_bar() -> None:
    assert set(PEERS) <= set(plot.BARS)
