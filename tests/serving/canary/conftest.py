"""Stores in both databases, and small real backends to put a canary before."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

_PROGRAMS = ("/usr/lib/postgresql", "/usr/local/pgsql")
_USER, _PASSWORD = "keeper", "s3cret/@:#%"


def _program(name: str) -> str | None:
    found = [str(path) for folder in _PROGRAMS for path in sorted(Path(folder).glob(f"**/bin/{name}"))]
    return shutil.which(name) or (found[-1] if found else None)


def _as_nobody() -> list[str]:
    """PostgreSQL's server refuses to run as root."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv to start PostgreSQL from root, which is not here")
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Postgres:
    """A throw-away server on loopback."""

    user, password = _USER, _PASSWORD

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str, *, password: str = "s3cret%2F%40%3A%23%25") -> str:
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{database}"

    def empty_database(self) -> str:
        """The URL of a database in which nothing is; the last one's content is gone."""
        address = self.url("postgres").replace("postgresql:", "postgresql+pg8000:")
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
        return self.url("postgres")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("needs the programs initdb and postgres (PostgreSQL's server), which are not here")
    become = _as_nobody()
    folder = Path(tempfile.mkdtemp(prefix="ocrsmith-pg-"))  # its path must be short, and open to its user
    process = None
    try:
        secret = folder / "secret"
        secret.write_text(_PASSWORD)
        folder.chmod(0o777)
        secret.chmod(0o644)
        words = [initdb, "-D", f"{folder}/data", "-U", _USER, "-A", "scram-sha-256", f"--pwfile={secret}"]
        subprocess.run([*become, *words, "-N", "-E", "UTF8"], check=True, capture_output=True, cwd="/")
        port = _free_port()
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F", "-c", "max_connections=30"]
        with (folder / "log").open("wb") as log:
            command = [*become, server, "-D", f"{folder}/data", *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        _wait_for(port, process, folder / "log")
        yield Postgres(port)
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed again
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        if "ready to accept connections" in log.read_text(errors="replace"):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store may be made: a file, and a database of a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "canary.db")
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_database()
