"""Mines a finished evaluation: which pages to label next, which labels to doubt, which characters to draw.

    OUT/review/           hard pages, most telling first (see `queue`, `choose`)
    OUT/suspects/         pages whose reference is likely wrong (see `suspects`)
    OUT/confusions.tsv    for `ocrsmith data synth --confusions`
    OUT/characters.tsv    for `ocrsmith data synth --chars`
    OUT/mine.json         settings, every page with its reason, what was left out, and what all this comes from

What has nothing in it is not there. Suspects count for no ranking and no confusion.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ocrsmith.datasets import Dataset
from ocrsmith.errors import OutputError, SettingsError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.confusions import ConfusionTable, write_characters
from ocrsmith.evaluation.error_kinds import PageErrors, classify
from ocrsmith.evaluation.lexicon import Lexicon
from ocrsmith.evaluation.mine import choose, features
from ocrsmith.evaluation.mine.cases import CER_SHARE, LEAST_DOUBT, Case, find_cases, typical_confidence
from ocrsmith.evaluation.mine.origin import find_dataset, sample_of, split_of
from ocrsmith.evaluation.mine.pages import misread, reason_of, told
from ocrsmith.evaluation.mine.queue import Entry, write_queue
from ocrsmith.evaluation.mine.suspects import RULES, Suspect, find_suspects
from ocrsmith.evaluation.store import Evaluation, PageResult
from ocrsmith.evaluation.strata import assign
from ocrsmith.records import SplitName
from ocrsmith.settings.files import new_folder
from ocrsmith.settings.provenance import environment, file_sha256
from ocrsmith.text import FREE_OCR

REVIEW, SUSPECTS = "review", "suspects"
CONFUSIONS, CHARACTERS, ACCOUNT = "confusions.tsv", "characters.tsv", "mine.json"
FORMAT = "ocrsmith mine 1"
CANDIDATES = 4_000
"""Pages that the queue is chosen from: those with the greatest need. Their likenesses take 64 MB."""

METHOD = {
    "cer_share": CER_SHARE,
    "least_doubt": LEAST_DOUBT,
    "candidates": CANDIDATES,
    "likeness": features.WEIGHTS,
    "document_share": choose.DOCUMENT_SHARE,
}
TEST_WARNING = (
    "These are pages of the test split: they must not get into training, or its figures say nothing any more. "
    "Texts drawn from their confusions hold nothing of the pages, but the figures then are of weaknesses that "
    "were worked on: mine the val split for what you train on."
)
VAL_WARNING = (
    "These are pages of the val split: those that get into training must leave it. What is drawn from their "
    "confusions may be trained on; figures that decide come from the test split."
)

MineProgress = Callable[[int, int], None]
"""Called with (pages whose errors were sorted, pages in all)."""


@dataclass(frozen=True)
class Mined:
    """What came of it."""

    out: Path
    dataset: Dataset
    split: SplitName
    pages: int
    with_confidence: bool
    review: Sequence[Case]
    suspects: Sequence[Suspect]
    suspects_by_rule: Mapping[str, int]
    """All that were found, also those that are not in the queue."""
    covered: float
    """Share of the need of all hard pages that the review queue stands for."""
    left_out: Mapping[str, int]
    """Why → pages."""
    confusions: int = 0
    """Lines of `CONFUSIONS`; 0: there is no file."""
    characters: int = 0

    @property
    def empty(self) -> bool:
        """There was nothing to mine, and nothing was written."""
        return not (self.review or self.suspects)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What one must know before anything of it is used."""
        if self.split == "test":
            return (TEST_WARNING,)
        return (VAL_WARNING,) if self.split == "val" else ()

    def to_json(self) -> dict[str, Any]:
        """Counts and warnings, without the pages."""
        return {
            "split": self.split,
            "warnings": list(self.warnings),
            "pages": self.pages,
            "with_confidence": self.with_confidence,
            "counts": {"review": len(self.review), "suspects": len(self.suspects)},
            "covered": round(self.covered, 6),
            "suspects_by_rule": dict(self.suspects_by_rule),
            "confusions": self.confusions,
            "characters": self.characters,
            "left_out": dict(self.left_out),
        }


def mine(
    folder: Path,
    out: Path,
    *,
    data: Path | None = None,
    count: int = 200,
    overwrite: bool = False,
    progress: MineProgress | None = None,
) -> Mined:
    """Mines the evaluation in `folder` and writes `out`, whole or not at all.

    Args:
        folder: a finished evaluation.
        out: the folder to write; nothing is written where there is nothing to mine.
        data: the dataset that was evaluated; None: where it was then.
        count: pages of the review queue, and of the suspects, at most.
        overwrite: replace what an earlier mining wrote.

    Raises:
        SettingsError: a count below 1.
        DataError: no finished evaluation, or the dataset is gone or another one.
        OutputError: `out` is there already, or cannot be written.
    """
    if count < 1:
        raise SettingsError(f"{count} pages are none.", place="--count", mend="Give 1 or more.")
    _check_out(out, overwrite=overwrite)
    evaluation = store.load(folder)
    split = split_of(evaluation.provenance, folder)
    dataset = find_dataset(evaluation.provenance, folder, data)
    finding = _Finding.of(evaluation, count, progress)
    mined = Mined(
        out=out,
        dataset=dataset,
        split=split,
        pages=len(evaluation.results),
        with_confidence=finding.typical is not None,
        review=[finding.cases[index] for index in finding.choice.indices],
        suspects=finding.suspects[:count],
        suspects_by_rule=_by_rule(finding.suspects),
        covered=finding.choice.covered,
        left_out={why: pages for why, pages in finding.left_out.items() if pages},
    )
    if mined.empty:
        return mined
    with new_folder(out) as scratch:
        return _write(scratch, mined, finding, evaluation, folder, count)


# --- finding -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finding:
    typical: float | None
    cases: Sequence[Case]
    """That the queue was chosen from."""
    choice: choose.Choice
    suspects: Sequence[Suspect]
    table: ConfusionTable
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, evaluation: Evaluation, count: int, progress: MineProgress | None) -> _Finding:
        results = evaluation.results
        typical = typical_confidence(results, evaluation.scores)
        errors = _classified(results, progress)
        everything = find_cases(results, evaluation.scores, errors, typical)
        suspects = find_suspects(everything, results, typical)
        doubted = {suspect.case.result.index for suspect in suspects}
        hard = [case for case in everything if case.result.index not in doubted]
        cases = sorted(hard, key=lambda case: (-case.need, case.result.index))[:CANDIDATES]
        choice = _choose(cases, results, count)
        left_out = {
            "failed: no text was read": sum(page.failed for page in errors),
            "suspects beyond the count": max(0, len(suspects) - count),
            f"hard pages beyond the {CANDIDATES:,} with the greatest need": len(hard) - len(cases),
            "hard pages that the queue stands for": len(cases) - len(choice.indices),
        }
        table = ConfusionTable.of(
            page for page, result in zip(errors, results, strict=True) if result.index not in doubted
        )
        return cls(typical, cases, choice, suspects, table, left_out)


def _classified(results: Sequence[PageResult], progress: MineProgress | None) -> list[PageErrors]:
    found = []
    for page in classify(results, lexicon=Lexicon.of(result.reference for result in results)):
        found.append(page)
        if progress and (len(found) % 64 == 0 or len(found) == len(results)):
            progress(len(found), len(results))
    return found


def _choose(cases: Sequence[Case], results: Sequence[PageResult], count: int) -> choose.Choice:
    if not cases:
        return choose.Choice()
    strata = assign(results)
    place_of = {result.index: place for place, result in enumerate(results)}
    labels = [
        [(name, values[place_of[case.result.index]]) for name, values in strata.items()] for case in cases
    ]
    return choose.choose(
        features.features_of(cases, labels),
        [case.need for case in cases],
        [case.result.group for case in cases],
        count,
    )


# --- writing -----------------------------------------------------------------------------------------------


def _check_out(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError("The output is a file.", place=str(out), mend="Name a folder with -o.")
    there = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
    ours = (REVIEW, SUSPECTS, CONFUSIONS, CHARACTERS, ACCOUNT)
    if strangers := [name for name in there if name not in ours]:
        raise OutputError(
            f"The folder holds what mining did not write: {', '.join(strangers[:6])}.",
            place=str(out),
            mend="Choose another folder with -o; nothing there is touched.",
        )
    if there and not overwrite:
        raise OutputError(
            "The folder holds an earlier mining, perhaps with corrections.",
            place=str(out),
            mend="Choose another folder with -o, or add --overwrite to throw it away.",
        )


def _write(
    scratch: Path, mined: Mined, finding: _Finding, evaluation: Evaluation, folder: Path, count: int
) -> Mined:
    """Fills the scratch folder."""
    account: dict[str, Any] = {}
    queues: dict[str, list[tuple[Case, str]]] = {
        REVIEW: [(case, reason_of(case)) for case in mined.review],
        SUSPECTS: [(suspect.case, suspect.reason) for suspect in mined.suspects],
    }
    for name, pages in queues.items():
        if pages:
            (scratch / name).mkdir()
            images = write_queue(scratch / name, _entries(pages, mined.dataset, mined.split))
            account[name] = [
                {"rank": rank, **told(case, reason), "image": f"{name}/{image}"}
                for rank, ((case, reason), image) in enumerate(zip(pages, images, strict=True), start=1)
            ]
    for row, gain in zip(account.get(REVIEW, ()), finding.choice.gains, strict=True):
        row["covers"] = round(gain, 6)
    for row, suspect in zip(account.get(SUSPECTS, ()), mined.suspects, strict=True):
        row |= {"rule": suspect.rule, "score": round(suspect.score, 6)}
    mined = replace(
        mined,
        confusions=finding.table.write_for_synthesis(scratch / CONFUSIONS),
        characters=write_characters(scratch / CHARACTERS, misread(finding.table)),
    )
    head = {
        "format": FORMAT,
        "evaluation": str(folder),
        "predictions_sha256": file_sha256(folder / store.PREDICTIONS),
        **{key: evaluation.provenance.get(key) for key in ("dataset", "engine")},
        **environment(),
        "settings": {"count": count, **METHOD},
    }
    store.write_json(scratch / ACCOUNT, json.loads(json.dumps(head, default=str)) | mined.to_json() | account)
    return mined


def _entries(pages: Sequence[tuple[Case, str]], dataset: Dataset, split: SplitName) -> Iterator[Entry]:
    for rank, (case, reason) in enumerate(pages, start=1):
        sample = sample_of(dataset, split, case.result)
        if sample.prompt is None and dataset.prompt != FREE_OCR:
            sample = replace(sample, prompt=dataset.prompt)  # a dataset built from the queue has another one
        yield Entry(
            sample=sample,
            prediction=case.result.prediction,
            rank=rank,
            reason=reason,
            cer=case.cer,
            confidence=case.result.confidence,
            kinds=dict(case.edits.most_common()),
            split=split,
        )


def _by_rule(suspects: Sequence[Suspect]) -> dict[str, int]:
    counts = Counter(suspect.rule for suspect in suspects)
    return {rule: counts[rule] for rule in RULES if counts[rule]}
