"""Reading documents from Python: `ocrsmith.load(model).read(path)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ocrsmith.engines.base import Engine
from ocrsmith.engines.confidence import Calibration
from ocrsmith.engines.registry import open_engine
from ocrsmith.engines.retries import RetryLoops
from ocrsmith.errors import InputError, SettingsError
from ocrsmith.reading.answers import DEFAULT_BELOW, Bounds, to_page
from ocrsmith.reading.document import Document, Page
from ocrsmith.reading.pdf import PageRange, PdfOptions
from ocrsmith.reading.prompts import choose_prompt
from ocrsmith.reading.read import Window, read_pages
from ocrsmith.reading.sources import Opener, Want


class Reader:
    """Reads documents with an engine; `load` makes one."""

    def __init__(
        self,
        engine: Engine,
        *,
        prompt: str | None = None,
        bounds: Bounds | None = None,
        pdf: PdfOptions | None = None,
        window: Window | None = None,
    ) -> None:
        """
        Args:
            engine: reads the pages.
            prompt: as for `ocrsmith ocr --prompt`; None takes the engine's.
            bounds: what counts as uncertain.
            pdf: how PDFs are drawn.
            window: how many pages are in memory at a time.

        Raises:
            SettingsError: there is no such prompt.
        """
        self.engine = engine
        self.prompt = None if prompt is None else choose_prompt(prompt)
        self.bounds = bounds or Bounds()
        self.pdf = pdf or PdfOptions()
        self._window = window

    def read(self, path: Path | str, *, pages: str | None = None, password: str | None = None) -> Document:
        """Reads an image, a TIFF of several pages or a PDF. A page that fails is there with its `error`.

        Args:
            path: the file.
            pages: which of its pages, e.g. `1-3,7`; None: all.
            password: opens an encrypted PDF.

        Raises:
            InputError: the file cannot be opened, or has no such page.
            SettingsError: `pages` names no pages.
            OcrsmithError: the engine cannot go on.
        """
        return Document(str(path), tuple(self.iter_pages(path, pages=pages, password=password)))

    def iter_pages(
        self, path: Path | str, *, pages: str | None = None, password: str | None = None
    ) -> Iterator[Page]:
        """As `read`, page by page in order: long documents never are in memory as a whole."""
        options = self.pdf if password is None else replace(self.pdf, password=password)
        with Opener(options) as opener:
            source = opener.inspect(Path(path), PageRange.parse(pages))
            if source.problem:
                raise InputError(source.problem, place=str(path))
            items = opener.pages([Want(0, source, source.numbers)])
            waiting: dict[int, Page] = {}
            order = iter(source.numbers)
            number = next(order)
            for reading in read_pages(self.engine, items, prompt=self.prompt, window=self._window):
                waiting[reading.number] = to_page(reading, self.bounds)
                while number in waiting:
                    yield waiting.pop(number)
                    number = next(order, 0)


def load(
    model: str | None = None,
    adapter: Path | str | None = None,
    *,
    engine: str = "native",
    prompt: str | None = None,
    mark_below: float = DEFAULT_BELOW,
    calibration: Path | str | None = None,
    dpi: float | None = None,
    **options: Any,
) -> Reader:
    """Opens a model for reading documents.

    Args:
        model: `nano`, a model folder or a hub id; for `openai`, the server's name of it.
        adapter: an adapter folder.
        engine: a name of `engines.registry.ENGINES`.
        prompt: a name (`free`, `markdown`, `ground`, `figure`, `describe`), `locate:TEXT` or a prompt; None
            takes the one that was saved with model or adapter.
        mark_below: characters less sure than this are in `Page.low_confidence`.
        calibration: a calibration.json, or an evaluation folder that holds one.
        dpi: pixels per inch of PDF pages.
        options: further options of the engine, such as `mode`, `device`, `batch_size`, `max_new_tokens`.

    Raises:
        SettingsError: an option or its value is wrong.
        MissingExtraError: what the engine needs is not installed.
        InputError: model, adapter or calibration cannot be used.
    """
    bounds = make_bounds(mark_below, calibration)  # what is wrong here shows before a model is loaded
    pdf = PdfOptions() if dpi is None else PdfOptions(dpi=dpi)
    chosen = None if prompt is None else choose_prompt(prompt)
    folder = None if adapter is None else Path(adapter)
    opened = RetryLoops(open_engine(engine, model=model, adapter=folder, **options))
    return Reader(opened, prompt=chosen, bounds=bounds, pdf=pdf)


def make_bounds(below: float, calibration: Path | str | None) -> Bounds:
    """What counts as uncertain.

    Raises:
        SettingsError: the bound is not between 0 and 1.
        DataError: the calibration cannot be read.
    """
    if not 0 <= below <= 1:
        raise SettingsError(f"{below:g} is no confidence.", place="--mark-below", mend="Use 0 to 1.")
    return Bounds(below, None if calibration is None else Calibration.load(Path(calibration)))
