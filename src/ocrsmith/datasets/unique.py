"""Names that are each given once; 12 to 24 bytes are remembered of a name."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from hashlib import blake2b


class HashSet:
    """A set of 64-bit numbers that are spread evenly, such as hashes.

    Open addressing in one flat array, since a `set` of Python's takes six times the memory.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> bool:
        """Takes a number from 0 to 2^64 - 1; False if it was there already. 0 counts as 1."""
        slots, mask = self._slots, len(self._slots) - 1
        value = value or 1  # 0 marks a free slot
        index = value & mask
        while found := slots[index]:
            if found == value:
                return False
            index = (index + 1) & mask
        slots[index] = value
        self._count += 1
        if 3 * self._count > 2 * len(slots):
            self._grow()
        return True

    def _grow(self) -> None:
        old, slots = self._slots, array("Q", bytes(16 * len(self._slots)))
        mask = len(slots) - 1
        for value in old:
            if value:
                index = value & mask
                while slots[index]:
                    index = (index + 1) & mask
                slots[index] = value
        self._slots = slots


def numbered(name: str, number: int) -> str:
    """`name#2`, `name#3` …"""
    return f"{name}#{number}"


class UniqueNames:
    """Gives each wanted name once; when it comes again, with a number.

    Of two different names with one 64-bit hash, the second gets a number too: among a million names, that has a
    chance of 1 in 37 million.
    """

    def __init__(
        self, again: Callable[[str, int], str] = numbered, fold: Callable[[str], str] = lambda name: name
    ) -> None:
        """`again` forms the name for the second time and on; names with the same `fold` count as one."""
        self._again, self._fold = again, fold
        self._seen = HashSet()
        self._times: dict[int, int] = {}  # of the names that came more than once
        self.repeated = 0
        """Names that got a number."""

    def take(self, wanted: str) -> str:
        """The name itself the first time, later the first numbered one that is free."""
        key = self._hash(wanted)
        if self._seen.add(key):
            return wanted
        self.repeated += 1
        number = self._times.get(key, 1)
        while True:
            number += 1
            name = self._again(wanted, number)
            if self._seen.add(self._hash(name)):
                self._times[key] = number
                return name

    def _hash(self, name: str) -> int:
        data = self._fold(name).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
