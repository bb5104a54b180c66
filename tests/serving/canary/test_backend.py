"""The canary before two backends: who answers, what is written down, and what no client ever notices."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.errors import InputError, OutputError, SettingsError
from ocrsmith.serving.backends import Backend, BackendFailure, Piece
from ocrsmith.serving.canary import CanaryBackend, Store, open_canary, open_store
from ocrsmith.serving.canary import backend as canary_backend
from ocrsmith.serving.canary import recorder as canary_recorder
from ocrsmith.serving.canary.choice import page_key, within
from ocrsmith.serving.canary.records import Correction

from .backends import Say, ScriptedBackend, always, page, read, until


@asynccontextmanager
async def running(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend, **settings: Any
) -> AsyncIterator[CanaryBackend]:
    values: dict[str, Any] = {"share": 0.0, "shadow": False, "keep": 0.0} | settings
    canary = open_canary(base, candidate, store=place, **values)
    try:
        await canary.start()
        yield canary
    finally:
        await canary.close()


def answers_in(place: str) -> dict[str, list[Any]]:
    with open_store(place) as store:
        return {arm: store.answers(1, arm, latest=10_000) for arm in ("base", "candidate")}  # type: ignore[arg-type]


@pytest.fixture
def base() -> ScriptedBackend:
    return ScriptedBackend("A", always("read by base"))


@pytest.fixture
def candidate() -> ScriptedBackend:
    return ScriptedBackend("B", always("read by candidate"))


def test_a_share_goes_to_the_candidate_and_the_same_page_the_same_way(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    async def first() -> list[str]:
        async with running(place, base, candidate, share=0.3) as canary:
            assert isinstance(canary, Backend)
            assert [model.name for model in canary.models] == ["A", "other"]
            await canary.check()
            return [(await read(canary, page(number)))[0] for number in range(60)]

    async def again() -> list[str]:
        async with running(place, base, candidate, share=0.3) as canary:
            return [(await read(canary, page(number, id=f"x{number}")))[0] for number in range(60)]

    told = asyncio.run(first())
    assert asyncio.run(again()) == told, "also after a restart"
    with open_store(place) as store:
        chosen = [
            within(
                page_key(page(number).image, page(number).prompt, salt=store.salt), "arm", 0.3, salt=store.salt
            )
            for number in range(60)
        ]
        assert [text == "read by candidate " for text in told] == chosen
        assert store.totals(1).requests == {
            "base": 2 * chosen.count(False),
            "candidate": 2 * chosen.count(True),
        }
    assert {request.model for request in candidate.asked} == {"B"}
    assert base.closed
    assert candidate.closed


def test_what_is_written_down_and_what_is_not(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    base.say = always("a secret text", probability=0.5)

    async def serve() -> None:
        async with running(place, base, candidate, share=0.0, shadow=True) as canary:
            text, end = await read(canary, page(1))
            assert (text, end.completion_tokens) == ("a secret text ", 4)
            pieces = [item async for item in canary.generate(page(2))]
            assert not any(item.tokens for item in pieces if isinstance(item, Piece)), "not asked for"
            asked = [item async for item in canary.generate(page(3, logprobs=True))]
            assert all(item.tokens for item in asked if isinstance(item, Piece))
            await until(lambda: len(candidate.asked) == 3 and not candidate.under_way, "the shadows")

    asyncio.run(serve())
    found = answers_in(place)["base"]
    assert [answer.logprob_mean for answer in found] == pytest.approx([math.log(0.5)] * 3)
    assert {(a.finish, a.tokens, a.length, a.shadow, a.text) for a in found} == {("stop", 4, 13, False, None)}
    with open_store(place) as store:
        assert store.answers(1, "base", latest=9, texts=True) == []
        assert store.kept_keys() == set()
    if not place.startswith("postgresql"):
        file = Path(place)
        content = file.read_bytes() + b"".join(path.read_bytes() for path in file.parent.glob("canary.db-*"))
        assert b"secret" not in content
        assert b"Free OCR" not in content
        assert b"image 1" not in content


def test_kept_pages_have_image_prompt_and_both_answers(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    async def serve() -> None:
        async with running(place, base, candidate, share=0.5, shadow=True, keep=1.0) as canary:
            for number in range(12):
                await read(canary, page(number))
                await until(lambda: not canary._shadows, "the shadow")

    asyncio.run(serve())
    with open_store(place) as store:
        texts = {arm: store.answers(1, arm, latest=99, texts=True) for arm in ("base", "candidate")}  # type: ignore[arg-type]
        assert {item.text for item in texts["base"]} == {"read by base "}
        assert {item.text for item in texts["candidate"]} == {"read by candidate "}
        assert len(texts["base"]) == len(texts["candidate"]) == 12
        shadows = [item for items in texts.values() for item in items if item.shadow]
        assert len(shadows) == 12
        # base → cand(id)ate: from "read by base" (12 characters) it takes 7 edits
        assert {item.difference for item in shadows} == {7 / 12}
        kept = store.kept_page(shadows[0].key)
        assert kept is not None
        assert kept.image.startswith(b"image ")
        assert kept.prompt == "<image>\nFree OCR."


def test_other_models_pass_through(place: str, base: ScriptedBackend, candidate: ScriptedBackend) -> None:
    async def serve() -> None:
        async with running(place, base, candidate, share=1.0, shadow=True) as canary:
            assert (await read(canary, page(1, model="other")))[0] == "read by base "
            assert (await read(canary, page(1)))[0] == "read by candidate "

    asyncio.run(serve())
    assert base.asked[0] == page(1, model="other"), "untouched"
    assert len(answers_in(place)["base"]) <= 1, "of the shadow"


@pytest.mark.parametrize(
    "error", [BackendFailure("out of order"), RuntimeError("/secret/path"), InputError("no")]
)
def test_the_base_answers_if_the_candidate_cannot_begin(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend, error: Exception
) -> None:
    candidate.say = always("", error=error)

    async def serve() -> dict[str, float]:
        async with running(place, base, candidate, share=1.0) as canary:
            assert (await read(canary, page(1)))[0] == "read by base "
            return canary.figures()

    figures = asyncio.run(serve())
    assert (figures["fallbacks"], figures["requests.candidate"]) == (1, 1)
    found = answers_in(place)
    assert (found["candidate"][0].finish, found["base"][0].finish) == ("error", "stop")
    assert "secret" not in (found["candidate"][0].error or "")
    with open_store(place) as store:
        assert store.totals(1).fallbacks == 1


def test_a_failure_after_the_first_piece_is_the_clients_too(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    candidate.say = always("two words", error=BackendFailure("broke down"), before_error=1)

    async def serve() -> None:
        async with running(place, base, candidate, share=1.0, shadow=True) as canary:
            with pytest.raises(BackendFailure, match="broke down"):
                await read(canary, page(1))

    asyncio.run(serve())
    found = answers_in(place)
    assert (found["candidate"][0].finish, found["candidate"][0].error, found["base"]) == (
        "error",
        "broke down",
        [],
    )


def test_what_nobody_can_answer_counts_against_nobody(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    base.say = candidate.say = always("", error=InputError("too long"))

    async def serve() -> None:
        async with running(place, base, candidate, share=1.0) as canary:
            with pytest.raises(InputError, match="too long"):
                await read(canary, page(1))

    asyncio.run(serve())
    found = answers_in(place)
    assert (found["candidate"][0].finish, found["base"][0].finish) == ("refused", "refused")


def test_a_client_that_leaves_is_recorded_as_such(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    async def serve() -> None:
        base.say = always("never", wait=asyncio.Event())
        async with running(place, base, candidate, share=0.0, shadow=True) as canary:
            waiting = asyncio.create_task(read(canary, page(1)))
            await until(lambda: base.under_way == 1, "the request")
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            assert base.under_way == 0, "its place is free at once"
            base.say = always("some words more")
            stream = canary.generate(page(2))
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]
            assert base.under_way == 0

    asyncio.run(serve())
    found = answers_in(place)
    assert [answer.finish for answer in found["base"]] == ["cancelled"] * 2
    assert found["candidate"] == [], "nothing was read along"


def test_shadows_are_bounded_counted_and_ended_and_never_delay_an_answer(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    async def serve() -> dict[str, float]:
        candidate.say = always("never", wait=asyncio.Event())
        async with running(place, base, candidate, share=0.0, shadow=True) as canary:
            for number in range(10):
                assert (await read(canary, page(number)))[0] == "read by base ", "whatever the shadows do"
            await until(lambda: candidate.under_way == canary_backend.SHADOWS, "the shadows")
            return canary.figures()

    figures = asyncio.run(serve())
    assert figures["shadows_dropped"] == 10 - canary_backend.SHADOWS
    assert candidate.under_way == 0
    assert candidate.most_under_way == canary_backend.SHADOWS
    found = answers_in(place)
    assert [answer.finish for answer in found["candidate"]] == ["cancelled"] * canary_backend.SHADOWS
    with open_store(place) as store:
        assert store.totals(1).counts.shadows_dropped == 6


def test_a_shadow_that_breaks_or_hangs_is_the_other_models_failure(
    tmp_path: Path, base: ScriptedBackend, candidate: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_backend, "SHADOW_SECONDS", 0.05)
    place = str(tmp_path / "canary.db")

    async def serve() -> None:
        hang = asyncio.Event()
        candidate.say = lambda request: (
            Say("", error=BackendFailure("down")) if request.id == "r1" else Say("never", wait=hang)
        )
        async with running(place, base, candidate, shadow=True) as canary:
            await read(canary, page(1))
            await read(canary, page(2))
            await until(lambda: len(candidate.asked) == 2 and not canary._shadows, "the shadows")

    asyncio.run(serve())
    errors = [(answer.finish, answer.error) for answer in answers_in(place)["candidate"]]
    assert errors == [("error", "down"), ("error", "took longer than 0 s")]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_recorder, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(canary_recorder, "RETRY_SECONDS", 0.02)


@pytest.mark.usefixtures("hurried")
def test_the_rule_rolls_back_for_good_and_resuming_begins_anew(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    candidate.say = always("la la la", finish="loop")
    rule = {"share": 1.0, "shadow": True, "rollback_if": "loops > 0.1 or p90 > 0.05", "rollback_after": 20}

    async def serve() -> int:
        async with running(place, base, candidate, **rule) as canary:
            for number in range(19):
                await read(canary, page(number))
            await until(lambda: canary.figures().get("candidate.n", 0) >= 10, "the first look")
            assert not canary.rolled_back, "too few answers"
            number = 19
            while not canary.rolled_back and number < 2_000:
                await read(canary, page(number))
                await asyncio.sleep(0.005)
                number += 1
            asked = len(candidate.asked)
            assert (await read(canary, page(3)))[0] == "read by base "
            assert canary.figures()["rolled_back"] == 1
            assert len(candidate.asked) == asked, "nor is it shadowed"
            return number

    async def restarted() -> None:
        async with running(place, base, candidate, **rule) as canary:
            assert canary.rolled_back, "a restart changes nothing"
            assert (await read(canary, page(3)))[0] == "read by base "
            with open_store(place) as store:
                assert store.resume({}) is not None
            await until(lambda: not canary.rolled_back, "the resumption")
            assert (await read(canary, page(3)))[0] == "la la la "

    with caplog.at_level(logging.WARNING):
        asyncio.run(serve())
        told = [record.getMessage() for record in caplog.records if "Rolled back" in record.getMessage()]
        assert len(told) == 1
        assert "loops > 0.1 (1) over" in told[0]
        assert "ocrsmith canary resume" in told[0]
        asyncio.run(restarted())
    with open_store(place) as store:
        kinds = [(event.kind, event.round) for event in store.events()]
        assert kinds == [("start", 1), ("rollback", 1), ("start", 1), ("resume", 2)]
        event = store.events()[1]
        assert event.detail["rule"] == "loops > 0.1 or p90 > 0.05"
        assert event.detail["because"] == "loops > 0.1 (1)"
        assert event.detail["answers"] >= 20
        assert store.totals(2).requests == {"candidate": 1}


@pytest.mark.usefixtures("hurried")
def test_corrections_from_elsewhere_roll_back(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    async def serve() -> None:
        settings: dict[str, Any] = {"share": 0.0, "shadow": True, "keep": 1.0, "rollback_after": 10}
        async with running(place, base, candidate, rollback_if="mean > base.mean + 10%", **settings) as canary:
            for number in range(12):
                await read(canary, page(number))
                await until(lambda: not canary._shadows, "the shadow")
            await until(lambda: canary.figures().get("candidate.n", 0) >= 10, "the first look")
            assert not canary.rolled_back, "nobody knows who is right"
            with open_store(place) as store:
                await until(lambda: len(store.keys_with_text()) == 12, "the store")
                store.correct(Correction(key, "read by base") for key in store.keys_with_text())
            await until(lambda: canary.rolled_back, "the rollback")
            assert canary.figures()["candidate.cer.mean"] == pytest.approx(7 / 12)

    asyncio.run(serve())


@pytest.mark.usefixtures("hurried")
def test_a_rollback_by_another_process_is_heard_of(
    place: str, base: ScriptedBackend, candidate: ScriptedBackend
) -> None:
    async def serve() -> None:
        async with running(place, base, candidate, share=1.0) as canary:
            with open_store(place) as store:
                store.roll_back(1, "A", "B", {})
            await until(lambda: canary.rolled_back, "the rollback")

    asyncio.run(serve())


def test_a_store_that_cannot_be_written_stops_no_request(
    tmp_path: Path,
    base: ScriptedBackend,
    candidate: ScriptedBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hurried: None,
) -> None:
    monkeypatch.setattr(canary_recorder, "QUEUE", 5)
    place, broken, tried, add = str(tmp_path / "canary.db"), threading.Event(), threading.Event(), Store.add
    broken.set()

    def failing(self: Store, *args: Any, **more: Any) -> None:
        if broken.is_set():
            tried.set()
            raise OutputError("The disk of the store is full.")
        add(self, *args, **more)

    monkeypatch.setattr(Store, "add", failing)

    async def serve() -> float:
        async with running(place, base, candidate, share=1.0) as canary:
            for number in range(30):
                assert (await read(canary, page(number)))[0] == "read by candidate "
                await until(tried.is_set, "the first try")
            broken.clear()
            return canary.figures()["records_dropped"]

    with caplog.at_level(logging.WARNING):
        dropped = asyncio.run(serve())
    assert dropped > 0
    assert any("disk of the store is full" in record.getMessage() for record in caplog.records)
    with open_store(place) as store:
        totals = store.totals(1)
        assert totals.counts.records_dropped == dropped
        assert totals.requests["candidate"] == 30 - dropped


def test_no_thread_is_left(tmp_path: Path, base: ScriptedBackend, candidate: ScriptedBackend) -> None:
    async def serve() -> None:
        async with running(str(tmp_path / "canary.db"), base, candidate, share=1.0) as canary:
            await read(canary, page(1))

    asyncio.run(serve())
    assert "canary-recorder" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"share": 1.5}, "1.5 is no share"),
        ({"share": math.nan}, "nan is no share"),
        ({"share": 0.1, "keep": -1}, "-1 is no share"),
        ({"share": 0.0}, "would read nothing"),
        ({"share": 0.1, "rollback_if": "nonsense > 1"}, "no figure"),
        ({"share": 0.1, "rollback_if": "loops > 0", "rollback_after": 0}, "too few"),
        ({"share": 0.1, "keep_bytes": 0}, "keep nothing"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(
    tmp_path: Path, base: ScriptedBackend, candidate: ScriptedBackend, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        open_canary(base, candidate, store=str(tmp_path / "c.db"), **({"shadow": False} | settings))
    assert not (tmp_path / "c.db").exists()


def test_a_candidate_that_does_not_start_stops_the_server(
    tmp_path: Path, base: ScriptedBackend, candidate: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise InputError("There are no weights.")

    monkeypatch.setattr(candidate, "start", broken)

    async def serve() -> None:
        canary = open_canary(base, candidate, store=str(tmp_path / "c.db"), share=0.1, shadow=False)
        with pytest.raises(InputError, match="no weights"):
            await canary.start()
        await canary.close()

    asyncio.run(serve())
    assert base.closed
