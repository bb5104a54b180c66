"""A build that was stopped goes on, and ends with the bytes of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset, staging
from ocrsmith.datasets import build as build_module
from ocrsmith.datasets.resume import kept_work, work_folder
from ocrsmith.errors import DataError, OutputError
from ocrsmith.records import SPLITS

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every 8 samples."""
    monkeypatch.setattr(staging, "BATCH_ROWS", 8)
    monkeypatch.setattr(staging, "FILE_ROWS", 8)


@pytest.fixture
def mixed(content: Any) -> Path:
    """60 samples, some of them with repeated ids, between lines that cannot be used."""
    file = content(60)
    lines = file.read_text().splitlines()
    for number in range(0, 60, 7):
        lines.insert(number, f"gone-{number}.png\tx")
    lines += lines[3:9]
    file.write_text("\n".join(lines) + "\n")
    return Path(file)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


_EXAMINE = build_module.examine_all


class Stop:
    """Lets `count` candidates pass, then interrupts the build as Ctrl-C does; counts those that pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int | None = None) -> None:
        self.seen = 0

        def counted(items: Any, **options: Any) -> Iterator[Any]:
            for item in _EXAMINE(items, **options):
                if self.seen == count:
                    raise KeyboardInterrupt
                self.seen += 1
                yield item

        monkeypatch.setattr(build_module, "examine_all", counted)


def test_an_interrupted_build_goes_on_where_it_was(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_dataset([mixed], tmp_path / "whole" / "set", workers=1)
    out = tmp_path / "cut" / "set"
    stop = Stop(monkeypatch, 50)
    with pytest.raises(KeyboardInterrupt):
        build_dataset([mixed], out, workers=1)
    assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == [".set.building"]
    assert stop.seen == 50
    hint = kept_work(out)
    assert hint is not None
    assert hint.startswith("40 samples that were read are kept in ")
    assert "same command" in hint
    assert "--fresh" in hint
    calls: list[tuple[str, int, int | None]] = []
    again = Stop(monkeypatch)
    summary = build_dataset([mixed], out, workers=1, progress=lambda *call: calls.append(call))
    assert summary.resumed == 40
    assert calls[0][0] == "read"
    done = calls[0][1]
    assert 40 < done < 50  # those that were left out count too
    assert again.seen == 75 - done
    assert kept_work(out) is None
    assert tree(out) == tree(tmp_path / "whole" / "set")
    assert [path.name for path in out.parent.iterdir()] == ["set"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 74), max_size=4))
def test_wherever_and_however_often_it_is_stopped(
    mixed: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("stops")
    Stop(monkeypatch)
    build_dataset([mixed], folder / "whole" / "set", workers=1)
    for count in stops:
        Stop(monkeypatch, count)
        try:
            build_dataset([mixed], folder / "cut" / "set", BuildSettings(overwrite=True), workers=1)
        except KeyboardInterrupt:
            continue
    Stop(monkeypatch)
    build_dataset([mixed], folder / "cut" / "set", BuildSettings(overwrite=True), workers=1)
    assert tree(folder / "cut" / "set") == tree(folder / "whole" / "set")


_DIE = """
import os, signal, sys
from pathlib import Path
from ocrsmith.datasets import BuildSettings, build_dataset, staging, output, resume, build, manifest
staging.BATCH_ROWS = staging.FILE_ROWS = 8
source, out, where, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
owner, name = {
    "reading": (build.Ledger, "add"),
    "batch": (staging, "to_batch"),
    "index": (staging, "_write_facts"),
    "shards": (build.ShardWriter, "add"),
    "manifest": (manifest, "write"),
    "in place": (output, "put_in_place"),
    "rename": (Path, "rename"),
    "removal": (resume.shutil, "rmtree"),
}[where]
function = getattr(owner, name)
calls = 0
def deadly(*args, **kwargs):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)
setattr(owner, name, deadly)
if where == "in place":
    resume.put_in_place = deadly
build_dataset([source], out, BuildSettings(overwrite=True))
"""


@pytest.mark.parametrize(
    ("where", "count", "there"),
    [
        *(("reading", 4, False), ("batch", 5, False), ("index", 3, True), ("shards", 2, False)),
        *(("manifest", 1, True), ("in place", 1, False), ("in place", 1, True), ("removal", 2, False)),
        # Three shards get their names, then the folder; or four old entries go and four new ones come.
        *(("rename", 4, False), ("rename", 4, True), ("rename", 6, True), ("rename", 8, True)),
        *(("rename", 10, True), ("removal", 2, True)),
    ],
)
def test_killed_at_any_step_nothing_is_lost_or_doubled(
    mixed: Path, content: Any, tmp_path: Path, where: str, count: int, there: bool
) -> None:
    build_dataset([mixed], tmp_path / "whole" / "set")
    out = tmp_path / "cut" / "set"
    if there:
        build_dataset([content(5, folder="old")], out)
    words = [sys.executable, "-c", _DIE, str(mixed), str(out), where, str(count)]
    died = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr
    build_dataset([mixed], out, BuildSettings(overwrite=True))
    assert tree(out) == tree(tmp_path / "whole" / "set")
    assert [path.name for path in out.parent.iterdir()] == ["set"]
    ids = [sample.id for name in SPLITS for sample in open_dataset(out).iter_samples(name)]
    assert len(ids) == len(set(ids)) == 66 - 1


def stopped(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, count: int = 50) -> None:
    Stop(monkeypatch, count)
    with pytest.raises(KeyboardInterrupt):
        build_dataset([source], out, workers=1)
    Stop(monkeypatch)


def test_other_sources_or_settings_are_refused_with_what_differs(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    stopped(mixed, out, monkeypatch)
    with pytest.raises(OutputError, match="--min-side was 10, is 12") as caught:
        build_dataset([mixed], out, BuildSettings(min_side=12))
    assert "40 samples read" in caught.value.problem
    assert "--fresh" in (caught.value.mend or "")
    mixed.write_text(mixed.read_text() + "images/0001.png\tone more\n")
    with pytest.raises(OutputError, match="other sources, or they have changed"):
        build_dataset([mixed], out)
    assert kept_work(out)
    summary = build_dataset([mixed], out, BuildSettings(fresh=True))
    assert (summary.resumed, summary.samples) == (0, 66)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


def test_what_is_decided_after_reading_may_change(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(mixed, tmp_path / "out", monkeypatch)
    changed = BuildSettings(splits="50/25/25", seed=1, layout="prefix")
    summary = build_dataset([mixed], tmp_path / "out", changed)
    assert summary.resumed == 40
    whole = build_dataset([mixed], tmp_path / "whole", changed)
    assert whole.content_hash == summary.content_hash


def test_a_source_whose_order_is_not_stable_is_begun_anew(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = build_module.find_source
    monkeypatch.setattr(build_module, "find_source", lambda *args: replace(find(*args), kind="hub"))
    Stop(monkeypatch, 50)
    with pytest.raises(KeyboardInterrupt):
        build_dataset([mixed], tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source"}
    Stop(monkeypatch)
    summary = build_dataset([mixed], tmp_path / "out")
    assert any("no build of it can go on" in note for note in summary.notes)


def test_bad_input_leaves_nothing_behind(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        build_dataset([mixed], tmp_path / "a/out", BuildSettings(strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


_HOLD = """
import sys, time
from ocrsmith.datasets.resume import build_folder
from pathlib import Path
with build_folder(Path(sys.argv[1]), {}, overwrite=False, fresh=False, keep=True):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_builds_at_once_into_one_target(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = subprocess.Popen([sys.executable, "-c", _HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"Another build .process {other.pid}. is at work") as caught:
            build_dataset([mixed], out)
        assert "-o" in (caught.value.mend or "")
        assert work_folder(out).is_dir()
    finally:
        other.kill()
        other.wait()
    assert build_dataset([mixed], out).samples == 65  # the lock of a dead process blocks nobody


def test_a_damaged_checkpoint_counts_for_nothing(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_dataset([mixed], tmp_path / "whole" / "set")
    for damage, left in ((lambda path: path.write_bytes(b"no Arrow"), 16), (lambda path: path.unlink(), 16)):
        for name in ("staging-00002.index", "staging-00002.arrow"):
            out = tmp_path / "cut" / "set"
            stopped(mixed, out, monkeypatch)
            damage(work_folder(out) / name)
            summary = build_dataset([mixed], out)
            assert summary.resumed == left
            assert tree(out) == tree(tmp_path / "whole" / "set")
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            out.rmdir()


def test_a_disk_too_small_for_the_second_copy_is_told_early(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = os.statvfs(tmp_path)
    assert usage
    monkeypatch.setattr(
        "ocrsmith.datasets.output.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})
    )
    with pytest.raises(OutputError, match="disk is full, or will be") as caught:
        build_dataset([mixed], tmp_path / "out")
    assert "8 samples that were read are kept" in (caught.value.mend or "")
    monkeypatch.undo()
    assert build_dataset([mixed], tmp_path / "out").resumed == 8


_SLOW = """
import sys, time
from ocrsmith.datasets import checks, staging
from ocrsmith.cli.main import main
staging.BATCH_ROWS = staging.FILE_ROWS = 8
examine = checks.examine
def slow(*args, **kwargs):
    time.sleep(0.02)
    return examine(*args, **kwargs)
checks.examine = slow
sys.exit(main(["data", "build", sys.argv[1], "-o", sys.argv[2]]))
"""


def test_ctrl_c_in_the_command_keeps_the_work(content: Any, tmp_path: Path) -> None:
    file, out = content(500), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(file), str(out)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while staging.Staging.count(work_folder(out)) < 16 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert {path.name for path in tmp_path.iterdir()} == {"source", ".out.building"}
    summary = build_dataset([file], out)
    assert summary.resumed >= 16
    assert summary.samples == 500
    assert json.loads((out / "manifest.json").read_text())["samples"] == 500
