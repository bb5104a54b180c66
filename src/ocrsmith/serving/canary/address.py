"""Where a store lies: a file, or a database by URL. Passwords are read here and never said again."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ocrsmith.errors import SettingsError, require

_FORMS = "Give a file, sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE."
_POSTGRES = ("postgresql", "postgres", "postgresql+pg8000")
_NO_TLS = ("disable", "allow", "prefer")
_CONNECT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store lies, in the way that SQLAlchemy wants it."""

    url: URL
    said: str
    """For messages: no password in it."""
    file: Path | None
    """Of SQLite; None: a server."""
    connect: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_address(text: str) -> Address:
    """Reads a path or URL.

    Raises:
        SettingsError: no such kind of database, a URL that is none, or an option that is not known.
        MissingExtraError: PostgreSQL's driver is not installed.
    """
    if not text.strip():
        raise SettingsError("The store has no name.", place="--store", mend=_FORMS)
    if "://" not in text:
        return _file(Path(text))
    scheme = text.split("://", 1)[0]
    if scheme not in ("sqlite", *_POSTGRES):
        raise SettingsError(f"A store cannot lie in {scheme!r}.", place="--store", mend=_FORMS)
    try:
        url = make_url(text)
        if "@" in (url.host or ""):  # half of a password: in all messages it would stand as a host
            raise ValueError
    except (ArgumentError, ValueError):
        problem = f"This is no {scheme} URL."  # which part is wrong is not said: it may be the password
        mend = f"{_FORMS} Characters such as @ / : # in a password are written %40 %2F %3A %23."
        raise SettingsError(problem, place="--store", mend=mend) from None
    if scheme == "sqlite":
        if not url.database or url.host or url.query or url.database == ":memory:":
            raise SettingsError("A store in SQLite is a file.", place="--store", mend=_FORMS)
        return _file(Path(url.database))
    return _server(url)


def _file(path: Path) -> Address:
    return Address(URL.create("sqlite", database=str(path)), str(path), path)


def _server(url: URL) -> Address:
    require("pg8000", extra="postgres", why="A canary's store in PostgreSQL")
    said = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    options = dict(url.query)
    connect: dict[str, Any] = {"timeout": _CONNECT_SECONDS}
    host = options.pop("host", None)
    if isinstance(host, str) and host.startswith("/"):  # libpq's way to name a folder of sockets
        connect["unix_sock"] = f"{host}/.s.PGSQL.{options.pop('port', url.port or 5432)}"
    elif host is not None:
        raise SettingsError("`host=` names a folder of sockets.", place=said, mend=_FORMS)
    mode = options.pop("sslmode", "prefer")
    if mode not in _NO_TLS:
        connect["ssl_context"] = _tls(str(mode), said)
    if options:
        names = ", ".join(sorted(options))
        mend = "Known are host (a folder of sockets), port and sslmode."
        raise SettingsError(f"The URL has options that are not known: {names}.", place=said, mend=mend)
    if not url.database:
        raise SettingsError("The URL names no database.", place=said, mend=_FORMS)
    password = url.password or os.environ.get("PGPASSWORD")  # as libpq's programs do: none in the process list
    return Address(url.set(drivername="postgresql+pg8000", password=password, query={}), said, None, connect)


def _tls(mode: str, said: str) -> ssl.SSLContext:
    """What libpq means by a mode."""
    if mode not in ("require", "verify-ca", "verify-full"):
        mend = "Give disable, require, verify-ca or verify-full."
        raise SettingsError(f"There is no sslmode {mode!r}.", place=said, mend=mend)
    context = ssl.create_default_context()
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
