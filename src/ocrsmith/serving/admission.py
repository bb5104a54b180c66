"""Who is answered now, who waits, and who is sent away: a bounded queue before a bounded number of slots."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from statistics import fmean

from ocrsmith.serving.errors import busy

_REMEMBERED = 64
_UNKNOWN_SECONDS = 1.0
_LONGEST_PAUSE = 300


class Admission:
    """Slots and the queue before them; first come, first served. For one event loop."""

    def __init__(self, slots: int, queue: int, max_held_bytes: int) -> None:
        """
        Args:
            slots: requests answered at a time.
            queue: requests that may wait.
            max_held_bytes: bytes of bodies that may be in memory together.
        """
        self.running = 0
        self.waiting = 0
        self._slots, self._queue = slots, queue
        self._room = max_held_bytes
        self._turns: deque[asyncio.Future[None]] = deque()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def check(self) -> None:
        """Sends a request away before its body is read, if there is no place for it. Raises ApiError (429)."""
        if self.running >= self._slots and self.waiting >= self._queue:
            raise busy(self.retry_after(), "The server is busy; try again later.", reason="queue_full")

    def retry_after(self) -> int:
        """Whole seconds until a place is probably free, from the latest answers; at least 1."""
        each = fmean(self._seconds) if self._seconds else _UNKNOWN_SECONDS
        return max(1, min(_LONGEST_PAUSE, math.ceil(each * (self.waiting + 1) / self._slots)))

    @contextmanager
    def held(self) -> Iterator[Room]:
        """Room for the body of one request, given back at the end."""
        room = Room(self)
        try:
            yield room
        finally:
            self._room += room.taken

    def take(self, size: int) -> None:
        """Takes `size` bytes of the room for bodies. Raises ApiError (429) where there are not so many left."""
        if size > self._room:
            raise busy(self.retry_after(), "The server is busy; try again later.", reason="memory")
        self._room -= size

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a slot and has it until the end. Raises ApiError (429) when the queue is full."""
        self.check()
        await self._turn()
        begin = asyncio.get_running_loop().time()
        try:
            yield
            self._seconds.append(asyncio.get_running_loop().time() - begin)
        finally:
            self._pass_on()

    async def _turn(self) -> None:
        if self.running < self._slots:
            self.running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came in the same moment
                self._pass_on()
            elif turn in self._turns:
                self._turns.remove(turn)
            raise
        finally:
            self.waiting -= 1

    def _pass_on(self) -> None:
        """Gives a slot to the next who waits."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1


class Room:
    """What one request has taken of the room for bodies."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.taken = 0

    def take(self, size: int) -> None:
        """See `Admission.take`."""
        self._admission.take(size)
        self.taken += size
