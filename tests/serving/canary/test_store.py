"""The store, in SQLite and in PostgreSQL: whole transactions, rounds, bounds, and clear errors."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from ocrsmith.errors import InputError, OutputError, SettingsError
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.records import Answer, Correction, Counts, KeptPage, Request
from ocrsmith.serving.canary.store import open_store

from ...permissions import run_bound


def key(number: int, prompt: str = "p") -> PageKey:
    return PageKey(f"{number:064x}", prompt.rjust(64, "0"))


def test_what_is_written_is_read_again(place: str) -> None:
    answers = [
        Answer("r1", "base", key(1), "stop", 1.5, 7, -0.25, -2.0, 5, None, False, None, "a\0b ü 漢 \U0001f600"),
        Answer("r1", "candidate", key(1), "error", 0.5, error="broke", shadow=True, difference=0.5),
    ]
    with open_store(place, create=True) as store:
        state = store.start("A", "B", {"share": 0.1})
        assert (state.round, state.rolled_back) == (1, None)
        image = bytes(range(256))
        store.add(
            1,
            requests=[Request("r1", 12.5, key(1), "base"), Request("r2", 13.5, key(2), "candidate", True)],
            answers=answers,
            pages=[KeptPage(key(1), 12.5, "<image>\nFree OCR.", image)],
            counts=Counts(3, 4),
        )
        store.add(1, counts=Counts(1, 0))
        salt = store.salt
    with open_store(place) as store:
        assert store.salt == salt
        base = store.answers(1, "base", latest=10, texts=True)[0]
        assert (base.text, base.logprob_mean, base.tokens) == ("a\ufffdb ü 漢 \U0001f600", -0.25, 7)
        candidate = store.answers(1, "candidate", latest=10)[0]
        assert (candidate.error, candidate.difference, candidate.shadow) == ("broke", 0.5, True)
        assert store.kept_page(key(1)) == KeptPage(key(1), 12.5, "<image>\nFree OCR.", image)
        assert store.kept_page(key(9)) is None
        totals = store.totals(1)
        assert (totals.requests, totals.fallbacks) == ({"base": 1, "candidate": 1}, 1)
        assert (totals.first, totals.last, totals.kept, totals.kept_bytes) == (12.5, 13.5, 1, 256)
        assert totals.counts == Counts(4, 4)
        assert store.events()[0].detail == {"share": 0.1}


def test_the_last_correction_of_a_page_counts(place: str) -> None:
    with open_store(place, create=True) as store:
        store.add(
            1,
            requests=[Request("r1", 1.0, key(1), "base"), Request("r2", 1.0, key(1, "q"), "base")],
            answers=[
                Answer("r1", "base", key(1), "stop", 1.0, text="x"),
                Answer("r2", "base", key(2), "stop", 1.0),
            ],
        )
        assert store.last_correction() == 0
        store.correct([Correction(key(1), "first"), Correction(key(1), "second", "me", "today")])
        assert store.last_correction() == 2
        found = store.corrections()[key(1)]
        assert (found.text, found.by, found.at) == ("second", "me", "today")
        assert [answer.request for answer in store.corrected_answers(1)] == ["r1"]
        assert store.keys_of(["r1", "none", key(1).page]) == {
            "r1": {key(1)},
            key(1).page: {key(1), key(1, "q")},
        }
        assert store.keys_with_text() == {key(1)}
        assert store.keys_of([f"x{number}" for number in range(1_200)] + ["r2"]) == {"r2": {key(1, "q")}}


def test_a_rollback_outlives_a_restart_until_it_is_resumed(place: str) -> None:
    with open_store(place, create=True) as store:
        assert store.resume({}) is None
        store.start("A", "B", {})
        assert store.resume({}) is None
        assert store.roll_back(1, "A", "B", {"because": "loops"})
        assert not store.roll_back(1, "A", "B", {}), "only the first one counts"
    with open_store(place) as store:
        state = store.start("A", "B", {})
        assert state.round == 1
        assert state.rolled_back is not None
        assert state.rolled_back.detail == {"because": "loops"}
        assert store.start("A", "C", {}).rolled_back is None, "another candidate"
        assert store.start("A", "B", {}).rolled_back is not None
        event = store.resume({})
        assert event is not None
        assert (event.round, event.candidate) == (3, "B")
        assert store.state("A", "B").rolled_back is None
        assert store.state("A", "nobody").round == 0


def test_of_kept_images_the_oldest_are_dropped_first(place: str) -> None:
    with open_store(place, create=True) as store:
        for number in range(5):
            store.add(1, pages=[KeptPage(key(number), float(number), "p", b"x" * 100)], keep_bytes=300)
        assert store.kept_keys() == {key(2), key(3), key(4)}
        store.add(1, pages=[KeptPage(key(2), 9.0, "p", b"x" * 100)], keep_bytes=300)
        store.add(1, pages=[KeptPage(key(7), 10.0, "p", b"x" * 100)], keep_bytes=300)
        assert store.kept_keys() == {key(4), key(2), key(7)}, "a page that came again is young"
        store.add(1, pages=[KeptPage(key(8), 11.0, "p", b"x" * 301)], keep_bytes=300)
        assert store.kept_keys() == set()


def test_several_open_a_new_store_at_a_time(place: str) -> None:
    def open_and_start(number: int) -> tuple[str, int]:
        with open_store(place, create=True) as store:
            round_number = store.start("A", "B", {}).round
            store.add(1, requests=[Request(f"r{number}", 1.0, key(number), "base")], counts=Counts(1, 0))
            return store.salt, round_number

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(open_and_start, range(8)))
    assert len(set(found)) == 1
    assert found[0][1] == 1
    with open_store(place) as store:
        totals = store.totals(1)
        assert (totals.requests["base"], totals.counts.records_dropped) == (8, 8)


_WRITER = """
import sys
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.records import Answer, Request
from ocrsmith.serving.canary.store import open_store

store = open_store(sys.argv[1], create=True)
store.start("A", "B", {})
number = 0
while True:
    number += 1
    key = PageKey(f"{number:064x}", "p" * 64)
    name = f"r{number}"
    store.add(
        1,
        requests=[Request(name, 1.0, key, "base")],
        answers=[Answer(name, "base", key, "stop", 1.0, text="x" * 1000)],
    )
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_store(place: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, place], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    with open_store(place) as store:
        answers = store.answers(1, "base", latest=1_000_000)
        assert len(answers) >= 20
        assert store.totals(1).requests["base"] == len(answers), "a request and its answer come together"
        store.add(1, requests=[Request("after", 2.0, key(1), "base")])


# --- bad input ---------------------------------------------------------------------------------------------


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such store"):
        open_store(str(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(InputError, match="is a folder"):
        open_store(str(tmp_path), create=True)


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(InputError, match="no SQLite database"):
        open_store(str(file), create=True)
    assert file.read_text() == "Dear Sir or Madam, " * 100


def test_a_database_of_something_else_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(InputError, match="something else"):
        open_store(str(file), create=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE canary_about SET value = '99' WHERE name = 'version'", "version 99"),
        ("UPDATE canary_about SET value = 'x' WHERE name = 'format'", "not one of a canary"),
        ("DELETE FROM canary_about", "not one of a canary"),
    ],
)
def test_a_store_of_a_later_version_or_none_of_ours(tmp_path: Path, change: str, says: str) -> None:
    file = tmp_path / "canary.db"
    open_store(str(file), create=True).close()
    with sqlite3.connect(file) as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(InputError, match=says):
        open_store(str(file), create=True)


def test_a_damaged_store(tmp_path: Path) -> None:
    file = tmp_path / "canary.db"
    with open_store(str(file), create=True) as store:
        store.add(1, requests=[Request(f"r{number}", 1.0, key(number), "base") for number in range(3_000)])
    content = bytearray(file.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    file.write_bytes(content)
    with (
        pytest.raises((InputError, OutputError), match=r"damaged|cannot be used"),
        open_store(str(file)) as store,
    ):
        store.totals(1)


def test_a_folder_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    done = run_bound("-c", _OPENER, folder / "canary.db", folder / "deeper" / "canary.db")
    first, second = done.stdout.splitlines()
    assert "cannot be opened for writing" in first
    assert "no permission to write" in second


_OPENER = """
import sys
from ocrsmith.errors import OutputError
from ocrsmith.serving.canary.store import open_store

for place in sys.argv[1:]:
    try:
        open_store(place, create=True)
    except OutputError as error:
        print(error.problem)
"""


@pytest.mark.parametrize(
    "place",
    [
        "",
        "mysql://u:pw@h/d",
        "postgresql://u:pw@h:port/d",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://u:pw@h",
    ],
)
def test_a_url_that_is_none(place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(place, create=True)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["postgresql://u:half@pw@h/d", "postgresql://u:pw@h/d?password=pw", "postgresql://u:pw@h/d?sslmode=pew"],
)
def test_no_part_of_a_password_is_said(place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(place, create=True)
    assert "pw" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_is_not_there_or_refuses(postgres: Any) -> None:
    with pytest.raises(InputError) as caught:
        open_store(postgres.url("postgres", password="wrong-word"), create=True)
    assert "password authentication failed" in str(caught.value)
    assert "wrong-word" not in str(caught.value)
    assert ":***@" in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        open_store(postgres.url("nothing"), create=True)
    with pytest.raises(InputError, match="no store in this database"):
        open_store(postgres.empty_database())
    with pytest.raises(InputError, match="database refuses"):
        open_store("postgresql://u:pw@127.0.0.1:1/d", create=True)


def test_a_password_may_come_from_the_environment(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    address = postgres.empty_database().replace(":s3cret%2F%40%3A%23%25", "")
    with open_store(address, create=True) as store:
        assert store.start("A", "B", {}).round == 1


def test_a_lost_connection_is_made_again(postgres: Any) -> None:
    address = postgres.empty_database()
    with open_store(address, create=True) as store:
        store.start("A", "B", {})
        engine = create_engine(address.replace("postgresql:", "postgresql+pg8000:"))
        with engine.connect() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(text(f"{others} AND datname IS NOT NULL"))
        engine.dispose()
        store.add(1, requests=[Request("r1", 1.0, key(1), "base")])
        assert store.totals(1).requests == {"base": 1}
