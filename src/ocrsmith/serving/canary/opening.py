"""Opens the store's database: makes the tables or checks whose they are, and turns errors into clear ones."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from ocrsmith.errors import InputError, OcrsmithError, OutputError
from ocrsmith.serving.canary.address import Address
from ocrsmith.serving.canary.schema import ABOUT, FORMAT, METADATA, VERSION
from ocrsmith.settings.files import writing

BUSY_SECONDS = 30.0
"""How long a process waits for another one that writes to the same file."""
_LOCK = 0x6F6372736D697468
"""PostgreSQL's advisory lock of those who write to a store: it lets one in at a time, as SQLite does anyway."""
_NO_ACCESS = ("28P01", "28000", "3D000", "42501")
_FULL = ("disk is full", "No space left")
_UNWRITABLE = ("readonly database", "unable to open database file")


def open_engine(address: Address) -> Engine:
    """The engine of a store's database. Connects to nothing yet."""
    if address.file is None:
        return create_engine(address.url, connect_args=dict(address.connect), pool_pre_ping=True)
    engine = create_engine(
        address.url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, hide_parameters=True
    )

    # Python's sqlite3 begins transactions when it sees fit; here SQLAlchemy says when.
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def transaction(engine: Engine, address: Address, *, writes: bool) -> Iterator[Connection]:
    """A transaction; of those that write there is one at a time, over all processes.

    Raises:
        InputError, OutputError: the database refuses.
    """
    with said(address), engine.connect().execution_options(writes=writes) as connection, connection.begin():
        if writes and address.file is None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


def prepare(engine: Engine, address: Address, *, create: bool) -> str:
    """Makes the tables if there are none, else checks that they are ours.

    Returns:
        The salt.

    Raises:
        InputError: there is no store, or something else is there.
        OutputError: it cannot be made.
    """
    if address.file is not None:
        if address.file.is_dir():
            raise InputError("The store is a folder.", place=address.said, mend="Name a file in it.")
        if not create and not address.file.exists():
            mend = "Name the file that `ocrsmith serve --store` writes."
            raise InputError("There is no such store.", place=address.said, mend=mend)
        with writing(address.file):
            address.file.parent.mkdir(parents=True, exist_ok=True)
    with transaction(engine, address, writes=create) as connection:
        salt = _salt_in(connection, address)
        if salt is None and not create:
            mend = "Name the database that `ocrsmith serve --store` writes to."
            raise InputError("There is no store in this database.", place=address.said, mend=mend)
        if salt is None:
            METADATA.create_all(connection)
            salt = secrets.token_hex(16)
            rows = {"format": FORMAT, "version": str(VERSION), "salt": salt}
            connection.execute(ABOUT.insert(), [{"name": name, "value": value} for name, value in rows.items()])
    if create and address.file is not None:
        _write_ahead(engine, address)
    return salt


def _write_ahead(engine: Engine, address: Address) -> None:
    """Readers and the writer of the file then never wait for each other. The file remembers it.

    It cannot be changed while another process is in the file: that one, or the next that opens it, does it.
    """
    with said(address), engine.connect() as connection, suppress(sqlite3.OperationalError):
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA journal_mode=WAL")


def _salt_in(connection: Connection, address: Address) -> str | None:
    """The salt of the store in a database; None: there is none."""
    tables = set(inspect(connection).get_table_names())
    if ABOUT.name not in tables:
        if tables and address.file is not None:
            mend = "Choose another file; nothing in it was touched."
            raise InputError("The file is a database of something else.", place=address.said, mend=mend)
        return None
    about = {row.name: row.value for row in connection.execute(select(ABOUT))}
    version = about.get("version", "")
    if about.get("format") != FORMAT or not version.isdecimal() or not about.get("salt"):
        mend = "Choose another one; nothing in it was touched."
        raise InputError("Its table canary_about is not one of a canary.", place=address.said, mend=mend)
    if int(version) > VERSION:
        problem = f"The store has version {version}, written by a later ocrsmith; this one reads {VERSION}."
        raise InputError(problem, place=address.said, mend="Update ocrsmith: pip install -U ocrsmith")
    return str(about["salt"])


@contextmanager
def said(address: Address) -> Iterator[None]:
    """Turns the database's errors into ours. Its own words go on, statements and parameters do not."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _user_error(error, address) from None
    except (sqlite3.Error, OSError) as error:
        raise _user_error(error, address) from None


def _user_error(error: Exception, address: Address) -> OcrsmithError:
    cause = getattr(error, "orig", None) or error
    detail = cause.args[0] if cause.args else ""
    code = detail.get("C", "") if isinstance(detail, dict) else ""
    words = str(detail.get("M") if isinstance(detail, dict) else cause).strip().split("\n")[0]
    words = words or type(cause).__name__
    place = address.said
    if any(part in words for part in _FULL):
        return OutputError("The disk of the store is full.", place=place, mend="Free some space.")
    if address.file is None:
        mend = "Check user, password, database and rights." if code in _NO_ACCESS else "Check that it runs."
        return InputError(f"The database refuses: {words}.", place=place, mend=mend)
    if "not a database" in words:
        mend = "Choose another file; nothing in it was touched."
        return InputError("The file is no SQLite database.", place=place, mend=mend)
    if "malformed" in words or "corrupt" in words:
        mend = "Move it away: a new one is made. `sqlite3 FILE .recover` may save what is in it."
        return InputError(f"The store is damaged: {words}.", place=place, mend=mend)
    if any(part in words for part in _UNWRITABLE):
        mend = "Choose a file in a folder that you may write to: the store's journal lies beside it."
        return OutputError(f"The store cannot be opened for writing: {words}.", place=place, mend=mend)
    return OutputError(f"The store cannot be used: {words}.", place=place, mend="Try again.")
