"""Figures of `benchmarks.mine`: how far CER fell with mined and with random lines, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

RESAMPLES = 2000


@dataclass(frozen=True)
class Reading:
    """Lines and what was read in them."""

    references: Sequence[str]
    predictions: Sequence[str]

    def cers(self) -> NDArray[np.float64]:
        """CER of each line."""
        pairs = zip(self.references, self.predictions, strict=True)
        return np.array([Levenshtein.distance(true, read) / len(true) for true, read in pairs])

    def misread(self, signs: frozenset[str]) -> float:
        """Share of these signs in the references that were not read as they are."""
        there = wrong = 0
        for true, read in zip(self.references, self.predictions, strict=True):
            right = {
                place
                for block in Levenshtein.opcodes(true, read)
                if block.tag == "equal"
                for place in range(block.src_start, block.src_end)
            }
            places = [place for place, sign in enumerate(true) if sign in signs]
            there += len(places)
            wrong += sum(place not in right for place in places)
        return wrong / max(1, there)


def factor(
    before: NDArray[np.float64], mined: NDArray[np.float64], random: NDArray[np.float64], *, seed: int = 3407
) -> dict[str, Any]:
    """How many times as far CER falls with mined lines as with random ones.

    Args:
        before: (lines,) CER of the planted model.
        mined, random: (seeds, lines) CER after training on either.

    Returns:
        Drops of the mean CER and their ratio, each with a 95 % interval: seeds and lines are drawn anew, both
        arms alike. The ratio is None where random lines lower nothing.
    """
    chance = np.random.default_rng(seed)
    seeds, lines = mined.shape
    drops = []
    for _ in range(RESAMPLES):
        rows, columns = chance.integers(0, seeds, seeds), chance.integers(0, lines, lines)
        place = np.ix_(rows, columns)
        drops.append([before[columns].mean() - arm[place].mean() for arm in (mined, random)])
    drawn = np.array(drops)
    told = [float(before.mean() - arm.mean()) for arm in (mined, random)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.inf)
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    return {
        "drop mined": _bounded(told[0], drawn[:, 0]),
        "drop random": _bounded(told[1], drawn[:, 1]),
        "factor": {
            "value": told[0] / told[1] if told[1] > 0 else None,
            "ci95": [float(low) if np.isfinite(low) else None, float(high) if np.isfinite(high) else None],
        },
    }


def _bounded(value: float, drawn: NDArray[np.float64]) -> dict[str, Any]:
    return {"value": value, "ci95": [float(bound) for bound in np.quantile(drawn, [0.025, 0.975])]}


def rows_of(
    before: Mapping[str, Reading], after: Mapping[str, Sequence[Mapping[str, Reading]]], signs: frozenset[str]
) -> list[dict[str, Any]]:
    """A row for the planted model and one for each arm, means over seeds.

    Args:
        before: test set (`weak`, `other`) → readings.
        after: arm → for each seed the same.
    """

    def row(name: str, runs: Sequence[Mapping[str, Reading]]) -> dict[str, Any]:
        weak = [float(run["weak"].cers().mean()) for run in runs]
        other = [float(run["other"].cers().mean()) for run in runs]
        return {
            "training lines": name,
            "CER of weak lines": float(np.mean(weak)),
            "lowest": min(weak),
            "highest": max(weak),
            "weak signs misread": float(np.mean([run["weak"].misread(signs) for run in runs])),
            "CER of other lines": float(np.mean(other)),
            "seeds": len(runs),
        }

    return [row("none (planted)", [before]), *(row(arm, runs) for arm, runs in after.items())]
