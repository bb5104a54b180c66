"""The load itself: so many clients, each of which sends the next page when it has the answer to the last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ocrsmith.engines.workers import EngineFailure
from ocrsmith.errors import OcrsmithError
from ocrsmith.serving.stress.client import Outcome
from ocrsmith.serving.stress.memory import Probe
from ocrsmith.serving.stress.pages import Page, RequestForm
from ocrsmith.serving.stress.settings import StressSettings
from ocrsmith.serving.stress.tally import Tally

_SAMPLE_STEP = 10
_TICK = 0.02

Progress = Callable[[], object]
"""Called after each request that counts."""


class Asks(Protocol):
    """What sends a request: `StressClient`."""

    async def ask(self, body: bytes) -> Outcome:
        """See `StressClient.ask`."""
        ...


class Load:
    """One run. What it has found so far is in the tally at every moment, also when it is broken off."""

    def __init__(
        self,
        settings: StressSettings,
        pages: Sequence[Page],
        form: RequestForm,
        tally: Tally,
        *,
        progress: Progress | None = None,
    ) -> None:
        self._settings, self._pages, self._form, self._tally = settings, pages, form, tally
        self._progress = progress or (lambda: None)
        self._next = -settings.warm_up_pages

    async def run(self, client: Asks, probe: Probe | None) -> None:
        """Sends all pages.

        Raises:
            EngineFailure: not one page of the warm-up was answered.
        """
        try:
            async with asyncio.TaskGroup() as group:
                sampling = group.create_task(self._sample(probe)) if probe else None
                clients = [group.create_task(self._client(client)) for _ in range(self._settings.clients)]
                await asyncio.gather(*clients)
                self._tally.ended = time.perf_counter()
                if sampling:
                    sampling.cancel()
            if probe:
                await self._sample_once(probe)
        except ExceptionGroup as troubles:
            ours = troubles.subgroup(OcrsmithError)
            raise ours.exceptions[0] if ours else troubles from None
        finally:
            self._tally.ended = self._tally.ended or time.perf_counter()

    async def _client(self, client: Asks) -> None:
        while (number := self._take()) is not None:
            self._tally.send(number)
            outcome = await client.ask(self._form.fill(self._pages[number % len(self._pages)]))
            self._tally.add(number, outcome)
            if number >= 0:
                self._progress()
            else:
                self._check_warm_up()

    def _take(self) -> int | None:
        """The number of the next request; None when there is none."""
        settings = self._settings
        if settings.requests is not None and self._next >= settings.requests:
            return None
        if settings.seconds is not None and self._tally.elapsed >= settings.seconds:
            return None
        self._next += 1
        return self._next - 1

    def _check_warm_up(self) -> None:
        tally = self._tally
        failed = tally.warm_up_errors.total()
        if failed < self._settings.warm_up_pages or tally.done > tally.errors.total():
            return
        kind = tally.warm_up_errors.most_common(1)[0][0]
        raise EngineFailure(
            f"The server answers none of the first {failed:,} pages: {kind} ({tally.messages[kind]}).",
            place=self._settings.api,
            mend="Check model, key and limits of the server; --timeout is for slow ones, --warmup 0 goes on.",
        )

    async def _sample(self, probe: Probe) -> None:
        """Reads the server's memory from the end of the warm-up on: now and then, and with every hundredth part
        of the pages."""
        tally = self._tally
        step = max(_SAMPLE_STEP, (self._settings.requests or 0) // 100)
        while True:
            if tally.begun is not None:
                done = tally.done
                await self._sample_once(probe)
                until = time.perf_counter() + tally.sample_every
                while time.perf_counter() < until and tally.done < done + step:
                    await asyncio.sleep(_TICK)
            else:
                await asyncio.sleep(_TICK)

    async def _sample_once(self, probe: Probe) -> None:
        resident = await probe.read()
        if resident is not None:
            self._tally.remember(resident)
