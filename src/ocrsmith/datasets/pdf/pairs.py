"""Pairs of picture and Markdown from PDFs, one page at a time, read by processes that may die."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate
from ocrsmith.datasets.pdf.document import PageRange, PdfOptions
from ocrsmith.datasets.pdf.isolate import Bounds, Failure, IsolatedPool, Reply
from ocrsmith.records import Excluded

WORKER = "ocrsmith.datasets.pdf.worker"

Result = Reply | Failure
Item = Candidate | Excluded

_SAMPLE = 8
"""Pages from the middle of a document on which its running heads and feet are looked for."""

_READ_IT = "Its text has to be written by a person, or read by a model and corrected."
_MENDS = {
    "blank_page": "There is nothing to mend.",
    "scanned_page": _READ_IT,
    "ocr_layer": _READ_IT,
    "timed_out": "Give it more with --page-seconds, or leave it out.",
    "out_of_memory": "Give it more with --page-memory, or leave it out.",
    "crashed": "Leave it out, or make the PDF again, e.g. by printing it to a PDF.",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A PDF of the source, and what is known of it."""

    path: Path
    name: str
    """Relative to the source's folder: the document's name in the dataset."""
    facts: Result | Excluded

    def numbers(self, chosen: PageRange) -> list[int]:
        """The pages to read; empty where it cannot be read."""
        return chosen.of(int(self.facts.answer["pages"])) if isinstance(self.facts, Reply) else []


class Pairs(Iterator[Item]):
    """Goes through the pages of PDFs in order: a candidate for each page that can be trusted, else a reason.

    Pages are read ahead by a few processes. Close it (`contextlib.closing`) to end them early.

    Args:
        files: the PDFs.
        root: they are named relative to it.
        options: how to read them.
        allow_outside: follow links that lead out of `root`.
    """

    def __init__(
        self, files: Iterable[Path], root: Path, options: PdfOptions, *, allow_outside: bool = False
    ) -> None:
        self._files, self._root, self._options = iter(files), root, options
        self._allow_outside = allow_outside
        self._chosen = PageRange.parse(options.pages)
        self._skip = 0
        self._items: Generator[Item] | None = None

    def skip(self, count: int) -> int:
        """Leaves out the next items without reading their pages; call it before the first item is taken.

        Returns:
            How many there were, at most `count`.
        """
        self._skip = count
        self._items = items = self._read()
        first = next(items, None)
        if first is not None:
            self._items = _put_back(first, items)
        return count - self._skip

    def __next__(self) -> Item:
        if self._items is None:
            self._items = self._read()
        return next(self._items)

    def close(self) -> None:
        """Ends the processes."""
        if self._items is not None:
            self._items.close()

    def _read(self) -> Generator[Item]:
        workers = self._options.workers or os.cpu_count() or 1
        waiting: deque[Callable[[], Item]] = deque()
        with IsolatedPool(WORKER, workers=workers, bounds=bounds_of(self._options)) as pool:
            for item in self._plan(pool, ahead=workers):
                waiting.append(item)
                if len(waiting) > 2 * workers:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()

    def _plan(self, pool: IsolatedPool, ahead: int) -> Iterator[Callable[[], Item]]:
        """Hands in the pages one by one; each result can be waited for."""
        for file in self._inspected(pool, ahead):
            numbers = file.numbers(self._chosen)
            count = max(1, len(numbers))
            if self._skip >= count:
                self._skip -= count
                continue
            numbers, self._skip = numbers[self._skip :], 0
            if not numbers:
                yield lambda file=file: self._unusable(file)  # type: ignore[misc]
            furniture = self._furniture(pool, file)
            for number in numbers:
                yield self._submit(pool, file, number, furniture)

    def _furniture(self, pool: IsolatedPool, file: _File) -> list[str]:
        """Running heads and feet of a document; none if one of the sampled pages cannot be read."""
        pages = int(file.facts.answer["pages"]) if isinstance(file.facts, Reply) else 0
        if pages < 3 or self._options.keep_furniture:
            return []
        first = max(1, pages // 2 - _SAMPLE // 2)
        sample = list(range(first, min(pages, first + _SAMPLE - 1) + 1))
        found = pool.submit(_request(file.path, self._options) | {"sample": sample}).result()
        return list(found.answer["furniture"]) if isinstance(found, Reply) else []

    def _submit(self, pool: IsolatedPool, file: _File, number: int, furniture: list[str]) -> Callable[[], Item]:
        request = _request(file.path, self._options) | {
            "page": number,
            "options": asdict(replace(self._options, password=None)),
            "furniture": furniture,
        }
        future = pool.submit(request)
        return lambda: self._item(file, number, future.result())

    def _inspected(self, pool: IsolatedPool, ahead: int) -> Iterator[_File]:
        """The files with what is known of them; a few are inspected ahead."""
        waiting: deque[tuple[Path, str, Future[Result] | Excluded]] = deque()
        for path in self._files:
            name = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else path.name
            strange = self._outside(path, name)
            waiting.append((path, name, strange or pool.submit(_request(path, self._options))))
            if len(waiting) > ahead:
                yield _known(*waiting.popleft())
        while waiting:
            yield _known(*waiting.popleft())

    def _outside(self, path: Path, name: str) -> Excluded | None:
        if self._allow_outside or path.resolve().is_relative_to(self._root.resolve()):
            return None
        detail = (
            f"The PDF is a link to {path.resolve()}, outside the source's folder {self._root}. Move it there, "
            "or add --allow-outside if you trust the source."
        )
        return Excluded("outside", detail, name, str(path))

    def _unusable(self, file: _File) -> Excluded:
        facts = file.facts
        if isinstance(facts, Excluded):
            return facts
        if isinstance(facts, Failure):
            return Excluded(facts.reason, _detail(facts), file.name, str(file.path))
        pages = facts.answer["pages"]
        detail = f"It has {pages} pages, and --pages {self._options.pages} asks for none of them."
        return Excluded("no_pages", detail, file.name, str(file.path))

    def _item(self, file: _File, number: int, result: Result) -> Item:
        name = f"{file.name}#page={number}"
        source = str(file.path)
        if isinstance(result, Failure):
            return Excluded(result.reason, _detail(result), name, source, number)
        answer = result.answer
        trust = answer["trust"]
        if "text" not in answer:
            return Excluded(trust["reason"], _distrust(trust, self._options.trust), name, source, number)
        return Candidate(
            image=result.data,
            image_path=name,
            text=answer["text"],
            source=source,
            line=number,
            id=name,
            group=file.name,
            meta=_meta(answer, file),
        )


def count_items(files: Iterable[Path], options: PdfOptions, seconds: float) -> int:
    """How many items the files will give, about: a file that cannot be inspected in `seconds` counts as one."""
    chosen = PageRange.parse(options.pages)
    bounds = replace(bounds_of(options), seconds=min(seconds, options.page_seconds))
    with IsolatedPool(WORKER, workers=options.workers or os.cpu_count() or 1, bounds=bounds) as pool:
        futures = [pool.submit(_request(path, options)) for path in files]
        known = [_File(Path(), "", future.result()) for future in futures]
    return sum(max(1, len(file.numbers(chosen))) for file in known)


def bounds_of(options: PdfOptions) -> Bounds:
    """What a page may take."""
    return Bounds(options.page_seconds, options.page_memory << 20)


def _put_back(first: Item, items: Generator[Item]) -> Generator[Item]:
    with closing(items):
        yield first
        yield from items


def _known(path: Path, name: str, facts: Future[Result] | Excluded) -> _File:
    return _File(path, name, facts if isinstance(facts, Excluded) else facts.result())


def _request(path: Path, options: PdfOptions) -> dict[str, Any]:
    return {"path": str(path.absolute()), "password": options.password}


def _detail(failure: Failure) -> str:
    mend = _MENDS.get(failure.reason)
    return f"{failure.detail} {mend}" if mend else failure.detail


def _distrust(trust: dict[str, Any], threshold: float) -> str:
    mend = _MENDS.get(trust["reason"], "Look at it; --trust sets the score that is needed.")
    return (
        f"The page's text cannot be trusted (score {trust['score']:.2f}, {threshold:g} is needed): "
        f"{'; '.join(trust['reasons'])}. {mend}"
    )


def _meta(answer: dict[str, Any], file: _File) -> dict[str, Any]:
    assert isinstance(file.facts, Reply)
    meta = {"trust": answer["trust"]["score"], "dpi": answer["dpi"]}
    meta |= {"title": file.facts.answer["title"], "turned": answer["turned"], "bounded": answer["bounded"]}
    return {name: value for name, value in meta.items() if value}
