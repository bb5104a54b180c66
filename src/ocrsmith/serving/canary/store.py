"""The canary's store: requests, answers, corrections and events, in a SQLite file or in PostgreSQL.

Several processes may use one store at a time, and may be killed at any moment: each method is one transaction.
Methods wait for the database: the server calls them in a thread of their own (`recorder`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from ocrsmith.serving.canary.address import parse_address
from ocrsmith.serving.canary.choice import Arm, PageKey
from ocrsmith.serving.canary.opening import open_engine, prepare, transaction
from ocrsmith.serving.canary.records import Answer, Correction, Counts, Event, EventKind, KeptPage, Request
from ocrsmith.serving.canary.schema import (
    ANSWERS,
    CORRECTIONS,
    COUNTERS,
    EVENTS,
    PAGES,
    REQUESTS,
)

LOOKED_UP = 500
"""Ids that one statement asks for; SQLite bounds how many there may be."""


@dataclass(frozen=True, slots=True)
class State:
    """How a canary stands."""

    round: int
    rolled_back: Event | None
    """Why and when all traffic went back to the base; None: it did not."""


@dataclass(frozen=True, slots=True)
class Totals:
    """A round in numbers."""

    requests: Mapping[Arm, int]
    """By the arm that the hash chose."""
    fallbacks: int
    first: float | None
    """Time of the first request, seconds since 1970; None: there was none."""
    last: float | None
    kept: int
    """Pages with their image, of all rounds."""
    kept_bytes: int
    corrections: int
    """Corrected pages, of all rounds."""
    counts: Counts


class Store:
    """An open store. Made by `open_store`."""

    def __init__(self, place: str, *, create: bool) -> None:
        self._address = parse_address(place)
        self._engine = open_engine(self._address)
        try:
            self.salt = prepare(self._engine, self._address, create=create)
        except BaseException:
            self._engine.dispose()
            raise

    @property
    def place(self) -> str:
        """Where it lies, without a password."""
        return self._address.said

    def close(self) -> None:
        """Ends all connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- rounds and events ---------------------------------------------------------------------------------

    def start(self, base: str, candidate: str, detail: Mapping[str, object]) -> State:
        """Notes that a server starts, and says which round it takes part in: the latest one of these two
        models, or a new one. A rollback outlives a restart."""
        with self._writing() as connection:
            number = _latest_round(connection, base, candidate)
            if number is None:
                number = _last_round(connection) + 1
            _add_event(connection, "start", number, base, candidate, detail)
            return _state(connection, number)

    def state(self, base: str, candidate: str) -> State:
        """How the canary of two models stands; round 0 if there never was one."""
        with self._reading() as connection:
            return _state(connection, _latest_round(connection, base, candidate) or 0)

    def roll_back(self, round_number: int, base: str, candidate: str, detail: Mapping[str, object]) -> bool:
        """Notes a rollback, once a round. Returns whether it is this one."""
        with self._writing() as connection:
            if _state(connection, round_number).rolled_back is not None:
                return False
            _add_event(connection, "rollback", round_number, base, candidate, detail)
            return True

    def resume(self, detail: Mapping[str, object]) -> Event | None:
        """Begins a new round of the latest one's models if it was rolled back; else does nothing: None."""
        with self._writing() as connection:
            last = _events(connection)[-1:]
            state = _state(connection, last[0].round) if last else State(0, None)
            if state.rolled_back is None:
                return None
            number = _last_round(connection) + 1
            _add_event(connection, "resume", number, last[0].base, last[0].candidate, detail)
            return _events(connection)[-1]

    def events(self) -> list[Event]:
        """All, in order."""
        with self._reading() as connection:
            return _events(connection)

    # --- writing -------------------------------------------------------------------------------------------

    def add(
        self,
        round_number: int,
        *,
        requests: Sequence[Request] = (),
        answers: Sequence[Answer] = (),
        pages: Sequence[KeptPage] = (),
        counts: Counts | None = None,
        keep_bytes: int = 2**30,
    ) -> None:
        """Adds all or nothing.

        Args:
            keep_bytes: what the images of kept pages may take together; the oldest go first.
        """
        with self._writing() as connection:
            if requests:
                connection.execute(REQUESTS.insert(), [_request_row(item, round_number) for item in requests])
            if answers:
                connection.execute(ANSWERS.insert(), [_answer_row(item, round_number) for item in answers])
            for page in pages:
                _keep(connection, page)
            if pages:
                _drop_oldest(connection, keep_bytes)
            if counts is not None:
                _count(connection, round_number, "records_dropped", counts.records_dropped)
                _count(connection, round_number, "shadows_dropped", counts.shadows_dropped)

    def correct(self, corrections: Iterable[Correction]) -> None:
        """Adds the true texts of pages, all or none."""
        now = time.time()
        rows = [
            {
                **_key_row(item.key),
                "text": _clean(item.text),
                "by": _clean(item.by),
                "at": _clean(item.at),
                "time": now,
            }
            for item in corrections
        ]
        if rows:
            with self._writing() as connection:
                connection.execute(CORRECTIONS.insert(), rows)

    # --- reading -------------------------------------------------------------------------------------------

    def answers(self, round_number: int, arm: Arm, *, latest: int, texts: bool = False) -> list[Answer]:
        """The latest answers of an arm, shadows included, in order.

        Args:
            texts: only those of kept pages, with their texts; otherwise all, without.
        """
        wanted = [column for column in ANSWERS.c if texts or column is not ANSWERS.c.text]
        query = select(*wanted).where(ANSWERS.c.round == round_number, ANSWERS.c.arm == arm)
        if texts:
            query = query.where(ANSWERS.c.text.is_not(None))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(ANSWERS.c.number.desc()).limit(latest)).all()
        return [_answer_of(row) for row in reversed(rows)]

    def corrected_answers(self, round_number: int) -> list[Answer]:
        """All answers with a text, of pages that have a correction; of each arm and page the last."""
        corrected = select(CORRECTIONS.c.page, CORRECTIONS.c.prompt).distinct().subquery()
        same = and_(ANSWERS.c.page == corrected.c.page, ANSWERS.c.prompt == corrected.c.prompt)
        query = (
            select(ANSWERS)
            .join(corrected, same)
            .where(ANSWERS.c.round == round_number, ANSWERS.c.text.is_not(None))
            .order_by(ANSWERS.c.number)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return list(last_of_each_page(_answer_of(row) for row in rows).values())

    def corrections(self) -> dict[PageKey, Correction]:
        """The last correction of each page."""
        with self._reading() as connection:
            rows = connection.execute(select(CORRECTIONS).order_by(CORRECTIONS.c.number)).all()
        return {(key := _key_of(row)): Correction(key, row.text, row.by, row.at, row.number) for row in rows}

    def last_correction(self) -> int:
        """A number that changes when corrections come in; 0: there are none."""
        with self._reading() as connection:
            return connection.scalar(select(func.max(CORRECTIONS.c.number))) or 0

    def keys_of(self, names: Sequence[str]) -> dict[str, set[PageKey]]:
        """The pages that ids of requests, or SHA-256 sums of images, stand for; unknown ones are left out."""
        found: dict[str, set[PageKey]] = {}
        columns = (REQUESTS.c.id, REQUESTS.c.page)
        with self._reading() as connection:
            for start in range(0, len(names), LOOKED_UP):
                part = list(names[start : start + LOOKED_UP])
                for column in columns:
                    query = select(column.label("name"), REQUESTS.c.page, REQUESTS.c.prompt)
                    for row in connection.execute(query.where(column.in_(part)).distinct()):
                        found.setdefault(row.name, set()).add(_key_of(row))
        return found

    def keys_with_text(self) -> set[PageKey]:
        """Pages of which an answer's text was kept."""
        query = select(ANSWERS.c.page, ANSWERS.c.prompt).where(ANSWERS.c.text.is_not(None)).distinct()
        with self._reading() as connection:
            return {_key_of(row) for row in connection.execute(query)}

    def kept_keys(self) -> set[PageKey]:
        """Pages whose image is there."""
        with self._reading() as connection:
            return {_key_of(row) for row in connection.execute(select(PAGES.c.page, PAGES.c.prompt))}

    def kept_page(self, key: PageKey) -> KeptPage | None:
        """A kept page; None: it was dropped."""
        query = select(PAGES).where(PAGES.c.page == key.page, PAGES.c.prompt == key.prompt)
        with self._reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else KeptPage(key, row.time, row.prompt_text, bytes(row.image))

    def totals(self, round_number: int) -> Totals:
        """A round in numbers."""
        here = REQUESTS.c.round == round_number
        by_arm = select(REQUESTS.c.arm, func.count()).where(here).group_by(REQUESTS.c.arm)
        times = select(func.min(REQUESTS.c.time), func.max(REQUESTS.c.time)).where(here)
        pages = select(CORRECTIONS.c.page, CORRECTIONS.c.prompt).distinct().subquery()
        with self._reading() as connection:
            arms: dict[Arm, int] = {row[0]: row[1] for row in connection.execute(by_arm)}
            first, last = connection.execute(times).one()
            fallbacks = select(func.count()).select_from(REQUESTS).where(here, REQUESTS.c.fallback)
            kept, size = connection.execute(select(func.count(), func.sum(PAGES.c.bytes))).one()
            counters = select(COUNTERS.c.name, COUNTERS.c.value).where(COUNTERS.c.round == round_number)
            counted = {row.name: row.value for row in connection.execute(counters)}
            return Totals(
                requests=arms,
                fallbacks=connection.scalar(fallbacks) or 0,
                first=first,
                last=last,
                kept=kept,
                kept_bytes=int(size or 0),
                corrections=connection.scalar(select(func.count()).select_from(pages)) or 0,
                counts=Counts(counted.get("records_dropped", 0), counted.get("shadows_dropped", 0)),
            )

    def _writing(self) -> Any:
        return transaction(self._engine, self._address, writes=True)

    def _reading(self) -> Any:
        return transaction(self._engine, self._address, writes=False)


def open_store(place: str, *, create: bool = False) -> Store:
    """Opens a store.

    Args:
        place: a file, `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST/DATABASE`.
        create: make it if it is not there.

    Raises:
        SettingsError: a URL that is none.
        InputError: there is no store, something else is there, a later version, or no access.
        OutputError: it cannot be made or written.
        MissingExtraError: the driver of PostgreSQL is not installed.
    """
    return Store(place, create=create)


def last_of_each_page(answers: Iterable[Answer]) -> dict[tuple[Arm, PageKey], Answer]:
    """Of answers that count, in order: the last of each arm and page. Decoding is greedy: they are alike."""
    return {(answer.arm, answer.key): answer for answer in answers if answer.counts}


# --- rows --------------------------------------------------------------------------------------------------


def _events(connection: Connection) -> list[Event]:
    rows = connection.execute(select(EVENTS).order_by(EVENTS.c.number))
    return [
        Event(row.kind, row.time, row.round, row.base, row.candidate, json.loads(row.detail)) for row in rows
    ]


def _add_event(
    connection: Connection,
    kind: EventKind,
    number: int,
    base: str,
    candidate: str,
    detail: Mapping[str, object],
) -> None:
    text = json.dumps(dict(detail), ensure_ascii=True)
    row = {"kind": kind, "time": time.time(), "round": number, "detail": text}
    connection.execute(EVENTS.insert(), row | {"base": base, "candidate": candidate})


def _latest_round(connection: Connection, base: str, candidate: str) -> int | None:
    ours = (EVENTS.c.base == base, EVENTS.c.candidate == candidate)
    return connection.scalar(select(func.max(EVENTS.c.round)).where(*ours))


def _last_round(connection: Connection) -> int:
    return connection.scalar(select(func.max(EVENTS.c.round))) or 0


def _state(connection: Connection, number: int) -> State:
    events = [event for event in _events(connection) if event.round == number and event.kind == "rollback"]
    return State(number, events[-1] if events else None)


def _keep(connection: Connection, page: KeptPage) -> None:
    """Adds a page, or makes it the newest."""
    key = (PAGES.c.page == page.key.page, PAGES.c.prompt == page.key.prompt)
    if not connection.execute(PAGES.update().where(*key).values(time=page.time)).rowcount:
        row = {"prompt_text": _clean(page.prompt), "bytes": len(page.image), "image": page.image}
        connection.execute(PAGES.insert(), {**_key_row(page.key), "time": page.time, **row})


def _drop_oldest(connection: Connection, keep_bytes: int) -> None:
    over = (connection.scalar(select(func.sum(PAGES.c.bytes))) or 0) - keep_bytes
    if over <= 0:
        return
    oldest = select(PAGES.c.page, PAGES.c.prompt, PAGES.c.bytes).order_by(PAGES.c.time)
    for row in connection.execute(oldest).all():
        connection.execute(PAGES.delete().where(PAGES.c.page == row.page, PAGES.c.prompt == row.prompt))
        over -= row.bytes
        if over <= 0:
            return


def _count(connection: Connection, number: int, name: str, more: int) -> None:
    if not more:
        return
    this = (COUNTERS.c.round == number, COUNTERS.c.name == name)
    raised = COUNTERS.update().where(*this).values(value=COUNTERS.c.value + more)
    if not connection.execute(raised).rowcount:
        connection.execute(COUNTERS.insert(), {"round": number, "name": name, "value": more})


def _request_row(item: Request, number: int) -> dict[str, Any]:
    row = {"id": _clean(item.id), "round": number, "time": item.time}
    return {**row, **_key_row(item.key), "arm": item.arm, "fallback": item.fallback}


def _answer_row(item: Answer, number: int) -> dict[str, Any]:
    plain = ("arm", "shadow", "finish", "seconds", "tokens", "logprob_mean", "logprob_min", "length")
    row = {name: getattr(item, name) for name in (*plain, "difference")}
    texts = {"request": _clean(item.request), "error": _clean(item.error), "text": _clean(item.text)}
    return {**row, **texts, **_key_row(item.key), "round": number}


def _answer_of(row: Row[Any]) -> Answer:
    plain = ("request", "arm", "shadow", "finish", "seconds", "tokens", "logprob_mean", "logprob_min")
    values = {name: getattr(row, name) for name in (*plain, "length", "error", "difference", "number")}
    return Answer(**values, key=_key_of(row), text=getattr(row, "text", None))


def _key_row(key: PageKey) -> dict[str, str]:
    return {"page": key.page, "prompt": key.prompt}


def _key_of(row: Row[Any]) -> PageKey:
    return PageKey(row.page, row.prompt)


def _clean(text: str | None) -> str | None:
    """What both databases can hold: PostgreSQL knows no NUL, neither knows half characters."""
    return None if text is None else text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
