"""The server's process: a socket before the model is loaded, connections under guard, and an orderly end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import formatdate

from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.server import ServerState

from ocrsmith.errors import OutputError, SettingsError
from ocrsmith.serving import logs
from ocrsmith.serving.app import Service, make_app
from ocrsmith.serving.backends import Backend
from ocrsmith.serving.connections import Guard, GuardedProtocol
from ocrsmith.serving.settings import ServerSettings

_BACKLOG = 2048
_HEAD_BYTES = 64 * 2**10
_SPARE_FILES = 128
"""Descriptors that the process needs beside those of connections."""
_LAST_SECONDS = 2.0
"""For requests that were told to end, and for connections to take their last bytes."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    app: FastAPI,
    settings: ServerSettings,
    *,
    ready: Callable[[str], None] | None = None,
    sockets: Sequence[socket.socket] | None = None,
) -> None:
    """Runs an app until SIGTERM or SIGINT, then lets requests under way end. A second signal ends at once.

    Args:
        app: of `make_app`; its backend is started here.
        settings: those that the app was made with.
        ready: called with the base URL once the server listens.
        sockets: bound ones, of `bind`; by default they are bound here, before the backend starts.

    Raises:
        OutputError: the port is taken.
        SettingsError: no address to listen on, or one that strangers reach, without a key.
        OcrsmithError: the backend cannot start.
        KeyboardInterrupt: Ctrl-C before the server was ready.
    """
    bound = list(sockets) if sockets is not None else bind(settings)
    logs.to_stderr()
    Server(app, settings, bound, ready).run()


def bind(settings: ServerSettings) -> list[socket.socket]:
    """A socket on host and port, bound but not listening yet: who comes too early is refused, not left waiting.

    Raises:
        OutputError: the port is taken, or may not be used.
        SettingsError: no such address, or one that strangers reach, without a key.
    """
    place = f"{settings.host}:{settings.port}"
    family, address = _address(settings)
    is_loopback = ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
    if not (is_loopback or settings.api_keys or settings.allow_no_keys):
        raise SettingsError(
            f"The server would listen on {settings.host}, where others reach it, without an API key.",
            place="host",
            mend="Give it a key, or let it listen on 127.0.0.1.",
        )
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else no TCP_NODELAY
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(error, place) from error
    return [listener]


@contextmanager
def running(backend: Backend, settings: ServerSettings | None = None) -> Iterator[str]:
    """A server in a thread of this process, for tests and benchmarks; gives its base URL.

    Args:
        backend: what answers; started and closed here.
        settings: by default the usual ones, on a free port.

    Raises:
        As `serve`.
    """
    settings = settings or ServerSettings(port=0)
    thread = ServerThread(make_app(backend, settings), settings)
    try:
        yield thread.start()
    finally:
        thread.stop()


class ServerThread:
    """A server in a thread."""

    def __init__(self, app: FastAPI, settings: ServerSettings) -> None:
        self._url: str | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self.server = Server(app, settings, bind(settings), self._is_ready)
        self._thread = threading.Thread(target=self._run, name="server")

    def start(self) -> str:
        """Starts it and waits until it listens; gives its base URL. Raises what hinders it."""
        self._thread.start()
        self._ready.wait()
        if self._url is None:
            self._thread.join()
            raise self._error or RuntimeError("the server ended before it was ready")
        return self._url

    def stop(self) -> None:
        """Lets requests under way end, as SIGTERM does, and waits for it."""
        self.server.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _is_ready(self, url: str) -> None:
        self._url = url
        self._ready.set()

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:  # told by the thread that waits for it
            self._error = error
        finally:
            self._ready.set()


class Server:
    """Listens, and ends in order."""

    def __init__(
        self,
        app: FastAPI,
        settings: ServerSettings,
        sockets: Sequence[socket.socket],
        ready: Callable[[str], None] | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._sockets = list(sockets)
        self._ready = ready
        self._service: Service = app.state.service
        self._state = ServerState()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._interruptible: asyncio.Task[None] | None = None
        """Set while the backend starts or closes: a signal ends that."""
        self._interrupted = False
        self._guard = Guard(
            max_connections=_raise_file_limit(settings.max_connections),
            header_seconds=settings.header_seconds,
            rejected=lambda reason: self._service.metrics.rejected.labels(reason).inc(),
        )
        self._service.metrics.watch(
            "ocrsmith_connections", "Open connections.", lambda: len(self._state.connections)
        )

    def run(self) -> None:
        """Runs until `stop`, or in the main thread until a signal."""
        try:
            asyncio.run(self._run())
        finally:
            for listener in self._sockets:
                listener.close()

    def stop(self) -> None:
        """Ends in order; called a second time, at once. For any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(self._on_stop)

    async def _run(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        in_main = threading.current_thread() is threading.main_thread()
        for number in _SIGNALS if in_main else ():
            loop.add_signal_handler(number, self._on_stop, number)
        self._interruptible = task
        try:
            async with self._app.router.lifespan_context(self._app):
                self._interruptible = None
                await self._serve()
                self._interruptible = task
        except asyncio.CancelledError:
            if self._interrupted:
                raise KeyboardInterrupt from None
            if not self._stop.is_set():
                raise
        finally:
            for number in _SIGNALS if in_main else ():
                loop.remove_signal_handler(number)

    def _on_stop(self, number: signal.Signals | None = None) -> None:
        """First: stop in order, or give up starting. Second: at once."""
        if self._stop.is_set():
            self._hurry.set()
        elif self._interruptible is not None:
            self._interrupted = number == signal.SIGINT
        self._stop.set()
        if self._interruptible is not None:
            self._interruptible.cancel()
            self._interruptible = None

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        config = Config(
            self._app,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # our own log says what there is to say
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=max(1, round(self._settings.idle_seconds)),
            h11_max_incomplete_event_size=_HEAD_BYTES,
        )
        config.load()

        def connection() -> asyncio.Protocol:
            return GuardedProtocol(config, self._state, loop, self._guard)

        try:
            listeners = [
                await loop.create_server(connection, sock=listener, backlog=_BACKLOG)
                for listener in self._sockets
            ]
        except OSError as error:  # another process was bound to the port as well, and was quicker
            raise _cannot_listen(error, f"{self._settings.host}:{self._settings.port}") from error
        clock = loop.create_task(self._keep_date())
        url = _url(self._settings.host, self._sockets[0])
        logs.write("listening", url=url, models=[model.name for model in self._service.backend.models])
        try:
            if self._ready:
                self._ready(url)
            await self._stop.wait()
            await self._drain(listeners)
        finally:
            clock.cancel()

    async def _keep_date(self) -> None:
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(1)

    async def _drain(self, listeners: Sequence[asyncio.Server]) -> None:
        """No new connections, no new requests; those under way get their time, then are told to end."""
        self._service.is_draining = True
        for listener in listeners:
            listener.close()
        logs.write("draining", requests=len(self._state.tasks))
        await self._until_idle(self._settings.drain_seconds, hurry=self._hurry)
        self._service.ending.set()
        await self._until_idle(_LAST_SECONDS)
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            connection.end()  # type: ignore[union-attr]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LAST_SECONDS
        while (self._state.connections or self._state.tasks) and loop.time() < deadline:
            await asyncio.sleep(0.02)
        logs.write("ended")

    async def _until_idle(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Returns when no request is under way, the time is over, or there is a hurry."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._state.tasks and loop.time() < deadline and not (hurry and hurry.is_set()):
            await asyncio.sleep(0.02)


def _address(settings: ServerSettings) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The first address that the host's name has."""
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise SettingsError(
            f"There is no address {settings.host!r} to listen on.",
            place="host",
            mend="Give an address of this machine, such as 127.0.0.1.",
        ) from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _cannot_listen(error: OSError, place: str) -> OutputError:
    if error.errno == errno.EADDRINUSE:
        mend = "Stop the server that uses it, or choose another port (0 takes a free one)."
        return OutputError(f"Port {place.rpartition(':')[2]} is in use.", place=place, mend=mend)
    if error.errno == errno.EACCES:
        mend = "Choose a port from 1024 on."
        return OutputError("This user may not listen on that port.", place=place, mend=mend)
    mend = "Give an address of this machine, such as 127.0.0.1."
    return OutputError(f"The server cannot listen there ({error.strerror}).", place=place, mend=mend)


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _raise_file_limit(wanted: int) -> int:
    """Lets the process open as many files as it may; the connections for which that is enough."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft != hard:
        with suppress(ValueError, OSError):  # some systems call a limit endless and do not grant it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - _SPARE_FILES))
