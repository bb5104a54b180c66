"""The canary as a backend: a share of the pages goes to the candidate, and everything is written down.

Requests for any other model than the base's default pass through untouched. Clients cannot tell who answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from ocrsmith.errors import SettingsError
from ocrsmith.serving.backends import Backend, End, Piece, ServedModel, TextRequest
from ocrsmith.serving.canary.choice import ARMS, BASE, CANDIDATE, Arm, PageKey, page_key, within
from ocrsmith.serving.canary.reading import Reading
from ocrsmith.serving.canary.recorder import Pair, Record, Recorder
from ocrsmith.serving.canary.records import KeptPage, Request
from ocrsmith.serving.canary.rollback import DEFAULT_AFTER, RollbackRule
from ocrsmith.serving.canary.store import Store, open_store

SHADOWS = 4
"""Shadow readings at a time; further ones are left out and counted."""
SHADOW_SECONDS = 900.0
"""A shadow reading that takes longer is given up and counts as failed."""
KEEP_BYTES = 2**30

_log = logging.getLogger("ocrsmith.serving.canary")


def open_canary(
    base: Backend,
    candidate: Backend,
    *,
    store: str,
    share: float,
    shadow: bool,
    keep: float = 0.01,
    rollback_if: str | None = None,
    rollback_after: int = DEFAULT_AFTER,
    keep_bytes: int = KEEP_BYTES,
) -> CanaryBackend:
    """A canary before two backends, neither of which is started yet.

    Args:
        base, candidate: the default model of each is compared.
        store: a file, `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST/DATABASE`; made if it is not there.
        share: of the pages that the candidate answers, 0 to 1.
        shadow: whether the other model reads each page too, after the answer, in the background.
        keep: share of the pages whose image and answers are kept, 0 to 1, for review and corrections.
        rollback_if: a rule over the candidate's figures, e.g. "loops > 0.01 or p90 > 0.05": when it holds, all
            pages go to the base until `ocrsmith canary resume`.
        rollback_after: answers of the candidate below which the rule is not looked at.
        keep_bytes: what kept images may take together; the oldest are dropped.

    Raises:
        SettingsError: a value out of range, a rule that is none, a wrong URL.
        InputError, OutputError: the store cannot be used.
    """
    for option, value in (("--share", share), ("--keep", keep)):
        if not 0 <= value <= 1:
            mend = "Give a share from 0 to 1, such as 5% or 0.05."
            raise SettingsError(f"{value:g} is no share.", place=option, mend=mend)
    if not share and not shadow:
        mend = "Give a share, or --shadow to let it read along."
        raise SettingsError("The candidate would read nothing.", place="--share", mend=mend)
    if keep_bytes < 1:
        raise SettingsError(f"{keep_bytes} bytes keep nothing.", place="--keep", mend="Give --keep 0 for that.")
    rule = None if rollback_if is None else RollbackRule.parse(rollback_if, after=rollback_after)
    opened = open_store(store, create=True)
    return CanaryBackend(
        base, candidate, opened, share=share, shadow=shadow, keep=keep, rule=rule, keep_bytes=keep_bytes
    )


class CanaryBackend:
    """See `open_canary`. It owns its store and both backends, and closes them."""

    def __init__(
        self,
        base: Backend,
        candidate: Backend,
        store: Store,
        *,
        share: float,
        shadow: bool,
        keep: float,
        rule: RollbackRule | None,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._backends: dict[Arm, Backend] = {BASE: base, CANDIDATE: candidate}
        self._names: dict[Arm, str] = {}
        self._store = store
        self._share, self._shadow, self._keep = share, shadow, keep
        self._rule, self._keep_bytes = rule, keep_bytes
        self._recorder: Recorder | None = None
        self._shadows: set[asyncio.Task[None]] = set()
        self._counted = {f"requests.{arm}": 0 for arm in ARMS} | {"fallbacks": 0, "shadows": 0}

    @property
    def models(self) -> Sequence[ServedModel]:
        """See `Backend.models`: the base's."""
        return self._backends[BASE].models

    async def start(self) -> None:
        """See `Backend.start`: starts both."""
        try:
            for arm, backend in self._backends.items():
                await backend.start()
                self._names[arm] = backend.models[0].name
            pair = Pair(self._names[BASE], self._names[CANDIDATE])
            detail: dict[str, object] = {"share": self._share, "shadow": self._shadow, "keep": self._keep}
            if self._rule is not None:
                detail |= {"rollback_if": self._rule.rule.text, "rollback_after": self._rule.after}
            state = await asyncio.to_thread(self._store.start, pair.base, pair.candidate, detail)
        except BaseException:
            await self.close()
            raise
        self._recorder = Recorder(self._store, pair, state, rule=self._rule, keep_bytes=self._keep_bytes)
        self._recorder.start()

    async def generate(self, request: TextRequest) -> AsyncGenerator[Piece | End, None]:
        """See `Backend.generate`."""
        default = request.model == self._names[BASE]
        source = self._watched(request) if default else self._backends[BASE].generate(request)
        async with aclosing(source) as items:
            async for item in items:
                yield item

    async def check(self) -> None:
        """See `Backend.check`: the base's. Without the candidate all requests are answered, too."""
        await self._backends[BASE].check()

    async def close(self) -> None:
        """See `Backend.close`: ends shadow readings and both backends, and writes what is left."""
        for task in list(self._shadows):
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)
        try:
            ends = await asyncio.gather(
                *(backend.close() for backend in self._backends.values()), return_exceptions=True
            )
        finally:
            if self._recorder is not None:
                await asyncio.to_thread(self._recorder.close)
            self._store.close()
        if failed := next((end for end in ends if isinstance(end, BaseException)), None):
            raise failed

    @property
    def rolled_back(self) -> bool:
        """Whether all requests go to the base."""
        return self._recorder is not None and self._recorder.rolled_back

    def figures(self) -> dict[str, float]:
        """How it stands, for metrics: counts since the start of this process, and the figures of both arms as
        they were when the rule was last looked at (`candidate.loops`, `base.seconds.p90` …; NaN: none)."""
        assert self._recorder is not None
        found = {name: float(count) for name, count in self._counted.items()}
        found |= {"share": self._share, "rolled_back": float(self.rolled_back)}
        found["records_dropped"] = float(self._recorder.total.records_dropped)
        found["shadows_dropped"] = float(self._recorder.total.shadows_dropped)
        for arm, figures in self._recorder.figures.items():
            found |= {f"{arm}.{name}": value for name, value in figures.items()}
        return found

    # --- a request -----------------------------------------------------------------------------------------

    async def _watched(self, request: TextRequest) -> AsyncGenerator[Piece | End, None]:
        """Answers by the arm that the hash chooses, by the base if the candidate cannot begin."""
        key = page_key(request.image, request.prompt, salt=self._store.salt)
        came, arm = time.time(), self._choose(key)
        self._counted[f"requests.{arm}"] += 1
        readings: list[Reading] = []
        try:
            for tried in (arm, BASE)[: 2 if arm == CANDIDATE else 1]:
                readings.append(self._reading(tried, request))
                try:
                    async with aclosing(readings[-1].items()) as items:
                        async for item in items:
                            yield item
                    break
                except Exception:  # whatever breaks in the candidate is no reason to fail a client
                    if tried == BASE or readings[-1].begun:
                        raise
                    self._counted["fallbacks"] += 1
        finally:
            self._conclude(Request(request.id, came, key, arm, len(readings) > 1), request, readings)

    def _choose(self, key: PageKey) -> Arm:
        chosen = not self.rolled_back and within(key, "arm", self._share, salt=self._store.salt)
        return CANDIDATE if chosen else BASE

    def _reading(self, arm: Arm, request: TextRequest) -> Reading:
        return Reading(arm, self._backends[arm], replace(request, model=self._names[arm]))

    def _conclude(self, entry: Request, request: TextRequest, readings: list[Reading]) -> None:
        """Records a request that is over, and lets the other model read the page."""
        if entry.fallback and readings[0].refused and not readings[1].refused:
            readings[0].failed_by("refused what the base could answer")
        keep = within(entry.key, "keep", self._keep, salt=self._store.salt)
        kept = None
        if keep and request.image is not None and readings[-1].ended_well:
            kept = KeptPage(entry.key, entry.time, request.prompt, request.image)
        answers = tuple(reading.answer(entry.key, keep=keep) for reading in readings)
        self._record(Record(entry, answers, kept))
        if self._shadow and len(readings) == 1 and readings[0].ended_well and not self.rolled_back:
            self._begin_shadow(request, entry.key, readings[0], keep=keep)

    def _record(self, record: Record) -> None:
        assert self._recorder is not None
        self._recorder.put(record)

    # --- shadows -------------------------------------------------------------------------------------------

    def _begin_shadow(self, request: TextRequest, key: PageKey, answered: Reading, *, keep: bool) -> None:
        assert self._recorder is not None
        if len(self._shadows) >= SHADOWS:
            self._recorder.drop_shadow()
            return
        self._counted["shadows"] += 1
        task = asyncio.get_running_loop().create_task(self._read_along(request, key, answered, keep=keep))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _read_along(self, request: TextRequest, key: PageKey, answered: Reading, *, keep: bool) -> None:
        """The other model's reading of a page that was answered; whatever becomes of it, no client notices."""
        other = BASE if answered.arm == CANDIDATE else CANDIDATE
        reading = self._reading(other, request)
        try:
            async with asyncio.timeout(SHADOW_SECONDS), aclosing(reading.items()) as items:
                async for _ in items:
                    pass
        except TimeoutError:
            reading.failed_by(f"took longer than {SHADOW_SECONDS:.0f} s")
        except Exception as error:  # noted in the reading
            _log.debug("A shadow reading failed: %s", type(error).__name__)
        finally:
            texts = (answered.text, reading.text) if answered.arm == BASE else (reading.text, answered.text)
            answer = reading.answer(key, shadow=True, keep=keep)
            self._record(Record(None, (answer,), texts=texts if reading.ended_well else None))
