"""How many pages fell into a loop and were read again, and how many of them then ended well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ocrsmith.evaluation.store import PageResult


@dataclass(frozen=True, slots=True)
class Retries:
    """Pages that were read more than once."""

    pages: int
    attempts: int
    """Readings beyond the first, of all pages."""
    rescued: int
    """Pages whose accepted answer reached its own end."""
    still_looping: int
    other: int
    """Pages whose accepted answer was cut off by the token limit."""

    @classmethod
    def of(cls, results: Sequence[PageResult]) -> Retries:
        """Counts the pages of an evaluation."""
        again = [result for result in results if result.attempts > 1]
        reasons = [result.finish_reason for result in again]
        return cls(
            pages=len(again),
            attempts=sum(result.attempts - 1 for result in again),
            rescued=reasons.count("stop"),
            still_looping=reasons.count("loop"),
            other=len(again) - reasons.count("stop") - reasons.count("loop"),
        )

    def to_json(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)
