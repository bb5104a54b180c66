"""The check of a dataset: one pass over all samples, and the report of what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrsmith import __version__
from ocrsmith.datasets.check.census import NEAR_LIMIT, Census
from ocrsmith.datasets.check.characters import Inventory
from ocrsmith.datasets.check.figures import Figures
from ocrsmith.datasets.check.findings import Finding, Part, ordered
from ocrsmith.datasets.check.labels import LabelError, Read, find_label_errors, label_finding
from ocrsmith.datasets.check.legibility import ModeReport
from ocrsmith.datasets.check.rules import SEVERITIES
from ocrsmith.datasets.check.stream import Inspected, Samples, in_order, inspect
from ocrsmith.datasets.checks import ESTIMATED_LENGTH, LengthCheck
from ocrsmith.datasets.leakage import LeakReport
from ocrsmith.errors import DataError
from ocrsmith.records import PageSample
from ocrsmith.settings.files import write_text

JSON_FILE = "check.json"
HTML_FILE = "check.html"
Progress = Callable[[str, int, int | None], None]
"""Called with the phase (`check`, `read`), how many samples are done, and how many there are if known."""


@dataclass(frozen=True)
class CheckReport:
    """Everything that a check found."""

    paths: tuple[Path, ...]
    samples: int
    splits: dict[str, int]
    left_out: dict[str, int]
    """Items of sources that are not built yet, which cannot be samples, by reason."""
    first_left_out: tuple[str, ...]
    findings: tuple[Finding, ...]
    """Errors first."""
    figures: Figures
    modes: ModeReport
    characters: Inventory
    length: LengthCheck
    copies: dict[str, Any]
    leaks: LeakReport | None
    """What the splits have in common; None without two splits."""
    label_errors: tuple[LabelError, ...] | None = field(repr=False)
    """Likeliest first; None without a model."""

    def count(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(item.severity == severity for item in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON; the pictures are only in the HTML report."""
        errors = self.label_errors
        return {
            "format": "ocrsmith-check",
            "version": 1,
            "ocrsmith": __version__,
            "paths": [str(path) for path in self.paths],
            "samples": self.samples,
            "splits": self.splits,
            "left_out": self.left_out,
            "severities": {name: self.count(name) for name in SEVERITIES},
            "findings": [item.to_json() for item in self.findings],
            "modes": self.modes.to_json(),
            "length": {
                "context": self.length.context,
                "exact": self.length.exact,
                "counted_by": self.length.describe,
                "from_90_percent": round(
                    self.figures.tally("tokens").share_from(NEAR_LIMIT * self.length.context), 4
                ),
            },
            "figures": self.figures.to_json(),
            "characters": self.characters.to_json(),
            "copies": self.copies,
            "leaks": None if self.leaks is None else self.leaks.to_json(),
            "label_errors": None if errors is None else [error.to_json() for error in errors],
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Writes `check.html` and `check.json` into a folder, which is made if it is not there.

        Raises:
            OutputError: they cannot be written.
        """
        from ocrsmith.datasets.check.html import render

        page, data = folder / HTML_FILE, folder / JSON_FILE
        write_text(page, render(self).encode("utf-8", "replace").decode())
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=2)
        write_text(data, text.encode("utf-8", "backslashreplace").decode() + "\n")
        return page, data


def check_dataset(
    paths: Sequence[str | Path],
    *,
    length: LengthCheck | None = None,
    read: Read | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Checks datasets, or sources that are to become one; several are taken as one.

    Everything streams: in memory there are counters, a few examples, and some 200 bytes of hashes a sample.

    Args:
        paths: dataset folders, prefixes of files, or sources as `data build` takes them.
        length: counts tokens; None estimates without a tokenizer.
        read: a model that reads all samples once more, to find labels that it disagrees with.
        limit: look only at the first so many samples of each split.
        progress: told how far the work is.
        workers: threads that decode images; None takes one a core, eight at most.

    Raises:
        DataError: a path that is no dataset and no source, or damaged, or has no sample.
    """
    length = length or ESTIMATED_LENGTH
    samples = Samples.open(paths, limit)
    census = Census(length)
    _look_at_all(samples, census, progress, workers)
    count = census.figures.samples["all"]
    left_out, first_left_out = dict(samples.left_out.most_common()), tuple(samples.first_left_out)
    leaks, findings = census.copies.leaks(", ".join(map(str, samples.paths)))
    findings += census.findings()
    errors = None
    if read is not None:
        told = None if progress is None else lambda done: progress("read", done, count)
        errors, disagreements = find_label_errors(samples, read, progress=told)
        if disagreements:
            findings.append(label_finding(errors, disagreements, count))
    return CheckReport(
        paths=tuple(samples.paths),
        samples=count,
        splits={part: census.figures.samples[part] for part in census.figures.parts if part != "all"},
        left_out=left_out,
        first_left_out=first_left_out,
        findings=tuple(ordered(findings)),
        figures=census.figures,
        modes=census.legibility.report(),
        characters=census.characters,
        length=length,
        copies=census.copies.to_json(),
        leaks=leaks,
        label_errors=None if errors is None else tuple(errors),
    )


def _look_at_all(samples: Samples, census: Census, progress: Progress | None, workers: int | None) -> None:
    """The one pass: images are opened in threads, figures gathered in this one.

    Raises:
        DataError: there is no sample.
    """
    total, done = samples.total, 0

    def look(pair: tuple[Part, PageSample]) -> Inspected:
        return inspect(*pair, census.length)

    with closing(in_order(look, samples, workers)) as inspected:
        for done, item in enumerate(inspected, start=1):
            census.add(item)
            if progress:
                progress("check", done, total)
    if not done:
        raise DataError(
            "There is no sample to check.",
            place=", ".join(map(str, samples.paths)),
            mend="\n".join(["Mend what cannot be used:", *samples.first_left_out])
            if samples.left_out
            else "Check the path.",
        )
