"""Kept pages for a person to look at, most doubtful first, as a review queue (`evaluation.mine.queue`).

It is blind: the text to correct is the base's on one half of the pages and the candidate's on the other, chosen
by hash, and nothing says whose it is. What stands there already sways who corrects it; so it sways both alike.
A page counts only with a mark in the column `reviewed`, also where nothing had to be corrected: otherwise the
pages that were read right would be missing, and every model look worse than it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocrsmith.errors import InputError, OutputError, SettingsError
from ocrsmith.evaluation.mine.page import Wording
from ocrsmith.evaluation.mine.queue import Entry, write_queue
from ocrsmith.evaluation.report.wording import percent
from ocrsmith.records import PageSample
from ocrsmith.serving.canary.choice import ARMS, BASE, CANDIDATE, Arm, PageKey, within
from ocrsmith.serving.canary.comparison import differences
from ocrsmith.serving.canary.corrections import REVIEWED
from ocrsmith.serving.canary.figures import WINDOW
from ocrsmith.serving.canary.records import Answer
from ocrsmith.serving.canary.store import Store, last_of_each_page
from ocrsmith.settings.files import new_folder

_WORDING = Wording(
    task=(
        "In <code>labels.csv</code>, correct the column <code>text</code>, which holds the first answer, and "
        "mark in <code>reviewed</code> each page that you have checked, also where nothing was wrong."
    ),
    text="One answer",
    prediction="The other",
    only_text="in this answer only",
    only_prediction="in the other only",
    distance="",  # the reason says it
)
_ENDS = {"loop": "fell into a loop", "length": "was cut off", "error": "failed"}


@dataclass(frozen=True, slots=True)
class _Page:
    key: PageKey
    answers: Mapping[Arm, Answer]
    difference: float | None

    @property
    def doubt(self) -> float:
        """The larger of how far the answers lie apart and how unsure the less sure one is; 0 to 1."""
        unsure = [1.0 - (1.0 if item.confidence is None else item.confidence) for item in self.answers.values()]
        return min(1.0, max([self.difference or 0.0, *unsure]))


def write_review(store: Store, out: Path, *, count: int = 200) -> int:
    """Writes a review queue of the latest round's kept pages that nobody has corrected.

    Args:
        out: a folder that is not there yet, or is empty; written whole or not at all.
        count: pages at most.

    Returns:
        Pages in it; with 0 nothing was written.

    Raises:
        SettingsError: a count below 1.
        InputError: no server ever started with this store.
        OutputError: the folder is in use, or cannot be written.
    """
    if count < 1:
        raise SettingsError(f"{count} pages are none.", place="--count", mend="Give 1 or more.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        mend = "Choose another one with -o: corrections may be in it."
        raise OutputError("The folder is there already.", place=str(out), mend=mend)
    events = store.events()
    if not events:
        mend = "Start a server with --candidate and this --store."
        raise InputError("No canary was ever started with this store.", place=store.place, mend=mend)
    pages = _doubtful(store, events[-1].round)[:count]
    if not pages:
        return 0
    with new_folder(out) as scratch:
        return len(write_queue(scratch, _entries(store, pages), _WORDING))


def _doubtful(store: Store, number: int) -> list[_Page]:
    answers = [item for arm in ARMS for item in store.answers(number, arm, latest=WINDOW, texts=True)]
    texts = last_of_each_page(answers)
    apart = differences(texts)
    wanted = store.kept_keys() - store.corrections().keys()
    by_page: dict[PageKey, dict[Arm, Answer]] = {}
    for (arm, key), answer in texts.items():
        if key in wanted:
            by_page.setdefault(key, {})[arm] = answer
    pages = [_Page(key, found, apart.get(key)) for key, found in by_page.items()]
    return sorted(pages, key=lambda page: (-page.doubt, page.key.page, page.key.prompt))


def _entries(store: Store, pages: Sequence[_Page]) -> Iterator[Entry]:
    for rank, page in enumerate(pages, start=1):
        kept = store.kept_page(page.key)
        if kept is None:  # dropped a moment ago, to make room
            continue
        base_first = within(page.key, "prefill", 0.5, salt=store.salt)
        order = (BASE, CANDIDATE) if base_first else (CANDIDATE, BASE)
        shown = [page.answers[arm] for arm in order if arm in page.answers]
        yield Entry(
            sample=PageSample(
                id=shown[0].request,
                image=kept.image,
                image_path="",
                text=(shown[0].text or "").strip(),
                prompt=kept.prompt,
                meta={REVIEWED: ""},
            ),
            prediction=(shown[-1].text or "").strip(),
            rank=rank,
            reason=_reason(page, len(shown)),
            cer=page.difference or 0.0,
            confidence=min((item.confidence for item in shown if item.confidence is not None), default=None),
            kinds={},
            split="",
        )


def _reason(page: _Page, readings: int) -> str:
    found = sorted({_ENDS[item.finish] for item in page.answers.values() if item.finish in _ENDS})
    parts = [f"an answer {end}" for end in found]
    if page.difference is not None:
        parts.append(
            f"the answers differ by {percent(page.difference)}" if page.difference else "both read alike"
        )
    elif readings == 1:
        parts.append("read by one model")
    return ", ".join(parts)
