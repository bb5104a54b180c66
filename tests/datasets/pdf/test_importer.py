"""PDFs as a source: candidates in order, reasons for the rest, skipping, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.pdf import FORMAT, open_pdf
from ocrsmith.datasets.pdf import isolate
from ocrsmith.datasets.pdf.document import PdfOptions, find_pdfs
from ocrsmith.datasets.pdf.pairs import Item, Pairs
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

from .pdf_files import Document, Page, boxes, paragraph, typed

ItemsOf = Callable[..., list[Item]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pages, a broken file, two pages of which one cannot be trusted, a locked file."""
    files = {
        "a/plain.pdf": typed(3),
        "b broken.pdf": b"%PDF-1.7 and no more",
        "mixed.pdf": Document([Page(boxes([*range(1, 32)] * 3)), *typed_pages(1)]).encode(),
        "locked.pdf": typed(password="geheim"),
        "notes.txt": b"no PDF",
    }
    folder = tmp_path_factory.mktemp("pdfs")
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[Item]:
    """What the folder gives."""
    return items(folder)


def typed_pages(count: int) -> list[Page]:
    return [Page(paragraph()) for _ in range(count)]


WHOLE = [
    "b broken.pdf",
    "locked.pdf",
    "mixed.pdf#page=1",
    "mixed.pdf#page=2",
    "a/plain.pdf#page=1",
    "a/plain.pdf#page=2",
    "a/plain.pdf#page=3",
]
"""What the folder gives, in order."""


def items(path: Path, **options: Any) -> list[Item]:
    root = path if path.is_dir() else path.parent
    with closing(Pairs(find_pdfs(path), root, PdfOptions(**{"workers": 1, **options}))) as found:
        return list(found)


def names(found: list[Item]) -> list[str]:
    return [item.image_path for item in found]


def test_a_folder_of_pdfs_is_recognised(folder: Path, tmp_path: Path) -> None:
    assert FORMAT.recognises(folder, b"")
    assert FORMAT.recognises(folder / "any", b"%PDF-1.4\n")
    assert not FORMAT.recognises(folder / "any", b"a.png\ttext")
    assert not FORMAT.recognises(tmp_path, b"")
    assert not FORMAT.recognises(tmp_path / "not there", b"")


def test_each_page_becomes_a_candidate_or_a_reason(folder: Path, found: list[Item]) -> None:
    assert names(found) == WHOLE
    reasons = [item.reason if isinstance(item, Excluded) else None for item in found]
    assert reasons == ["unreadable", "encrypted", "unmapped_text", None, None, None, None]
    source = FORMAT.open(folder, ImportOptions())
    assert (source.rows, source.kind, source.root) == (len(found), "pdf", folder)
    assert list(source.read()) == found


def test_a_candidate_says_where_it_comes_from(folder: Path, found: list[Item]) -> None:
    page = found[5]
    assert isinstance(page, Candidate)
    assert (page.image_path, page.id, page.group) == ("a/plain.pdf#page=2", "a/plain.pdf#page=2", "a/plain.pdf")
    assert (page.source, page.line) == (str(folder / "a" / "plain.pdf"), 2)
    assert page.meta == {"trust": 1.0, "dpi": 144, "title": "A plain document"}
    assert isinstance(page.image, bytes)
    assert page.text


def test_the_ledger_says_the_page_the_score_and_why(folder: Path, found: list[Item]) -> None:
    broken, locked, strange = found[:3]
    assert isinstance(strange, Excluded)
    assert (strange.source, strange.line) == (str(folder / "mixed.pdf"), 1)
    assert strange.detail == (
        "The page's text cannot be trusted (score 0.00, 0.8 is needed): 100.0% of its characters have no "
        "Unicode value. Look at it; --trust sets the score that is needed."
    )
    assert isinstance(broken, Excluded)
    assert isinstance(locked, Excluded)
    assert (broken.line, locked.line) == (None, None)
    assert "--password" in locked.detail


def test_a_password_opens_what_is_locked(folder: Path) -> None:
    assert [type(item) for item in items(folder / "locked.pdf", password="geheim")] == [Candidate]


def test_only_the_pages_asked_for_are_read(folder: Path) -> None:
    assert names(items(folder / "a" / "plain.pdf", pages="2-")) == ["plain.pdf#page=2", "plain.pdf#page=3"]
    (left_out,) = items(folder / "a" / "plain.pdf", pages="7")
    assert isinstance(left_out, Excluded)
    assert (left_out.reason, left_out.detail) == (
        "no_pages",
        "It has 3 pages, and --pages 7 asks for none of them.",
    )


@pytest.mark.parametrize("count", [1, 3, 9])
def test_skipping_gives_the_rest_without_reading_what_was_skipped(
    folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[dict[str, Any]] = []
    submit = isolate.IsolatedPool.submit

    def spy(pool: isolate.IsolatedPool, request: dict[str, Any]) -> Any:
        if "page" in request:
            pages.append(request)
        return submit(pool, request)

    monkeypatch.setattr(isolate.IsolatedPool, "submit", spy)
    with closing(Pairs(find_pdfs(folder), folder, PdfOptions(workers=1))) as pairs:
        assert pairs.skip(count) == min(count, len(WHOLE))
        assert names(list(pairs)) == WHOLE[count:]
    assert len(pages) == sum("#page=" in name for name in WHOLE[count:])


def test_a_link_out_of_the_folder_is_followed_only_if_allowed(tmp_path: Path) -> None:
    (tmp_path / "secret.pdf").write_bytes(typed())
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "link.pdf").symlink_to(tmp_path / "secret.pdf")
    (left_out,) = items(tmp_path / "source")
    assert isinstance(left_out, Excluded)
    assert left_out.reason == "outside"
    assert "--allow-outside" in left_out.detail
    source = open_pdf(tmp_path / "source", ImportOptions(allow_outside=True), PdfOptions(workers=1))
    assert [type(item) for item in source.read()] == [Candidate]


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_pdf(tmp_path / "none.pdf", ImportOptions())
    with pytest.raises(DataError, match=r"no file that ends in \.pdf"):
        open_pdf(tmp_path, ImportOptions())


def test_a_page_that_hangs_is_given_up_and_the_next_ones_come(tmp_path: Path) -> None:
    """A form that draws the next one seven times, twelve deep: billions of drawings."""
    forms = {f"F{depth}": f"/F{depth + 1} Do " * 7 for depth in range(12)}
    slow = Page("/F0 Do", forms={**forms, "F12": "0 0 1 1 re f"})
    (tmp_path / "slow.pdf").write_bytes(Document([slow, *typed_pages(1)]).encode())
    found = items(tmp_path / "slow.pdf", page_seconds=4)
    assert [item.reason if isinstance(item, Excluded) else "" for item in found] == ["timed_out", ""]
    assert "--page-seconds" in found[0].detail  # type: ignore[union-attr]


def test_stopping_early_leaves_no_process(folder: Path) -> None:
    before = own_children()  # other tests of this process may have started helpers that live on
    pairs = Pairs(find_pdfs(folder), folder, PdfOptions(workers=2))
    next(pairs)
    children = own_children() - before
    assert children
    pairs.close()
    assert not own_children() & children


def own_children() -> set[str]:
    """Ids of the processes that this one has started and not yet waited for."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    if not listing.exists():
        pytest.skip("needs Linux's list of a process's children")
    children: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread may end while this looks
            children.update((task / "children").read_text().split())
    return children


def test_a_worker_that_is_killed_from_outside_costs_one_page(tmp_path: Path) -> None:
    (tmp_path / "long.pdf").write_bytes(typed(6))
    before = own_children()
    pairs = Pairs(find_pdfs(tmp_path), tmp_path, PdfOptions(workers=1))
    with closing(pairs):
        found = [next(pairs)]
        for child in own_children() - before:
            os.kill(int(child), signal.SIGKILL)
        time.sleep(0.1)
        found += list(pairs)
    lost = [item for item in found if isinstance(item, Excluded)]
    assert len(found) == 6
    assert len(lost) == 1
    assert lost[0].reason == "crashed"
    assert "SIGKILL" in lost[0].detail
