"""PDFs: each page that can be trusted becomes a picture and its text as Markdown (see `datasets.pdf`)."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from ocrsmith.datasets.importers.base import Format, ImportOptions, Source
from ocrsmith.datasets.pdf.document import PdfOptions, find_pdfs
from ocrsmith.datasets.pdf.pairs import Pairs, count_items
from ocrsmith.errors import DataError, require
from ocrsmith.images.pdf import is_pdf

_MOST_COUNTED = 500
"""Files whose pages are counted before reading begins, for the progress bar."""
_SECONDS_TO_COUNT = 5.0
_MOST_LOOKED_AT = 1000


def open_pdf(path: Path, options: ImportOptions, pdf: PdfOptions | None = None) -> Source:
    """A PDF, or the PDFs of a folder and its subfolders, as a source.

    A file that cannot be read goes to the ledger when the source is read, and the next one follows.

    Args:
        path: a file or folder.
        options: of them, `allow_outside` counts.
        pdf: how to read pages; None: the defaults.

    Raises:
        DataError: there is no such path, or the folder holds no PDF.
        MissingExtraError: pypdfium2 or pdfplumber is not installed.
    """
    pdf = pdf or PdfOptions()
    for module in ("pypdfium2", "pdfplumber"):
        require(module, extra="pdf", why="Reading PDFs")
    if not path.exists():
        raise DataError("The source does not exist.", place=str(path), mend="Check the path.")
    first = list(islice(find_pdfs(path), _MOST_COUNTED + 1))
    if not first:
        raise DataError(
            "The folder holds no file that ends in .pdf, nor do its subfolders.",
            place=str(path),
            mend="Give a PDF, or a folder of PDFs.",
        )
    rows = count_items(first, pdf, _SECONDS_TO_COUNT) if len(first) <= _MOST_COUNTED else None
    root = path if path.is_dir() else path.parent
    return Source(
        path,
        "pdf",
        rows,
        lambda: Pairs(find_pdfs(path), root, pdf, allow_outside=options.allow_outside or not path.is_dir()),
        notes=_notes(pdf),
        options=pdf.describe(),
    )


def _notes(pdf: PdfOptions) -> tuple[str, ...]:
    if pdf.trust > 0:
        return ()
    return ("With --trust 0, texts of PDFs were taken without regard to whether they can be trusted.",)


def _recognises(path: Path, head: bytes) -> bool:
    if not path.is_dir():
        return is_pdf(head)
    try:
        with os.scandir(path) as entries:
            return any(entry.name.lower().endswith(".pdf") for entry in islice(entries, _MOST_LOOKED_AT))
    except OSError:
        return False


def _open(path: Path, options: ImportOptions) -> Source:
    return open_pdf(path, options)


FORMAT = Format("pdf", "PDFs, or folders of them: pages as pictures and Markdown", _recognises, _open)
