"""A stress run from settings to report."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from ocrsmith.engines.http_client import Endpoint
from ocrsmith.engines.openai_api import read_key
from ocrsmith.errors import InputError
from ocrsmith.serving.stress.client import StressClient, open_http
from ocrsmith.serving.stress.load import Load
from ocrsmith.serving.stress.memory import MetricsProbe, Probe, ProcessProbe
from ocrsmith.serving.stress.pages import Pages, RequestForm, load_pages
from ocrsmith.serving.stress.report import Report, make_report
from ocrsmith.serving.stress.settings import StressSettings
from ocrsmith.serving.stress.tally import Tally

_SPARE_FILES = 128
Progress = Callable[[Tally], object]
"""Called after each request that counts."""


@dataclass(slots=True)
class StressRun:
    """A run, done or broken off."""

    report: Report
    pages: Pages
    model: str
    interrupted: bool = False


@dataclass(slots=True)
class _State:
    """What is known so far, also when the run is broken off."""

    tally: Tally
    model: str = ""
    probe: Probe | None = None
    cpu: float = 0.0


def stress(settings: StressSettings, images: Path, *, progress: Progress | None = None) -> StressRun:
    """Sends the pages of a folder, round after round.

    Ctrl-C ends it early, with the figures so far; where there are none yet, it is raised.

    Args:
        settings: where and how many.
        images: a folder of page images, or one image. All are opened before the first is sent.
        progress: hears of each page.

    Raises:
        SettingsError: a wrong address or key.
        InputError: no images, no such process, no figures where they were said to be.
        EngineFailure: the server cannot be reached, or answers nothing.
    """
    most = None if settings.requests is None else settings.requests + settings.warm_up_pages
    pages = load_pages(images, most=most)
    _allow_connections(settings.clients)
    state = _State(Tally([page.name for page in pages.kept]))
    interrupted = False
    try:
        asyncio.run(_run(settings, pages, state, progress))
    except KeyboardInterrupt:
        if not state.tally.done:
            raise
        interrupted = True
    source = state.probe.source if state.probe else None
    report = make_report(state.tally, memory_source=source, cpu_seconds=time.process_time() - state.cpu)
    return StressRun(report, pages, state.model, interrupted)


async def _run(settings: StressSettings, pages: Pages, state: _State, progress: Progress | None) -> None:
    key = read_key(settings.api_key_env)
    tally = state.tally
    async with open_http(settings.clients) as http:
        client = StressClient(http, settings, key)
        state.model = await client.find_model(settings.model)
        state.probe = await _find_probe(http, settings, key)
        form = RequestForm.make(
            state.model, settings.prompt, max_tokens=settings.max_tokens, stream=settings.stream
        )
        told = (lambda: progress(tally)) if progress else None
        state.cpu = time.process_time()
        await Load(settings, pages.kept, form, tally, progress=told).run(client, state.probe)


def _allow_connections(clients: int) -> None:
    """Lets this process open as many connections as it takes, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


async def _find_probe(http: httpx2.AsyncClient, settings: StressSettings, key: str | None) -> Probe | None:
    """Where memory can be read; None where nobody says.

    Raises:
        InputError: it cannot be read where the user says.
    """
    if settings.pid is not None:
        return ProcessProbe(settings.pid)
    url = str(Endpoint.parse(settings.metrics, "", allow_http=settings.allow_http))
    probe = MetricsProbe(http, url, key=key if settings.metrics_url is None else None)
    if await probe.read() is not None:
        return probe
    if settings.metrics_url is not None:
        raise InputError(
            "The server's memory is not told there: no process_resident_memory_bytes.",
            place=url,
            mend="Correct --metrics, or name the process with --pid.",
        )
    return None
