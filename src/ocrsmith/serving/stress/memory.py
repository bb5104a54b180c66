"""The server's memory: where it is read, and whether it leaks."""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx2
import numpy as np

from ocrsmith.errors import InputError
from ocrsmith.serving.stress.statistics import BINS, Floats, Slope, robust_slope, window_of

Course = Literal["steady", "growing", "leak", "unknown"]

LIMIT = 0.02
"""Growth from first to last that is none: allocators breathe."""
MIN_REQUESTS = 400
"""Below that, what only fills up may still be filling up in the second half."""
MIN_SAMPLES = 10
"""Of the second half; fewer say nothing about a slope."""
_MAX_METRICS = 8 * 2**20
_RESIDENT = re.compile(r"^process_resident_memory_bytes(?:\{[^}\n]*\})? ([0-9.eE+]{1,30})\b", re.MULTILINE)


class Probe(Protocol):
    """Where the memory of a server is read."""

    source: str
    """In words."""

    async def read(self) -> int | None:
        """Resident bytes now; None if they cannot be read now."""
        ...


class MetricsProbe:
    """`process_resident_memory_bytes` of Prometheus figures; of several processes, their sum."""

    def __init__(self, client: httpx2.AsyncClient, url: str, *, key: str | None = None) -> None:
        """`key`: sent as a bearer token."""
        self._client, self._url = client, url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.source = url

    async def read(self) -> int | None:
        """See `Probe.read`."""
        try:
            async with self._client.stream("GET", self._url, headers=self._headers, timeout=10.0) as response:
                if response.status_code != 200:
                    return None
                body = b""
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > _MAX_METRICS:
                        return None
        except httpx2.HTTPError:
            return None
        values = [_number(text) for text in _RESIDENT.findall(body.decode("utf-8", "replace"))]
        total = sum(values)
        return int(total) if values and math.isfinite(total) else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class ProcessProbe:
    """A process of this machine and all that descend from it: the sum of their resident memory."""

    def __init__(self, pid: int, *, proc: Path = Path("/proc")) -> None:
        """
        Raises:
            InputError: there is no such process, or no /proc.
        """
        self._proc, self._pid = proc, pid
        self.source = f"process {pid} and its children"
        self._started = self._stat(pid)[1]
        if self._started is None:
            raise InputError(
                f"There is no process {pid} whose memory can be read.",
                place="--pid",
                mend="Give the number of the server's process; it has to run on this machine, under Linux.",
            )

    async def read(self) -> int | None:
        """See `Probe.read`. None once the process has ended, even if another has its number."""
        if self._stat(self._pid)[1] != self._started:
            return None
        children: dict[int, list[int]] = defaultdict(list)
        for name in os.listdir(self._proc):
            if name.isdecimal():
                parent = self._stat(int(name))[0]
                if parent is not None:
                    children[parent].append(int(name))
        total, todo = 0, [self._pid]
        while todo:
            pid = todo.pop()
            total += self._resident(pid)
            todo += children.pop(pid, [])
        return total

    def _stat(self, pid: int) -> tuple[int | None, str | None]:
        """Parent and time of start; None for a process that is gone."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None, None
        fields = text[text.rfind(")") + 2 :].split()  # the name before it may have spaces and brackets in it
        return int(fields[1]), fields[19]

    def _resident(self, pid: int) -> int:
        try:
            pages = int((self._proc / str(pid) / "statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Memory:
    """How the server's memory went; bytes."""

    source: str
    samples: int
    window: int
    """Requests at the beginning, and at the end, in whose time `first` and `last` were taken."""
    first: float
    """Median while the first requests were answered."""
    last: float
    highest: float
    growth: float
    """last / first - 1."""
    slope: Slope | None
    """Bytes a request over the second half; None: too few samples to tell."""
    pace: float | None
    """What that slope adds over as many requests as the run had, as a share of `first`."""
    verdict: Course

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def judge_memory(source: str, done: Floats, resident: Floats, requests: int) -> Memory | None:
    """Says whether memory leaks.

    A leak: it has grown by more than `LIMIT` from the first requests to the last, and in the second half it
    still rises, surely (the interval of the slope is above 0) and fast enough that the slope alone makes that
    much over the run. What fills up once, such as a cache or an allocator's pools, has no slope by then, unless
    the run is short. Half as fast, or in fewer than `MIN_REQUESTS`, is called growing: a longer run tells.

    Args:
        source: where it was read.
        done: (samples,) requests that were answered by then, rising.
        resident: (samples,) bytes.
        requests: answered in all.

    Returns:
        None without samples.
    """
    if not len(resident):
        return None
    window = window_of(requests)
    first = float(np.median(resident[: max(1, int((done <= window).sum()))]))
    last = float(np.median(resident[min(len(done) - 1, int((done < requests - window).sum())) :]))
    growth = last / first - 1 if first > 0 else 0.0
    slope = _slope_of_second_half(done, resident, requests)
    pace = slope.estimate * requests / first if slope and first > 0 else None
    verdict: Course = "unknown"
    if slope is not None and pace is not None:
        rises = slope.low > 0 and pace > LIMIT / 2
        leaks = rises and min(growth, pace) > LIMIT and requests >= MIN_REQUESTS
        verdict = "leak" if leaks else "growing" if rises else "steady"
    highest = float(resident.max())
    return Memory(source, len(resident), window, first, last, highest, growth, slope, pace, verdict)


def _slope_of_second_half(done: Floats, resident: Floats, requests: int) -> Slope | None:
    """Through the medians of `BINS` stretches."""
    late = done >= requests / 2
    if late.sum() < MIN_SAMPLES or done[late][0] == done[late][-1]:
        return None
    parts = np.array_split(np.flatnonzero(late), min(BINS, int(late.sum())))
    x = np.array([done[part].mean() for part in parts])
    y = np.array([np.median(resident[part]) for part in parts])
    return robust_slope(x, y)
