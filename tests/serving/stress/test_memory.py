"""A leak is called a leak, and nothing else is; memory is read where it is said to be."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest

from ocrsmith.errors import InputError
from ocrsmith.serving.stress.memory import MetricsProbe, ProcessProbe, judge_memory
from ocrsmith.serving.stress.statistics import Floats

from .server import BadServer

MIB = 2**20
DONE = np.repeat(np.arange(0.0, 1001.0, 5), 2)


def noise(size: float) -> Floats:
    return size * np.random.default_rng(7).normal(size=len(DONE))


WARM_UP = 30 * MIB * (1 - np.exp(-DONE / 60))
TEETH = 60 * MIB * (DONE % 120) / 120


@pytest.mark.parametrize(
    ("course", "verdict"),
    [
        pytest.param(0 * DONE, "steady", id="constant"),
        pytest.param(noise(MIB), "steady", id="noise"),
        pytest.param(30_000 * DONE, "leak", id="a straight leak"),
        pytest.param(30_000 * DONE + noise(3 * MIB), "leak", id="a leak in noise"),
        pytest.param(np.floor(DONE / 40) * 1.5 * MIB, "leak", id="a leak in steps"),
        pytest.param(WARM_UP + 20_000 * DONE, "leak", id="a leak after a warm-up"),
        pytest.param(WARM_UP, "steady", id="a warm-up"),
        pytest.param(WARM_UP + 300 * DONE + noise(2000), "steady", id="a warm-up, then next to nothing"),
        pytest.param(WARM_UP + 6_000 * DONE + noise(2000), "growing", id="a warm-up, then a little"),
        pytest.param(WARM_UP + noise(MIB), "steady", id="a warm-up in noise"),
        pytest.param(TEETH, "steady", id="saw teeth"),
        pytest.param(12 * MIB * (DONE > 700), "steady", id="one step late"),
        pytest.param(1_000 * DONE, "steady", id="grows by less than is told"),
        pytest.param(-20_000 * DONE, "steady", id="shrinks"),
    ],
)
def test_a_leak_is_called_a_leak(course: Floats, verdict: str) -> None:
    memory = judge_memory("here", DONE, 400 * MIB + course, 1000)
    assert memory
    assert memory.verdict == verdict
    assert memory.highest == (400 * MIB + course).max()


@pytest.mark.parametrize(("requests", "verdict"), [(399, "growing"), (400, "leak")])
def test_a_short_run_may_still_be_warming_up(requests: int, verdict: str) -> None:
    done = np.arange(0.0, requests + 1)
    memory = judge_memory("here", done, 400 * MIB + 60_000 * done, requests)
    assert memory
    assert memory.verdict == verdict


def test_first_and_last_are_those_of_the_first_and_last_hundred() -> None:
    memory = judge_memory("here", DONE, 400 * MIB + 30_000 * DONE, 1000)
    assert memory
    assert memory.slope
    assert memory.first == pytest.approx(400 * MIB + 30_000 * 50)
    assert memory.last == pytest.approx(400 * MIB + 30_000 * 950)
    assert memory.growth == memory.last / memory.first - 1
    assert memory.slope.estimate == pytest.approx(30_000)
    assert memory.pace == pytest.approx(30_000 * 1000 / memory.first)


@pytest.mark.parametrize(("samples", "known"), [(0, False), (1, True), (3, True), (12, True)])
def test_too_few_samples_tell_no_leak(samples: int, known: bool) -> None:
    memory = judge_memory("here", np.arange(float(samples)), 1e9 * np.arange(1.0, samples + 1), samples)
    assert (memory is not None) == known
    assert memory is None or memory.verdict == "unknown"


# --- probes ------------------------------------------------------------------------------------------------

CHILD = "x = b'x' * 30_000_000\nprint('ready', flush=True)\ninput()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdout=-1, stdin=-1, text=True)
print(child.stdout.readline(), flush=True)
input()
child.communicate()
"""


def test_a_process_counts_with_its_children_and_is_gone_when_it_is_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    probe = ProcessProbe(process.pid)
    own = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096
    total = asyncio.run(probe.read())
    assert total is not None
    assert total >= own + 30_000_000
    process.communicate("\n", timeout=60)
    assert asyncio.run(probe.read()) is None
    with pytest.raises(InputError) as error:
        ProcessProbe(process.pid)
    assert "--pid" in str(error.value)


def write_process(proc: Path, pid: int, parent: int, name: str, pages: int, started: str = "77") -> None:
    (proc / str(pid)).mkdir(parents=True)
    fields = ["S", str(parent), *["0"] * 17, started, "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (proc / str(pid) / "statm").write_text(f"9999 {pages} 1 1 0 1 0\n")


def test_names_with_brackets_and_circles_of_parents_do_no_harm(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1, "a) R 99 (b", 100)
    write_process(tmp_path, 11, 10, "x y", 20)
    write_process(tmp_path, 12, 11, ")", 3)
    write_process(tmp_path, 13, 1, "other", 5000)
    write_process(tmp_path, 0, 0, "its own parent", 7)
    (tmp_path / "self").mkdir()
    probe = ProcessProbe(10, proc=tmp_path)
    assert asyncio.run(probe.read()) == 123 * 4096


def test_another_process_with_the_number_is_not_taken_for_it(tmp_path: Path) -> None:
    write_process(tmp_path, 10, 1, "a", 100)
    probe = ProcessProbe(10, proc=tmp_path)
    stat = tmp_path / "10" / "stat"
    stat.write_text(stat.read_text().replace("77", "78"))
    assert asyncio.run(probe.read()) is None


async def _read(url: str) -> int | None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await MetricsProbe(client, f"{url}/metrics").read()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("process_resident_memory_bytes 1.5e+06\n", 1_500_000),
        ("x 1\nprocess_resident_memory_bytes 42\ny 2\n", 42),
        ('process_resident_memory_bytes{pid="1"} 10.0\nprocess_resident_memory_bytes{pid="2"} 5\n', 15),
        ("# process_resident_memory_bytes 3\n", None),
        ("other_process_resident_memory_bytes 3\n", None),
        ("process_resident_memory_bytes 1e999\n", None),
        ("process_resident_memory_bytes ..e\n", None),
        ("process_resident_memory_bytes NaN\n", None),
        ("", None),
    ],
)
def test_prometheus_figures_are_read(server: BadServer, text: str, found: int | None) -> None:
    server.metrics = lambda: text
    assert asyncio.run(_read(server.url)) == found


def test_no_figures_are_no_memory(server: BadServer) -> None:
    assert asyncio.run(_read(server.url)) is None
    assert asyncio.run(_read("http://127.0.0.1:9")) is None
    server.metrics = lambda: "process_resident_memory_bytes 3\n" + "#" * 9 * MIB
    assert asyncio.run(_read(server.url)) is None
